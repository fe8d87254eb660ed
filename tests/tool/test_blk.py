# SPDX-License-Identifier: BSD-3-Clause
"""guestmem blk: how it is started and ends, what it offers, what its file does to it. (Requests: test_vhost_foreign.c; figures: test_blk_control.py.)"""

import contextlib
import fcntl
import json
import os
import platform
import select
import signal
import socket
import struct
import subprocess

from common import MIB, PAGE, TOOL, end, guestmem, main, read, start, wait_for
from front_end import (BACKEND_REQ, CONFIG, ENABLE, F_DISCARD, F_IOMMU, F_PACKED, F_PROTOCOL, F_RO, F_VERSION_1, F_ZEROES, GET_BASE,
                       GET_FEATURES, GET_PROTOCOL, GET_QUEUES, INFLIGHT, MQ, PAGEFAULT, REPLY_ACK, SET_ADDR, SET_CHANNEL,
                       SET_FEATURES, SET_KICK, SET_NUM, SLOTS, USER, WAIT, BlkCase, FrontEnd, bit)

SET_TABLE, SET_ERR, ADVISE, LISTEN = 5, 14, 28, 29
CONFIG_CHANGE = 2
READ_CALL = 63 if platform.machine() == "aarch64" else 0
SCALE = max(1, int(float(os.environ.get("GM_TEST_SCALE", "1"))))


class Blk(BlkCase):
    def test_capabilities_are_those_of_the_convention(self):
        result = guestmem("blk", "--print-capabilities", "--blk-file", "/nowhere")
        self.well(result)
        self.assertEqual(json.loads(result.stdout), {"type": "block", "features": ["read-only", "blk-file"]})

    def test_it_has_a_name_of_its_own(self):
        os.symlink(TOOL, self.path("guestmem-blk"))
        said = subprocess.run([self.path("guestmem-blk"), "--print-capabilities"], capture_output=True, check=True).stdout
        self.assertEqual(json.loads(said)["type"], "block")

    def test_wrong_use_is_said(self):
        self.fails(2, "--blk-file", args=["blk", "--socket-path", self.socket])
        self.fails(1, "--socket-path", "--fd", args=["blk", "--blk-file", self.image])
        self.fails(2, "not both", args=["blk", "-b", self.image, "-s", self.socket, "--fd", 3])
        self.fails(2, "what is this", args=["blk", "-b", self.image, "-s", self.socket, "more"])
        for option, value in (("queues", 0), ("queues", 65), ("queue-size", 1), ("block-size", 1000), ("poll", "x"),
                              ("serial", "x" * 21), ("fd", -1)):
            self.fails(2, option, str(value)[:5], args=["blk", "-b", self.image, "-s", self.socket, f"--{option}={value}"])
        self.assertFalse(os.path.exists(self.socket))

    def test_options_of_files_are_not_for_exports(self):
        for option in ("--direct", "--no-uring", "--block-size=4096"):
            self.fails(2, "its server", args=["blk", "-b", "nbd+unix:///?socket=/nowhere", "-s", self.socket, option])

    def test_what_is_seldom_meant_is_said(self):
        for content, word in ((b"QFI\xfb" + bytes(1020), "qemu-nbd"), (b"x" * 100, "without any"), (b"", "without any"),
                              (b"x" * 600, "the last 88 bytes"), (b"x" * 1024, None)):
            with open(self.image, "wb") as file:
                file.write(content)
            self.begin()
            front = self.connect()
            front.number(GET_FEATURES)
            front.negotiate(CONFIG)
            self.assertEqual(struct.unpack_from("<Q", front.config())[0], len(content) // 512)
            self.child.terminate()
            _, said = self.child.communicate(timeout=WAIT)
            self.assertEqual(self.child.returncode, 0)
            if word:
                self.assertRegex(said, r"\Aguestmem: note: [^\n]+\n\Z")
                self.assertIn(word, said)
            else:
                self.assertEqual(said, "")

    def test_what_is_no_disk_is_said(self):
        for path, word in (("/nowhere", "No such file"), (self.dir, "directory"), ("/dev/null", "/dev/null"),
                           ("nbd+unix:///?socket=/nowhere", "nbd")):
            self.fails(1, word, args=["blk", "-b", path, "-s", self.socket])

    def test_a_socket_that_is_served_stays(self):
        self.begin()
        self.connect()
        self.fails(1, self.socket, "listens", args=["blk", "-b", self.image, "-s", self.socket])
        self.ends_well()

    def test_a_socket_has_a_name(self):
        self.fails(1, "No such file", args=["blk", "-b", self.image, "-s", ""])

    def test_a_stale_socket_is_replaced(self):
        self.begin()
        self.connect()
        self.child.kill()
        self.child.wait()
        self.assertTrue(os.path.exists(self.socket))
        self.begin()
        self.connect()
        self.ends_well(signal.SIGINT)

    def test_what_it_offers(self):
        self.begin("--queues", 3, "--serial", "of mine")
        front = self.connect()
        features = front.number(GET_FEATURES)
        for number in (F_DISCARD, F_ZEROES, F_PROTOCOL, F_VERSION_1, F_IOMMU, F_PACKED):
            self.assertTrue(features & bit(number), number)
        self.assertFalse(features & bit(F_RO))
        protocol = front.number(GET_PROTOCOL)
        for number in (MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT, SLOTS):
            self.assertTrue(protocol & bit(number), number)
        self.assertFalse(protocol & bit(PAGEFAULT))
        front.negotiate(MQ, CONFIG)
        self.assertEqual(front.number(GET_QUEUES), 3)
        self.assertEqual(struct.unpack_from("<Q", front.config())[0], 8 * MIB // 512)
        self.ends_well()

    def test_what_it_offers_follows_the_options(self):
        self.begin("--read-only", "--postcopy", "--no-discard", "--block-size", 4096)
        front = self.connect()
        features = front.number(GET_FEATURES)
        self.assertTrue(features & bit(F_RO))
        self.assertFalse(features & (bit(F_DISCARD) | bit(F_ZEROES)))
        protocol = front.number(GET_PROTOCOL)
        self.assertTrue(protocol & bit(PAGEFAULT))
        self.assertFalse(protocol & bit(SLOTS))
        front.negotiate(CONFIG)
        self.assertEqual(struct.unpack_from("<I", front.config(), 20)[0], 4096)
        self.ends_well()

    def test_another_size_is_told(self):
        self.begin()
        front = self.connect()
        mine, its = socket.socketpair()
        mine.settimeout(WAIT)
        self.addCleanup(mine.close)
        front.number(GET_FEATURES)
        front.negotiate(CONFIG, BACKEND_REQ)
        front.send(SET_CHANNEL, fds=[its.fileno()])
        its.close()
        self.assertEqual(struct.unpack_from("<Q", front.config())[0], 8 * MIB // 512)
        os.truncate(self.image, 16 * MIB)
        self.assertEqual(struct.unpack("=III", mine.recv(12))[0], CONFIG_CHANGE)
        self.assertEqual(struct.unpack_from("<Q", front.config())[0], 16 * MIB // 512)
        os.truncate(self.image, 24 * MIB)
        self.child.send_signal(signal.SIGHUP)
        self.assertEqual(struct.unpack("=III", mine.recv(12))[0], CONFIG_CHANGE)

    def test_a_socket_may_be_inherited(self):
        mine, its = socket.socketpair()
        child = start("blk", "--fd", its.fileno(), "--blk-file", self.image, pass_fds=[its.fileno()])
        its.close()
        self.assertTrue(FrontEnd(mine).number(GET_FEATURES))
        mine.close()
        _, said = child.communicate(timeout=WAIT)
        self.assertEqual((child.returncode, said), (0, ""))

    def test_an_inherited_descriptor_must_be_a_socket(self):
        with open(self.image, "rb") as file:
            self.fails(1, "socket", result=guestmem("blk", "--fd", file.fileno(), "--blk-file", self.image,
                                                    pass_fds=[file.fileno()]))
        with socket.socket(socket.AF_UNIX) as door:
            door.bind(self.socket)
            door.listen(1)
            self.fails(1, "listens", "connected", result=guestmem(
                "blk", "--fd", door.fileno(), "--blk-file", self.image, pass_fds=[door.fileno()]))
        self.fails(1, "fd 77", args=["blk", "--fd", 77, "--blk-file", self.image])

    def test_a_socket_of_a_service_manager_stays(self):
        for words in (("blk", "--blk-file", self.image, "--socket-path"), ("keep",)):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if words == ("keep",) else socket.SOCK_STREAM)
            listener.bind(self.socket)
            listener.listen(1)
            given = f'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&{listener.fileno()}'
            ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            ready.bind(self.path("ready"))
            ready.settimeout(WAIT)
            child = start("/bin/sh", "-c", given, "sh", TOOL, *words, self.socket, pass_fds=[listener.fileno()],
                          env={**os.environ, "NOTIFY_SOCKET": self.path("ready")})
            self.assertEqual(ready.recv(100), b"READY=1")
            child.terminate()
            _, said = child.communicate(timeout=WAIT)
            self.assertEqual(child.returncode, 0, said)
            self.assertTrue(os.path.exists(self.socket), words)
            for mine in (listener, ready):
                os.unlink(mine.getsockname())
                mine.close()

    def test_a_bad_front_end_loses_its_connection_and_no_more(self):
        self.begin()
        for wrong in (b"\xff" * 12, struct.pack("=III", 5, 1, 1 << 20), struct.pack("=III", 1, 2, 0)):
            front = self.connect()
            front.connection.sendall(wrong)
            with self.assertRaises((EOFError, ConnectionResetError)):
                front.all_of(1)
            front.connection.close()
        self.assertTrue(self.connect().number(GET_FEATURES))
        self.child.send_signal(signal.SIGTERM)
        _, said = self.child.communicate(timeout=WAIT)
        self.assertEqual(self.child.returncode, 0)
        self.assertEqual(said.count("the front-end's connection is ended"), 3)

    def memory(self):
        memory = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.truncate(memory, 2 * MIB)
        self.addCleanup(os.close, memory)
        return memory

    def lay_out(self, memory, data_at):
        """A write of 4 KiB: header, data, status; and an available ring with that one entry."""
        os.pwrite(memory, struct.pack("<" + "QIHH" * 3, 0x4000, 16, 1, 1, data_at, 4096, 1, 2, 0x5000, 1, 2, 0), 0x1000)
        os.pwrite(memory, struct.pack("<HHH", 0, 1, 0), 0x2000)
        os.pwrite(memory, bytes(PAGE), 0x3000)
        os.pwrite(memory, struct.pack("<IIQ", 1, 0, 0), 0x4000)
        os.pwrite(memory, b"\xee", 0x5000)

    def start_queue(self, front):
        """Four entries; returns its kick."""
        front.send(SET_NUM, struct.pack("=II", 0, 4))
        front.send(SET_ADDR, struct.pack("=IIQQQQ", 0, 0, USER + 0x1000, USER + 0x3000, USER + 0x2000, 0))
        kick = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.addCleanup(os.close, kick)
        front.send(SET_KICK, struct.pack("=Q", 0), [kick])
        front.do(ENABLE, struct.pack("=II", 0, 1))
        return kick

    def in_post_copy(self, data_at=MIB):
        """A front-end whose guest wants 4 KiB of a page written that does not come."""
        front = self.connect()
        front.number(GET_FEATURES)
        front.negotiate(REPLY_ACK, PAGEFAULT)
        front.send(SET_FEATURES, struct.pack("=Q", bit(F_PROTOCOL) | bit(F_VERSION_1)))
        front.send(ADVISE)
        _, (uffd,), _, _ = socket.recv_fds(front.connection, 12, 1)
        self.addCleanup(os.close, uffd)
        front.do(LISTEN)
        memory = self.memory()
        self.lay_out(memory, data_at)
        front.send(SET_TABLE, struct.pack("=IIQQQQ", 1, 0, 0, 2 * MIB, USER, 0), [memory])
        self.assertEqual(len(front.all_of(12 + 40)), 52)
        front.send(SET_TABLE, struct.pack("=Q", 0))
        self.start_queue(front)
        self.assertTrue(select.select([uffd], [], [], WAIT)[0], "no page was asked for")
        self.assertEqual(struct.unpack_from("<B", os.read(uffd, 32))[0], 0x12)
        return front

    def test_a_page_that_does_not_come_is_not_written_as_zeros(self):
        with open(self.image, "r+b") as file:
            file.write(b"A" * PAGE)
        for more in ((), ("--no-uring",)):
            for asks in (False, True):
                self.begin("--postcopy", *more)
                front = self.in_post_copy()
                # With it the thread of the socket waits for that of the queue.
                if asks:
                    front.send(GET_BASE, struct.pack("=II", 0, 0))
                front.connection.close()
                self.assertTrue(self.connect().number(GET_FEATURES))
                with open(self.image, "rb") as file:
                    self.assertEqual(file.read(PAGE), b"A" * PAGE)
                self.child.send_signal(signal.SIGTERM)
                self.child.communicate(timeout=WAIT)
                self.assertEqual(self.child.returncode, 0)

    def test_it_ends_though_a_page_does_not_come(self):
        self.begin("--postcopy")
        front = self.in_post_copy()
        front.send(GET_BASE, struct.pack("=II", 0, 0))
        self.child.send_signal(signal.SIGTERM)
        self.child.communicate(timeout=WAIT)
        self.assertEqual(self.child.returncode, 0)

    def waits_in_read(self):
        calls = []
        for task in os.listdir(f"/proc/{self.child.pid}/task"):
            with contextlib.suppress(OSError):
                calls.append(read(f"/proc/{self.child.pid}/task/{task}/syscall").split()[0])
        return str(READ_CALL) in calls

    def test_a_kick_that_is_taken_away_holds_nobody_up(self):
        """It is there when it is looked for, and gone when it is read; and its reads would wait."""
        self.begin()
        front = self.connect()
        front.number(GET_FEATURES)
        front.negotiate(REPLY_ACK)
        front.send(SET_FEATURES, struct.pack("=Q", bit(F_PROTOCOL) | bit(F_VERSION_1)))
        front.send(SET_TABLE, struct.pack("=IIQQQQ", 1, 0, 0, 2 * MIB, USER, 0), [self.memory()])
        kick = self.start_queue(front)
        for i in range(6000 * SCALE):
            os.set_blocking(kick, True)
            os.eventfd_write(kick, 1)
            for _ in range(i % 500):
                pass
            os.set_blocking(kick, False)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(kick)
            os.set_blocking(kick, True)
            self.assertFalse(self.waits_in_read(), i)
        front.connection.close()
        self.ends_well()

    def test_a_ring_that_was_broken_stands_still(self):
        """Also when what it says is right again."""
        self.begin()
        front = self.connect()
        front.number(GET_FEATURES)
        front.negotiate(REPLY_ACK)
        front.send(SET_FEATURES, struct.pack("=Q", bit(F_PROTOCOL) | bit(F_VERSION_1)))
        memory = self.memory()
        self.lay_out(memory, MIB)
        front.send(SET_TABLE, struct.pack("=IIQQQQ", 1, 0, 0, 2 * MIB, USER, 0), [memory])
        broken = os.eventfd(0, os.EFD_CLOEXEC)
        self.addCleanup(os.close, broken)
        front.send(SET_ERR, struct.pack("=Q", 0), [broken])
        kick = self.start_queue(front)
        self.assertTrue(wait_for(lambda: os.pread(memory, 1, 0x5000) == b"\0", WAIT))
        # Six entries of four are available, then one more than was.
        for index in (7, 2):
            os.pwrite(memory, struct.pack("<H", index), 0x2002)
            os.pwrite(memory, b"\xee", 0x5000)
            os.eventfd_write(kick, 1)
            if index == 7:
                self.assertTrue(select.select([broken], [], [], WAIT)[0])
            self.assertTrue(wait_for(lambda: not select.select([kick], [], [], 0)[0], WAIT))
        front.send(GET_BASE, struct.pack("=II", 0, 0))
        self.assertEqual(struct.unpack("=IIIII", front.all_of(20))[4], 1)
        self.assertEqual(os.pread(memory, 1, 0x5000), b"\xee")
        self.assertEqual(os.eventfd_read(broken), 1)

    def test_the_file_is_free_while_no_queue_runs(self):
        self.begin()
        self.connect()
        with open(self.image, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.ends_well()


if __name__ == "__main__":
    main()
