# SPDX-License-Identifier: BSD-3-Clause
"""guestmem wset: recorded working sets shown, merged, refused."""

import json
import os
import tempfile

from common import PAGE, Case, documented, guestmem, main, members

# Files as docs/workingset-format.md has them: an image of 1 MiB; touched are pages 3, 0, 1, 100 to 103 in that order,
# and in a later run 100, 1, 50; the third is the second of another image.
OLD = ("89474d575345540a0100000050000000000102030405060708090a0b0c0d0e0f00001000000000000100000000000000"
       "070000000000000003000000000000000700000000000000650000000000000000010100600304050002000"
       "00015e9808da00e1dce")
NEW = ("89474d575345540a0100000050000000000102030405060708090a0b0c0d0e0f00001000000000000100000000000000"
       "0300000000000000030000000000000003000000000000006100000000000000010030003100040500a2195cb5cd012326")
OTHER = ("89474d575345540a0100000050000000090102030405060708090a0b0c0d0e0f00001000000000000100000000000000"
         "03000000000000000300000000000000030000000000000061000000000000000100300031000405001b5c8601a6babad6")
IDENTITY = "000102030405060708090a0b0c0d0e0f"


class Wset(Case):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.files = []
        for name, text in ("old", OLD), ("new", NEW), ("other", OTHER):
            self.files.append(os.path.join(self.dir.name, name))
            with open(self.files[-1], "wb") as file:
                file.write(bytes.fromhex(text))
        self.to = os.path.join(self.dir.name, "merged")

    def tearDown(self):
        self.dir.cleanup()

    def asked(self, *args):
        result = guestmem("wset", "--runs", "--json", "-", *args)
        self.well(result)
        return json.loads(result.stdout)

    def runs(self, found):
        return [(run["offset"] // PAGE, run["length"] // PAGE, run["seen"]) for run in found["list"]]

    def test_a_set_is_shown(self):
        old, new = self.asked(*self.files[:2])
        self.assertEqual(old["identity"], IDENTITY)
        self.assertEqual((old["image"], old["pages"], old["runs"], old["ordered"], old["recordings"]),
                         (1 << 20, 7, 3, 7, 1))
        self.assertEqual(self.runs(old), [(0, 2, 1), (3, 1, 1), (100, 4, 1)])
        self.assertEqual(self.runs(new), [(1, 1, 1), (50, 1, 1), (100, 1, 1)])
        self.assertEqual(members(old), documented("of objects with *file*", "# EXIT STATUS") | {"file"})
        result = guestmem("wset", "--runs", self.files[0])
        self.well(result)
        self.assertIn("7 of 7 pages in order", result.stdout)
        self.assertIn(IDENTITY, result.stdout)
        self.assertIn("0x000000064000", result.stdout)

    def test_sets_are_merged(self):
        union, = self.asked("--to", self.to, *self.files[:2])
        self.assertEqual(self.runs(union),
                         [(0, 1, 2), (1, 1, 3), (3, 1, 2), (50, 1, 1), (100, 1, 3), (101, 3, 2)])
        self.assertEqual(union["recordings"], 2)
        self.assertEqual(self.asked(self.to)[0], union)
        both, = self.asked("--least", "all", "--to", self.to, *self.files[:2])
        self.assertEqual(self.runs(both), [(1, 1, 3), (100, 1, 3)])
        self.assertEqual(both["ordered"], 2)
        # The result may be one of the files, and is merged with the next.
        aged, = self.asked("--last", 2, "--to", self.files[0], *self.files[:2], self.files[1])
        self.assertEqual(self.runs(aged), [(1, 1, 3), (50, 1, 3), (100, 1, 3)])
        self.assertEqual(sorted(os.listdir(self.dir.name)), ["merged", "new", "old", "other"])

    def test_refusals(self):
        with open(self.to, "wb") as file:
            file.write(bytes.fromhex(OLD)[:-1] + b"\0")
        for args, status, why in (
                ((), 2, "FILE"),
                (("--least", "0", "--to", self.to, self.files[0]), 2, "--least"),
                (("--last", "33", "--to", self.to, self.files[0]), 2, "--last"),
                (("--last", "3", self.files[0]), 2, "merged"),
                ((self.files[0],) * 65, 2, "at most 64"),
                ((self.to,), 1, "sum"),
                (("/dev/null",), 1, "regular"),
                ((self.to + "x",), 1, "No such file"),
                (("--to", self.to, *self.files), 1, "another image"),
                (("--to", self.to + "/x", self.files[0]), 1, "its directory")):
            result = guestmem("wset", *args)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertIn(why, result.stderr)
        with open(self.to, "rb") as file:
            self.assertEqual(file.read()[:-1], bytes.fromhex(OLD)[:-1])


if __name__ == "__main__":
    main()
