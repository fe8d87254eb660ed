# SPDX-License-Identifier: BSD-3-Clause
"""guestmem map: what it shows is so, what is wrong is named with its line, and no file breaks it."""

import json
import os
import random
import re
import subprocess

from common import MIB, ROOT, Case, guestmem, main, read, start, state_of, wait_for, write

Q35 = os.path.join(ROOT, "examples", "q35.json")
K = 1 << 10
G = 1 << 30
TOP = 1 << 64


def regions_of(*nodes):
    return {"regions": list(nodes)}


def ram(name="ram", size=MIB, **more):
    return {"name": name, "kind": "ram", "size": size, **more}


def hole(name="hole", size=4 * K, **more):
    return {"name": name, "kind": "reserved", "size": size, **more}


def box(name, *nodes, **more):
    return {"name": name, "kind": "container", "regions": list(nodes), **more}


def alias(name, of, offset=0, **more):
    return {"name": name, "alias": {"of": of, "offset": offset}, **more}


class MapCase(Case):
    def file(self, content, name="map.json"):
        path = self.path(name)
        if isinstance(content, bytes):
            with open(path, "wb") as file:
                file.write(content)
        else:
            write(path, content if isinstance(content, str) else json.dumps(content))
        return path

    def flat(self, content):
        """[(first, last, name, offset)]"""
        result = guestmem("map", "--json", self.file(content))
        self.well(result)
        return [(int(s["first"], 16), int(s["last"], 16), s["name"], int(s["offset"], 16))
                for s in json.loads(result.stdout)["flat"]]

    def wrong(self, content, line, *words):
        path = self.file(content)
        result = guestmem("map", path)
        self.fails(2, *words, result=result)
        self.assertTrue(result.stderr.startswith(f"guestmem: {path}:{line}: "), result.stderr)


class Showing(MapCase):
    def test_the_example_is_shown(self):
        result = guestmem("map", Q35)
        self.well(result)
        tree, flat = result.stdout.split('flat map of "q35":\n')
        self.assertTrue(tree.startswith('tree of "q35":\n'))
        self.assertIn("    00000000b0000000-00000000bfffffff (prio 0, reserved ---): mmconfig\n", tree)
        self.assertIn("(prio 2, alias rwx): smram -> ram @00000000000a0000-00000000000bffff [disabled]\n", tree)
        self.assertEqual(flat.splitlines()[:5], [
            "  0000000000000000-000000000009ffff (ram rwx): ram @0000000000000000",
            "  00000000000a0000-00000000000bffff (mmio rwx): vga @0000000000000000",
            "  00000000000c0000-00000000000dffff (ram rwx): ram @00000000000c0000",
            "  00000000000e0000-00000000000fffff (rom r-x): bios @0000000000020000",
            "  0000000000100000-000000007fffffff (ram rwx): ram @0000000000100000"])
        self.assertEqual(guestmem("map", "--tree", Q35).stdout, tree)
        self.assertEqual(guestmem("map", "-f", Q35).stdout, 'flat map of "q35":\n' + flat)
        self.assertEqual(guestmem("map", "-ft", Q35).stdout, result.stdout)
        with open(Q35, encoding="utf-8") as file:
            self.assertEqual(guestmem("map", "-", stdin=file).stdout, result.stdout)

    def test_e820_is_what_the_firmware_would_say(self):
        lines = [
            "0000000000000000-000000000009ffff usable", "00000000000c0000-00000000000dffff usable",
            "00000000000e0000-00000000000fffff reserved", "0000000000100000-000000007fffffff usable",
            "00000000b0000000-00000000bfffffff reserved", "00000000fffc0000-00000000ffffffff reserved",
            "0000000100000000-00000001ffffffff usable"]
        self.assertEqual(guestmem("map", "--e820", Q35).stdout, 'e820 of "q35":\n' + "".join(f"  {l}\n" for l in lines))
        table = json.loads(guestmem("map", "--json", Q35).stdout)["e820"]
        self.assertEqual([f"{int(e['first'], 16):016x}-{int(e['last'], 16):016x} {e['meaning']}" for e in table], lines)
        self.assertEqual([e["type"] for e in table], [1, 1, 2, 1, 2, 2, 1])
        path = self.file(regions_of(*({"name": kind, "kind": kind, "at": i * 4 * K, "size": 4 * K}
                                      for i, kind in enumerate(("acpi", "pmem", "romd", "rom", "mmio")))))
        self.assertEqual([l.split(" ", 3)[3] for l in guestmem("map", "-e", path).stdout.splitlines()[1:]],
                         ["ACPI data", "persistent", "reserved"])
        path = self.file(regions_of(box("all", hole("low", size="8E"), hole("high", at="8E", size="8E"))))
        self.fails(2, "no e820", args=("map", "--e820", path))
        self.assertIsNone(json.loads(guestmem("map", "--json", path).stdout)["e820"])

    def test_numbers_may_be_written_in_all_ways(self):
        for size in (65536, "65536", "0x10000", "64K", "64k", "64KiB"):
            self.assertEqual(self.flat(regions_of(hole(size=size, at="1G"))), [(G, G + 65535, "hole", 0)])
        self.assertEqual(self.flat(regions_of(hole(size=1, at="0xffffffffffffffff"))), [(TOP - 1, TOP - 1, "hole", 0)])
        self.assertEqual(self.flat(regions_of(hole(size=1, at=18446744073709551615))), [(TOP - 1, TOP - 1, "hole", 0)])

    def test_the_layout_that_is_written_is_the_one_that_was_read(self):
        result = guestmem("map", "--json", Q35)
        again = self.file(json.loads(result.stdout)["layout"])
        self.assertEqual(guestmem("map", again).stdout, guestmem("map", Q35).stdout)
        self.well(guestmem("map", Q35, again))
        rewritten = guestmem("map", "--json", again).stdout
        self.assertEqual(json.loads(rewritten)["layout"], json.loads(result.stdout)["layout"])
        self.assertEqual(guestmem("map", f"--json={self.path('out')}", Q35).stdout, "")
        self.assertEqual(self.json("out")["flat"], json.loads(result.stdout)["flat"])

    def test_names_may_be_used_before_their_regions(self):
        nodes = [alias("c", "b", 4 * K, at=MIB), alias("b", "a", 4 * K, detached=True), ram("a", 16 * K)]
        for order in (nodes, nodes[::-1]):
            self.assertEqual(self.flat(regions_of(*order)),
                             [(0, 16 * K - 1, "a", 0), (MIB, MIB + 8 * K - 1, "a", 8 * K)])

    def test_priorities_containers_and_switches_decide(self):
        self.assertEqual(self.flat(regions_of(
            ram("low", 64 * K, priority=-1), hole("over", at=4 * K, priority=2147483647),
            hole("off", at=8 * K, priority=1, enabled=False),
            box("box", hole("in", at=0, size=64 * K), at=48 * K, size=4 * K))),
            [(0, 4 * K - 1, "low", 0), (4 * K, 8 * K - 1, "over", 0), (8 * K, 48 * K - 1, "low", 8 * K),
             (48 * K, 52 * K - 1, "in", 0), (52 * K, 64 * K - 1, "low", 52 * K)])

    def test_permissions_are_the_least_of_the_way(self):
        path = self.file(regions_of(ram(detached=True), alias("a", "ram", perms="r-x"), alias("b", "ram", at="1G", perms="wr")))
        flat = json.loads(guestmem("map", "--json", path).stdout)["flat"]
        self.assertEqual([s["perms"] for s in flat], ["r-x", "rw-"])

    def test_an_empty_layout_is_one(self):
        self.assertEqual(self.flat({"regions": []}), [])
        self.assertEqual(guestmem("map", self.path("map.json")).stdout, 'tree of "map.json":\nflat map of "map.json":\n')

    def test_text_of_all_languages_may_stand_in_it(self):
        path = self.file('{"regions": [{"name": "\\u00e4\\ud83d\\ude00\\"\\\\\\/", "kind": "reserved", "size": 1,'
                         '"comment": "\\n\\u0001 any"}]}')
        self.assertIn('): ä😀"\\/ @', guestmem("map", path).stdout)


class Comparing(MapCase):
    def compare(self, before, after):
        """Text and JSON agree; the lines of the text."""
        files = (self.file(before, "a.json"), self.file(after, "b.json"))
        result = guestmem("map", *files)
        self.assertEqual((result.returncode, result.stderr), (1 if result.stdout else 0, ""))
        report = guestmem("map", "--json", *files)
        self.assertEqual(report.returncode, result.returncode)
        changes = json.loads(report.stdout)["differences"]
        lines = []
        for change in changes:
            for sign, side in (("-", "before"), ("+", "after")):
                if change[side]:
                    lines.append(f"{sign} {int(change['first'], 16):016x}-{int(change['last'], 16):016x} "
                                 f"({change[side]['kind']} {change[side]['perms']}): {change[side]['name']}")
            self.assertEqual(change["change"], "added" if not change["before"] else
                             "removed" if not change["after"] else "changed")
        self.assertEqual([re.sub(" @.*", "", l) for l in result.stdout.splitlines()], lines)
        return result.stdout.splitlines()

    def test_equal_maps_differ_in_nothing(self):
        self.assertEqual(self.compare(json.loads(read(Q35)), json.loads(read(Q35))), [])
        # Another tree that shows the same.
        self.assertEqual(self.compare(regions_of(hole(at=8 * K)), regions_of(box("b", hole(at=4 * K), at=4 * K, size=MIB))), [])

    def test_what_is_added_removed_and_changed_is_shown(self):
        self.assertEqual(self.compare(
            regions_of(ram("a", 16 * K), hole("gone", at=MIB)),
            regions_of(ram("a", 12 * K, perms="r"), hole("new", at=2 * MIB, label=7, numa=1, hotplug=True))),
            ["- 0000000000000000-0000000000002fff (ram rwx): a @0000000000000000",
             "+ 0000000000000000-0000000000002fff (ram r--): a @0000000000000000",
             "- 0000000000003000-0000000000003fff (ram rwx): a @0000000000003000",
             "- 0000000000100000-0000000000100fff (reserved ---): gone @0000000000000000",
             "+ 0000000000200000-0000000000200fff (reserved ---): new @0000000000000000, label 0x7, node 1, hotpluggable"])

    def test_what_has_moved_within_its_region_differs(self):
        self.assertEqual(self.compare(
            regions_of(ram(detached=True), alias("x", "ram", 0, size=8 * K)),
            regions_of(ram(detached=True), alias("x", "ram", 4 * K, size=8 * K))),
            ["- 0000000000000000-0000000000001fff (ram rwx): ram @0000000000000000",
             "+ 0000000000000000-0000000000001fff (ram rwx): ram @0000000000001000"])

    def test_the_end_of_the_addresses_is_no_edge(self):
        everything = {"regions": [box("all", hole("h", size="0xffffffffffffffff", at=1))]}
        self.assertEqual(self.compare(everything, {"regions": []}),
                         ["- 0000000000000001-ffffffffffffffff (reserved ---): h @0000000000000000"])
        self.assertEqual(self.compare(everything, everything), [])

    def test_labels_and_nodes_are_attributes(self):
        for key in ("label", "numa"):
            self.assertEqual(len(self.compare(regions_of(hole(**{key: 1})), regions_of(hole(**{key: 2})))), 2)
        self.assertEqual(len(self.compare(regions_of(hole(hotplug=True)), regions_of(hole(hotplug=False)))), 2)

    def test_random_maps_agree_with_a_naive_comparison(self):
        rng = random.Random(int(os.environ.get("GM_TEST_SEED", "1")))
        for _ in range(30):
            layouts = []
            for _ in range(2):
                nodes = [hole(f"n{i}", size=rng.randint(1, 8), at=rng.randint(0, 24), priority=i) for i in range(rng.randint(0, 6))]
                layouts.append(nodes)
            shown = []
            for nodes in layouts:
                byte = {}
                for node in nodes:
                    for at in range(node["at"], node["at"] + node["size"]):
                        byte[at] = (node["name"], at - node["at"])
                shown.append(byte)
            differ = {sign: {} for sign in "-+"}
            for line in self.compare(*(regions_of(*nodes) for nodes in layouts)):
                found = re.fullmatch(r"([-+]) ([0-9a-f]+)-([0-9a-f]+) \(reserved ---\): (n\d) @([0-9a-f]+)", line)
                first, last, off = (int(found.group(i), 16) for i in (2, 3, 5))
                for at in range(first, last + 1):
                    differ[found.group(1)][at] = (found.group(4), off + at - first)
            for sign, mine, other in (("-", *shown), ("+", *shown[::-1])):
                self.assertEqual(differ[sign], {at: what for at, what in mine.items() if other.get(at) != what}, layouts)


class Refusing(MapCase):
    def test_syntax_is_named_with_its_line(self):
        for text, line, words in (
                ("", 1, "ends"), ("\n\n", 1, "ends"), ("{\n\n", 1, "ends"), ("[]", 1, "object"), ("\xef\xbb\xbf{}", 1, "object"),
                ('{"regions": [\n{"name": "a" "kind"', 2, "','"), ('{"regions": [\n{"name": "a",\n}]}', 3, "nothing between"),
                ('{"regions": [\n{"name": "a\n"', 2, "line ends"), ('{"regions": [\n{"name": "a', 2, "no end"),
                ('{"regions": [\n{"name": "\t"', 2, "control"), ('{"regions": [\n{"name": "\\x"', 2, "string"),
                ('{"regions": [\n{"name": "\\u12"', 2, "digits"), ('{"regions": [\n{"name": "\\ud800"', 2, "surrogate"),
                ('{"regions": [\n{"name": "\\ud800\\u0041"', 2, "surrogate"), ('{"regions": [\n{"name": "\\udc00"', 2, "surrogate"),
                ('{"regions": [\n{"name": "\\u0000"', 2, "zero"), ('{"regions": [\n{"name" "a"', 2, "':'"),
                ('{"regions": [\n{"at": 01}', 2, "0"), ('{"regions": [\n{"at": -}', 2, "digit"), ('{"regions": [\n{"at": 1.}', 2, "digit"),
                ('{"regions": [\n{"at": 1e}', 2, "digit"), ('{"regions": [\n{"at": nul}', 2, "at"), ('{"regions": [\n{"enabled": nul}', 2, "true"),
                ('{"regions": [\n]}\n\nx', 4, "follows"), ('{"regions": [\n\n,]}', 3, "object"), ("{'regions': []}", 1, "name"),
                ('{"regions": [] // none\n}', 1, "'}'"), ('{"regions": [\n{"name": "\x7f"}]}', 2, "shown"),
                (b'{"regions": [\n{"name": "\xff"', 2, "UTF-8"), (b'{"regions": [\n{"name": "\xc0\xaf"', 2, "UTF-8"),
                (b'{"regions": [\n{"name": "\xed\xa0\x80"', 2, "UTF-8"), (b'{"regions": [\n\0', 2, "zero byte")):
            with self.subTest(text):
                self.wrong(text, line, words)

    def test_members_are_named_with_their_line(self):
        head = '{"regions": [\n{"name": "x",\n"kind": "ram", "size": 4096,\n'
        for member, words in (
                ('"sizes": 1', "sizes"), ('"name": "y"', "second time"), ('"at": -1', '"-1"'), ('"at": 1.5', "whole"), ('"at": 1e3', "whole"),
                ('"at": "1Q"', "1Q"), ('"at": "x"', "whole"), ('"at": "16E"', "whole"), ('"at": 18446744073709551616', "whole"),
                ('"at": []', "at"), ('"at": null', "at"), ('"priority": "1"', "priority"), ('"priority": 2147483648', "2147483647"),
                ('"priority": -2147483649', "-2147483648"), ('"priority": 1.0', "whole"), ('"priority": 99999999999999999999', "whole"),
                ('"perms": "rr"', "perms"), ('"perms": "q"', "perms"), ('"perms": ""', "perms"), ('"perms": "---"', "perms"), ('"perms": 7', "perms"),
                ('"enabled": 1', "true"), ('"enabled": "true"', "true"), ('"numa": 1024', "1023"), ('"numa": -1', "1023"), ('"hotplug": 1', "true"),
                ('"regions": {}', "list"), ('"regions": [[]]', "object"), ('"alias": "x"', "object"), ('"alias": {}', "of"),
                ('"alias": {"of": "x", "off": 1}', "off"), ('"alias": {"of": ""}', "empty"), ('"alias": {"of": "x"}', "kind ram"),
                ('"label": "-"', "label"), ('"comment": 1', "comment"), ('"at": "' + "1" * 50 + '"', "longer"), ('"at": ' + "1" * 50, "digits")):
            with self.subTest(member):
                self.wrong(head + member + "\n}]}", 4, words)

    def test_regions_are_named_with_their_line(self):
        for text, line, words in (
                ('{"regions": [\n{}\n]}', 2, ["no name"]),
                ('{}', 1, ["regions"]), ('{"regions": [],\n"nodes": []}', 2, ["nodes"]), ('{"regions": [],\n"regions": []}', 2, ["second"]),
                ('{"name":\n"", "regions": []}', 2, ["empty"]), ('{"name":\n"' + "n" * 32 + '", "regions": []}', 2, ["31"]),
                ('{"regions": [\n{"name":\n"' + "ä" * 16 + '"}]}', 3, ["31"]),
                ('{"regions": [\n\n{\n"name": "a"}]}', 3, ["kind"]), ('{"regions": [\n{"name": "a",\n"kind": "rum"}]}', 3, ["rum"]),
                ('{"regions": [\n{"name": "a", "kind": "ram"\n}]}', 2, ["size"]), ('{"regions": [\n{"name": "a", "kind": "container", "at": 1}]}', 2, ["size"]),
                ('{"regions": [\n{"name": "a", "kind": "ram",\n"size": 0}]}', 3, ["size"]), ('{"regions": [\n{"name": "a", "kind": "alias"}]}', 2, ["of"])):
            with self.subTest(text):
                self.wrong(text, line, *words)

    def lines(self, *nodes):
        """Each node begins on a line of its own, the first on line 2."""
        return '{"regions": [\n' + ",\n".join(json.dumps(n) for n in nodes) + "\n]}"

    def test_what_the_space_refuses_is_named_with_its_line(self):
        for nodes, line, words in (
                ([ram("a"), ram("b", at=MIB), ram("c", at=4 * K)], 4, ['"c"', '"a"', "overlaps"]),
                ([ram("a"), hole("a")], 3, ['"a"', "line 2"]), ([hole("a"), hole("b", at=MIB), hole("b", at=G), hole("a", at=8 * K)], 4, ["line 3"]),
                ([hole("a"), ram("b", 4097, at=MIB)], 3, ['"b"', "page size"]), ([hole("a"), ram("b", at=MIB + 1)], 3, ["page size"]),
                ([hole("a"), hole("b", 2, at=TOP - 1)], 3, ['"b"', "2^64"]), ([hole("a"), hole("b", perms="r", at=MIB)], 3, ["permissions"]),
                ([{"name": "a", "kind": "rom", "size": 4096, "perms": "rw"}], 2, ["ROM"]),
                ([alias("a", "b")], 2, ['"b"', "no region"]), ([alias("a", "a")], 2, ["itself"]), ([hole("h"), alias("a", "b"), alias("b", "a")], 3, ["itself"]),
                ([hole("h"), alias("x", "a"), alias("a", "b"), alias("b", "a")], 4, ["itself"]),
                ([box("a", alias("x", "a"))], 2, ["2^64"]), ([hole("h", size=8), alias("a", "h", 8, at=MIB)], 3, ["behind"]),
                ([hole("h", size=8), alias("a", "h", 4, size=5, at=MIB)], 3, ["end"]),
                ([hole("h"), {**alias("a", "h", at=MIB), "regions": []}], 3, ["nothing can lie"]), ([ram("a", "33T"), ram("b", "33T", at="40T")], 3, ["64T"]),
                ([ram("a", "0xffffffffffffffff")], 2, ["64T"])):
            with self.subTest(nodes):
                self.wrong(self.lines(*nodes), line, *words)
        self.wrong('{"regions": [\n{"name": "a", "kind": "container", "size": "1M", "regions": [\n\n{"name": "x", "alias": {"of": "a"}}]}]}', 4, '"x"', "itself")
        self.wrong('{"regions": [\n{"name": "a", "kind": "container", "regions": [\n{"name": "x", "kind": "ram", "size": 4096, "detached": true}]}]}', 3,
                   "detached")

    def test_depth_is_bounded_where_it_begins(self):
        def nested(depth):
            return '{"regions":\n' + "".join(f'[{{"name": "n{i}", "kind": "container", "regions":\n' for i in range(depth)) + "[]" + "}]" * depth + "}"
        self.well(guestmem("map", self.file(nested(63))))
        self.wrong(nested(64), 66, "64 deep")
        self.wrong(nested(100000), 66, "64 deep")

        def chain(length):
            return self.lines(hole("h0"), *(alias(f"h{i}", f"h{i - 1}", at=i * MIB) for i in range(1, length)))
        self.well(guestmem("map", self.file(chain(64))))
        self.wrong(chain(200), 66, '"h64"', "64 deep")

    def test_tangles_are_refused_soon(self):
        def level(i):
            return box(f"c{i}", alias(f"a{i}", f"c{i - 1}", size=MIB), alias(f"b{i}", f"c{i - 1}", size=MIB, priority=1), detached=True, size=MIB)
        levels = [box("c0", hole("h"), detached=True, size=MIB), *(level(i) for i in range(1, 29))]
        self.well(guestmem("map", self.file(self.lines(*levels))))
        self.wrong(self.lines(*levels, alias("show", "c28")), 31, '"show"', "aliases of aliases")
        self.wrong(self.lines(*levels, alias("first", "c3"), alias("show", "c28", at=G)), 32, '"show"', "aliases of aliases")

    def test_sizes_of_files_are_bounded(self):
        many = [hole(f"n{i}", 1, at=i) for i in range(100001)]
        self.well(guestmem("map", "--flat", self.file(self.lines(*many[:-1])), stdout=subprocess.DEVNULL))
        self.wrong(self.lines(*many), 100002, "100000 regions")
        self.file(b" " * (16 * MIB) + b"{}")
        self.fails(2, "larger than 16 MiB", args=("map", self.path("map.json")))
        with open("/dev/zero", "rb") as endless:
            self.fails(2, "larger than 16 MiB", args=("map", "-"), stdin=endless)

    def test_bad_arguments_and_files_are_errors(self):
        ok = self.file({"regions": []})
        self.fails(2, "no file", args=("map",))
        self.fails(2, "too much", args=("map", ok, ok, ok))
        self.fails(2, "--nonsense", args=("map", "--nonsense"))
        for options in (("--tree", ok, ok), ("--flat", "--json", ok), ("-e", ok, ok), ("-", "-")):
            self.fails(2, "map:", args=("map", *options))
        self.fails(2, "No such file", args=("map", "/no/such"))
        self.fails(2, "irectory", args=("map", self.dir))
        self.fails(2, "/no/such", args=("map", "--json=/no/such/file", ok))
        self.fails(2, "b.json:1: ", args=("map", ok, self.file("{", "b.json")))
        self.fails(2, "\\033", args=("map", "/no/\x1b[31m"))
        self.fails(2, "File name too long", args=("map", "x" * 5000))
        for options in ((ok,), ("--e820", ok), ("--json", ok), ("--json=/dev/full", ok), (ok, Q35), ("--json", ok, Q35)):
            with open("/dev/full", "w", encoding="utf-8") as full:
                self.fails(2, "No space", result=guestmem("map", *options, stdout=full))


class Enduring(MapCase):
    def test_a_tebibyte_needs_no_memory(self):
        """The largest resident size, while the command waits for somebody to read what it writes."""
        def peak(size):
            nodes = [ram(f"ram{i}", size // 64, at=i * size // 32) for i in range(64)]
            child = start("map", "--json", self.file(regions_of(ram("spare", size, detached=True), *nodes)), pipesize=4096)
            self.assertTrue(wait_for(lambda: state_of(child.pid) == "S"))
            kib = int(re.search(r"VmHWM:\s+(\d+) kB", read(f"/proc/{child.pid}/status")).group(1))
            mapped = int(re.search(r"VmSize:\s+(\d+) kB", read(f"/proc/{child.pid}/status")).group(1))
            out, _ = child.communicate(timeout=60)
            self.assertEqual(len(json.loads(out)["flat"]), 64)
            return kib, mapped
        small, _ = peak(64 * MIB)
        large, mapped = peak(1 << 40)
        print(f"figure: map-tebibyte-kib {large}")
        self.assertGreater(mapped, 2 << 30)
        self.assertLess(large, small + 1024)
        self.assertLess(large, 64 * 1024 if mapped > 1 << 34 else 16 * 1024)

    def test_mutated_files_are_read_or_refused(self):
        rng = random.Random(int(os.environ.get("GM_TEST_SEED", "1")))
        seeds = [read(Q35).encode(), json.dumps(regions_of(
            ram("r", "1M", perms="r-x", label=7, numa=3, hotplug=True), box("b", hole("h", at="0xfff0"), at=MIB, size=MIB, enabled=False),
            alias("a", "b", "4K", at="2M", priority=-3)), indent=1).encode()]
        bits = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\0", b"\xff", b"-", b"0", b"99999999999", b"1e9", b"null", b'"T"', b'"at"']
        refused = 0
        runs = max(1, int(150 * float(os.environ.get("GM_TEST_SCALE", "1"))))
        for _ in range(runs):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                what = rng.randrange(5)
                if what == 0:
                    data[at:at + rng.randint(1, 40)] = b""
                elif what == 1:
                    data[at:at] = rng.choice(bits)
                elif what == 2:
                    data[at:at] = data[rng.randrange(len(data)):][:rng.randint(1, 80)]
                elif what == 3:
                    data[at] ^= 1 << rng.randrange(8)
                else:
                    digits = [m.span() for m in re.finditer(rb"\d+", data)]
                    first, last = rng.choice(digits or [(0, 0)])
                    data[first:last] = str(rng.choice([0, 1, 4095, 4096, 1 << 31, 1 << 32, 1 << 63, TOP - 1, TOP])).encode()
                if not data:
                    data = bytearray(b" ")
            path = self.file(bytes(data))
            result = guestmem("map", path)
            self.assertIn(result.returncode, (0, 2), (data, result.stderr))
            if result.returncode:
                refused += 1
                self.assertRegex(result.stderr, rf"\Aguestmem: {path}:\d+: [^\n]+\n\Z", data)
                self.assertEqual(result.stdout, "")
                line = int(result.stderr[len(f"guestmem: {path}:"):].split(":")[0])
                self.assertLessEqual(line, data.count(b"\n") + 1)
        self.assertTrue(0 < refused < runs)


if __name__ == "__main__":
    main()
