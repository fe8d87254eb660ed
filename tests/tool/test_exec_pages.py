# SPDX-License-Identifier: BSD-3-Clause
"""guestmem exec: pages that were asked for, got and counted."""

import os
import signal
import subprocess
import sys

from common import (MIB, PAGE, THP, TOOL, Case, as_nobody, guestmem, main, need_pool, nobody_can_run_tool, pools,
                    put_back, python, set_host, setting, wait_for, write)

FIELDS = {"command", "exit_status", "exit_signal", "wall_seconds", "size", "name", "numa", "populate",
          "page_size_requested", "page_size_effective", "page_size_achieved", "faults_minor", "faults_major",
          "guest_faults", "guest_faults_lost", "guest_faults_reason", "allocated_bytes", "peak_allocated_bytes",
          "present_bytes", "present_by_page_size", "limit", "peak_present_bytes", "page_table_bytes", "peak_page_table_bytes",
          "not_seen", "surviving_pids", "warnings", "interval_seconds", "samples"}


class Pages(Case):
    def tearDown(self):
        put_back()

    def run_use(self, size, policy, what, touched, *options, seconds=0.4, status=0):
        """Runs use_memory.py and returns the report and what was said."""
        policy = ("--page-size", policy) if policy else ()
        result = guestmem("exec", "-s", size, *policy, "--json", self.path("report"), "-i0.05", *options, "--",
                          *python(what, "{mem}", touched, seconds))
        self.assertEqual(result.returncode, status, result.stderr)
        return self.json("report"), result.stderr

    def test_the_report_has_what_is_promised(self):
        report, _ = self.run_use("16M", "base", "touch", 4 * MIB, "--name", "x", "--numa", "bind:0")
        self.assertEqual(set(report), FIELDS)
        self.assertEqual(report["size"], 16 * MIB)
        self.assertEqual((report["exit_status"], report["exit_signal"]), (0, None))
        self.assertEqual((report["name"], report["numa"], report["populate"]), ("x", "bind:0", False))
        self.assertEqual(report["command"][1:4], python("touch")[1:])
        self.assertTrue(0.4 <= report["wall_seconds"] < 30)
        self.assertGreater(report["faults_minor"], 1024)
        self.assertGreater(len(report["samples"]), 2)
        times = [s["seconds"] for s in report["samples"]]
        self.assertEqual(times, sorted(times))
        for sample in report["samples"]:
            self.assertEqual(set(sample), {"seconds", "present_bytes", "allocated_bytes", "page_table_bytes",
                                           "present_by_page_size", "processes"})
            self.assertLessEqual(sample["present_bytes"], sample["allocated_bytes"])
            self.assertEqual(sum(sample["present_by_page_size"].values()), sample["present_bytes"])

    def test_base_pages_are_counted_exactly(self):
        report, said = self.run_use("16M", "base", "touch", 4 * MIB)
        self.assertEqual(report["page_size_effective"], "base")
        self.assertEqual(report["present_by_page_size"], {"4K": 4 * MIB, "2M": 0, "1G": 0})
        self.assertEqual(report["allocated_bytes"], 4 * MIB)
        self.assertEqual(report["guest_faults"], 4 * MIB // PAGE)
        self.assertEqual((report["guest_faults_lost"], report["guest_faults_reason"]), (0, None))
        self.assertEqual((report["warnings"], report["not_seen"]), ([], []))
        self.assertIn("page size base asked, base got", said)

    def test_base_is_base_whatever_host_and_command_say(self):
        for word in ("always", "advise", "within_size"):
            set_host(THP + "shmem_enabled", word)
            set_host(THP + "hugepages-64kB/shmem_enabled", "always")
            report, _ = self.run_use("16M", "base", "advised", 4 * MIB, "--require")
            self.assertEqual(report["present_by_page_size"], {"4K": 4 * MIB, "2M": 0, "1G": 0}, report)
            self.assertEqual(report["page_size_effective"], "base")
            report, _ = self.run_use("16M", "base", "advised", 4 * MIB, "--require", "--populate")
            self.assertEqual(report["page_size_effective"], "base")
            self.assertEqual(report["allocated_bytes"], 16 * MIB)
            put_back()

    def test_thp_needs_a_host_that_allows_it(self):
        for word in ("never", "deny"):
            set_host(THP + "shmem_enabled", word)
            self.fails(1, THP + "shmem_enabled", word, args=("exec", "-s", "4M", "-p", "thp", "true", "{mem}"))
        set_host(THP + "shmem_enabled", "always")
        set_host(THP + "hugepages-2048kB/shmem_enabled", "never")
        self.fails(1, "hugepages-2048kB/shmem_enabled", args=("exec", "-s", "4M", "-p", "thp", "true", "{mem}"))

    def test_thp_is_got_by_who_maps_it_well(self):
        set_host(THP + "shmem_enabled", "advise")
        report, _ = self.run_use("16M", "thp", "advised", 4 * MIB, "--require")
        self.assertEqual((report["page_size_effective"], report["page_size_achieved"]), ("thp", True))
        self.assertEqual(report["present_by_page_size"], {"4K": 0, "2M": 4 * MIB, "1G": 0})
        self.assertEqual(report["guest_faults"], 2)
        report, _ = self.run_use("16M", "thp", "advised", 4 * MIB, "--require", "--populate")
        self.assertEqual(report["page_size_effective"], "thp")
        self.assertEqual(report["allocated_bytes"], 16 * MIB)

    def test_thp_that_was_not_got_is_not_reported(self):
        set_host(THP + "shmem_enabled", "advise")
        for what, why in (("unaligned", "not a multiple of 2 MiB"), ("touch", "does not advise")):
            report, said = self.run_use("16M", "thp", what, 4 * MIB)
            self.assertEqual((report["page_size_effective"], report["page_size_achieved"]), ("base", False))
            self.assertEqual(report["present_by_page_size"]["2M"], 0)
            self.assertTrue(any(why in w for w in report["warnings"]), report["warnings"])
            self.assertIn(why, said)
            _, said = self.run_use("16M", "thp", what, 4 * MIB, "--require", status=1)
            self.assertIn("--require: page size thp was asked for, base was got", said)

    def test_how_much_was_advised_is_told(self):
        set_host(THP + "shmem_enabled", "advise")
        for what, why in (("partly", "does not advise huge pages (MADV_HUGEPAGE) for 14 MiB of the 16 MiB that it maps"),
                          ("partly-not", "forbids huge pages for 2 MiB of the 16 MiB that it maps"),
                          ("touch", "does not advise huge pages (MADV_HUGEPAGE) for the memory,")):
            report, _ = self.run_use("16M", "thp", what, 4 * MIB)
            self.assertFalse(report["page_size_achieved"])
            self.assertTrue(any(why in w for w in report["warnings"]), report["warnings"])

    def test_an_inherited_prohibition_of_thp_is_lifted(self):
        set_host(THP + "shmem_enabled", "advise")
        script = "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
        subprocess.run([sys.executable, "-c", script, TOOL, "exec", "-q", "-s", "8M", "-p", "thp", "--require",
                        *python("advised", "{mem}", 4 * MIB, 0.3)], check=True, timeout=60)

    def test_multi_size_pages_are_told_from_base_pages(self):
        if os.getuid():
            self.skipTest("the folios of pages can be seen by root only")
        set_host(THP + "hugepages-64kB/shmem_enabled", "advise")
        set_host(THP + "hugepages-2048kB/shmem_enabled", "never")
        report, _ = self.run_use("16M", None, "advised", 4 * MIB)
        self.assertEqual(report["present_by_page_size"], {"4K": 0, "64K": 4 * MIB, "2M": 0, "1G": 0})
        self.assertEqual((report["page_size_requested"], report["page_size_effective"]), ("default", "64K"))

    def test_explicit_huge_pages_are_reserved_and_counted(self):
        need_pool(2048, 8)
        before = pools()
        report, _ = self.run_use("16M", "2M", "touch", 4 * MIB, "--require")
        self.assertEqual(report["present_by_page_size"], {"4K": 0, "2M": 4 * MIB, "1G": 0})
        self.assertEqual((report["page_size_effective"], report["guest_faults"]), ("2M", 2))
        self.assertEqual(report["allocated_bytes"], 4 * MIB)
        report, _ = self.run_use("16M", "2M", "touch", 4 * MIB, "--populate")
        self.assertEqual(report["allocated_bytes"], 16 * MIB)
        self.assertTrue(wait_for(lambda: pools() == before))

    def test_pages_of_1_gib(self):
        need_pool(1048576, 1)
        before = pools()
        report, _ = self.run_use("1G", "1G", "touch", PAGE, "--require", seconds=0.6)
        self.assertEqual(report["present_by_page_size"], {"4K": 0, "2M": 0, "1G": 1 << 30})
        self.assertEqual((report["page_size_effective"], report["guest_faults"]), ("1G", 1))
        self.assertTrue(wait_for(lambda: pools() == before))

    def test_without_a_policy_nothing_was_to_be_achieved(self):
        report, _ = self.run_use("16M", None, "touch", 4 * MIB)
        self.assertEqual((report["page_size_requested"], report["page_size_achieved"]), ("default", None))
        report, _ = self.run_use("16M", "base", "touch", 4 * MIB)
        self.assertIs(report["page_size_achieved"], True)
        report, _ = self.run_use("16M", "base", "touch", 0)
        self.assertIs(report["page_size_achieved"], False)

    def test_what_two_processes_map_counts_once(self):
        report, _ = self.run_use("16M", "base", "fork", 4 * MIB)
        self.assertEqual(report["peak_present_bytes"], 4 * MIB)
        self.assertEqual(max(s["processes"] for s in report["samples"]), 2)
        # Both took the faults.
        self.assertEqual(report["guest_faults"], 2 * 4 * MIB // PAGE)

    def test_what_is_mapped_twice_counts_once(self):
        report, _ = self.run_use("16M", "base", "again", 4 * MIB)
        self.assertEqual(report["present_bytes"], 4 * MIB)
        self.assertEqual(report["guest_faults"], 2 * 4 * MIB // PAGE)

    def test_descendants_are_watched(self):
        result = guestmem("exec", "-s", "16M", "-p", "base", "--json", self.path("report"), "sh", "-c",
                          '"$@" & wait; exit 5', "-", *python("touch", "{mem}", 4 * MIB, 0.3))
        self.assertEqual(result.returncode, 5)
        report = self.json("report")
        self.assertEqual((report["present_bytes"], report["guest_faults"]), (4 * MIB, 4 * MIB // PAGE))

    def test_one_inside_another_watches_its_own_memory(self):
        inner = self.path("inner.sh")
        use = " ".join(python("touch"))
        write(inner, f'''"{TOOL}" exec -s 8M -p base --name inner --json "{self.path("inner")}" -- \\
            sh -c '{use} "$1" {2 * MIB} 0.5 & {use} "$2" {3 * MIB} 0.5; wait' - "$1" {{mem}}\n''')
        result = guestmem("exec", "-s", "4M", "-p", "base", "--json", self.path("outer"), "sh", inner, "{mem}")
        self.well(result)
        self.assertEqual([(self.json(name)["size"], self.json(name)["present_bytes"]) for name in ("outer", "inner")],
                         [(4 * MIB, 2 * MIB), (8 * MIB, 3 * MIB)])
        # All {mem} are the outer one's.
        result = guestmem("exec", "-s", "4M", "-q", TOOL, "exec", "-s", "4M", "true", "{mem}")
        self.assertEqual(result.returncode, 2)
        self.assertIn("no argument has {mem}", result.stderr)

    def test_processes_that_outlive_the_command_are_told(self):
        for what, said in ((["sleep", "60"], "none maps the memory"), (python("touch", "{mem}", 4 * MIB, 60), "guestmem inspect ")):
            script = '"$@" >/dev/null 2>&1 & echo $!; sleep 0.5; : {mem}'
            result = guestmem("exec", "-s", "16M", "-p", "base", "--json", self.path("report"), "sh", "-c", script, "-", *what)
            self.well(result)
            pid = int(result.stdout)
            os.kill(pid, signal.SIGKILL)
            report = self.json("report")
            self.assertEqual(report["surviving_pids"], [pid])
            (note,) = [w for w in report["warnings"] if "outlived" in w]
            self.assertIn(said, note)
            self.assertRegex(note, "^1 process of the command outlived it(, with the memory, and was watched|; none)")
            self.assertIn(note, result.stderr)
        self.assertTrue(note.endswith(str(pid)))
        self.assertEqual(report["present_bytes"], 4 * MIB)
        report, _ = self.run_use("16M", "base", "touch", MIB)
        self.assertEqual(report["surviving_pids"], [])

    def test_memory_that_is_not_used_is_none(self):
        for words in (["sleep", "0.2", "{mem}"], python("touch", "{mem}", 0, 0.3)):
            result = guestmem("exec", "-s", "16M", "-p", "base", "--require", "--json", self.path("report"), "sh", "-c",
                              'test "$1" = sleep && exec sleep $2; "$@"', "-", *words)
            self.assertEqual(result.returncode, 1)
            report = self.json("report")
            self.assertEqual((report["page_size_effective"], report["present_bytes"], report["guest_faults"]), ("none", 0, 0))
            self.assertEqual(len(report["warnings"]), 1)

    def test_a_short_command_is_seen(self):
        report, _ = self.run_use("16M", "base", "touch", 4 * MIB, "--interval", "0.01", seconds=0.5)
        self.assertEqual(report["present_bytes"], 4 * MIB)

    def test_without_privilege_it_says_what_it_cannot_count(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        paranoid = "/proc/sys/kernel/perf_event_paranoid"
        os.chmod(self.dir, 0o777)
        for level, counted in ((2, True), (3, None)):
            set_host(paranoid, level)
            result = guestmem("exec", "-s", "16M", "-p", "base", "--json", self.path(f"report{level}"), "/usr/bin/python3",
                              *python("touch", "{mem}", 4 * MIB, 0.3)[1:], preexec_fn=as_nobody)
            self.well(result)
            report = self.json(f"report{level}")
            self.assertEqual(report["present_bytes"], 4 * MIB)
            self.assertIn("perf_event_paranoid", report["guest_faults_reason"])
            if counted:
                self.assertEqual(report["guest_faults"], 4 * MIB // PAGE)
        self.assertEqual(setting(paranoid), "3")


if __name__ == "__main__":
    main()
