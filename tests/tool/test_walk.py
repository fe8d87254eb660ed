# SPDX-License-Identifier: BSD-3-Clause
"""guestmem walk: published tables, options, a process that uses memory, what is measured, hostile arguments."""

import glob
import itertools
import json
import os
import re
import signal
import xml.etree.ElementTree

from common import (MIB, NOBODY, PAGE, POOL, THP, Case, as_nobody, end, guestmem, main, need_pool, nobody_can_run_tool,
                    pools, put_back, python, read, set_host, setting, start, state_of, wait_for)

KIB = 1 << 10
GIB = 1 << 30
SIZES = ("4K", "2M", "1G")
PAGINGS = ("nested", "shadow", "native")

# By levels of guest and host: rows are the guest's sizes, columns the host's.
TABLES = {
    "4x4": ((24, 19, 14), (19, 15, 11), (14, 11, 8)),
    "5x5": ((35, 29, 23), (29, 24, 19), (23, 19, 15)),
    "4x5": ((29, 24, 19), (23, 19, 15), (17, 14, 11)),
    "5x4": ((29, 23, 17), (24, 19, 14), (19, 15, 11)),
}


def settings():
    """What no measurement may change."""
    files = [THP + "enabled", THP + "shmem_enabled", *glob.glob(THP + "hugepages-*/enabled")]
    return {**pools(), **{path: setting(path) for path in files}}


class Walk(Case):
    def tearDown(self):
        put_back()

    def look(self, *args, **kwargs):
        result = guestmem("walk", "--json", *args, **kwargs)
        self.well(result)
        return json.loads(result.stdout)

    def pair(self, *args):
        (pair,) = self.look(*args)["computed"]["pairs"]
        return pair

    def test_the_published_tables_come_out(self):
        for levels, rows in TABLES.items():
            found = self.look("--levels", levels)["computed"]
            self.assertEqual(f"{found['guest_levels']}x{found['host_levels']}", levels)
            loads = {(p["guest"], p["host"]): p["nested"]["loads"] for p in found["pairs"]}
            self.assertEqual(loads, {(g, h): rows[i][k] for i, g in enumerate(SIZES) for k, h in enumerate(SIZES)})
            for pair in found["pairs"]:
                self.assertEqual(pair["native"]["loads"], int(levels[0]) - SIZES.index(pair["guest"]))
                self.assertEqual([pair[p]["loads_at_least"] for p in PAGINGS], [2, 1, 1])
            text = guestmem("walk", "--levels", levels, "--paging", "nested").stdout
            for size, row in zip(SIZES, rows):
                self.assertRegex(text, rf"(?m)^guest {size}\s+{row[0]}\s+{row[1]}\s+{row[2]}$")
        self.assertEqual(self.look("-l5")["computed"], self.look("-l", "5x5")["computed"])
        self.assertEqual(self.look()["computed"], self.look("-l4")["computed"])

    def test_page_tables_may_lie_on_other_pages(self):
        for args, loads in ((("4K", "4K", "2M"), 20), (("4K", "4K", "1G"), 16), (("1G", "4K", "2M"), 12)):
            pair = self.pair("-g", args[0], "-H", args[1], "-t", args[2])
            self.assertEqual(pair["nested"]["loads"], loads)
            self.assertEqual(pair["shadow"]["loads"], 4)
        self.assertEqual(self.look("-t2M")["computed"]["tables"], "2M")
        self.assertIn("page tables on 2M", guestmem("walk", "-t2M").stdout)

    def test_each_option_takes_its_place(self):
        pair = self.pair("--guest", "2M", "--host=4K", "--levels", "4x5", "--size", "64G")
        self.assertEqual((pair["guest"], pair["host"]), ("2M", "4K"))
        self.assertEqual([pair[p]["loads"] for p in PAGINGS], [23, 4, 3])
        shown = {p: set(self.pair("-g4K", "-H4K", "-P", p)) for p in PAGINGS}
        self.assertEqual(shown, {p: {"guest", "host", p} for p in PAGINGS})
        found = self.look("--size", "64G", "--tlb", "4K:100,2M:10,1G:1")
        self.assertEqual(found["tlb"], {"entries": {"4K": 100, "2M": 10, "1G": 1}, "assumed": [],
                                        "source": found["tlb"]["source"]})
        self.assertTrue(found["tlb"]["source"].startswith("--tlb"))
        reach = {"4K": 400 * KIB, "2M": 20 * MIB, "1G": GIB}
        for p in found["computed"]["pairs"]:
            small = min(p["guest"], p["host"], key=lambda s: reach[s])
            self.assertEqual(p["nested"]["tlb_reach_bytes"], reach[small])
            self.assertEqual(p["shadow"]["tlb_reach_bytes"], reach[small])
            self.assertEqual(p["native"]["tlb_reach_bytes"], reach[p["guest"]])
        # Those that are not given stay.
        usual = self.look()["tlb"]["entries"]
        self.assertEqual(self.look("--tlb", "2M:7")["tlb"]["entries"], {**usual, "2M": 7})

    def test_a_footprint_is_that_of_three_sets_and_two_kernels(self):
        tables = 2 * MIB + 3 * PAGE
        foot = self.pair("-g4K", "-H4K", "-s1G")["nested"]["footprint"]
        self.assertEqual(foot, {"guest_table_bytes": tables, "host_table_bytes": tables, "second_table_bytes": tables,
                                "guest_struct_bytes": 16 * MIB, "host_struct_bytes": 16 * MIB,
                                "total_bytes": 3 * tables + 32 * MIB})
        foot = self.pair("-g2M", "-H2M", "-s1G", "--hvo")["nested"]["footprint"]
        self.assertEqual((foot["host_struct_bytes"], foot["host_table_bytes"]), (2 * MIB, 3 * PAGE))
        foot = self.pair("-g2M", "-Hthp", "-s1G")["nested"]["footprint"]
        self.assertEqual(foot["host_table_bytes"], 3 * PAGE + 2 * MIB)
        self.assertEqual(foot["second_table_bytes"], 3 * PAGE)
        foot = self.pair("-g4K", "-H2M", "-s1G")["shadow"]["footprint"]
        self.assertEqual((foot["second_table_bytes"], foot["host_table_bytes"]), (tables, 3 * PAGE))
        foot = self.pair("-g2M", "-H4K", "-s1G")["native"]["footprint"]
        self.assertEqual(foot["total_bytes"], foot["guest_table_bytes"] + foot["guest_struct_bytes"])
        # What does not fill a page is in smaller ones.
        foot = self.pair("-g1G", "-H1G", f"-s{GIB + 2 * MIB + PAGE}")["nested"]["footprint"]
        self.assertEqual(foot["guest_table_bytes"], 4 * PAGE)
        self.assertNotIn("footprint", self.pair("-g4K", "-H4K")["nested"])

    def test_mixes_are_means(self):
        self.assertEqual(self.pair("-g4K", "-H4K:1,2M:3")["nested"]["loads"], 20.25)
        self.assertEqual(self.pair("-g4K:1,2M:1", "-H4K")["nested"]["loads"], 21.5)
        self.assertEqual(self.pair("-g4K:1,2M:1", "-H4K:1,2M:1")["shadow"]["loads"], 3.75)
        self.assertEqual(self.pair("-g4K", "-H4K", "-t4K:1,2M:1")["nested"]["loads"], 22)
        self.assertEqual(self.pair("-g4K", "-H4K:0,2M:3")["nested"]["loads"], 19)
        pair = self.pair("-g4K:1,2M:3", "-H2M", "-s1G")
        self.assertEqual(pair["nested"]["by_tlb_entry_bytes"], {"4K": GIB // 4, "2M": GIB // 4 * 3, "1G": 0})
        self.assertEqual(pair["guest"], "4K:1,2M:3")
        # 64K has the loads of 4K, and says so.
        self.assertEqual(self.pair("-g64K", "-H64K")["nested"]["loads"], 24)
        self.assertIn("other sizes", guestmem("walk", "-g64K").stdout)
        self.assertNotIn("other sizes", guestmem("walk", "-g2M").stdout)

    def test_text_says_what_is_computed_and_by_whom_a_tlb_is_told(self):
        result = guestmem("walk", "--size", "64G")
        self.well(result)
        text = result.stdout
        self.assertEqual(text.count("(computed"), 2)
        self.assertNotIn("measured", text)
        found = self.look()["tlb"]
        self.assertIn(found["source"], text)
        self.assertEqual(text.count("it is not told"), len(found["assumed"]))
        for line in text.splitlines():
            self.assertEqual(line, line.rstrip())
        for size, entries in found["entries"].items():
            self.assertRegex(text, rf"(?m)^  {size} +{entries} entries")

    def test_what_the_host_distorts_is_said(self):
        host = self.look()["this_host"]
        flags = re.search(r"(?m)^flags.*\bhypervisor\b", read("/proc/cpuinfo"))
        self.assertEqual(host["hypervisor"] is not None, flags is not None)
        for module in ("kvm_pvm", "kvm_intel", "kvm_amd"):
            if os.path.exists("/sys/module/" + module):
                self.assertEqual(host["kvm"], module)
        if host["kvm"] == "kvm_pvm":
            self.assertEqual(host["kvm_paging"], "shadow")
            self.assertTrue([n for n in host["notes"] if "shadow" in n and "kvm_pvm" in n])
        if host["hypervisor"]:
            self.assertTrue([n for n in host["notes"] if "guest itself" in n])

    def test_a_report_goes_to_a_file_and_a_picture_too(self):
        picture = self.path("a.svg")
        for words in (["--json", self.path("r")], [f"-j{self.path('r')}"]):
            result = guestmem("walk", *words, "--svg", picture)
            self.well(result)
            self.assertEqual(result.stdout, "")
            self.assertEqual(len(self.json("r")["computed"]["pairs"]), 9)
        root = xml.etree.ElementTree.parse(picture).getroot()
        self.assertTrue(root.tag.endswith("svg"))
        # A bar for each pair, a square for each host's size in the legend.
        bars = [e for e in root.iter() if e.tag.endswith(("path", "rect")) and "rgb(100%, 100%, 100%)" not in str(e.attrib)]
        self.assertGreaterEqual(len(bars), 12)
        self.well(guestmem("walk", "--svg", picture, "-g", "4K:1,2M:3", "-H", "thp"))

    def test_bad_arguments_are_refused(self):
        for args, *words in (
                (("x",), "'x'", "too much"), (("-g", "5K"), "--guest", "5K"), (("-g", ""), "--guest"), (("-g", "2K"), "2K"),
                (("-g", "2G"), "2G"), (("-g", "thp"), "--guest"), (("-g", "4K,2M"), "without a share"),
                (("-g", "4K:1,4K:2"), "twice"), (("-H", "2M:1,thp:1"), "twice"), (("-H", "4K:0,2M:0"), "only shares of 0"),
                (("-H", "4K:0"), "only shares of 0"), (("-H", "4K:1,"), "--host"), (("-H", "4K:-1"), "--host"),
                (("-H", "4K:1001"), "0 to 1000"), (("-H", "4K:1:2"), "0 to 1000"), (("-t", "x"), "--tables"),
                (("-g", "4K:1,8K:1,16K:1,32K:1,64K:1,128K:1,256K:1,512K:1,1M:1"), "more than eight"),
                (("-g", "4K:" + "0" * 100 + "1"), "too long"),
                (("-l", "3"), "--levels", "3"), (("-l", "4x"), "4x"), (("-l", "4x6"), "4x6"), (("-l", "4x44"), "4x44"),
                (("-l", ""), "--levels"), (("-P", "both"), "--paging", "both"), (("-s", "0"), "--size"),
                (("-s", "1"), "multiple"), (("-s", "16E"), "--size"), (("--tlb", "x"), "--tlb"), (("--tlb", "64K:1"), "--tlb"),
                (("--tlb", "4K:1,"), "--tlb"), (("--tlb", "4K"), "--tlb"), (("--tlb", "4K:99999999"), "--tlb"),
                (("-p", "0"), "--pid"), (("-p", "x"), "--pid"), (("-p", "99999999999"), "--pid"),
                (("-p", os.getpid(), "-H4K"), "not with them"), (("-p", os.getpid(), "-s1G"), "not with them"),
                (("-p", os.getpid(), "-m"), "one of them"), (("--rounds", "5"), "without --measure"),
                (("-m", "--rounds", "2"), "3 to 1000"), (("-m", "--rounds", "1001"), "3 to 1000"),
                (("-m", "-s", "4K"), "multiple of 1M"), (("-m", "-s", "2T"), "at most 1T"),
                (("--svg", "a.png"), ".svg"), (("--svg", ".svg"), ".svg"), (("--svg",), "needs a value"),
                (("--json=a.svg", "--svg=a.svg"), "both go to"), (("--nonsense",), "--nonsense"), (("--hvo=1",), "--hvo"),
                (("-g", "\x1b[31m"), "\\033[31m")):
            self.fails(2, *words, args=("walk", *args))

    def test_sizes_above_all_page_tables_are_refused(self):
        for size in ("129P", "16383P", "18446744073709547520"):
            self.fails(2, "--size", f"'{size}'", args=("walk", "--size", size))

    def test_who_told_the_tlb_is_said_whole(self):
        told = self.look()["tlb"]["source"]
        self.assertEqual(self.look("--tlb", "4K:100")["tlb"]["source"], "--tlb; others: " + told)

    def test_more_memory_than_tables_map_is_refused(self):
        self.fails(1, "tables map", args=("walk", "-s", "257T"))
        self.fails(1, "host", args=("walk", "-s", "257T", "-l5x4"))
        self.well(guestmem("walk", "-s", "256T"))
        self.well(guestmem("walk", "-s", "128P", "-l5"))
        self.fails(2, "128P", args=("walk", "-s", "129P", "-l5"))

    def test_results_that_cannot_be_written_are_errors(self):
        for args in ((), ("--json",), ("--json=/dev/full",)):
            with open("/dev/full", "w", encoding="utf-8") as full:
                result = guestmem("walk", *args, stdout=full)
            self.fails(1, "No space", result=result)
        self.fails(1, "/no/such", args=("walk", "--json=/no/such/file"))
        self.fails(1, "/no/such", args=("walk", "--svg=/no/such/a.svg"))
        out, into = os.pipe()
        os.close(out)
        result = guestmem("walk", stdout=into)
        os.close(into)
        self.assertEqual((result.returncode, result.stderr), (1, ""))


class Live(Case):
    def tearDown(self):
        put_back()

    def stopped(self, policy):
        """A process that has touched 4 MiB in large pages where it can, and three small ones, and has stopped."""
        tool = start("exec", "-q", "--size", "16M", "--page-size", policy, "--name", "guestmem-stopped", "--",
                     *python("stopped", "{mem}", 4 * MIB, 0))
        self.addCleanup(end, tool)
        pid = int(wait_for(lambda: read(f"/proc/{tool.pid}/task/{tool.pid}/children").split())[0])
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.assertTrue(wait_for(lambda: state_of(pid) == "T"))
        return pid

    def check(self, policy, by_size):
        pid = self.stopped(policy)
        result = guestmem("walk", "--json", "--pid", pid)
        self.well(result)
        found = json.loads(result.stdout)
        self.assertEqual(state_of(pid), "T")
        seen = found["seen"]
        self.assertEqual((seen["pid"], seen["found_by"]), (pid, "memory named by guestmem"))
        self.assertEqual(seen["present_by_page_size"], {"4K": 0, "2M": 0, "1G": 0, **by_size})
        self.assertEqual(seen["present_bytes"], sum(by_size.values()))
        self.assertEqual(found["computed"]["size"], seen["present_bytes"])
        # As root all is seen that matters here.
        if os.getuid() == 0:
            self.assertEqual(seen["not_seen"], [])
        looked = json.loads(guestmem("inspect", "--json", pid).stdout)
        self.assertEqual(seen["present_by_page_size"], looked["total"]["present_by_page_size"])
        loads = {(p["guest"], p["host"]): p["nested"]["loads"] for p in found["computed"]["pairs"]}
        self.assertEqual({h for _, h in loads}, {"now", *SIZES})
        whole = seen["present_bytes"]
        for row, guest in enumerate(SIZES):
            mean = sum(by_size.get(host, 0) * TABLES["4x4"][row][k] for k, host in enumerate(SIZES)) / whole
            # Loads are linear in neither size: tables and data are on the same mix.
            n = 4 - row
            m = sum(by_size.get(host, 0) * (4 - k) for k, host in enumerate(SIZES)) / whole
            self.assertAlmostEqual(loads[guest, "now"], n * (m + 1) + m, delta=0.001)
            self.assertAlmostEqual(loads[guest, "now"], mean, delta=0.001)
            for k, host in enumerate(SIZES):
                self.assertEqual(loads[guest, host], TABLES["4x4"][row][k])
        return pid, found

    def test_a_process_on_base_pages(self):
        pid, _ = self.check("base", {"4K": 4 * MIB + 3 * PAGE})
        text = guestmem("walk", "-p", pid, "-g2M").stdout
        self.assertIn(f"process {pid}: memory named by guestmem; present 4 MiB (seen)", text)
        self.assertRegex(text, r"(?m)^  4K +100\.0 %")
        self.assertRegex(text, r"(?m)^ +now +4K +2M +1G")
        self.assertIn("not seen: the guest's own sizes", text)
        paging = json.loads(guestmem("walk", "-j").stdout)["this_host"]["kvm_paging"] or "nested"
        self.assertIn(f"memory of 4 MiB, {paging} (computed", text)
        self.assertIn("memory of 4 MiB, native (computed", guestmem("walk", "-p", pid, "-Pnative").stdout)

    def test_a_process_on_transparent_huge_pages(self):
        set_host(THP + "shmem_enabled", "advise")
        pid, _ = self.check("thp", {"4K": 3 * PAGE, "2M": 4 * MIB})
        picture = self.path("p.svg")
        self.well(guestmem("walk", "--pid", pid, "--svg", picture))
        self.assertTrue(read(picture).startswith("<?xml"))

    def test_a_process_on_explicit_huge_pages(self):
        need_pool(2048, 8)
        _, found = self.check("2M", {"2M": 6 * MIB})
        (now,) = [p for p in found["computed"]["pairs"] if (p["guest"], p["host"]) == ("2M", "now")]
        self.assertEqual(now["nested"]["by_tlb_entry_bytes"], {"4K": 0, "2M": 6 * MIB, "1G": 0})
        self.assertEqual(now["nested"]["footprint"]["host_table_bytes"], 3 * PAGE)

    def test_what_is_no_process_is_named(self):
        child = start("/bin/true")
        child.wait()
        self.fails(1, f"process {child.pid}", args=("walk", "-p", child.pid))
        # A kernel thread has no memory.
        self.fails(1, "process 2", args=("walk", "-p", 2))
        if os.getuid() == 0 and nobody_can_run_tool():
            self.fails(1, f"process {os.getpid()}", args=("walk", "-p", os.getpid()), preexec_fn=as_nobody)
            other = start("/bin/sleep", 100, preexec_fn=as_nobody)
            self.assertTrue(wait_for(lambda: os.stat(f"/proc/{other.pid}").st_uid == NOBODY))
            result = guestmem("walk", "--json", "-p", other.pid, preexec_fn=as_nobody)
            self.well(result)


class Measure(Case):
    def tearDown(self):
        put_back()

    def measure(self, *args, size="4M", **kwargs):
        result = guestmem("walk", "--json", "--measure", "--size", size, "--rounds", 3, *args, **kwargs)
        self.well(result)
        return json.loads(result.stdout)["measured"]

    def series(self, measured):
        return {s["pages"]: s for s in measured["process"]}

    def check_numbers(self, s):
        self.assertGreater(s["ns"], 0)
        low, high = s["ratio_quartiles"]
        self.assertLessEqual(low, s["ratio"])
        self.assertLessEqual(s["ratio"], high)
        self.assertGreaterEqual(s["share"], 0.99)

    def test_each_size_that_the_host_offers_is_measured(self):
        need_pool(2048, 2)
        set_host(THP + "enabled", "madvise")
        before = settings()
        measured = self.measure()
        self.assertEqual(settings(), before)
        series = self.series(measured)
        self.assertEqual(list(series), ["4K", "64K transparent", "2M transparent", "2M pool", "1G pool"])
        for name, loads in (("4K", 4), ("2M transparent", 3), ("2M pool", 3)):
            self.assertIsNone(series[name]["skipped"], name)
            self.check_numbers(series[name])
            self.assertEqual(series[name]["computed_loads"], loads)
        self.assertEqual(series["4K"]["ratio"], 1)
        self.check_numbers(measured["noise"])
        self.assertEqual((measured["size"], measured["rounds"]), (4 * MIB, 3))
        # 1G does not fit into 4M: the reason is told.
        self.assertTrue(series["1G pool"]["skipped"])
        self.assertIsNone(measured["guest"])
        self.assertTrue(measured["guest_skipped"])

    def test_what_the_host_does_not_offer_is_left_out_with_the_reason(self):
        set_host(THP + "enabled", "never")
        set_host(POOL % 2048 + "nr_hugepages", 0)
        series = self.series(self.measure())
        self.assertIn("transparent_hugepage", series["2M transparent"]["skipped"])
        self.assertIn("nr_hugepages", series["2M pool"]["skipped"])
        self.assertNotIn("ns", series["2M pool"])
        self.check_numbers(series["4K"])

    def test_guests_are_measured_under_each_pair(self):
        """Nothing is said about time: only that each pair ran on the pages that it is about."""
        measured = self.measure("--in-guest", size="8M", timeout=240)
        if measured["guest_skipped"]:
            self.assertFalse(os.path.exists("/dev/kvm"), measured["guest_skipped"])
            self.skipTest(measured["guest_skipped"])
        found = {(p["guest_page_size"], p["host_page_size"]): p for p in measured["guest"]}
        self.assertEqual(set(found), set(itertools.product((4 * KIB, 2 * MIB), repeat=2)))
        self.assertEqual({k: p["computed_loads_nested"] for k, p in found.items()},
                         {(4096, 4096): 24, (2 * MIB, 4096): 19, (4096, 2 * MIB): 19, (2 * MIB, 2 * MIB): 15})
        self.assertEqual({k: p["computed_loads_shadow"] for k, p in found.items()},
                         {(4096, 4096): 4, (2 * MIB, 4096): 4, (4096, 2 * MIB): 4, (2 * MIB, 2 * MIB): 3})
        for pair in found.values():
            self.assertIsNone(pair["skipped"])
            self.assertGreater(pair["ns"], 0)
            low, high = pair["ratio_quartiles"]
            self.assertTrue(0 < low <= pair["ratio"] <= high)
        self.assertEqual(found[(4096, 4096)]["ratio"], 1)
        self.fails(2, "without --measure", args=("walk", "--in-guest"))

    def test_pages_of_64k_are_measured_where_they_are_given(self):
        if not os.path.exists(THP + "hugepages-64kB/enabled"):
            self.skipTest("this kernel has no transparent huge pages of 64K")
        set_host(THP + "hugepages-64kB/enabled", "madvise")
        set_host(THP + "hugepages-2048kB/enabled", "never")
        s = self.series(self.measure())["64K transparent"]
        self.assertIsNone(s["skipped"])
        self.check_numbers(s)
        # Where the kernel prefers larger ones it is not called 64K.
        set_host(THP + "enabled", "madvise")
        set_host(THP + "hugepages-2048kB/enabled", "inherit")
        s = self.series(self.measure())["64K transparent"]
        self.assertIn("pages of 2M", s["skipped"])

    def test_text_has_a_line_for_each(self):
        result = guestmem("walk", "-m", "-s2M", "--rounds=3", "--svg", self.path("m.svg"))
        self.well(result)
        for start_of in ("4K  ", "64K transparent ", "2M transparent ", "2M pool ", "1G pool ", "4K again",
                         "in a KVM guest:  not measured: "):
            self.assertRegex(result.stdout, rf"(?m)^{start_of}")
        self.assertIn("measured in this process", result.stdout)
        found = json.loads(guestmem("walk", "-j").stdout)["this_host"]["notes"]
        self.assertEqual(re.findall(r"(?m)^note: (.*)$", result.stdout), found)
        self.assertTrue(read(self.path("m.svg")).startswith("<?xml"))

    def test_memory_that_there_is_not_is_an_error(self):
        self.fails(1, "--measure", args=("walk", "-m", "-s1T"), timeout=240)

    def test_all_sides_and_levels_go_with_it(self):
        for levels, loads in (("4x5", 5), ("5x4", 4)):
            s = self.series(self.measure("-l", levels, "-g2M", size="1M"))["4K"]
            self.assertEqual(s["computed_loads"], loads)

    def test_a_chain_takes_longer_than_nothing_and_the_tlb_is_said(self):
        measured = self.measure("--tlb", "4K:16", size="2M")
        self.assertEqual(self.series(measured)["4K"]["computed_tlb_reach_bytes"], 64 * KIB)


class Everything(Case):
    def test_all_combinations_of_sizes_and_pagings_print(self):
        for guest, host, paging in itertools.product(("4K", "1G:1,4K:2"), ("64K", "thp"), PAGINGS):
            result = guestmem("walk", "-g", guest, "-H", host, "-P", paging, "-s3G")
            self.well(result)
            self.assertIn(f"guest {guest}", result.stdout)
            self.assertIn(f"memory of 3 GiB, {paging} ", result.stdout)


if __name__ == "__main__":
    main()
