# SPDX-License-Identifier: BSD-3-Clause
"""guestmem blk --control: figures of queues, connection and disk. (The socket itself: test_control.py.)"""

import json
import os
import re
import socket
import struct
import threading

from common import MIB, PAGE, ROOT, end, guestmem, main, members, read, start, wait_for
from front_end import (DISCARD, F_DISCARD, F_FLUSH, F_IOMMU, F_LOG, F_PACKED, F_ZEROES, FLUSH, GET_FEATURES, GET_ID, INFLIGHT, INVALIDATE,
                       RAM, READ, SET_FEATURES, SET_LOG_BASE, USER, WAIT, WRITE, ZEROES, BlkCase, Guest, bit)


class Figures(BlkCase):

    def setUp(self):
        super().setUp()
        self.control = self.path("control")

    def begin_with(self, *args, **kwargs):
        child = self.begin("--control", self.control, "--queues", 2, *args, **kwargs)

        def answers():
            self.assertIsNone(child.poll(), "it ended")
            with socket.socket(socket.AF_UNIX) as sock:
                return sock.connect_ex(self.control) == 0

        self.assertTrue(wait_for(answers, WAIT))
        return child

    def guest(self, *features, protocol=(), area=False):
        guest = Guest(self.connect().connection, *features, protocol=protocol)
        self.addCleanup(guest.close)
        if area:
            self.area = guest.area()
        if F_IOMMU in features:
            guest.translate(0, RAM)
        guest.start()
        return guest

    def say(self, word):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT)
            sock.connect(self.control)
            sock.sendall(word + b"\n")
            parts = []
            while parts[-1:] != [b""]:
                parts.append(sock.recv(65536))
        return b"".join(parts).decode()

    def figures(self):
        return json.loads(self.say(b"json"))

    def load(self, guest):
        """Some of each; how many of each kind, errors, bytes."""
        segment = struct.pack("<QII", 8, 4, 0)
        self.assertEqual(guest.request(WRITE, 0, b"a" * 1024), (0, b""))
        for _ in range(3):
            self.assertEqual(guest.request(READ, 0, room=512), (0, b"a" * 512))
        self.assertEqual(guest.request(READ, 1 << 40, room=512)[0], 1)
        self.assertEqual(guest.request(FLUSH)[0], 0)
        self.assertEqual(guest.request(DISCARD, data=segment)[0], 0)
        self.assertEqual(guest.request(ZEROES, data=segment)[0], 0)
        self.assertEqual(guest.request(GET_ID, room=20)[0], 0)
        self.assertEqual(guest.request(77)[0], 2)
        return {"read": (4, 1, 1536), "write": (1, 0, 1024), "flush": (1, 0, 0), "discard": (1, 0, 2048),
                "write_zeroes": (1, 0, 2048), "get_id": (1, 0, 0), "other": (1, 1, 0)}

    def check_kinds(self, queue, wanted):
        got = {k: (v["requests"], v["errors"], v["bytes"]) for k, v in queue["kinds"].items()}
        self.assertEqual(got, wanted)
        for kind in queue["kinds"].values():
            self.assertEqual((kind["time"]["count"], sum(kind["time"]["below"])), (kind["requests"],) * 2)

    def test_requests_are_counted_in_all_three_forms(self):
        for features in ((F_FLUSH, F_DISCARD, F_ZEROES), (F_FLUSH, F_DISCARD, F_ZEROES, F_PACKED)):
            child = self.begin_with()
            guest = self.guest(*features)
            wanted = self.load(guest)
            found = self.figures()
            first, second = found["queues"]
            self.check_kinds(first, wanted)
            self.assertEqual((first["runs"], first["in_flight"], first["bad"], first["wrong"]), (True, 0, 1, 0))
            self.assertEqual(first["calls"] + first["calls_suppressed"], 10)
            self.assertGreater(first["kicks"], 0)
            self.assertEqual((second["runs"], second["kicks"], second["calls"]), (False, 0, 0))
            self.check_kinds(second, {k: (0, 0, 0) for k in wanted})
            text = self.say(b"text")
            self.assertIn("read: 4 requests, 1 errors, 1.5 KiB, half in less than ", text)
            self.assertIn("queue 0: runs, 0 in flight", text)
            metrics = self.say(b"metrics")
            for kind, (requests, errors, octets) in wanted.items():
                for name, value in (("requests", requests), ("errors", errors), ("bytes", octets)):
                    self.assertIn(f'guestmem_blk_{name}_total{{queue="0",kind="{kind}"}} {value}\n', metrics)
                self.assertIn(f'guestmem_blk_request_seconds_count{{queue="0",kind="{kind}"}} {requests}\n', metrics)
                self.assertIn(f'guestmem_blk_request_seconds_bucket{{queue="0",kind="{kind}",le="+Inf"}} {requests}\n', metrics)
            for line in metrics.splitlines():
                self.assertRegex(line, r"^(# (HELP|TYPE) guestmem_blk_[a-z_]+ .+|guestmem_blk_[a-z_]+(\{[^}]*\})? [0-9.e+-]+)$")
            # They are the process's, not the connection's or the run's.
            guest.stop()
            self.assertFalse(self.figures()["queues"][0]["runs"])
            self.check_kinds(self.figures()["queues"][0], wanted)
            guest.connection.close()
            self.assertTrue(wait_for(lambda: not self.figures()["connection"]["front_end"], WAIT))
            self.check_kinds(self.figures()["queues"][0], wanted)
            again = self.guest(*features)
            self.load(again)
            self.check_kinds(self.figures()["queues"][0], {k: tuple(2 * n for n in v) for k, v in wanted.items()})
            self.assertEqual(self.figures()["connection"]["connections"], 2)
            again.connection.close()
            self.assertEqual(child.poll(), None)
            self.ends_well()
            self.assertFalse(os.path.exists(self.control))

    def test_the_connection_is_told(self):
        self.begin_with()
        before = self.figures()
        self.assertEqual((before["connection"]["front_end"], before["connection"]["regions"]), (False, []))
        self.assertEqual(before["disk"]["engine"], "none yet")
        guest = self.guest(F_FLUSH)
        self.load(guest)
        found = self.figures()["connection"]
        self.assertEqual(found["features"], ["FLUSH", "PROTOCOL_FEATURES", "VERSION_1"])
        self.assertEqual(found["protocol"], ["MQ", "LOG_SHMFD", "REPLY_ACK", "CONFIGURE_MEM_SLOTS"])
        self.assertTrue(set(found["features"]) < set(found["offered"]))
        self.assertEqual((found["front_end"], found["wrong_messages"], found["inflight"], found["log"]), (True, 0, None, None))
        self.assertTrue(wait_for(lambda: self.figures()["connection"]["regions"][0]["present"] or 0, WAIT))
        region, = self.figures()["connection"]["regions"]
        self.assertEqual((region["gpa"], region["len"], region["user"], region["offset"]), (0, RAM, USER, 0))
        self.assertEqual((region["page_size"], region["writable"], region["fits"], region["seals"]), (PAGE, True, True, []))
        self.assertEqual(region["present"] % PAGE, 0)
        self.assertLessEqual(region["present"], RAM)
        ring, = found["rings"]
        self.assertEqual((ring["index"], ring["num"], ring["started"], ring["enabled"]), (0, 16, True, True))
        self.assertEqual((ring["available_index"], ring["used_index"], ring["unknown"]), (10, 10, None))
        # Each member is in the manual page.
        page = set(re.findall(r"\*([a-z_]+)\*", read(os.path.join(ROOT, "man", "guestmem-blk.1.scd"))))
        self.assertEqual(members(self.figures()) - page, set())
        self.ends_well()

    def test_the_disk_is_told(self):
        for args, wanted in (((), ("io_uring", False, False)), (("--no-uring", "--read-only"), ("plain", False, True)),
                             (("--direct",), ("io_uring", True, False))):
            self.begin_with(*args)
            self.guest(F_FLUSH)
            disk = self.figures()["disk"]
            self.assertEqual((disk["file"], disk["size"]), (self.image, 8 * MIB))
            if wanted[0] == "plain" or disk["engine"] != "plain":
                self.assertEqual(disk["engine"], wanted[0])
            self.assertEqual((disk["direct"], disk["read_only"]), wanted[1:])
            self.ends_well()

    def test_an_export_is_told(self):
        if "no libnbd" in guestmem("blk", "-b", "nbd+unix:///?socket=/nowhere", "-s", self.socket).stderr:
            self.skipTest("this build has no libnbd")
        server = self.path("nbd")
        nbd = start("/usr/bin/qemu-nbd", "-k", server, "-f", "raw", "-t", "-e", 8, self.image)
        self.addCleanup(end, nbd)
        self.assertTrue(wait_for(lambda: os.path.exists(server), WAIT))
        self.begin_with(image=f"nbd+unix:///?socket={server}")
        self.assertEqual(self.guest(F_FLUSH).request(READ, 0, room=512)[0], 0)
        disk = self.figures()["disk"]
        self.assertEqual((disk["engine"], disk["size"], disk["direct"], disk["read_only"]), ("nbd", 8 * MIB, False, False))
        self.ends_well()

    def test_the_area_of_what_is_in_flight_is_told(self):
        self.begin_with()
        guest = self.guest(F_FLUSH, protocol=[INFLIGHT], area=True)
        self.assertEqual(guest.request(READ, 0, room=512)[0], 0)
        self.assertEqual(self.figures()["connection"]["inflight"], {"len": self.area, "queues": 1, "queue_size": 16})
        self.assertIn("in flight: an area for 1 queues of 16 entries\n", self.say(b"text"))
        self.assertIn(f"\nguestmem_blk_inflight_bytes {self.area}\n", self.say(b"metrics"))
        self.ends_well()

    def test_packed_rings_stand_where_the_device_says(self):
        self.begin_with()
        guest = self.guest(F_FLUSH, F_PACKED)
        for _ in range(7):  # 21 entries of 16
            self.assertEqual(guest.request(READ, 0, room=512)[0], 0)
        ring, = self.figures()["connection"]["rings"]
        self.assertEqual((ring["available_index"], ring["available_lap"]), (5, 0))
        self.assertEqual((ring["used_index"], ring["used_lap"], ring["used_range"]), (5, 0, [5, 5]))
        self.assertIsNone(ring["unknown"])
        self.assertEqual(guest.stop(), 5 | 5 << 16)
        self.ends_well()

    def test_rings_behind_an_iommu_are_found(self):
        self.begin_with()
        guest = self.guest(F_FLUSH, F_IOMMU)
        for _ in range(3):
            self.assertEqual(guest.request(READ, 0, room=512)[0], 0)
        found = self.figures()["connection"]
        self.assertEqual((found["translations"], found["misses"]), (1, 0))
        self.assertEqual((found["rings"][0]["available_index"], found["rings"][0]["used_index"]), (3, 3))
        guest.translate(0, RAM, kind=INVALIDATE)
        found = self.figures()["connection"]
        self.assertEqual(found["translations"], 0)
        self.assertEqual((found["rings"][0]["available_index"], found["rings"][0]["used_index"]), (None, None))
        self.assertIn("not translated", found["rings"][0]["unknown"])
        # It says that it has nobody to ask for them, and ends.
        self.child.terminate()
        self.child.communicate(timeout=WAIT)
        self.assertEqual(self.child.returncode, 0)

    def test_the_dirty_log_is_told(self):
        self.begin_with()
        log = os.memfd_create("log", os.MFD_CLOEXEC)
        self.addCleanup(os.close, log)
        os.ftruncate(log, PAGE)
        guest = self.guest(F_FLUSH)
        guest.send(SET_LOG_BASE, struct.pack("=QQ", PAGE, 0), [log])
        guest.answer(SET_LOG_BASE)
        guest.do(SET_FEATURES, struct.pack("=Q", guest.features | bit(F_LOG)))
        self.assertTrue(self.figures()["connection"]["logging"])
        self.assertEqual(guest.request(READ, 0, room=512)[0], 0)
        # The used ring, the data, the status.
        self.assertTrue(wait_for(lambda: self.figures()["connection"]["log"]["dirty"] == 3, WAIT))
        self.assertEqual(self.figures()["connection"]["log"]["len"], PAGE)
        self.assertIn("log: 4096 bytes, 3 pages marked", self.say(b"text"))
        self.assertIn("\nguestmem_blk_log_pages 3\n", self.say(b"metrics"))
        self.ends_well()

    def test_who_asks_without_pause_holds_up_nobody(self):
        """Each side goes on until the other one has done its part."""
        self.begin_with()
        guest = self.guest(F_FLUSH)
        over = threading.Event()
        asked = [0, 0, 0]

        def ask(i, word):
            while not over.is_set():
                self.assertTrue(self.say(word))
                asked[i] += 1

        threads = [threading.Thread(target=ask, args=pair) for pair in enumerate((b"json", b"metrics", b"text"))]
        for thread in threads:
            thread.start()
        done = 0
        while done < 200 or min(asked) < 10:
            self.assertEqual(guest.request(READ, 0, room=512)[0], 0)
            # Messages are answered too.
            self.assertTrue(guest.number(GET_FEATURES))
            done += 1
        over.set()
        for thread in threads:
            thread.join()
        self.assertEqual(self.figures()["queues"][0]["kinds"]["read"]["requests"], done)
        self.ends_well()

    def test_one_that_was_killed_leaves_nothing_in_the_way(self):
        for _ in range(3):
            child = self.begin_with()
            self.guest(F_FLUSH)
            child.kill()
            child.wait()
            self.assertTrue(os.path.exists(self.control))
        self.begin_with()
        self.assertEqual(self.guest(F_FLUSH).request(READ, 0, room=512)[0], 0)
        self.ends_well()

    def test_what_is_counted_while_it_polls(self):
        self.begin_with("--poll", 1000)
        guest = self.guest(F_FLUSH)
        self.assertEqual(guest.request(READ, 0, room=512)[0], 0)
        self.assertTrue(wait_for(lambda: self.figures()["queues"][0]["polls"] > 0, WAIT))
        self.ends_well()


if __name__ == "__main__":
    main()
