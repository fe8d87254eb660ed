# SPDX-License-Identifier: BSD-3-Clause
"""guestmem doctor: what it says is so, and what it advises mends it."""

import ctypes
import json
import mmap
import os
import re
import subprocess

from common import (POOL, THP, TOOL, Case, as_nobody, guestmem, main, nobody_can_run_tool, pools, put_back, read,
                    set_host, setting)


def report(**kwargs):
    result = guestmem("doctor", "--json", **kwargs)
    return json.loads(result.stdout), result.returncode


def check_of(found, name, text=""):
    (check,) = [c for c in found["checks"] if c["name"] == name and c["text"].startswith(text)]
    return check


class Doctor(Case):
    def tearDown(self):
        put_back()

    def test_the_basics_work_here(self):
        found, status = report()
        self.assertEqual((status, found["basics_work"]), (0, True))
        names = {c["name"] for c in found["checks"]}
        for name in ("kernel", "memory", "cgroup", "memfd", "memory names", "pagemap", "PAGEMAP_SCAN", "page frames", "THP",
                     "THP, shared", "multi-size THP", "multi-size, shared", "huge-page pool", "NUMA", "KVM", "userfaultfd", "memlock",
                     "mappings", "perf events", "KSM", "heat maps"):
            self.assertIn(name, names)
        for check in found["checks"]:
            self.assertEqual(check["mend"] is None, check["state"] == "ok", check)

    def test_text_has_a_line_for_each_and_one_to_mend_it(self):
        found, _ = report()
        result = guestmem("doctor")
        self.well(result)
        lines = result.stdout.splitlines()
        self.assertEqual(len([l for l in lines if not l.startswith(" ")]), len(found["checks"]))
        mends = [l.split("mend: ")[1] for l in lines if "mend: " in l]
        self.assertEqual(mends, [c["mend"] for c in found["checks"] if c["mend"]])

    def test_numbers_are_those_of_the_host(self):
        host = report()[0]["host"]
        self.assertEqual(host["kernel"], os.uname().release)
        self.assertEqual(host["thp"]["enabled"], setting(THP + "enabled"))
        self.assertEqual(host["thp"]["shmem_enabled"], setting(THP + "shmem_enabled"))
        for size in host["thp"]["sizes"]:
            file = THP + f"hugepages-{size['page_size'] // 1024}kB/shmem_enabled"
            self.assertEqual(size["shmem_enabled"], setting(file))
        for pool in host["hugetlb_pools"]:
            directory = POOL % (pool["page_size"] // 1024)
            for key, file in (("total", "nr_hugepages"), ("free", "free_hugepages"), ("reserved", "resv_hugepages"),
                              ("surplus", "surplus_hugepages"), ("overcommit", "nr_overcommit_hugepages")):
                self.assertEqual(pool[key], int(read(directory + file)))
        self.assertEqual(host["max_map_count"], int(setting("/proc/sys/vm/max_map_count")))
        self.assertEqual(host["perf_event_paranoid"], int(setting("/proc/sys/kernel/perf_event_paranoid")))

    def test_what_it_advises_mends_it(self):
        if os.getuid():
            self.skipTest("settings of the host can be changed by root only")
        two = POOL % 2048
        for name, text, file, broken in (
                ("THP", "never", THP + "enabled", "never"),
                ("THP, shared", "", THP + "shmem_enabled", "never"),
                ("THP, shared", "", THP + "shmem_enabled", "deny"),
                ("multi-size THP", "", THP + "hugepages-64kB/enabled", "never"),
                ("multi-size, shared", "", THP + "hugepages-64kB/shmem_enabled", "never"),
                ("multi-size, shared", "", THP + "shmem_enabled", "deny"),
                ("THP", "", THP + "hugepages-2048kB/enabled", "never"),
                ("THP, shared", "", THP + "hugepages-2048kB/shmem_enabled", "never"),
                ("huge-page pool", "2M", two + "nr_hugepages", "0"),
                ("mappings", "", "/proc/sys/vm/max_map_count", "60000"),
                ("KSM", "", "/sys/kernel/mm/ksm/run", "0"),
                ("huge-page structs", "", "/proc/sys/vm/hugetlb_optimize_vmemmap", "0")):
            if not os.path.exists(file):
                continue
            if name == "THP, shared":
                set_host(THP + "shmem_enabled", "advise")
            if name == "multi-size, shared":
                set_host(THP + "hugepages-64kB/shmem_enabled", "always")
            set_host(file, broken)
            check = check_of(report()[0], name, text)
            self.assertEqual(check["state"], "off", check)
            subprocess.run(["sh", "-c", check["mend"]], check=True, stdout=subprocess.DEVNULL)
            after = [c for c in report()[0]["checks"] if c["name"] == name and c["state"] == "off" and
                     c["text"].startswith(text)]
            self.assertEqual(after, [], check["mend"])
            put_back()

    def test_sizes_of_private_and_of_shared_memory_are_told_apart(self):
        if os.getuid():
            self.skipTest("settings of the host can be changed by root only")
        for size in (16, 64):
            set_host(THP + f"hugepages-{size}kB/enabled", "never")
            set_host(THP + f"hugepages-{size}kB/shmem_enabled", "never")
        set_host(THP + "hugepages-64kB/enabled", "madvise")
        found = report()[0]
        self.assertRegex(check_of(found, "multi-size THP")["text"], "on: .*64K.*; off: .*16K")
        self.assertRegex(check_of(found, "multi-size, shared")["text"], "on: .*; off: .*16K.* 64K")
        set_host(THP + "hugepages-16kB/shmem_enabled", "inherit")
        for word, on in (("never", False), ("advise", True), ("deny", False)):
            set_host(THP + "shmem_enabled", word)
            text = check_of(report()[0], "multi-size, shared")["text"]
            self.assertEqual("16K" in text.split("; off:")[0], on, text)

    def test_it_changes_nothing(self):
        before = (pools(), setting(THP + "enabled"), setting(THP + "shmem_enabled"))
        guestmem("doctor")
        self.assertEqual((pools(), setting(THP + "enabled"), setting(THP + "shmem_enabled")), before)

    def test_without_privilege_it_says_what_is_missing(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        found, status = report(preexec_fn=as_nobody)
        self.assertEqual((status, found["basics_work"]), (0, True))
        self.assertEqual(check_of(found, "page frames")["state"], "missing")
        self.assertEqual(found["host"]["kpageflags"], False)
        self.assertEqual(check_of(found, "memlock")["state"], "off")

    def test_broken_basics_are_an_error(self):
        if os.getuid():
            self.skipTest("needs root")
        script = f'mount -t tmpfs none /proc && exec "{TOOL}" doctor --json'
        # Without /proc the loader cannot tell where the program is.
        loaded = subprocess.run(["ldd", TOOL], capture_output=True, text=True, check=True).stdout
        library = re.search(r"=> (\S*)/libguestmem\.so", loaded)
        environment = {**os.environ, "LD_LIBRARY_PATH": library.group(1) if library else ""}
        result = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False,
                                env=environment)
        self.assertEqual(result.returncode, 1, result.stderr)
        found = json.loads(result.stdout)
        self.assertFalse(found["basics_work"])
        self.assertEqual(check_of(found, "pagemap")["state"], "broken")
        self.assertIsNone(found["host"]["memory_total_bytes"])

    def test_a_report_goes_to_a_file(self):
        file = self.path("report")
        for words in ([f"--json={file}"], ["--json", file], [f"-j{file}"], [f"-j={file}"], ["-j", file]):
            self.assertEqual(guestmem("doctor", *words).stdout, "", words)
            self.assertTrue(self.json("report")["basics_work"])
            os.unlink(file)
        for words in (["--json"], ["-j"], ["--json=-"], ["-j", "-"]):
            self.assertTrue(json.loads(guestmem("doctor", *words).stdout)["basics_work"])

    def test_names_of_memory_are_shown_or_not(self):
        memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        ctypes.CDLL(None).prctl(0x53564D41, 0, ctypes.c_ulong(at), ctypes.c_ulong(mmap.PAGESIZE), b"doctor-test")
        state = "ok" if "[anon:doctor-test]" in read("/proc/self/maps") else "missing"
        self.assertEqual(check_of(report()[0], "memory names")["state"], state)

    def test_a_reader_that_goes_is_told_nothing(self):
        for words in ([], ["--json"]):
            out, into = os.pipe()
            os.close(out)
            result = guestmem("doctor", *words, stdout=into)
            os.close(into)
            self.assertEqual((result.returncode, result.stderr), (1, ""))

    def test_bad_arguments_and_full_disks_are_errors(self):
        self.fails(2, "'x'", args=("doctor", "x"))
        self.fails(2, "--nonsense", args=("doctor", "--nonsense"))
        self.fails(1, "/no/such", args=("doctor", "--json=/no/such/file"))
        for words in ([], ["--json"], ["--json=/dev/full"]):
            with open("/dev/full", "w", encoding="utf-8") as full:
                result = guestmem("doctor", *words, stdout=full)
            self.fails(1, "No space", result=result)


if __name__ == "__main__":
    main()
