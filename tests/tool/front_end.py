# SPDX-License-Identifier: BSD-3-Clause
"""A front-end of vhost-user with memory and a driver of one queue, as much of both as asking takes; and a daemon for it."""

import mmap
import os
import select
import signal
import socket
import struct

from common import MIB, PAGE, Case, end, start, wait_for

WAIT = 60
GET_FEATURES, SET_FEATURES, SET_LOG_BASE, SET_NUM, SET_ADDR, SET_BASE, GET_BASE, SET_KICK, SET_CALL = 1, 2, 6, 8, 9, 10, 11, 12, 13
GET_PROTOCOL, SET_PROTOCOL, GET_QUEUES, ENABLE, SET_CHANNEL, IOTLB, GET_CONFIG, GET_INFLIGHT, SET_INFLIGHT, ADD = 15, 16, 17, 18, 21, 22, 24, 31, 32, 37
MQ, LOG, REPLY_ACK, BACKEND_REQ, PAGEFAULT, CONFIG, INFLIGHT, SLOTS = 0, 1, 3, 5, 8, 9, 12, 15
F_RO, F_FLUSH, F_DISCARD, F_ZEROES, F_LOG, F_EVENT, F_PROTOCOL, F_VERSION_1, F_IOMMU, F_PACKED = 5, 9, 13, 14, 26, 29, 30, 32, 33, 34
MISS, UPDATE, INVALIDATE = 1, 2, 3
READ, WRITE, FLUSH, GET_ID, DISCARD, ZEROES = 0, 1, 4, 8, 11, 13
USER = 0x7f0000000000  # user address of guest address 0
IOVA = 0x100000000000  # IOVA of it
RAM = 4 * MIB
DESC, AVAIL, USED, BUFFERS = 0, MIB, MIB + 2 * PAGE, 2 * MIB
NUM = 16


def bit(number):
    return 1 << number


class FrontEnd:
    """Messages."""

    def __init__(self, connection):
        self.connection = connection
        connection.settimeout(WAIT)

    def send(self, request, payload=b"", fds=(), flags=1):
        socket.send_fds(self.connection, [struct.pack("=III", request, flags, len(payload)) + payload], list(fds))

    def all_of(self, length):
        data = b""
        while len(data) < length:
            more = self.connection.recv(length - len(data))
            if not more:
                raise EOFError(f"{len(data)} of {length} bytes")
            data += more
        return data

    def answer(self, request):
        got, flags, length = struct.unpack("=III", self.all_of(12))
        assert (got, flags) == (request, 5), (got, flags)
        return self.all_of(length)

    def ask(self, request, payload=b""):
        self.send(request, payload)
        return self.answer(request)

    def number(self, request):
        return struct.unpack("=Q", self.ask(request))[0]

    def config(self):
        return self.ask(GET_CONFIG, struct.pack("=III", 0, 60, 0) + bytes(60))[12:]

    def negotiate(self, *bits):
        self.send(SET_PROTOCOL, struct.pack("=Q", sum(map(bit, bits))))

    def do(self, request, payload=b"", fds=()):
        """With an acknowledgement (REPLY_ACK)."""
        self.send(request, payload, fds, flags=9)
        said = struct.unpack("=Q", self.answer(request))[0]
        assert said == 0, (request, said)


class Guest(FrontEnd):
    """A front-end, memory, and the driver of queue 0, split or packed, also behind an IOMMU."""

    def __init__(self, connection, *features, protocol=()):
        super().__init__(connection)
        self.packed = F_PACKED in features
        self.base = IOVA if F_IOMMU in features else USER
        self.features = sum(map(bit, (*features, F_PROTOCOL, F_VERSION_1)))
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, RAM)
        self.ram = mmap.mmap(self.fd, RAM)
        self.kick_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.at = 0      # split: index; packed: entry
        self.lap = 1     # packed
        self.taken = 0   # split: index of the next that comes back
        self.used = 0    # packed: the entry in which that is
        self.used_lap = 1
        self.number(GET_FEATURES)
        self.negotiate(REPLY_ACK, SLOTS, LOG, MQ, *protocol, *([BACKEND_REQ] if F_IOMMU in features else []))
        self.do(SET_FEATURES, struct.pack("=Q", self.features))
        self.do(ADD, struct.pack("=QQQQQ", 0, 0, RAM, USER, 0), [self.fd])

    def close(self):
        for fd in self.fd, self.kick_fd, self.call_fd:
            os.close(fd)
        self.ram.close()
        self.connection.close()

    def translate(self, gpa, length, kind=UPDATE):
        self.do(IOTLB, struct.pack("=QQQBB6x", IOVA + gpa, length, USER + gpa, 3, kind))

    def start(self):
        self.do(SET_NUM, struct.pack("=II", 0, NUM))
        self.do(SET_BASE, struct.pack("=II", 0, 0x80008000 if self.packed else 0))
        b = self.base
        self.do(SET_ADDR, struct.pack("=IIQQQQ", 0, 0, b + DESC, b + USED, b + AVAIL, 0))
        self.do(SET_CALL, struct.pack("=Q", 0), [self.call_fd])
        self.do(SET_KICK, struct.pack("=Q", 0), [self.kick_fd])
        self.do(ENABLE, struct.pack("=II", 0, 1))

    def area(self):
        """Has one made for what is in flight, and gives it back; its length."""
        self.send(GET_INFLIGHT, struct.pack("=QQHH4x", 0, 0, 1, NUM))
        data, fds, _, _ = socket.recv_fds(self.connection, 12 + 24, 1)
        length = struct.unpack_from("=Q", data, 12)[0]
        self.do(SET_INFLIGHT, struct.pack("=QQHH4x", length, 0, 1, NUM), fds)
        os.close(fds[0])
        return length

    def stop(self):
        """Where the device stood."""
        return struct.unpack("=II", self.ask(GET_BASE, struct.pack("=II", 0, 0)))[1]

    # ---- rings ----

    def offer(self, pieces):
        """A chain of (guest address, length, the device writes); the driver's place moves."""
        if not self.packed:
            for i, (gpa, length, write) in enumerate(pieces):
                flags = (1 if i + 1 < len(pieces) else 0) | (2 if write else 0)
                struct.pack_into("<QIHH", self.ram, DESC + 16 * i, self.base + self.shift(gpa), length, flags, i + 1)
            struct.pack_into("<H", self.ram, AVAIL + 4 + 2 * (self.at % NUM), 0)
            self.at = (self.at + 1) & 0xffff
            struct.pack_into("<H", self.ram, AVAIL + 2, self.at)
            return
        head = None
        for i, (gpa, length, write) in enumerate(pieces):
            flags = (1 if i + 1 < len(pieces) else 0) | (2 if write else 0) | (0x80 if self.lap else 0x8000)
            entry = DESC + 16 * self.at
            struct.pack_into("<QIH", self.ram, entry, self.base + self.shift(gpa), length, 0)
            if head is None:
                head = entry, flags
            else:
                struct.pack_into("<H", self.ram, entry + 14, flags)
            self.forward()
        struct.pack_into("<H", self.ram, head[0] + 14, head[1])

    def shift(self, gpa):
        """Buffers are guest addresses, but behind an IOMMU."""
        return gpa - USER if self.base == USER else gpa

    def forward(self):
        self.at += 1
        if self.at == NUM:
            self.at, self.lap = 0, 1 - self.lap

    def is_back(self, nr):
        """Takes the chain back that has @nr pieces, if it is there."""
        if not self.packed:
            if struct.unpack_from("<H", self.ram, USED + 2)[0] == self.taken:
                return False
            self.taken = (self.taken + 1) & 0xffff
            return True
        flags = struct.unpack_from("<H", self.ram, DESC + 16 * self.used + 14)[0]
        if (flags & 0x80 != 0) != self.used_lap or (flags & 0x8000 != 0) != self.used_lap:
            return False
        self.used += nr
        if self.used >= NUM:
            self.used, self.used_lap = self.used - NUM, 1 - self.used_lap
        return True

    def kick(self):
        os.eventfd_write(self.kick_fd, 1)

    def submit(self, kind, sector=0, data=b"", room=0):
        """Offers a request; the number of its pieces."""
        self.ram[BUFFERS:BUFFERS + 16] = struct.pack("<IIQ", kind, 0, sector)
        self.ram[BUFFERS + PAGE] = 0xee
        self.ram[BUFFERS + 2 * PAGE:BUFFERS + 2 * PAGE + len(data)] = data
        pieces = [(BUFFERS, 16, False), (BUFFERS + 2 * PAGE, len(data) or room, room > 0), (BUFFERS + PAGE, 1, True)]
        pieces = [p for p in pieces if p[1]]
        self.offer(pieces)
        self.kick()
        return len(pieces)

    def request(self, kind, sector=0, data=b"", room=0):
        """One request, to its end: its status, and what came."""
        nr = self.submit(kind, sector, data, room)
        while not self.is_back(nr):
            assert select.select([self.call_fd], [], [], WAIT)[0], "no answer"
            os.eventfd_read(self.call_fd)
        return self.ram[BUFFERS + PAGE], self.ram[BUFFERS + 2 * PAGE:BUFFERS + 2 * PAGE + room]


class BlkCase(Case):
    """One "guestmem blk"."""

    def setUp(self):
        super().setUp()
        self.image = self.path("image")
        self.socket = self.path("socket")
        with open(self.image, "wb") as file:
            file.truncate(8 * MIB)

    def begin(self, *args, image=None):
        self.child = start("blk", "--socket-path", self.socket, "--blk-file", image or self.image, *args)
        self.addCleanup(end, self.child)
        return self.child

    def connect(self):
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)

        def there():
            self.assertIsNone(self.child.poll(), "it ended")
            return connection.connect_ex(self.socket) == 0

        self.assertTrue(wait_for(there, WAIT))
        return FrontEnd(connection)

    def ends_well(self, signo=signal.SIGTERM):
        self.child.send_signal(signo)
        _, said = self.child.communicate(timeout=WAIT)
        self.assertEqual((self.child.returncode, said), (0, ""))
        self.assertFalse(os.path.exists(self.socket))
