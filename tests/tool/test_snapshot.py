# SPDX-License-Identifier: BSD-3-Clause
"""guestmem snapshot and verify: files and the memory of processes, what is wrong with them, and that a process goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from common import MIB, PAGE, ROOT, Case, guestmem, main, start

# A guest: a memfd that it writes to all the time, page after page the same number.
GUEST = """
import mmap, os, sys
fd = os.memfd_create("guest")
os.ftruncate(fd, 8 << 20)
memory = mmap.mmap(fd, 8 << 20)
print("ready", flush=True)
n = 0
while True:
    n += 1
    for page in range(512):
        memory[page * 4096:page * 4096 + 8] = n.to_bytes(8, "little")
"""


def state(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0]


class Snapshot(Case):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.to = os.path.join(self.dir.name, "saved")
        self.raw = os.path.join(self.dir.name, "raw")

    def tearDown(self):
        self.dir.cleanup()

    def make_raw(self, pages=64):
        noise = random.Random(6)
        with open(self.raw, "wb") as file:
            file.truncate(pages * PAGE)
            for page in range(0, pages, 4):
                file.seek(page * PAGE)
                file.write(noise.randbytes(PAGE))

    def save(self, *args):
        result = guestmem("snapshot", "--json", "-", *args)
        self.well(result)
        return json.loads(result.stdout)

    def test_a_file_is_saved_and_verified(self):
        self.make_raw()
        for codec in "best", "raw", "zstd", "lz4":
            found = self.save("--codec", codec, "--low", 16 * PAGE, "--label", "a=b", self.raw, self.to)
            self.assertEqual(found["data"], 16 * PAGE)
            self.assertEqual((found["memory"], found["regions"], found["lost"]), (64 * PAGE, 2, 0))
            self.assertEqual(found["length"], os.stat(self.to).st_size)
            result = guestmem("verify", "--json", "-", self.to)
            self.well(result)
            looked = json.loads(result.stdout)[0]
            self.assertEqual([region["gpa"] for region in looked["layout"]], [0, 4 << 30])
            self.assertTrue(looked["verified"])
            self.assertEqual(looked["identity"], found["identity"])
        result = guestmem("verify", "--info", self.to)
        self.well(result)
        self.assertIn("label a (1 bytes)", result.stdout)
        self.assertEqual(looked["labels"], [{"key": "a", "length": 1, "value": "b"}])
        self.save("--label", "a=\udcff", "--label", "b=", self.raw, self.to)
        looked = json.loads(guestmem("verify", "-i", "--json", "-", self.to).stdout)[0]
        self.assertEqual([label["value"] for label in looked["labels"]], [None, ""])
        self.assertEqual(sorted(os.listdir(self.dir.name)), ["raw", "saved"])

    def test_damage_is_told(self):
        self.make_raw()
        self.save("--codec", "raw", self.raw, self.to)
        with open(self.to, "r+b") as file:
            file.seek(5000)
            byte = file.read(1)
            file.seek(5000)
            file.write(bytes([byte[0] ^ 1]))
        result = guestmem("verify", self.to)
        self.assertEqual(result.returncode, 1)
        self.assertIn("0x1000 bytes of memory at offset 0x0 are damaged", result.stderr)
        result = guestmem("verify", "--json", "-", self.to)
        self.assertEqual(result.returncode, 1)
        looked = json.loads(result.stdout)[0]
        self.assertEqual(looked["damaged"], [{"offset": 0, "length": PAGE, "error": "EBADMSG"}])
        self.assertFalse(looked["verified"])
        # Which file it is stands in front; what is left can be saved, and what is lost is no zeros.
        whole, left = os.path.join(self.dir.name, "whole"), os.path.join(self.dir.name, "left")
        result = guestmem("convert", self.to, whole)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, f"^guestmem: {self.to}: saved memory: chunk 0, .*its sum is wrong")
        self.assertFalse(os.path.exists(whole))
        result = guestmem("convert", "--salvage", "--json", "-", self.to, left)
        self.well(result)
        self.assertEqual(json.loads(result.stdout)["lost"], PAGE)
        result = guestmem("convert", "--to", "raw", left, whole)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, f"^guestmem: {left}: ")
        self.well(guestmem("verify", left))
        self.assertEqual(guestmem("convert", "--salvage", "--to", "raw", left, whole).returncode, 2)
        result = guestmem("exec", "--size", 64 * PAGE, "--from", self.to, "--", "true", "{mem}")
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"--from {self.to}: saved memory: chunk 0", result.stderr)
        result = guestmem("convert", left, self.to, whole)
        self.assertIn(f"{left}, {self.to}: saved memory: file 2 of 2 is no difference", result.stderr)
        os.truncate(self.to, 10000)
        result = guestmem("verify", self.to)
        self.assertEqual(result.returncode, 1)
        self.assertIn("truncated", result.stderr)

    def test_refusals(self):
        self.make_raw()
        for args, status, why in (
                (("snapshot", self.raw), 2, "MEMORY"),
                (("snapshot", "--pid", "0", self.to), 2, "--pid"),
                (("snapshot", "--codec", "x", self.raw, self.to), 2, "--codec"),
                (("snapshot", "--label", "x", self.raw, self.to), 2, "KEY=VALUE"),
                (("snapshot", "--low", "5G", self.raw, self.to), 2, "--low"),
                (("snapshot", self.raw, self.raw), 1, "the file that the memory lies in"),
                (("snapshot", "/dev/null", self.to), 1, "neither a regular file"),
                (("snapshot", self.raw, self.to + "/x"), 1, "its directory"),
                (("snapshot", "--pid", os.getpid(), self.to), 1, "has no memfd"),
                (("verify",), 2, "FILE"),
                (("verify", self.raw), 1, "no file of saved memory"),
                (("verify", self.to), 1, "No such file")):
            result = guestmem(*args)
            self.assertEqual(result.returncode, status, args)
            self.assertIn(why, result.stderr)
        self.assertEqual(os.listdir(self.dir.name), ["raw"])

    def test_raw_files_become_saved_and_raw_again(self):
        self.make_raw()
        saved, again = self.to, os.path.join(self.dir.name, "again")
        self.well(guestmem("convert", self.raw, saved))
        self.well(guestmem("verify", saved))
        result = guestmem("convert", "--to", "sparse", "--json", "-", saved, again)
        self.well(result)
        self.assertEqual(json.loads(result.stdout)["data"], 16 * PAGE)
        with open(self.raw, "rb") as file:
            before = file.read()
        with open(again, "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertLessEqual(os.stat(again).st_blocks * 512, 17 * PAGE)
        # A sparse file of differences on it.
        layer = os.path.join(self.dir.name, "layer")
        with open(layer, "wb") as file:
            file.truncate(64 * PAGE)
            file.seek(5 * PAGE)
            file.write(b"x" * PAGE)
        self.well(guestmem("convert", "-t", "raw", self.raw, layer, again))
        with open(again, "rb") as file:
            self.assertEqual(file.read(), before[:5 * PAGE] + b"x" * PAGE + before[6 * PAGE:])
        for args, status, why in (
                (("convert", self.raw), 2, "FROM and FILE"),
                (("convert", "--to", "x", self.raw, again), 2, "--to"),
                (("convert", saved, self.raw, again), 1, "cannot be laid"),
                (("convert", saved, saved, again), 1, "no difference"),
                (("convert", "--to", "diff", saved, again), 2, "takes --base"),
                (("convert", "--to", "raw", "--base", saved, saved, again), 2, "goes with"),
                (("convert", "--base", self.raw, saved, again), 1, "lies on saved memory"),
                (("convert", "--from", "x", self.raw, again), 2, "--from"),
                (("convert", "--from", "mapped-ram", self.raw, again), 1, "no migration stream"),
                (("convert", "--block", "ram", self.raw, again), 1, "no RAM blocks"),
                (("convert", self.raw, self.raw), 1, "the file that the memory lies in")):
            result = guestmem(*args)
            self.assertEqual(result.returncode, status, args)
            self.assertIn(why, result.stderr)

    def test_a_difference_is_made_and_moved(self):
        names = [os.path.join(self.dir.name, name) for name in ("a", "b", "c", "layer", "out")]
        pages = [[bytes([i + 1]) * PAGE if i % 3 else bytes(PAGE) for i in range(64)]]
        pages.append(pages[0][:7] + [b"x" * PAGE, bytes(PAGE)] + pages[0][9:])
        pages.append(pages[0][:40] + [b"y" * PAGE] * 3 + pages[0][43:])
        for name, memory in zip(names, pages):
            with open(self.raw, "wb") as file:
                file.write(b"".join(memory))
            self.well(guestmem("convert", self.raw, name))
        first, second, third, layer, out = names
        raws = [b"".join(memory) for memory in pages]
        # What the second has that the first has not, as a layer and as saved memory.
        result = guestmem("convert", "--to", "diff", "--base", first, "--json", "-", second, layer)
        self.well(result)
        self.assertEqual(json.loads(result.stdout)["data"], 2 * PAGE)
        self.assertLessEqual(os.stat(layer).st_blocks * 512, 3 * PAGE)
        self.well(guestmem("convert", "--to", "raw", first, self.raw))
        self.assertGreaterEqual(os.stat(self.raw).st_blocks * 512, 64 * PAGE)
        self.well(guestmem("convert", "--to", "raw", self.raw, layer, out))
        with open(out, "rb") as file:
            self.assertEqual(file.read(), raws[1])
        self.well(guestmem("convert", "--base", first, second, layer))
        self.assertEqual(guestmem("convert", "--to", "raw", layer, out).returncode, 1)
        # The same as a difference from the third.
        self.well(guestmem("convert", "--base", third, first, layer, second))
        self.well(guestmem("convert", "--to", "raw", third, second, out))
        with open(out, "rb") as file:
            self.assertEqual(file.read(), raws[1])

    def test_files_of_qemu(self):
        script = os.path.join(ROOT, "tests", "mapped_ram.py")
        subprocess.run([sys.executable, "-B", script, "make", "plain", self.to, self.raw], check=True)
        with open(self.raw, "rb") as file:
            memory = file.read()
        result = guestmem("verify", "--json", "-", self.to)
        self.well(result)
        found = json.loads(result.stdout)[0]
        self.assertEqual((found["format"], found["memory"], found["damaged"]), ("mapped-ram", len(memory), []))
        self.assertEqual([region["name"] for region in found["layout"]], ["pc.ram", "/rom@etc/acpi/tables", "vga.vram"])
        result = guestmem("verify", "--info", self.to)
        self.well(result)
        self.assertIn("without checksums", result.stdout)
        out = os.path.join(self.dir.name, "out")
        self.well(guestmem("convert", "--to", "sparse", self.to, out))
        with open(out, "rb") as file:
            self.assertEqual(file.read(), memory)
        self.well(guestmem("convert", "--to", "raw", "--block", "vga.vram", self.to, out))
        with open(out, "rb") as file:
            self.assertEqual(file.read(), memory[332 * PAGE:])
        self.well(guestmem("convert", self.to, out))
        self.well(guestmem("verify", out))
        self.well(guestmem("convert", "--to", "raw", "--from", "saved", out, self.raw))
        with open(self.raw, "rb") as file:
            self.assertEqual(file.read(), memory)

    def test_a_process_stands_still_and_goes_on(self):
        guest = start(sys.executable, "-c", GUEST)
        self.assertEqual(guest.stdout.readline(), "ready\n")
        for _ in range(3):
            found = self.save("--codec", "raw", "--pid", guest.pid, self.to)
            self.assertEqual(found["memory"], 8 * MIB)
            with open(self.to, "rb") as file:
                file.seek(PAGE)
                pages = file.read(512 * PAGE)
            # One round of it was under way: no number but this and the one before, in this order.
            numbers = [int.from_bytes(pages[i * PAGE:i * PAGE + 8], "little") for i in range(found["data"] // PAGE)]
            self.assertEqual(numbers, sorted(numbers, reverse=True))
            self.assertLessEqual(len(set(numbers)), 2)
            deadline = time.monotonic() + 10
            while state(guest.pid) not in "RS" and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertIn(state(guest.pid), "RS")
        # Who was stopped before stays so, and a failure leaves nobody stopped.
        self.assertEqual(guestmem("snapshot", "--pid", guest.pid, self.to + "/x").returncode, 1)
        self.assertIn(state(guest.pid), "RS")
        guest.send_signal(signal.SIGSTOP)
        self.save("--pid", guest.pid, self.to)
        self.assertEqual(state(guest.pid), "T")


if __name__ == "__main__":
    main()
