# SPDX-License-Identifier: BSD-3-Clause
"""guestmem inspect: what it finds, that it is right, and hostile arguments."""

import ctypes
import json
import mmap
import os
import shutil
import signal
import struct
import sys
import time

from common import (MIB, PAGE, THP, Case, as_nobody, documented, end, guestmem, main, members, need_pool,
                    nobody_can_run_tool, put_back, python, read, set_host, start, state_of, wait_for, write)

QEMU = shutil.which("qemu-system-x86_64")


def smaps_of(pid, start_at):
    """The numbers of one mapping, in bytes."""
    lines = read(f"/proc/{pid}/smaps").split(f"\n{start_at:x}-")[1].split("\nVmFlags")[0].splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def pagemap_present(pid, start_at, size):
    """Bytes that are present, word by word."""
    with open(f"/proc/{pid}/pagemap", "rb") as file:
        file.seek(start_at // PAGE * 8)
        words = file.read(size // PAGE * 8)
    return sum(word >> 63 for (word,) in struct.iter_unpack("=Q", words)) * PAGE


class Memory:
    """Memory of this process, to be looked at."""

    def __init__(self, name, size=4 * MIB, touched=MIB):
        self.fd = os.memfd_create(name)
        os.truncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.map.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, touched, PAGE):
            self.map[at] = 1

    def close(self):
        self.map.close()
        os.close(self.fd)


class Finding(Case):
    def look(self, *args, **kwargs):
        result = guestmem("inspect", "--json", *args, **kwargs)
        self.well(result)
        return json.loads(result.stdout)

    def test_names_give_guest_memory_away(self):
        for name, who in (("guestmem", "guestmem"), ("guestmem-x", "guestmem"), ("crosvm_guest", "crosvm"),
                          ("ch_ram", "cloud-hypervisor"), ("guest_mem", "Firecracker"),
                          ("memory-backend-memfd", "QEMU")):
            memory = Memory(name)
            report = self.look(os.getpid())
            memory.close()
            self.assertEqual(report["found_by"], f"memory named by {who}")
            self.assertEqual([m["name"] for m in report["mappings"]], [f"/memfd:{name} (deleted)"])
            self.assertEqual(report["total"]["present_bytes"], MIB)
            self.assertEqual(report["mappings"][0]["allocated_bytes"], MIB)
            self.assertEqual(report["mappings"][0]["permissions"], "rw-s")
            self.assertTrue(report["mappings"][0]["file"])

    def test_named_anonymous_memory_is_found(self):
        libc = ctypes.CDLL(None, use_errno=True)
        memory = mmap.mmap(-1, 2 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        named = libc.prctl(0x53564D41, 0, ctypes.c_ulong(at), ctypes.c_ulong(2 * MIB), b"guestmem-test") == 0
        memory[0] = 1
        report = self.look(os.getpid())
        if not named:
            # The kernel has no such names: then it must not be called guest memory.
            self.assertIn("no guest memory was recognised", report["found_by"])
            return
        self.assertEqual([m["name"] for m in report["mappings"]], ["[anon:guestmem-test]"])
        self.assertEqual(report["total"]["present_bytes"], PAGE)
        self.assertIsNone(report["mappings"][0]["allocated_bytes"])

    def test_memory_of_the_library_is_found_by_its_flags(self):
        advices = (mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK)
        guest = Memory("ram0")
        other = Memory("other", size=8 * MIB)
        for advice in advices:
            guest.map.madvise(advice)
        other.map.madvise(advices[0])
        report = self.look(os.getpid())
        quick = self.look("--quick", os.getpid())
        guest.close()
        other.close()
        self.assertIn("looks like guestmem", report["found_by"])
        self.assertEqual([m["name"] for m in report["mappings"]], ["/memfd:ram0 (deleted)"])
        self.assertIn("no guest memory was recognised", quick["found_by"])

    def test_else_the_largest_mappings_are_shown(self):
        memory = mmap.mmap(-1, 512 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        report = self.look(os.getpid())
        memory.close()
        self.assertIn("largest", report["found_by"])
        self.assertEqual(report["mappings"][0]["size"], 512 * MIB)

    def test_a_range_is_cut_out(self):
        memory = Memory("range-test", touched=4 * MIB)
        (mapping,) = [m for m in self.look("--all", os.getpid())["mappings"] if "range-test" in m["name"]]
        first = int(mapping["start"], 16)
        for text, size in ((f"{first + MIB:x}-{first + 3 * MIB:x}", 2 * MIB), (f"0x{first:x}+64K", 65536)):
            report = self.look("--range", text, os.getpid())
            self.assertEqual(report["found_by"], "the range that was given")
            self.assertEqual(sum(m["size"] for m in report["mappings"]), size)
            self.assertEqual(report["total"]["present_bytes"], size)
            self.assertEqual(report["mappings"][0]["allocated_bytes"], 4 * MIB)
        self.assertEqual(report["mappings"][0]["offset"], 0)
        memory.close()
        self.fails(1, "--range", "no mapping", args=("inspect", "--range", "1000-2000", os.getpid()))

    def test_quick_says_what_it_did_not_look_at(self):
        memory = Memory("guestmem")
        report = self.look("--quick", os.getpid())
        memory.close()
        self.assertIsNone(report["mappings"][0]["flags"])
        self.assertIsNone(report["total"]["shared_bytes"])
        self.assertEqual(report["total"]["present_bytes"], MIB)
        self.assertTrue(any("multi-size" in s for s in report["not_seen"]))
        self.assertNotIn("smaps", report["sources"])


class Waste(Case):
    """What is in the memory, whose contents are known."""

    def setUp(self):
        self.memory = Memory("guestmem-waste", size=8 * MIB, touched=0)
        for page in range(512, 1024):
            self.memory.map[page * PAGE:(page + 1) * PAGE] = bytes([page % 4]) * PAGE
        self.memory.map[0] = 1

    def tearDown(self):
        self.memory.close()

    def one(self, *args):
        result = guestmem("inspect", "--json", *args, os.getpid())
        self.well(result)
        (mapping,) = json.loads(result.stdout)["mappings"]
        return mapping

    def test_zeros_and_reasons(self):
        before = os.fstat(self.memory.fd).st_blocks
        mapping = self.one("--waste")
        waste = mapping["waste"]
        self.assertEqual(os.fstat(self.memory.fd).st_blocks, before)
        self.assertEqual(waste["zero_bytes"], 128 * PAGE)
        self.assertEqual(waste["read_bytes"], 513 * PAGE)
        self.assertEqual(waste["disturbed_bytes"], 0)
        self.assertEqual(waste["zero_in_huge_bytes"], 0)
        self.assertAlmostEqual(waste["bloat"], 513 / 385, delta=0.01)
        self.assertEqual(sum(waste["units"].values()) in (4, 5), True)
        self.assertNotIn("duplicate_bytes", waste)
        self.assertNotIn("waste", self.one())

    def test_duplicates(self):
        waste = self.one("--duplicates")["waste"]
        self.assertEqual(waste["duplicate_bytes"], 3 * 127 * PAGE)
        self.assertEqual(waste["duplicate_bytes_low"], waste["duplicate_bytes"])
        self.assertEqual(waste["followed_pages"], 385)
        self.assertIn("duplicate_bytes", self.one("--duplicates=64")["waste"])
        for bad in ("0", "x", "65537", "-1"):
            self.fails(2, "duplicates", args=("inspect", f"--duplicates={bad}", os.getpid()))

    def test_text_says_the_same(self):
        result = guestmem("inspect", "--waste", "--duplicates", "--working-set", os.getpid())
        self.well(result)
        for words in ("zeros 512 KiB", "duplicates 1.5 MiB", "bloat 1.33", "page faults: ", "working set: not known"):
            self.assertIn(words, result.stdout)

    def test_looks_are_compared(self):
        result = guestmem("inspect", "--json", "--waste", "--watch=0.05", "--count=3", os.getpid())
        self.well(result)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len(lines), 3)
        self.assertNotIn("minor_faults_since", lines[0])
        for line in lines[1:]:
            self.assertEqual(line["present_bytes_since"], 0)
            self.assertGreaterEqual(line["minor_faults_since"], 0)
            self.assertIn("waste", line["mappings"][0])

    def test_every_member_of_the_report_is_documented(self):
        result = guestmem("inspect", "--json", "--duplicates", "--working-set", "--watch=0.05", "--count=2", os.getpid())
        self.well(result)
        found = members([json.loads(line) for line in result.stdout.splitlines()])
        self.assertEqual(found - documented("# INSPECT", "# TABLES"), set())


class Agreement(Case):
    """Against the memfd's own accounting and pagemap, to the page."""

    def tearDown(self):
        put_back()

    def stopped_qemu(self, policy, *options):
        if not QEMU:
            self.skipTest("there is no qemu-system-x86_64")
        image = self.path("image")
        with open(image, "wb") as file:
            file.write(os.urandom(5 * MIB + 12345))
        tool = start("exec", "--size", "64M", "--page-size", policy, "--name", "agree", "--", QEMU, "-nodefaults",
                     "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "64M", "-machine", "q35,memory-backend=m",
                     "-object", "memory-backend-file,id=m,mem-path={mem},share=on,size=64M,align=2M",
                     "-device", f"loader,file={image},addr=0x1000000,force-raw=on", *options)
        child = int(wait_for(lambda: read(f"/proc/{tool.pid}/task/{tool.pid}/children").split())[0])
        self.addCleanup(end, tool)
        # It has loaded the image and runs the firmware.
        self.assertTrue(wait_for(lambda: "agree" in read(f"/proc/{child}/maps") and guestmem(
            "inspect", "-q", child).stdout.count("agree")))
        time.sleep(1)
        os.kill(child, signal.SIGSTOP)
        self.assertTrue(wait_for(lambda: state_of(child) == "T"))
        return child, tool

    def check(self, policy, key):
        child, tool = self.stopped_qemu(policy)
        result = guestmem("inspect", "--json", child)
        self.well(result)
        self.assertEqual(state_of(child), "T")
        report = json.loads(result.stdout)
        self.assertEqual(report["found_by"], "RAM of QEMU")
        (mapping,) = [m for m in report["mappings"] if m["name"] == "/memfd:agree (deleted)"]
        present = pagemap_present(child, int(mapping["start"], 16), mapping["size"])
        blocks = os.stat(f"/proc/{child}/map_files/{mapping['start'][2:]}-{mapping['end'][2:]}").st_blocks
        self.assertEqual(mapping["present_bytes"], present)
        self.assertEqual(mapping["allocated_bytes"], blocks * 512)
        # Nobody else has touched the memory: what is allocated is mapped.
        self.assertEqual(present, blocks * 512)
        self.assertGreater(present, 5 * MIB)
        self.assertEqual(mapping["present_by_page_size"][key], present)
        for line in read(f"/proc/{child}/status").splitlines():
            if line.startswith("VmPTE:"):
                self.assertEqual(report["page_table_bytes"], int(line.split()[1]) * 1024)
        os.kill(child, signal.SIGCONT)
        tool.terminate()
        self.assertEqual(tool.wait(20) in (0, 143), True)

    def test_qemu_on_base_pages(self):
        self.check("base", "4K")

    def test_qemu_on_transparent_huge_pages(self):
        set_host(THP + "shmem_enabled", "advise")
        self.check("thp", "2M")

    def test_qemu_on_explicit_huge_pages(self):
        need_pool(2048, 32)
        self.check("2M", "2M")

    def check_stopped(self, policy, present, by_size):
        """A process of ours that has stopped itself: mapped as pagemap and smaps say, allocated as the file says."""
        tool = start("exec", "-q", "--size", "16M", "--page-size", policy, "--name", "guestmem-stopped", "--",
                     *python("stopped", "{mem}", 4 * MIB, 0))
        self.addCleanup(end, tool)
        pid = int(wait_for(lambda: read(f"/proc/{tool.pid}/task/{tool.pid}/children").split())[0])
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.assertTrue(wait_for(lambda: state_of(pid) == "T"))
        report = json.loads(guestmem("inspect", "--json", pid).stdout)
        self.assertEqual(state_of(pid), "T")
        self.assertEqual(report["found_by"], "memory named by guestmem")
        pieces = report["mappings"]
        self.assertEqual(sum(m["size"] for m in pieces), 16 * MIB)
        total = {key: sum(m["present_by_page_size"][key] for m in pieces) for key in ("4K", "2M", "1G")}
        self.assertEqual(total, {"4K": 0, "2M": 0, "1G": 0, **by_size})
        for m in pieces:
            first = int(m["start"], 16)
            self.assertEqual(m["present_bytes"], pagemap_present(pid, first, m["size"]))
            smaps = smaps_of(pid, first)
            huge = smaps["ShmemPmdMapped"] + smaps["Shared_Hugetlb"] + smaps["Private_Hugetlb"]
            self.assertEqual(m["present_by_page_size"]["2M"], huge)
            blocks = os.stat(f"/proc/{pid}/map_files/{m['start'][2:]}-{m['end'][2:]}").st_blocks
            self.assertEqual(m["allocated_bytes"], blocks * 512)
        self.assertEqual(report["total"]["present_bytes"], present)
        # One more huge page's worth is allocated, but mapped by nobody.
        self.assertEqual(pieces[0]["allocated_bytes"], present + 2 * MIB)

    def test_a_stopped_process_on_base_pages(self):
        self.check_stopped("base", 4 * MIB + 3 * PAGE, {"4K": 4 * MIB + 3 * PAGE})

    def test_a_stopped_process_on_transparent_huge_pages(self):
        set_host(THP + "shmem_enabled", "advise")
        self.check_stopped("thp", 4 * MIB + 3 * PAGE, {"4K": 3 * PAGE, "2M": 4 * MIB})

    def test_a_stopped_process_on_explicit_huge_pages(self):
        need_pool(2048, 8)
        self.check_stopped("2M", 6 * MIB, {"2M": 6 * MIB})

    def test_anonymous_memory_of_qemu_is_found(self):
        if not QEMU:
            self.skipTest("there is no qemu-system-x86_64")
        qemu = start(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "96M")
        self.addCleanup(end, qemu)
        self.assertTrue(wait_for(lambda: '"size":100663296' in guestmem("inspect", "--json", qemu.pid).stdout.replace(" ", "")))
        report = json.loads(guestmem("inspect", "--json", qemu.pid).stdout)
        self.assertEqual(report["found_by"], "RAM of QEMU")
        self.assertIn(96 * MIB, [m["size"] for m in report["mappings"]])


class Showing(Case):
    def test_nothing_reaches_the_terminal_unescaped(self):
        name = "guestmem\x1b]0;x\x07\n\x9b31m‮"
        memory = Memory(name)
        libc = ctypes.CDLL(None)
        old = read("/proc/self/comm").strip()
        libc.prctl(15, b"\x1b[2J\n", 0, 0, 0)
        for environment in ("C.UTF-8", "C"):
            result = guestmem("inspect", os.getpid(), env={**os.environ, "LC_ALL": environment})
            self.well(result)
            for bad in ("\x1b", "\x07", "\x9b", "‮"):
                self.assertNotIn(bad, result.stdout)
            self.assertIn("\\033", result.stdout)
        result = guestmem("inspect", "--json", os.getpid())
        self.assertIn("/memfd:guestmem", json.loads(result.stdout)["mappings"][0]["name"])
        libc.prctl(15, old.encode(), 0, 0, 0)
        memory.close()

    def test_the_map_is_drawn(self):
        memory = Memory("guestmem", 64 * MIB, 32 * MIB)
        for words, env, full, absent in ((["--ascii"], "C.UTF-8", "B", "."), ([], "C", "B", "."), ([], "C.UTF-8", "▒", "·")):
            result = guestmem("inspect", *words, os.getpid(), env={**os.environ, "LC_ALL": env})
            lines = [l.split()[1] for l in result.stdout.splitlines() if l.startswith("    ") and len(l.split()) == 2]
            self.assertEqual("".join(lines), full * 512 + absent * 512, result.stdout)
        memory.close()

    def test_pictures_are_drawn(self):
        memory = Memory("guestmem")
        for name, magic in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
            self.well(guestmem("inspect", "--heatmap", self.path(name), os.getpid()))
            with open(self.path(name), "rb") as file:
                self.assertTrue(file.read().startswith(magic))
        memory.close()

    def test_watching_gives_a_line_each_time(self):
        result = guestmem("inspect", "--watch=0.02", "--count", "3", "--json", os.getpid())
        self.well(result)
        reports = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([r["pid"] for r in reports], [os.getpid()] * 3)

    def test_watching_ends_with_the_process(self):
        sleeper = start("/bin/sleep", "0.5")
        result = guestmem("inspect", "-w0.05", sleeper.pid)
        sleeper.wait()
        end(sleeper)
        self.well(result)
        self.assertIn("has ended", result.stderr)

    def test_results_that_cannot_be_written_are_errors(self):
        self.fails(1, "/no/such", args=("inspect", "--json=/no/such/file", os.getpid()))
        self.fails(1, "/no/such", args=("inspect", "--heatmap", "/no/such/a.png", os.getpid()))
        for words in ([], ["--json"], ["--json=/dev/full"]):
            with open("/dev/full", "w", encoding="utf-8") as full:
                result = guestmem("inspect", *words, os.getpid(), stdout=full)
            self.fails(1, "No space", result=result)
        out, into = os.pipe()
        os.close(out)
        result = guestmem("inspect", os.getpid(), stdout=into)
        os.close(into)
        self.assertEqual((result.returncode, result.stderr), (1, ""))

    def test_a_report_goes_to_a_file(self):
        report = self.path("report")
        pid = os.getpid()
        for words in ([f"--json={report}", pid], ["--json", report, pid], [f"-j{report}", pid], [f"-j={report}", pid],
                      ["-j", report, pid], [pid, "--json", report, "--quick"], [pid, "-aj", report]):
            self.assertEqual(guestmem("inspect", *words).stdout, "", words)
            self.assertEqual(self.json("report")["pid"], pid)
            os.unlink(report)
        for words in (["--json", pid], ["--json=-", pid], ["-j", "-", pid], [pid, "--json"], ["--json", "--quick", pid]):
            self.assertEqual(json.loads(guestmem("inspect", *words).stdout)["pid"], pid)

    def test_each_picture_takes_the_place_of_the_one_before(self):
        one, many = self.path("one.png"), self.path("many.png")
        memory = Memory("guestmem")
        self.well(guestmem("inspect", "--heatmap", one, os.getpid()))
        self.well(guestmem("inspect", "--heatmap", many, "-w0.01", "-n3", os.getpid()))
        memory.close()
        with open(one, "rb") as first, open(many, "rb") as last:
            self.assertEqual(first.read(), last.read())
        self.assertEqual(sorted(os.listdir(self.dir)), ["many.png", "one.png"])

    def test_times_are_taken_in_every_form(self):
        for words in (["--watch=0.05"], ["--watch", "0.05"], ["-w0.05"], ["-w=0.05"], ["-w", "0.05"]):
            begun = time.monotonic()
            result = guestmem("inspect", "-qj", *words, "--count", "3", os.getpid())
            self.well(result)
            self.assertEqual(len(result.stdout.splitlines()), 3, words)
            self.assertLess(time.monotonic() - begun, 2)


class Refusing(Case):
    def test_what_is_no_process_is_refused(self):
        for pid in ("0", "x", "-0x1", "1.5", "", "99999999999999999999", "2147483648", "nan"):
            self.fails(2, "no PID", args=("inspect", "--", pid))
        self.fails(2, "no PID", args=("inspect",))
        self.fails(2, "more than one", args=("inspect", "1", "2"))
        self.fails(2, "more than one", "--watch=2", args=("inspect", "--watch", "2", "1"))
        self.fails(2, "no PID", args=("inspect", "--json", "out"))
        self.fails(1, "process 2147483647", args=("inspect", "2147483647"))

    def test_ranges_that_are_none_are_refused(self):
        for text in ("", "x", "0-", "-1", "1000", "2000-1000", "1000-1000", "1-1000", "1000-1001", "1000+1", "1000+0",
                     "fffffffffffff000+1G", "1000-2000-3000", "0x-0x1000", "1000+nan", "10000000000000000-2"):
            self.fails(2, "--range", args=("inspect", f"--range={text}", os.getpid()))

    def test_a_range_that_is_refused_is_told_why(self):
        for text, why in (("fffffffffffff000-10000000000000000", "reaches 2^64"), ("fffffffffffff000+4K", "reaches 2^64"),
                          ("0+16E", "not like"), ("10000000000000000-10000000000001000", "reaches 2^64"),
                          ("1000-1000", "ends before"), ("1000+0", "empty"), ("1000-2000x", "not like"),
                          ("1000+x", "not like"), ("1000-1001", "whole pages")):
            self.fails(2, "--range", f"'{text}'", why, args=("inspect", f"--range={text}", os.getpid()))
        # The last range that there can be is none of ours, but a range.
        self.fails(1, "no mapping", args=("inspect", "--range=ffffffffffffe000-fffffffffffff000", os.getpid()))

    def test_other_bad_options_are_refused(self):
        for option in ("--watch=nan", "--watch=0", "--watch=-1", "--watch=1e9", "--count=0", "--count=x", "--count=-1",
                       "--heatmap=x.gif", "--nonsense", "--ascii=1", "-Q"):
            self.fails(2, option.split("=")[0], args=("inspect", option, os.getpid()))
        self.fails(2, "--count", args=("inspect", "--count=3", os.getpid()))
        self.fails(2, "-a: takes no value", args=("inspect", "-a=1", os.getpid()))
        self.fails(2, "--all: takes no value", args=("inspect", "--all=1", os.getpid()))
        self.fails(2, "--watch", "'x'", args=("inspect", "-w", "x", os.getpid()))

    def test_a_process_that_has_ended_is_named(self):
        child = start("/bin/true")
        self.assertTrue(wait_for(lambda: state_of(child.pid) == "Z"))
        self.fails(1, f"process {child.pid}", args=("inspect", child.pid))
        child.wait()
        self.fails(1, f"process {child.pid}", args=("inspect", child.pid))
        end(child)

    def test_a_process_that_is_not_ours_is_named(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        self.fails(1, f"process {os.getpid()}: Permission denied", args=("inspect", os.getpid()), preexec_fn=as_nobody)

    def test_a_kernel_thread_has_no_memory(self):
        if os.getuid():
            self.skipTest("needs root")
        if read("/proc/2/comm") != "kthreadd\n":
            self.skipTest("process 2 is no kernel thread here")
        self.fails(1, "process 2", args=("inspect", "2"))

    def test_own_processes_can_be_seen_without_privilege(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        sleeper = start("/bin/sleep", "60", preexec_fn=as_nobody)
        result = guestmem("inspect", "--json", "--all", sleeper.pid, preexec_fn=as_nobody)
        end(sleeper)
        self.well(result)
        report = json.loads(result.stdout)
        self.assertGreater(report["total"]["present_bytes"], 0)
        self.assertTrue(any("multi-size" in s for s in report["not_seen"]))


if __name__ == "__main__":
    main()
