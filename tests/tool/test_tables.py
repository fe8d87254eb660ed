# SPDX-License-Identifier: BSD-3-Clause
"""guestmem tables: page tables of a guest, made by hand, and what a hostile guest may write."""

import json
import os
import struct
import tempfile

from common import MIB, PAGE, Case, documented, guestmem, main, members

GIB = 1024 * MIB


class Tables(Case):
    def setUp(self):
        self.file = tempfile.NamedTemporaryFile(dir="/dev/shm")
        self.file.truncate(4 * GIB)

    def tearDown(self):
        self.file.close()

    def entry(self, table, index, value):
        os.pwrite(self.file.fileno(), struct.pack("<Q", value), table + 8 * index)

    def look(self, *args):
        result = guestmem("tables", "--json", "-", *args, self.file.name)
        self.well(result)
        return json.loads(result.stdout)

    def test_leaves_of_each_size(self):
        self.entry(PAGE, 0, 2 * PAGE | 3)
        self.entry(PAGE, 511, 2 * PAGE | 3)  # the same a second time
        self.entry(2 * PAGE, 0, 3 * PAGE | 3)
        self.entry(2 * PAGE, 1, 1 * GIB | 0x83)
        self.entry(2 * PAGE, 2, 64 * GIB | 0x83)  # a device
        self.entry(3 * PAGE, 0, 4 * PAGE | 3)
        self.entry(3 * PAGE, 1, 2 * MIB | 1 << 63 | 0x83)
        self.entry(4 * PAGE, 5, 5 * PAGE | 3)
        self.entry(4 * PAGE, 6, 5 * PAGE | 2)  # not present
        os.pwrite(self.file.fileno(), b"x", 1 * GIB + 77 * PAGE)
        os.pwrite(self.file.fileno(), b"x", 2 * MIB)
        before = os.stat(self.file.name).st_blocks
        found = self.look("--root", "0x1000")
        self.assertEqual(members(found) - documented("# TABLES", "# DOCTOR"), set())
        self.assertEqual((found["tables"], found["blocks"]), (4, 1))
        self.assertEqual(found["outside"], 0)
        self.assertEqual(found["leaves"], {
            "1G": {"number": 4, "mapped": 4 * GIB, "elsewhere": 2 * GIB, "memory": GIB, "present": PAGE},
            "2M": {"number": 2, "mapped": 4 * MIB, "elsewhere": 0, "memory": 2 * MIB, "present": PAGE},
            "4K": {"number": 2, "mapped": 2 * PAGE, "elsewhere": 0, "memory": PAGE, "present": 0}})
        # Nothing was touched.
        self.assertEqual(os.stat(self.file.name).st_blocks, before)

    def test_memory_above_4g_and_five_levels(self):
        self.entry(PAGE, 0, 2 * PAGE | 3)
        self.entry(2 * PAGE, 0, 3 * PAGE | 3)
        self.entry(3 * PAGE, 0, 4 * GIB | 0x83)
        self.entry(3 * PAGE, 1, 2 * GIB | 0x83)
        os.pwrite(self.file.fileno(), b"x", 2 * GIB)
        found = self.look("--root=0x1000", "--levels=5", "--low=2G")
        self.assertEqual(found["leaves"]["1G"],
                         {"number": 2, "mapped": 2 * GIB, "elsewhere": GIB, "memory": GIB, "present": PAGE})

    def test_a_hostile_guest(self):
        # A table that names itself everywhere, and tables outside of the memory.
        for index in range(512):
            self.entry(PAGE, index, PAGE | 3)
            self.entry(2 * PAGE, index, 5 * GIB | 3)
        self.assertEqual(self.look("--root", 2 * PAGE)["outside"], 512)
        # Each way is counted, none is walked twice.
        found = self.look("--root", PAGE)
        self.assertEqual((found["tables"], found["outside"]), (1, 0))
        self.assertEqual(found["leaves"]["4K"], {"number": 512 ** 4, "mapped": 1 << 48, "elsewhere": 0,
                                                 "memory": PAGE, "present": PAGE})
        # More tables than pages there cannot be: no table has an entry twice.
        self.file.truncate(2 * PAGE)
        for index in range(512):
            self.entry(PAGE, index, (index + 5) * PAGE | 3)
        result = guestmem("tables", "--root", PAGE, self.file.name)
        self.assertEqual(result.returncode, 1)
        self.assertIn("more than 2 page tables", result.stderr)

    def test_a_root_outside_of_the_memory_is_refused(self):
        for args in (("--root", 1 << 45), ("--root", PAGE, "--low", PAGE)):
            result = guestmem("tables", *args, self.file.name)
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertRegex(result.stderr, f"--root: {hex(args[1])} is outside of the memory")

    def test_wrong_usage(self):
        for args in ((), ("--root", "x", "f"), ("--root", "1"), ("--root", "1", "--levels", "6", "f"),
                     ("--root", "1", "--low", "5G", "f"), ("--root", "1", "f", "g")):
            result = guestmem("tables", *args)
            self.assertEqual(result.returncode, 2, args)
        for path in ("/dev/null", "/nonexistent", "/etc"):
            result = guestmem("tables", "--root", "0", path)
            self.assertEqual(result.returncode, 1)
            self.assertIn(path, result.stderr)


class Limit(Case):
    def test_exec_lends_sparse_memory_with_a_limit(self):
        code = ("import mmap, os, sys\n"
                "fd = os.open(sys.argv[1], os.O_RDWR)\n"
                "m = mmap.mmap(fd, 1 << 30)\n"
                "for i in range(int(sys.argv[2])): m[i * 4096] = 1\n"
                "print(os.fstat(fd).st_blocks * 512)\n")
        for pages, status in ((256, 0), (257, 128 + 7)):
            result = guestmem("exec", "--size", "1G", "--limit", "1M", "-q", "--", "python3", "-c", code, "{mem}", pages)
            self.assertEqual(result.returncode, status, result.stderr)
            if status == 0:
                self.assertEqual(int(result.stdout), MIB)

    def test_what_does_not_fit(self):
        for args in (("--size", "512M", "--limit", "1M"), ("--size", "1G", "--limit", "1M", "--populate"),
                     ("--size", "1G", "--limit", "1M", "--page-size", "thp")):
            result = guestmem("exec", *args, "--", "true", "{mem}")
            self.assertEqual(result.returncode, 2, args)


if __name__ == "__main__":
    main()
