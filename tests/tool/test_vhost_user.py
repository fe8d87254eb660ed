# SPDX-License-Identifier: BSD-3-Clause
"""guestmem vhost-user inspect: what passes between two ends, and what hostile ends may send."""

import json
import os
import random
import signal
import socket
import struct
import time
import unittest

import front_end
from common import MIB, PAGE, Case, end, guestmem, main, read, start

WAIT = 60
FIELDS = {"event", "front_end_messages", "back_end_messages", "wrong_messages", "offered", "features", "protocol",
          "regions", "rings", "translations", "log"}
REGION = {"gpa", "len", "user", "offset", "page_size", "readable", "writable", "fits", "seals", "present"}
RING = {"index", "num", "started", "enabled", "base", "logged", "desc", "avail", "used", "available_index", "available_lap",
        "used_index", "used_lap", "used_range", "unknown"}
MESSAGE = {"event", "from", "channel", "reply", "name", "request", "len", "fds", "text"}
GET_FEATURES, SET_FEATURES, SET_MEM_TABLE, SET_LOG_BASE, SET_NUM, SET_ADDR, SET_BASE = 1, 2, 5, 6, 8, 9, 10
SET_KICK, SET_PROTOCOL, ENABLE, SET_CHANNEL, ADD, REM = 12, 16, 18, 21, 37, 38


def message(request, payload=b"", flags=1):
    return struct.pack("=III", request, flags, len(payload)) + payload


class Inspect(Case):
    def setUp(self):
        super().setUp()
        self.front_path = self.path("front")
        self.back_path = self.path("back")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.back_path)
        self.listener.listen(1)
        self.listener.settimeout(WAIT)
        self.addCleanup(self.listener.close)

    def begin(self, *args):
        self.child = start("vhost-user", "inspect", *args, self.front_path, self.back_path)
        self.addCleanup(end, self.child)

    def connect(self):
        """Both ends, when the command listens."""
        while True:
            front = socket.socket(socket.AF_UNIX)
            front.settimeout(WAIT)
            try:
                front.connect(self.front_path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                front.close()
                self.assertIsNone(self.child.poll())
        back = self.listener.accept()[0]
        back.settimeout(WAIT)
        self.addCleanup(front.close)
        self.addCleanup(back.close)
        return front, back

    def passes(self, come_from, go_to, data, fds=()):
        socket.send_fds(come_from, [data], list(fds))
        got, files, _, _ = socket.recv_fds(go_to, len(data), 16)
        while len(got) < len(data):
            got += go_to.recv(len(data) - len(got))
        self.assertEqual(got, data)
        self.assertEqual([os.fstat(f).st_ino for f in files], [os.fstat(f).st_ino for f in fds])
        return files

    def finish(self):
        """What it has printed, after SIGINT."""
        self.child.send_signal(signal.SIGINT)
        out, err = self.child.communicate(timeout=WAIT)
        self.assertEqual((self.child.returncode, err), (0, ""))
        self.assertFalse(os.path.exists(self.front_path))
        return [json.loads(line) for line in out.splitlines()]

    def test_a_stale_socket_is_replaced_and_one_that_is_served_stays(self):
        self.begin()
        self.connect()
        self.fails(1, self.front_path, "listens", args=["vhost-user", "inspect", self.front_path, self.back_path])
        self.child.kill()
        self.child.wait()
        self.assertTrue(os.path.exists(self.front_path))
        self.begin("--json")
        front, back = self.connect()
        self.passes(front, back, message(GET_FEATURES))
        self.finish()

    def test_what_is_shared(self):
        self.begin("--json", "--trace")
        front, back = self.connect()
        memory = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        log = os.memfd_create("log", os.MFD_CLOEXEC)
        self.addCleanup(os.close, memory)
        self.addCleanup(os.close, log)
        os.ftruncate(memory, 4 * MIB)
        os.ftruncate(log, PAGE)
        os.pwrite(memory, struct.pack("<HH", 0, 7), 2 * PAGE)
        os.pwrite(memory, struct.pack("<HH", 0, 5), 3 * PAGE)
        os.pwrite(log, b"\x07", 9)
        self.passes(front, back, message(GET_FEATURES))
        self.passes(back, front, message(GET_FEATURES, struct.pack("=Q", 1 << 32 | 1 << 30 | 1 << 29), 5))
        self.passes(front, back, message(SET_FEATURES, struct.pack("=Q", 1 << 32 | 1 << 30)))
        self.passes(front, back, message(SET_PROTOCOL, struct.pack("=Q", 1 << 3 | 1 << 15)))
        files = self.passes(front, back, message(ADD, struct.pack("=QQQQQ", 0, 0, 2 * MIB, 1 << 40, 0)), [memory])
        files += self.passes(front, back, message(ADD, struct.pack("=QQQQQ", 0, 4 * MIB, 8 * MIB, 1 << 41, 0)), [memory])
        self.passes(front, back, message(SET_NUM, struct.pack("=II", 1, 256)))
        self.passes(front, back, message(SET_BASE, struct.pack("=II", 1, 3)))
        at = 1 << 40
        self.passes(front, back, message(SET_ADDR, struct.pack("=IIQQQQ", 1, 1, at, at + 3 * PAGE, at + 2 * PAGE, 0)))
        self.passes(front, back, message(SET_KICK, struct.pack("=Q", 0x101)))
        self.passes(front, back, message(ENABLE, struct.pack("=II", 1, 1)))
        files += self.passes(front, back, message(SET_LOG_BASE, struct.pack("=QQ", PAGE, 0)), [log])
        self.passes(front, back, message(REM, b"short"))
        for file in files:
            os.close(file)
        lines = self.finish()
        report = lines.pop()
        self.assertEqual(set(report), FIELDS)
        self.assertTrue(all(set(line) == MESSAGE for line in lines))
        self.assertEqual([line["name"] for line in lines][:4],
                         ["GET_FEATURES", "GET_FEATURES", "SET_FEATURES", "SET_PROTOCOL_FEATURES"])
        self.assertEqual([line["from"] for line in lines][:3], ["front-end", "back-end", "front-end"])
        self.assertEqual(report["features"], ["PROTOCOL_FEATURES", "VERSION_1"])
        self.assertEqual(report["offered"], ["EVENT_IDX", "PROTOCOL_FEATURES", "VERSION_1"])
        self.assertEqual(report["protocol"], ["REPLY_ACK", "CONFIGURE_MEM_SLOTS"])
        self.assertEqual((report["front_end_messages"], report["back_end_messages"], report["wrong_messages"]), (12, 1, 1))
        first, second = report["regions"]
        self.assertEqual(set(first), REGION)
        self.assertEqual((first["gpa"], first["len"], first["user"], first["page_size"]), (0, 2 * MIB, 1 << 40, PAGE))
        self.assertEqual((first["readable"], first["writable"], first["fits"], first["seals"]), (True, True, True, []))
        self.assertFalse(second["fits"])
        ring, = report["rings"]
        self.assertEqual(set(ring), RING)
        self.assertEqual((ring["index"], ring["num"], ring["base"]), (1, 256, 3))
        self.assertEqual((ring["started"], ring["enabled"], ring["logged"]), (True, True, True))
        self.assertEqual((ring["available_index"], ring["used_index"], ring["unknown"]), (7, 5, None))
        self.assertEqual((ring["available_lap"], ring["used_lap"], ring["used_range"]), (None, None, None))
        self.assertEqual(report["log"]["dirty"], 3)

    def test_the_socket_of_the_device_is_passed_through(self):
        self.begin("--json", "--once")
        front, back = self.connect()
        mine, theirs = socket.socketpair()
        self.addCleanup(mine.close)
        mine.settimeout(WAIT)
        socket.send_fds(front, [message(SET_CHANNEL)], [theirs.fileno()])
        theirs.close()
        got, files, _, _ = socket.recv_fds(back, 12, 4)
        self.assertEqual(got, message(SET_CHANNEL))
        channel = socket.socket(fileno=files[0])
        self.addCleanup(channel.close)
        channel.settimeout(WAIT)
        self.passes(channel, mine, message(2, flags=9))
        self.passes(mine, channel, message(2, struct.pack("=Q", 0), 5))
        channel.close()
        # The device's own requests are over, the connection is not.
        self.passes(front, back, message(GET_FEATURES))
        front.close()
        out, _ = self.child.communicate(timeout=WAIT)
        self.assertEqual(self.child.returncode, 0)
        self.assertEqual(json.loads(out)["back_end_messages"], 1)

    def test_text(self):
        self.begin("--once", "--trace", "--interval", "3600")
        front, back = self.connect()
        self.passes(front, back, message(SET_FEATURES, struct.pack("=Q", 1 << 34)))
        back.close()
        out, _ = self.child.communicate(timeout=WAIT)
        self.assertIn("-> SET_FEATURES 8 bytes 0 fds 0x400000000\n", out)
        self.assertIn("features: RING_PACKED\n", out)

    @unittest.skipUnless(os.path.exists("/usr/bin/qemu-system-x86_64"), "there is no qemu-system-x86")
    def test_qemu_and_a_disk_of_others(self):
        """SeaBIOS reads the disk's first sector: QEMU 7.2 in front, qemu-storage-daemon behind."""
        image = self.path("image")
        with open(image, "wb") as file:
            file.truncate(MIB)
        self.listener.close()
        os.unlink(self.back_path)
        daemon = start("/usr/bin/qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={image}", "--export",
                       f"type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path={self.back_path}")
        self.addCleanup(end, daemon)
        self.wait_for(self.back_path, daemon)
        self.begin("--json", "--interval", "0.1", "--once")
        self.wait_for(self.front_path, self.child)
        qemu = start("/usr/bin/qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "128M", "-machine",
                     "q35,memory-backend=mem", "-object", "memory-backend-memfd,id=mem,size=128M,share=on", "-chardev",
                     f"socket,id=c,path={self.front_path}", "-device", "vhost-user-blk-pci,chardev=c")
        self.addCleanup(end, qemu)
        for line in self.child.stdout:
            report = json.loads(line)
            if any((ring["used_index"] or 0) > 0 for ring in report["rings"]):
                break
        self.assertIn("VERSION_1", report["features"])
        self.assertIn("CONFIG", report["protocol"])
        self.assertEqual(report["wrong_messages"], 0)
        self.assertEqual(sum(r["fits"] and r["page_size"] == PAGE for r in report["regions"]), len(report["regions"]))
        self.assertLess(100 * MIB, sum(region["len"] for region in report["regions"]))
        self.assertIn("grow", report["regions"][0]["seals"])
        qemu.kill()
        self.child.communicate(timeout=WAIT)
        self.assertEqual(self.child.returncode, 0)

    def wait_for(self, path, child):
        """Until somebody listens there: a name is there a moment before."""
        while not any(w[-1] == path and w[3] == "00010000" for w in map(str.split, read("/proc/net/unix").splitlines())):
            self.assertIsNone(child.poll())
            time.sleep(0.01)

    def test_hostile_ends_do_no_harm(self):
        rng = random.Random(int(os.environ.get("GM_TEST_SEED", "7"), 0))
        self.begin()
        null = os.open("/dev/null", os.O_RDWR)
        self.addCleanup(os.close, null)
        for _ in range(60 * int(os.environ.get("GM_TEST_SCALE", "1"))):
            front, back = self.connect()
            for side in (front, back):
                for _ in range(rng.randrange(4)):
                    payload = rng.randbytes(rng.choice((0, 1, 8, 20, 40, 264, 3000)))
                    said = rng.choice((len(payload), len(payload), len(payload) + 1, 70000, (1 << 32) - 1))
                    data = struct.pack("=III", rng.randrange(50), rng.choice((1, 5, 9, 0)), said) + payload
                    files = [null] * rng.choice((0, 0, 1, 2, 8, 9, 253))
                    try:
                        socket.send_fds(side, [data], files)
                    except OSError:
                        pass
            front.close()
            back.close()
        front, back = self.connect()
        self.passes(front, back, message(GET_FEATURES))
        fds = len(os.listdir(f"/proc/{self.child.pid}/fd"))
        self.assertLess(fds, 16)
        self.child.send_signal(signal.SIGINT)
        self.child.communicate(timeout=WAIT)
        self.assertEqual(self.child.returncode, 0)

    def through(self, *features):
        """A guest in front of a "guestmem blk", and the proxy between them."""
        image = self.path("image")
        with open(image, "wb") as file:
            file.truncate(MIB)
        self.listener.close()
        os.unlink(self.back_path)
        self.daemon = start("blk", "--blk-file", image, "--socket-path", self.back_path, "--control", self.path("control"))
        self.addCleanup(end, self.daemon)
        self.wait_for(self.back_path, self.daemon)
        self.wait_for(self.path("control"), self.daemon)
        self.begin("--json", "--interval", "0.02", "--once")
        self.wait_for(self.front_path, self.child)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.front_path)
        guest = front_end.Guest(connection, front_end.F_FLUSH, *features)
        self.addCleanup(guest.close)
        return guest

    def ring_of(self, condition):
        """The ring of a report of which this is true; what went before is passed by."""
        for line in self.child.stdout:
            rings = json.loads(line)["rings"]
            if rings and condition(rings[0]):
                return rings[0]
        return self.fail("it has ended")

    def of_daemon(self):
        result = guestmem("vhost-user", "inspect", "--json", "--control", self.path("control"))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return json.loads(result.stdout)

    def test_packed_rings(self):
        """What the memory says, what the device says itself, and what it said when it was stopped."""
        guest = self.through(front_end.F_PACKED)
        guest.start()
        ring = self.ring_of(lambda ring: ring["available_index"] is not None)
        self.assertEqual((ring["available_index"], ring["available_lap"], ring["used_index"], ring["used_range"]), (0, 1, 0, [0, 0]))
        self.assertEqual(guest.request(front_end.READ, 0, room=512)[0], 0)
        # A chain of three entries was used: the device is behind the first.
        ring = self.ring_of(lambda ring: ring["available_index"] == 3 and ring["used_range"] == [1, 3])
        self.assertEqual((ring["available_lap"], ring["used_index"], ring["used_lap"]), (1, None, None))
        self.assertIn("packed", ring["unknown"])
        own, = self.of_daemon()["rings"]
        self.assertEqual((own["available_index"], own["used_index"], own["used_lap"], own["unknown"]), (3, 3, 1, None))
        for _ in range(5):  # 18 entries of 16
            self.assertEqual(guest.request(front_end.READ, 0, room=512)[0], 0)
        ring = self.ring_of(lambda ring: ring["available_index"] == 2)
        self.assertEqual((ring["available_lap"], ring["used_range"]), (0, [0, 2]))
        # Of two entries: behind a flush the last one that was written lies before another.
        self.assertEqual(guest.request(front_end.FLUSH)[0], 0)
        self.ring_of(lambda ring: ring["available_index"] == 4 and ring["used_range"] == [3, 4])
        base = guest.stop()
        self.assertEqual(base, 4 | 4 << 16)
        ring = self.ring_of(lambda ring: not ring["started"])
        self.assertEqual((ring["base"], ring["used_index"], ring["used_lap"], ring["unknown"]), (base, 4, 0, None))

    def test_rings_behind_an_iommu(self):
        guest = self.through(front_end.F_IOMMU)
        guest.translate(0, front_end.RAM)
        guest.start()
        self.assertEqual(guest.request(front_end.READ, 0, room=512)[0], 0)
        ring = self.ring_of(lambda ring: ring["used_index"] == 1)
        self.assertEqual((ring["available_index"], ring["unknown"]), (1, None))
        self.assertEqual((self.of_daemon()["rings"][0]["used_index"], self.of_daemon()["translations"]), (1, 1))
        # The hole is where the available ring is.
        guest.translate(front_end.AVAIL, PAGE, kind=front_end.INVALIDATE)
        ring = self.ring_of(lambda ring: ring["available_index"] is None)
        self.assertEqual(ring["used_index"], 1)
        self.assertIn("translation", ring["unknown"])
        guest.translate(0, front_end.RAM, kind=front_end.INVALIDATE)
        self.ring_of(lambda ring: ring["used_index"] is None)
        guest.translate(0, front_end.RAM)
        self.ring_of(lambda ring: (ring["available_index"], ring["used_index"]) == (1, 1))

    def test_a_device_is_asked_itself(self):
        guest = self.through()
        guest.start()
        for _ in range(4):
            self.assertEqual(guest.request(front_end.READ, 0, room=512)[0], 0)
        report = self.of_daemon()
        self.assertEqual(FIELDS - set(report), set())
        self.assertEqual((report["event"], report["front_end"], report["back_end_messages"]), ("shared", True, None))
        region, = report["regions"]
        self.assertEqual(set(region), REGION)
        self.assertEqual((region["len"], region["page_size"], region["fits"]), (front_end.RAM, PAGE, True))
        ring, = report["rings"]
        self.assertEqual(set(ring), RING)
        self.assertEqual((ring["available_index"], ring["used_index"]), (4, 4))
        path = self.path("control")
        text = guestmem("vhost-user", "inspect", "--control", path).stdout
        self.assertIn("front-end: present, 1 so far\n", text)
        self.assertIn("  ring 0: 16 entries, started, enabled, base 0, available 4, used 4\n", text)
        self.assertIn(", pages of 4 KiB, rw, ", text)
        asker = start("vhost-user", "inspect", "--json", "--interval", "0.01", "--control", path)
        self.addCleanup(end, asker)
        for _ in range(3):
            self.assertEqual(json.loads(asker.stdout.readline())["event"], "shared")
        asker.send_signal(signal.SIGINT)
        out, err = asker.communicate(timeout=WAIT)
        self.assertEqual((asker.returncode, err), (0, ""))
        self.daemon.kill()
        self.daemon.wait()
        self.fails(1, path, "refused", args=["vhost-user", "inspect", "--control", path])

    def test_whoever_answers_otherwise_is_no_device(self):
        path = self.path("other")
        other = socket.socket(socket.AF_UNIX)
        self.addCleanup(other.close)
        other.bind(path)
        other.listen(8)
        other.settimeout(WAIT)
        odd = {"connection": {"regions": [7, {"gpa": "x", "len": -1}], "rings": {"a": 1}, "features": [None, "\x1b[2J"], "log": {}}}
        for said, status in ((b"", 1), (b"nonsense", 1), (b"[]", 1), (b'{"guests": 1}', 1), (b'{"connection": []}', 1),
                             (b"\xff" * 100, 1), (json.dumps(odd).encode(), 0)):
            asker = start("vhost-user", "inspect", "--control", path)
            self.addCleanup(end, asker)
            sock = other.accept()[0]
            self.assertEqual(sock.recv(64), b"json\n")
            sock.sendall(said)
            sock.close()
            out, err = asker.communicate(timeout=WAIT)
            self.assertEqual(asker.returncode, status, err)
            self.assertNotIn("\x1b", out)
            if status:
                self.assertIn("no device of vhost-user", err)

    def test_wrong_usage(self):
        for words in (["inspect", "--control", "a", "b"], ["inspect", "--control", "a", "--trace"], ["--control", "a"]):
            self.assertEqual(guestmem("vhost-user", *words).returncode, 2)
        self.fails(1, "/nowhere", args=["vhost-user", "inspect", "--control", "/nowhere"])
        for words in (["inspect"], ["inspect", "a"], ["look", "a", "b"], ["inspect", "--interval", "0", "a", "b"]):
            self.assertEqual(guestmem("vhost-user", *words).returncode, 2)
        self.assertEqual(guestmem("vhost-user", "inspect", "/nonexistent/a", "b").returncode, 1)
        self.assertEqual(guestmem("vhost-user", "inspect", "/" + "a" * 200, "b").returncode, 1)


if __name__ == "__main__":
    main()
