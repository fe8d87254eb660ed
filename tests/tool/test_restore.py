# SPDX-License-Identifier: BSD-3-Clause
"""guestmem run --snapshot and restore: a guest goes on with right bytes, on each backing, from each source."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

from common import MIB, ROOT, Case, guestmem, main, members, need_pool, read, start

SIZE = 8 * MIB


class Restore(Case):
    def setUp(self):
        super().setUp()
        self.saved = self.path("saved")

    def save(self, *words, at="0.4", args=()):
        result = guestmem("run", "--size", SIZE, "--vcpus", 2, "--snapshot", self.saved, "--snapshot-at", at, "--json",
                          self.path("run"), "-q", *args, *words)
        self.well(result)
        self.assertEqual(self.json("run")["outcome"], "saved")

    def restore(self, *args, files=None, status=0):
        result = guestmem("restore", "--json", self.path("report"), "--events", self.path("events"), "-q", *args,
                          *(files or [self.saved]))
        self.assertEqual(result.returncode, status, result.stderr)
        if status:
            return result.stderr
        self.assertEqual(self.json("report")["outcome"], "done")
        events = [json.loads(line) for line in read(self.path("events")).splitlines()]
        self.assertEqual([e["event"] for e in events], ["runnable", "ended"])
        return events[1]

    def test_it_goes_on_on_each_backing(self):
        need_pool(2048, 4)
        # It works on all of its memory, and verifies it at its end.
        self.save("store", "ops=1000000000")
        for args, way in (((), "copied"), (("--share",), "second mapping"), (("--backing", "shared"), ""),
                          (("--pages", "2M"), ""), (("--pages", "2M", "--share"), ""), (("--pages", "thp"), "copied")):
            found = self.restore("-t", "0.3", *args)
            self.assertIn(way, found["way"], args)
            self.assertEqual((found["poisoned"], found["absent"]), (0, 0))
            self.assertEqual(found["bytes_demand"], SIZE, args)
            self.assertGreaterEqual(found["loaded"], 4)
        page = set(re.findall(r"\*([a-z_]+)\*", read(os.path.join(ROOT, "man", "guestmem-restore.1.scd"))))
        self.assertEqual(members(found) - page, set())

    def test_all_may_come_before_or_behind_it(self):
        self.save("store", "ops=1000000000")
        found = self.restore("--eager", "-t", "0.2")
        self.assertEqual((found["faults"], found["bytes_ahead"]), (0, SIZE))
        found = self.restore("--fill", "all", "-t", "0.2")
        self.assertEqual(found["bytes_ahead"] + found["bytes_demand"], SIZE)

    def test_memory_may_come_from_elsewhere(self):
        self.save("store", "ops=1000000000")
        raw, server = self.path("raw"), None
        self.well(guestmem("convert", "--to", "raw", self.saved, raw))
        self.assertEqual(self.restore("-t", "0.2", "--memory", raw)["absent"], 0)
        sock = self.path("nbd")
        server = subprocess.Popen([shutil.which("nbdkit"), "-f", "-r", "-U", sock, "--filter=delay", "file", raw,
                                   "rdelay=1ms"])
        try:
            deadline = time.monotonic() + 20
            while not os.path.exists(sock) and time.monotonic() < deadline:
                time.sleep(0.01)
            uri = f"nbd+unix:///?socket={sock}"
            self.assertEqual(self.restore("-t", "0.2", "--memory", uri)["absent"], 0)
            self.assertEqual(self.restore("-t", "0.2", "--eager", "--memory", uri)["absent"], 0)
        finally:
            server.terminate()
            server.wait()

    def test_a_difference_is_laid_on_its_base(self):
        """The base is of an earlier moment of the same work: vCPUs and what has changed are the difference's."""
        base, later, difference = self.path("base"), self.path("later"), self.path("difference")
        self.save("store", "ops=1000000000")
        os.rename(self.saved, base)
        self.save("store", "ops=1000000000", at="0.8")
        os.rename(self.saved, later)
        self.well(guestmem("convert", "--base", base, later, difference))
        whole = self.restore("-t", "0.2", files=[later])
        found = self.restore("-t", "0.2", files=[base, difference])
        self.assertEqual(self.json("report")["errors"], 0)
        for key in "poisoned", "absent", "bytes_demand":
            self.assertEqual(found[key], whole[key], key)
        # What goes on is what the later file has, byte by byte.
        merged, raw = self.path("merged"), self.path("raw")
        self.well(guestmem("convert", "--to", "raw", base, difference, merged))
        self.well(guestmem("convert", "--to", "raw", later, raw))
        with open(merged, "rb") as a, open(raw, "rb") as b:
            self.assertEqual(a.read(), b.read())
        self.assertIn("has to come before it", self.restore(files=[difference], status=1))
        self.assertIn("no difference", self.restore(files=[base, later], status=1))
        # A difference on another base is none of it.
        self.save("store", "ops=1000000000", at="0.2", args=("--seed", "2"))
        self.assertIn("no difference", self.restore(files=[self.saved, difference], status=1))

    def test_a_signal_saves_it(self):
        run = start("run", "--size", SIZE, "--snapshot", self.saved, "--json", self.path("run"), "store", "ops=1000000000")
        while not os.path.exists(f"/proc/{run.pid}/task") or len(os.listdir(f"/proc/{run.pid}/task")) < 2:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, err)
        self.restore("-t", "0.2")

    def test_one_that_has_ended_ends_again(self):
        self.well(guestmem("run", "--size", SIZE, "--snapshot", self.saved, "-q", "touch"))
        found = self.restore()
        self.assertEqual((found["faults"], found["absent"]), (0, SIZE))

    def test_what_is_no_such_guest_is_refused(self):
        raw = self.path("raw")
        with open(raw, "wb") as file:
            file.truncate(SIZE)
        self.well(guestmem("snapshot", "--label", "guestmem-run={}", raw, self.path("bad")))
        self.well(guestmem("snapshot", raw, self.path("other")))
        for files, why in ([raw], "is memory only"), ([self.path("none")], "No such file"), ([self.path("bad")], "cannot be"), (
                [self.path("other")], "not a guest that guestmem run"):
            self.assertIn(why, self.restore(files=files, status=1))
        self.save("store", "ops=1000000000")
        self.assertIn("does not lie in the image", self.restore("--memory", raw, status=1))
        os.truncate(self.saved, os.stat(self.saved).st_size - 1)
        self.restore(status=1)
        for args, why in (((), "FILE is wanted"), (("--fill", "x", raw), "--fill"), (("--rate", "x", raw), "--rate")):
            result = guestmem("restore", *args)
            self.assertEqual(result.returncode, 2)
            self.assertIn(why, result.stderr)
        for args, why in ((("--snapshot-at", "1"), "--snapshot only"), (("--snapshot", raw, "-e", "thread"), "no virtual machine"),
                          (("--snapshot", raw, "--control", "safe"), "--control")):
            result = guestmem("run", "--size", SIZE, *args, "store")
            self.assertEqual(result.returncode, 2)
            self.assertIn(why, result.stderr)

    def test_a_damaged_page_is_no_zero(self):
        self.save("store", "ops=1000000000", args=("--guest-pages", "4K"))
        self.assertEqual(guestmem("verify", self.saved).returncode, 0)
        with open(self.saved, "r+b") as file:
            size = os.stat(self.saved).st_size
            for at in range(size // 4, size // 4 * 3, 65536):
                file.seek(at)
                byte = file.read(1)
                file.seek(at)
                file.write(bytes([byte[0] ^ 0x10]))
        result = guestmem("restore", "-q", "-t", "0.2", self.saved)
        self.assertIn(result.returncode, (1, 4), result.stderr)


if __name__ == "__main__":
    main()
