# SPDX-License-Identifier: BSD-3-Clause
"""guestmem run: payloads on every sort of memory, in guests and threads; programs; what goes wrong."""

import glob
import json
import os
import re
import signal
import struct
import subprocess
import time

from common import (MIB, PAGE, ROOT, THP, TOOL, Case, as_nobody, end, guestmem, main, need_pool, nobody_can_run_tool,
                    pools, put_back, read, set_host, setting, start, wait_for, write)

PROGRAM = os.environ.get("GM_RUN_PROGRAM", "")
FLAT = os.environ.get("GM_RUN_FLAT", "")
PAYLOADS = ("touch", "chase", "stream", "store", "stamp")
# Small work for each, in words behind its name.
SMALL = {
    "touch": ["order=random"],
    "chase": ["steps=5000"],
    "stream": ["rounds=2"],
    "store": ["ops=5000"],
    "stamp": ["rounds=3"],
}
BITS = {"4K": 12, "64K": 16, "2M": 21, "1G": 30}


def has_kvm():
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def run(*args, **kwargs):
    """Runs it with the report as JSON on standard output; returns the result and the report."""
    result = guestmem("run", "-q", "-j", "-", *args, **kwargs)
    at = result.stdout.find("{\n")
    return result, json.loads(result.stdout[at:]) if at >= 0 else None


def number(value):
    """Seven bits a byte."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fnv(data):
    total = 0xcbf29ce484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return total


def trace(records, pages, log2=12, **wrong):
    """The file of docs/trace-format.md, from (page, count, write, micros)."""
    body = bytearray()
    following = 0
    for page, count, writes, micros in records:
        delta = page - following
        zigzag = 2 * delta if delta >= 0 else -2 * delta - 1
        body += number(zigzag << 3 | (micros != 0) << 2 | (count != 1) << 1 | writes)
        if count != 1:
            body += number(count)
        if micros:
            body += number(micros)
        following = page + count
    body += wrong.get("behind", b"")
    header = struct.pack("<8sIIQQQQQQ", wrong.get("magic", b"GMTRACE1"), wrong.get("version", 1), log2, pages,
                         wrong.get("nr", len(records)), wrong.get("body_len", len(body)),
                         wrong.get("touched", sum(r[1] for r in records)),
                         wrong.get("micros", sum(r[3] for r in records)), wrong.get("checksum", fnv(body)))
    return header + bytes(body)


def write_bytes(path, data):
    with open(path, "wb") as file:
        file.write(data)


class Runs(Case):
    def did_well(self, words, kvm=True):
        result, report = run(*words)
        self.assertEqual(result.returncode, 0, f"{words}: {result.stderr}")
        self.assertEqual(report["outcome"], "done", words)
        self.assertEqual(report["engine"], "kvm" if kvm else "thread", words)
        self.assertEqual(report["errors"], 0, words)
        for worker in report["workers"]:
            self.assertEqual((worker["state"], worker["status"]), ("done", 0), words)
            if worker["expected"]:
                self.assertEqual(worker["checksum"], worker["expected"], words)
        return report

    def need_kvm(self):
        if not has_kvm():
            self.skipTest("there is no KVM that we may use")


class Pages(Runs):
    def setUp(self):
        super().setUp()
        self.addCleanup(put_back)
        self.need_kvm()

    def on_pages(self, pages, size, log2):
        """Every payload with page tables of 4K and 2M on these pages of the host."""
        for guest in ("4K", "2M"):
            for payload in PAYLOADS:
                report = self.did_well(["-s", size, "-p", pages, "-g", guest, payload, *SMALL[payload]])
                self.assertEqual(report["guest_page_size"], guest)
                present = {size: n for size, n in report["present_by_page_size"].items() if n}
                name = {v: k for k, v in BITS.items()}[log2]
                self.assertEqual(list(present), [name], (pages, guest, payload))
                # stream leaves what does not divide by three
                self.assertGreaterEqual(present[name], size - max(3 * PAGE, 1 << log2))
                self.assertGreater(report["operations"], 0)
                self.assertGreater(report["ns_per_operation"], 0)

    def test_base_pages(self):
        self.on_pages("base", 8 * MIB, 12)

    def test_transparent_huge_pages(self):
        if setting(THP + "enabled") == "never":
            set_host(THP + "enabled", "madvise")
        self.on_pages("thp", 16 * MIB, 21)

    def test_multi_size_pages(self):
        knob = THP + "hugepages-64kB/enabled"
        if not os.path.exists(knob):
            self.skipTest("this kernel has no multi-size huge pages")
        # Of those that are enabled the kernel takes the largest.
        for other in glob.glob(THP + "hugepages-*/enabled"):
            set_host(other, "madvise" if other == knob else "never")
        self.on_pages("64K", 8 * MIB, 16)

    def test_huge_pages_of_the_pool(self):
        need_pool(2048, 8)
        before = pools()
        self.on_pages("2M", 16 * MIB, 21)
        self.assertEqual(pools(), before)

    def test_a_huge_page_of_a_gigabyte(self):
        try:
            need_pool(1048576, 1)
        except AssertionError:
            self.skipTest("the host has no free gigabyte for a huge page")
        report = self.did_well(["-s", "1G", "-p", "1G", "-g", "2M", "touch", "stride=2M"])
        self.assertEqual(report["present_by_page_size"]["1G"], 1024 * MIB)
        self.assertEqual(report["kvm_slots"]["bytes_1g"], 1024 * MIB)

    def test_the_guest_has_leaves_of_1g_or_says_that_it_has_not(self):
        result, report = run("-s", "16M", "-g", "1G", "touch")
        self.well(result)
        self.assertEqual(report["guest_page_size_requested"], "1G")
        if report["guest_page_size"] == "1G":
            self.assertEqual(result.stderr, "")
        else:
            self.assertEqual(report["guest_page_size"], "2M")
            self.assertRegex(result.stderr, r"note: this KVM refuses pages of 1G")

    def test_larger_leaves_take_fewer_tables_and_faults(self):
        small = self.did_well(["-s", "64M", "-p", "base", "-g", "4K", "touch"])
        large = self.did_well(["-s", "64M", "-p", "base", "-g", "2M", "touch"])
        self.assertEqual(small["guest_page_table_bytes"] - large["guest_page_table_bytes"], 32 * PAGE)
        if setting(THP + "enabled") == "never":
            set_host(THP + "enabled", "madvise")
        huge = self.did_well(["-s", "64M", "-p", "thp", "-g", "2M", "touch"])
        self.assertGreaterEqual(small["faults_minor"], 64 * MIB // PAGE)
        self.assertLess(huge["faults_minor"], small["faults_minor"] // 10)
        if huge["kvm_stats"]:
            self.assertLess(huge["kvm_stats"]["pf_taken"], small["kvm_stats"]["pf_taken"] // 10)
            self.assertEqual(huge["kvm_stats"]["pages_2m"], 32)

    def test_sparse_memory_may_be_more_than_the_host_has(self):
        report = self.did_well(["-s", "1T", "-p", "sparse", "touch", "stride=1G", "order=random"])
        self.assertEqual(report["operations"], 1024)
        self.assertEqual(report["present_bytes"], 1024 * PAGE)

    def test_memory_is_filled_while_the_payload_runs(self):
        # The payload touches one page and waits: the others come by themselves.
        for engine in ("kvm", "thread"):
            report = self.did_well(["-s", "64M", "-p", "base", "-e", engine, "--populate", "--background", "-t", "1",
                                    "stamp", "pages=1", "rounds=0", "pause=0.05"], engine == "kvm")
            self.assertEqual(report["present_bytes"], 64 * MIB)
            self.assertTrue(report["background"])
            self.assertLess(report["background_start_seconds"], report["background_seconds"])
            self.assertLess(report["background_seconds"], report["seconds"])
        self.fails(2, "--background", args=("run", "-s", "4M", "--background", "touch"))

    def test_a_payload_that_ends_ends_the_filling(self):
        report = self.did_well(["-s", "8G", "-p", "base", "-e", "thread", "--populate", "--background", "-t", "0.001",
                                "stamp", "pages=1", "rounds=0", "pause=0.001"], False)
        self.assertGreater(report["present_bytes"], 0)
        self.assertLess(report["present_bytes"], 8 << 30)

    def test_populated_memory_takes_no_faults(self):
        lazy = self.did_well(["-s", "32M", "-p", "base", "touch"])
        full = self.did_well(["-s", "32M", "-p", "base", "--populate", "touch"])
        self.assertEqual(full["present_bytes"], 32 * MIB)
        self.assertLess(full["faults_minor"], lazy["faults_minor"] // 10)

    def test_every_backing_serves(self):
        file = self.path("memory")
        for words in (["--backing", "anon"], ["--backing=shared"], ["--backing=memfd"], ["--share"],
                      ["--backing", file], ["--backing=memfd", "--numa", "bind:0"]):
            report = self.did_well(["-s", "4M", *words, "stamp"])
            self.assertEqual(report["present_bytes"], 4 * MIB, words)
        self.assertEqual(os.path.getsize(file), 4 * MIB)
        with open(file, "rb") as memory:
            memory.seek(5 * PAGE)
            self.assertEqual(struct.unpack("<QQ", memory.read(16)), (1, 0x7374616d70000000 ^ 5))

    def test_the_first_choice_that_works_is_taken(self):
        report = self.did_well(["-s", "1T", "-p", "1G,2M,base", "--backing", self.path("memory"), "touch", "stride=1G"])
        self.assertEqual(report["pages_kind"], "base")
        self.assertIn("huge", report["pages_refused"])


class Payloads(Runs):
    def setUp(self):
        super().setUp()
        self.need_kvm()

    def test_guest_and_thread_find_the_same(self):
        for payload in PAYLOADS:
            words = ["-s", "8M", "--seed", "7", payload, *SMALL[payload]]
            sums = [self.did_well(["-e", engine, *words], engine == "kvm") for engine in ("kvm", "thread")]
            guest, thread = ([(w["checksum"], w["operations"], w["bytes"]) for w in r["workers"]] for r in sums)
            self.assertEqual(guest, thread, payload)

    def test_several_vcpus_share_the_memory(self):
        for engine in ("kvm", "thread"):
            for payload in PAYLOADS:
                report = self.did_well(["-s", "12M", "-c", "3", "-e", engine, payload, *SMALL[payload]], engine == "kvm")
                self.assertEqual(len(report["workers"]), 3)
                if payload == "touch":
                    self.assertEqual(report["operations"], 12 * MIB // PAGE)
                    self.assertEqual(report["present_bytes"], 12 * MIB)

    def test_another_seed_is_another_order(self):
        sums = {run("-s", "1M", "--seed", seed, "chase", "steps=1000")[1]["workers"][0]["checksum"] for seed in range(5)}
        self.assertGreater(len(sums), 2)

    def test_reads_leave_shared_zeros(self):
        report = self.did_well(["-s", "4M", "-p", "base", "touch", "mode=read", "verify=no", "rounds=2"])
        self.assertEqual(report["operations"], 2 * 1024)
        self.assertIsNone(report["workers"][0]["expected"])

    def test_parameters_do_what_they_say(self):
        touch = self.did_well(["-s", "4M", "-p", "base", "touch", "stride=64K", "rounds=3"])
        self.assertEqual((touch["operations"], touch["present_bytes"]), (3 * 64, 64 * PAGE))
        chase = self.did_well(["-s", "4M", "chase", "stride=4K", "steps=12345"])
        self.assertEqual(chase["operations"], 12345)
        copy = self.did_well(["-s", "3M", "stream", "kernel=copy", "rounds=7"])
        self.assertEqual((copy["operations"], copy["bytes"]), (7 * MIB // 8, 7 * 2 * MIB))
        triad = self.did_well(["-s", "3M", "stream", "rounds=7"])
        self.assertEqual(triad["bytes"], 7 * 3 * MIB)
        for percent in (0, 30, 100):
            store = self.did_well(["-s", "2M", "store", "ops=10000", f"writes={percent}", "skew=1.5", "keys=999"])
            self.assertAlmostEqual(store["workers"][0]["figures"]["writes"], 100 * percent, delta=300 if 0 < percent < 100 else 0)
            self.assertEqual(store["workers"][0]["figures"]["keys"], 999)
        stamp = self.did_well(["-s", "4M", "-p", "base", "stamp", "rounds=5", "pages=10", "order=random"])
        self.assertEqual((stamp["operations"], stamp["workers"][0]["figures"]["rounds"]), (50, 5))
        self.assertLessEqual(stamp["present_bytes"], 50 * PAGE)

    def test_pauses_take_their_time(self):
        for engine in ("kvm", "thread"):
            report = self.did_well(["-s", "4M", "-e", engine, "stamp", "rounds=3", "pause=0.1"], engine == "kvm")
            self.assertGreaterEqual(report["seconds"], 0.29)
            self.assertLess(report["seconds"], 5)

    def test_it_comes_to_an_end_when_told(self):
        for engine in ("kvm", "thread"):
            report = self.did_well(["-s", "4M", "-e", engine, "-t", "0.2", "stamp", "rounds=0"], engine == "kvm")
            self.assertTrue(report["told_to_stop"])
            self.assertGreaterEqual(report["seconds"], 0.2)
            self.assertGreater(report["workers"][0]["figures"]["rounds"], 0)

    def test_memory_that_is_too_small_is_said(self):
        for engine in ("kvm", "thread"):
            for words in (["-s", "4K", "stream"], ["-s", "4K", "touch", "stride=8K"], ["-s", "4K", "chase", "stride=4K"],
                          ["-s", "4K", "store", "keys=64"]):
                result = guestmem("run", "-q", "-e", engine, *words)
                self.fails(1, "too small", result=result)

    def test_wrong_contents_are_found(self):
        # The memory is a file into which somebody else writes as well.
        file = self.path("memory")
        other = start("run", "-q", "-s", "4M", "--backing", file, "-t", "60", "stamp", "rounds=0")
        self.assertTrue(wait_for(lambda: os.path.exists(file) and os.path.getsize(file) == 4 * MIB))
        words = ("-s", "4M", "--backing", file, "touch", "rounds=50")
        result, report = wait_for(lambda: next((r for r in [run(*words)] if r[0].returncode), None))
        end(other)
        self.assertEqual(result.returncode, 3)
        self.assertGreater(report["errors"], 0)
        self.assertRegex(result.stderr, r"words are wrong, the first at 0x[0-9a-f]+: 0x[0-9a-f]+ instead of 0x[0-9a-f]+")


class Restart(Runs):
    def setUp(self):
        super().setUp()
        self.need_kvm()

    def test_a_guest_goes_on_in_another_machine(self):
        for payload, words in (("stamp", ["rounds=0"]), ("touch", ["rounds=1000000000"]), ("stream", ["rounds=1000000000"]),
                               ("store", ["ops=1000000000"]), ("chase", ["steps=1000000000000"])):
            report = self.did_well(["-s", "6M", "-c", "2", "--restart", "0.15", "-t", "0.4", payload, *words])
            self.assertEqual(report["restarts"], 1)
            self.assertGreater(report["seconds"], 0.4)
            self.assertGreater(report["operations"], 0)

    def test_registers_are_kept(self):
        report = self.did_well(["-s", "1M", "--restart", "0.1", "-t", "0.3", PROGRAM, "registers"])
        self.assertEqual(report["restarts"], 1)
        self.assertGreater(report["operations"], 1)

    def test_it_needs_a_virtual_machine(self):
        self.fails(2, "--restart", args=("run", "-s", "1M", "-e", "thread", "--restart", "1", "touch"))


class Traces(Runs):
    def setUp(self):
        super().setUp()
        self.need_kvm()
        self.file = self.path("trace")

    def replay(self, records, pages, *words, size=4 * MIB, log2=12):
        write_bytes(self.file, trace(records, pages, log2))
        return self.did_well(["-s", size, "-p", "base", *words, "replay", f"trace={self.file}"], "thread" not in words)

    def test_what_was_recorded_is_touched(self):
        records = [(0, 1, True, 0), (10, 20, True, 5), (9, 1, False, 0), (1023, 1, True, 1000), (500, 1, True, 0)]
        for engine in ("kvm", "thread"):
            report = self.replay(records, 1024, "-e", engine)
            self.assertEqual(report["operations"], 24)
            self.assertEqual(report["workers"][0]["figures"], {"records": 5, "writes": 23})
            self.assertEqual(report["present_bytes"], 23 * PAGE)

    def test_pages_may_be_large(self):
        report = self.replay([(1, 1, True, 0)], 2, log2=21)
        self.assertEqual((report["operations"], report["present_bytes"]), (1, PAGE))

    def test_vcpus_share_the_records(self):
        report = self.replay([(n * 7 % 1024, 1, True, 0) for n in range(1000)], 1024, "-c", "3")
        self.assertEqual([w["figures"]["records"] for w in report["workers"]], [334, 333, 333])
        self.assertEqual(report["present_bytes"], 1000 * PAGE)

    def test_times_are_kept_when_asked(self):
        write_bytes(self.file, trace([(n, 1, True, 30000) for n in range(10)], 1024))
        fast = self.did_well(["-s", "4M", "replay", f"trace={self.file}"])
        slow = self.did_well(["-s", "4M", "replay", f"trace={self.file}", "slower=1"])
        self.assertGreaterEqual(slow["measured_seconds"], 0.3)
        self.assertLess(fast["measured_seconds"], slow["measured_seconds"])

    def test_reading_only_reads(self):
        write_bytes(self.file, trace([(0, 1024, True, 0)], 1024))
        report = self.did_well(["-s", "4M", "-p", "base", "replay", f"trace={self.file}", "mode=read"])
        self.assertEqual(report["present_bytes"], 0)

    def test_traces_that_cannot_be_are_refused(self):
        good = [(0, 1, True, 0), (10, 20, True, 5)]
        bad = {
            "no page-touch trace": [b"x", trace(good, 1024, magic=b"GMTRACE2"), trace(good, 1024)[:63]],
            "another version": [trace(good, 1024, version=2)],
            "size of pages": [trace(good, 1024, 11), trace(good, 1024, 31)],
            "number of pages": [trace(good, 0), trace(good, 1 << 53)],
            "cut short": [trace(good, 1024)[:-1], trace(good, 1024) + b"\0", trace(good, 1024, body_len=1 << 63)],
            "damaged": [trace(good, 1024, checksum=1)],
            "record": [trace(good, 30 - 1), trace(good, 1024, nr=3), trace(good, 1024, nr=1),
                       trace(good, 1024, behind=b"\0"), trace([(0, 0, True, 0)], 1024),
                       trace([], 1024, behind=b"\xff" * 10 + b"\1", nr=1)],
            "sums": [trace(good, 1024, touched=20), trace(good, 1024, micros=0)],
        }
        for word, files in bad.items():
            for data in files:
                write_bytes(self.file, data)
                for engine in ("kvm", "thread"):
                    self.fails(1, word, self.file, args=("run", "-s", "4M", "-e", engine, "replay", f"trace={self.file}"))

    def test_the_memory_must_be_as_large(self):
        write_bytes(self.file, trace([(0, 1, True, 0)], 1025))
        self.fails(1, "--size", "1025 pages", args=("run", "-s", "4M", "replay", f"trace={self.file}"))
        self.fails(1, "No such file", args=("run", "-s", "4M", "replay", "trace=/no/such"))
        self.fails(2, "trace=FILE", args=("run", "-s", "4M", "replay"))
        write(self.file, "")
        self.fails(1, "empty", args=("run", "-s", "4M", "replay", f"trace={self.file}"))
        self.fails(1, "regular", args=("run", "-s", "4M", "replay", f"trace={self.dir}"))


class Boot(Runs):
    """The trace of a real boot (docs/trace-format.md) on memory of every sort."""

    def setUp(self):
        super().setUp()
        self.addCleanup(put_back)
        self.trace = os.path.join(ROOT, "payload", "boot.trace")

    def replay(self, pages, size, log2):
        """In a thread, so that the faults are those of the memory alone."""
        report = self.did_well(["-e", "thread", "-s", size, "-p", pages, "replay", f"trace={self.trace}"], False)
        present = report["present_by_page_size"][{v: k for k, v in BITS.items()}[log2]]
        # Beside the page of zeros, which a few are read as first, there is room for base pages only.
        self.assertGreaterEqual(present, report["present_bytes"] * 0.99, pages)
        pages_present = present >> log2
        # The process has faults of its own.
        self.assertLessEqual(pages_present, report["faults_minor"])
        self.assertLess(report["faults_minor"], pages_present * 1.05 + 200)
        return report

    def test_every_size_of_pages_has_its_faults(self):
        knob = THP + "hugepages-64kB/enabled"
        if setting(THP + "enabled") == "never":
            set_host(THP + "enabled", "madvise")
        base = self.replay("base", "512M", 12)
        self.assertEqual(self.replay("sparse", "512M", 12)["present_bytes"], base["present_bytes"])
        thp = self.replay("thp", "512M", 21)
        self.assertLess(base["present_bytes"], thp["present_bytes"])
        if os.path.exists(knob):
            for other in glob.glob(THP + "hugepages-*/enabled"):
                set_host(other, "madvise" if other == knob else "never")
            middle = self.replay("64K", "512M", 16)
            self.assertLess(base["present_bytes"], middle["present_bytes"])
            self.assertLessEqual(middle["present_bytes"], thp["present_bytes"])
        need_pool(2048, 256)
        self.assertEqual(self.replay("2M", "512M", 21)["present_bytes"], thp["present_bytes"])
        # For each of the thousands of faults there is one of a block of 2 MiB.
        self.assertGreater(base["faults_minor"], 300 * thp["present_bytes"] // (2 * MIB))


class Programs(Runs):
    def setUp(self):
        super().setUp()
        self.need_kvm()
        if not PROGRAM:
            self.skipTest("no program was built for the guest")

    def test_elf_and_flat_programs_run(self):
        for program in (PROGRAM, FLAT):
            result = guestmem("run", "-q", "-s", "4K", program, "hello", "two words", "--size", "é")
            self.well(result)
            self.assertEqual(result.stdout, "hello\ntwo words\n--size\né\n")

    def test_the_status_is_reported(self):
        for status in (1, 7, 255, 4294967295):
            result, report = run("-s", "4K", PROGRAM, "status", status)
            self.assertEqual((result.returncode, report["workers"][0]["status"]), (3, status))
            self.assertIn(f"status {status}", result.stderr)
        self.did_well(["-s", "4K", PROGRAM, "status", "0"])

    def test_each_vcpu_knows_which_it_is(self):
        result, report = run("-s", "1M", "-c", "5", PROGRAM, "which")
        self.assertEqual(result.returncode, 3)
        self.assertEqual([w["status"] for w in report["workers"]], [5 * 16 + n for n in range(5)])

    def test_the_mailbox_works(self):
        report = self.did_well(["-s", "4K", "-t", "0.05", PROGRAM, "mailbox-works"])
        self.assertEqual((report["doorbells"], report["doorbell"]), (10, 110))
        self.assertGreater(report["workers"][0]["exits_mmio"], 12)

    def test_data_is_there(self):
        file = self.path("data")
        data = bytes(n * 7 & 255 for n in range(3 * MIB + 5))
        write_bytes(file, data)
        for pages in ("4K", "2M"):
            report = self.did_well(["-s", "4K", "-g", pages, "-d", file, PROGRAM, "data"])
            self.assertEqual(report["workers"][0]["figures"], {"0": sum(data), "1": len(data)})

    def crash(self, how, *words, size="3M", guest="2M"):
        result, report = run("-s", size, "-g", guest, "-c", "2", PROGRAM, how)
        self.assertEqual(result.returncode, 4, (how, result.stderr))
        self.assertEqual(report["outcome"], "crashed")
        for word in words:
            self.assertRegex(result.stderr, word, how)

    def test_what_a_program_does_wrong_is_said(self):
        self.crash("null", r"page fault at 0x0: written by the instruction at 0x1[0-9a-f]{5}\b")
        self.crash("unmapped", r"page fault at 0x123456789000: read by")
        self.crash("jump", r"page fault at 0x800: executed|page fault at 0x800: read")
        self.crash("behind", r"8 bytes read from address 0x40300000: there is neither memory nor a device", r"rip 0x1")
        self.crash("behind-write", r"8 bytes written to address 0x40300008: there is neither")
        self.crash("halt", r"general protection fault \(exception 13")
        self.crash("invalid", r"invalid instruction \(exception 6")
        self.crash("divide", r"divide error \(exception 0")
        self.crash("port", r"1 bytes written to port 0x71: there is no device")
        self.crash("mailbox", r"8 bytes written to address 0x[0-9a-f]+: Permission denied")
        self.crash("triple", r"triple fault")

    def test_what_was_not_measured_has_no_rate(self):
        words = ("-s", "1M", "-t", "0.2", PROGRAM, "registers")
        _, report = run(*words)
        self.assertGreater(report["operations"], 1)
        for member in ("measured_seconds", "operations_per_second", "bytes_per_second", "ns_per_operation"):
            self.assertIsNone(report[member], member)
        self.assertRegex(guestmem("run", *words).stderr, "operations, .* in a time that is not known")

    def test_a_guest_that_never_ends_is_ended(self):
        begun = time.monotonic()
        result, report = run("-s", "8K", "-c", "2", "--timeout", "0.3", PROGRAM, "loop")
        self.assertEqual(result.returncode, 124)
        self.assertEqual(report["outcome"], "timeout")
        self.assertIn("--timeout", result.stderr)
        self.assertLess(time.monotonic() - begun, 20)

    def test_signals_end_it(self):
        for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            for words in (["-c", "2", PROGRAM, "loop"], ["-e", "thread", "stamp", "rounds=0"]):
                child = start("run", "-q", "-s", "1M", "-j", self.path("json"), *words)
                self.assertTrue(wait_for(lambda: len(os.listdir(f"/proc/{child.pid}/task")) >= 2))
                time.sleep(0.1)
                child.send_signal(signo)
                _, errors = child.communicate(timeout=20)
                self.assertEqual(child.returncode, 128 + signo, errors)
                self.assertIn(f"interrupted by {signo.name}", errors)
                self.assertEqual(self.json("json")["signal"], signo)
                os.unlink(self.path("json"))

    def test_a_console_that_cannot_be_written_is_said(self):
        with open("/dev/full", "wb") as full:
            result = guestmem("run", "-q", "-s", "4K", PROGRAM, "hello", stdout=full)
        self.assertEqual(result.returncode, 4, result.stderr)
        self.assertRegex(result.stderr, "vCPU 0: its console.*No space left")

    def test_files_that_are_no_programs_are_refused(self):
        self.fails(1, "/no/such", args=("run", "-s", "4K", "/no/such"))
        self.fails(1, "directory", args=("run", "-s", "4K", self.dir + "/"))
        write(self.path("empty"), "")
        self.fails(1, self.path("empty"), args=("run", "-s", "4K", self.path("empty")))
        with open(PROGRAM, "rb") as file:
            elf = bytearray(file.read())
        for name, at, value in (("machine", 18, 183), ("class", 4, 9), ("headers", 32, 255)):
            elf[at], before = value, elf[at]
            write_bytes(self.path("elf"), elf)
            elf[at] = before
            self.fails(1, self.path("elf"), args=("run", "-s", "4K", self.path("elf")))
        # Where the machine's tables are, its stacks, and where there is nothing.
        for address, word in ((0x1000, "tables"), (0x3000000, "stacks"), (0x5000000, "")):
            moved = bytearray(elf) # it is linked for 0x180000
            phoff = struct.unpack_from("<Q", moved, 32)[0]
            for n in range(struct.unpack_from("<H", moved, 56)[0]):
                at = phoff + 56 * n + 16
                linked = struct.unpack_from("<Q", moved, at)[0]
                if linked == 0: # the stack's flags
                    continue
                struct.pack_into("<QQ", moved, at, linked - 0x180000 + address, linked - 0x180000 + address)
            struct.pack_into("<Q", moved, 24, address + 0x1000)
            write_bytes(self.path("elf"), moved)
            self.fails(1, self.path("elf"), word, args=("run", "-s", "4K", self.path("elf")))
        self.fails(1, "too long", args=("run", "-s", "4K", PROGRAM, *["x" * 60000] * 5))


class Control(Runs):
    def setUp(self):
        super().setUp()
        self.need_kvm()

    def test_a_guest_manages_its_memory(self):
        for words in (["-p", "base"], ["-p", "thp"], ["--backing", "memfd"], ["--backing", "shared"], ["-g", "4K", "-c", "3"]):
            report = self.did_well(["-s", "24M", *words, "control", "rounds=2"])
            control = report["control"]
            vcpus = report["vcpus"]
            self.assertEqual(control["messages"], report["operations"])
            self.assertEqual((control["unanswered"], control["throttled"], control["locked_bytes"]), (0, 0, 0))
            # Nine answers are refusals, but for the batch, which is no request.
            self.assertEqual(control["refused"], 18 * vcpus, words)
            self.assertEqual(control["done"]["dontneed"], 4 * vcpus)
            self.assertEqual(control["done"]["info"], (200 + 128) * vcpus)
            self.assertEqual(control["lifted"] > 0, True)
            if vcpus == 1:
                self.assertEqual(control["lifted"], 4)
            # Ports and MMIO.
            self.assertEqual([w["exits_io"] > w["exits_mmio"] for w in report["workers"]],
                             [n % 2 == 1 for n in range(vcpus)])

    def test_explicit_huge_pages_too(self):
        need_pool(2048, 8)
        report = self.did_well(["-s", "16M", "-p", "2M", "control"])
        self.assertEqual(report["control"]["done"]["dontneed"], 2)

    def test_a_flood_is_held_back(self):
        report = self.did_well(["-s", "8M", "--control", "all", "--control-rate", "500", "control", "flood=3000"])
        figures = report["workers"][0]["figures"]
        self.assertGreater(figures["throttled"], 100)
        self.assertEqual(report["control"]["throttled"] >= figures["throttled"], True)

    def test_it_is_allowed_only_if_said(self):
        self.assertIsNone(self.did_well(["-s", "1M", "touch"])["control"])
        self.fails(2, "--control all", args=("run", "-s", "8M", "--control", "safe", "control"))
        self.fails(2, "no guest", args=("run", "-s", "8M", "-e", "thread", "control"))
        self.fails(2, "--control-rate", args=("run", "-s", "8M", "--control-rate", "1", "touch"))


class Shortage(Runs):
    def run_short(self, engine, worker):
        """The file behind the memory is made shorter while two workers write to it."""
        file = self.path("memory")
        child = start("run", "-q", "-s", "4M", "-c", "2", "-e", engine, "-j", self.path("json"), "--backing", file,
                      "stamp", "rounds=0")
        self.assertTrue(wait_for(lambda: os.path.exists(file) and os.stat(file).st_blocks >= 4 * MIB // 512))
        os.truncate(file, 0)
        _, errors = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 4, errors)
        self.assertRegex(errors, f"run: {worker} [01]: the host has no page for")
        self.assertIn("file shorter", errors)
        report = self.json("json")
        self.assertEqual(report["outcome"], "crashed")
        self.assertTrue(any("no page" in (w["why"] or "") for w in report["workers"]))

    def test_memory_that_goes_away_ends_a_guest(self):
        self.need_kvm()
        self.run_short("kvm", "vCPU")

    def test_a_signal_that_is_sent_is_no_fault(self):
        child = start("run", "-q", "-s", "4K", "-e", "thread", "--timeout", "20", "stamp", "rounds=0")
        self.assertTrue(wait_for(lambda: len(os.listdir(f"/proc/{child.pid}/task")) > 1))
        child.send_signal(signal.SIGBUS)
        _, errors = child.communicate(timeout=10)
        self.assertIn(child.returncode, (-signal.SIGBUS, 1), errors) # the address sanitizer has its own end
        self.assertNotIn("no page", errors)

    def test_memory_that_goes_away_ends_threads(self):
        self.run_short("thread", "thread")


class CommandLine(Runs):
    def test_what_cannot_be_is_refused(self):
        good = ("run", "-s", "1M")
        for option, values in {
                "--size": ("0", "x", "-1", "1.5G", "16E"),
                "--pages": ("", "x", "2m", "base,", ",base", "4k", "base,sparse", "thp,thp,thp,thp,thp,thp,thp"),
                "--guest-pages": ("", "4k", "64K", "1"),
                "--backing": ("", "file", "anonymous"),
                "--vcpus": ("0", "65", "-1", "x", ""),
                "--engine": ("", "KVM", "none"),
                "--seed": ("x", "-1", "18446744073709551616"),
                "--time": ("0", "-1", "x", "nan", "inf"),
                "--timeout": ("0", "1e9"),
                "--restart": ("", "0"),
                "--control": ("", "none"),
                "--control-rate": ("-1", "x"),
                "--numa": ("0", "bind:x")}.items():
            for value in values:
                self.fails(2, option, args=(*good, f"{option}={value}", "touch"))
        self.fails(2, "--size is missing", args=("run", "touch"))
        self.fails(2, "no payload", args=good)
        self.fails(2, "needs a guest", args=(*good, "-e", "thread", "./program"))
        self.fails(2, "no payload, and no path", "toch", args=(*good, "toch"))
        self.fails(2, "--share", args=(*good, "--share", "--backing=shared", "touch"))
        self.fails(2, "multiple", args=("run", "-s", "3M", "-p", "2M", "touch"))
        self.fails(2, "multiple", args=("run", "-s", "5000", "touch"))
        self.fails(2, "each vCPU", args=("run", "-s", "8K", "-c", "3", "touch"))

    def test_parameters_that_cannot_be_are_refused(self):
        for word in ("order", "order=", "order=x", "stride=0", "stride=9", "stride=-8", "stride=1E", "mode=x", "rounds=0",
                     "rounds=x", "verify=1", "steps=5", "=", "", "strid=8"):
            self.fails(2, f"'{word}'", args=("run", "-s", "1M", "touch", word))
        for word in ("writes=101", "skew=2.1", "skew=-1", "keys=0", "ops=0", "skew=nan"):
            self.fails(2, word, args=("run", "-s", "1M", "store", word))
        for word in ("pages=0", "pause=-1", "pause=x", "order=seq"):
            self.fails(2, word, args=("run", "-s", "1M", "stamp", word))

    def test_more_than_there_is_is_refused(self):
        before = pools()
        self.fails(1, "memory of", args=("run", "-s", "31T", "touch"))
        self.fails(1, "32T", args=("run", "-s", "33T", "-p", "sparse", "touch"))
        self.fails(1, "nr_hugepages", args=("run", "-s", "16T", "-p", "2M", "touch"))
        self.assertEqual(pools(), before)

    def test_the_report_goes_where_it_is_told(self):
        result = guestmem("run", "-s", "1M", "-e", "thread", "-j", self.path("json"), "touch")
        self.well(result)
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, r"contents right")
        self.assertRegex(result.stderr, r"256 operations")
        self.assertEqual(self.json("json")["operations"], 256)
        self.assertEqual(guestmem("run", "-q", "-s", "1M", "-e", "thread", "touch").stderr, "")
        self.fails(1, "/no/such", args=("run", "-s", "1M", "-j", "/no/such/file", "touch"))

    def test_every_member_of_the_report_is_documented(self):
        page = read(os.path.join(ROOT, "man", "guestmem-run.1.scd"))
        section = page.split("# THE REPORT")[1].split("# EXIT STATUS")[0]
        documented = set(re.findall(r"\*([a-z0-9_]+)\*", section))
        words = ["--control", "safe"] if has_kvm() else []
        _, report = run("-s", "1M", *words, "touch")
        members = {*report, *report["workers"][0], *(report["kvm_slots"] or {}), *(report["control"] or {})}
        self.assertEqual(members - documented, set())
        self.assertEqual(documented - members - {"done", "crashed", "timeout", "interrupted", "saved", "moved", "getrusage"}, set())

    def test_without_kvm_it_says_so_and_runs_in_a_thread(self):
        if os.getuid():
            self.skipTest("only root can hide a device")
        hidden = ["unshare", "-m", "sh", "-c", "mount --bind /dev/null /dev/kvm && exec \"$@\"", "-"]
        words = [TOOL, "run", "-j", self.path("json"), "-s", "1M"]
        if not os.path.exists("/dev/kvm"):
            hidden = []
        result = subprocess.run([*hidden, *words, "touch"], capture_output=True, text=True, check=False)
        self.well(result)
        self.assertIn("note: there is no KVM here (/dev/kvm", result.stderr)
        self.assertIn("1 thread, no guest", result.stderr)
        report = self.json("json")
        self.assertEqual(report["engine"], "thread")
        self.assertIn("/dev/kvm", report["engine_reason"])
        self.assertIsNone(report["guest_page_size"])
        for more in (["-e", "kvm", "touch"], ["./program"], ["--restart", "1", "touch"]):
            result = subprocess.run([*hidden, *words, *more], capture_output=True, text=True, check=False)
            self.fails(1, "there is no KVM here", result=result)

    def test_it_runs_without_privilege(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        result, report = run("-s", "1M", "touch", preexec_fn=as_nobody)
        self.well(result)
        self.assertEqual(report["errors"], 0)

    def test_nothing_of_the_host_is_changed(self):
        knobs = [THP + "enabled", THP + "shmem_enabled"]
        before = ([read(k) for k in knobs], pools())
        for words in (["-p", "thp,base", "touch"], ["--share", "chase", "steps=10"], ["-p", "2M,base", "touch"]):
            guestmem("run", "-s", "4M", *words)
        self.assertEqual(([read(k) for k in knobs], pools()), before)
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    main()
