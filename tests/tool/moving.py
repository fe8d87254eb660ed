# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of guestmem migrate share: a guest, where it goes, and a line between them that can be cut."""

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import threading

from common import POOL, Case, end, guestmem, read, start, wait_for

SIZE = "16M"
WAIT = 30
# A role and messages of the protocol.
CONTROL = 1
RUN = 7
# All pages are written to, and laying it out takes little.
FOREVER = ("store", "ops=1000000000000", "keys=20000")


class Told:
    """Messages of a source on one connection, by docs/migration-protocol.md."""

    def __init__(self):
        self.data = b""
        self.role = None

    def hears(self, data, kind):
        """Is one of this type among them, on control?"""
        self.data += data
        if self.role is None and len(self.data) >= 64:
            self.role = struct.unpack_from("<H", self.data, 12)[0]
            self.data = self.data[64:]
        while self.role == CONTROL and len(self.data) >= 24:
            message, _, length = struct.unpack_from("<HHI", self.data)
            if message == kind:
                return True
            if len(self.data) < 24 + length:
                break
            self.data = self.data[24 + length:]
        return False


class Proxy:
    """Between source and destination: what it lets through can be cut, by hand or in front of a message of the source."""

    def __init__(self, path, to, before=None):
        self.to = to
        self.before = before
        self.pairs = []
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                other = socket.socket(socket.AF_UNIX)
                try:
                    other.connect(self.to)
                except OSError:
                    one.close()
                    continue
                with self.lock:
                    self.pairs.append((one, other))
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        told = Told()
        with contextlib.suppress(OSError, ValueError):
            while True:
                for sock in select.select([one, other], [], [])[0]:
                    data = sock.recv(65536)
                    to = other if sock is one else one
                    if not data:
                        # Who waits for the end of the other is to see it.
                        to.shutdown(socket.SHUT_WR)
                        return
                    if sock is one and self.before and told.hears(data, self.before):
                        self.before = None
                        self.cut()
                        return
                    to.sendall(data)

    def cut(self):
        with self.lock:
            for pair in self.pairs:
                for sock in pair:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                    sock.close()
            self.pairs = []

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()


class Moving(Case):
    """A guest that goes from one process to another."""

    def setUp(self):
        super().setUp()
        self.there = self.path("destination")
        self.here = self.path("source")

    def begin(self, *args, words=FOREVER, time="60", size=SIZE):
        """A guest that can be asked."""
        child = start("run", "--size", size, "--control-socket", self.here, "--json", self.path("left"), "-q", "-t", time, *args, *words)
        self.addCleanup(end, child)
        self.assertTrue(wait_for(lambda: os.path.exists(self.here) or child.poll() is not None, WAIT))
        # It has laid out its memory, and works on it.
        self.assertTrue(wait_for(lambda: self.worked(child, 10) or child.poll() is not None, WAIT))
        return child

    def listen(self, *args, address=None, time="0.3", **kwargs):
        """Where one is waited for; the address as it says it."""
        child = start("migrate", "listen", address or "unix:" + self.path("line"), "--control", self.there,
                      f"--json={self.path('came')}", "--events", self.path("events"), "-q", "-t", time, *args, **kwargs)
        self.addCleanup(end, child)
        self.assertTrue(wait_for(lambda: self.events() or child.poll() is not None, WAIT))
        events = self.events()
        return child, events[0]["address"] if events else None

    def events(self):
        """Whole lines only: the last one may be under way."""
        path = self.path("events")
        return [json.loads(line) for line in read(path).split("\n")[:-1]] if os.path.exists(path) else []

    def send(self, address, *args):
        """Status and events."""
        result = guestmem("migrate", "send", address, "--control", self.here, "--json", *args)
        return result, [json.loads(line) for line in result.stdout.splitlines()]

    def start_send(self, address, *args):
        child = start("migrate", "send", address, "--control", self.here, f"--json={self.path('sent')}", *args)
        self.addCleanup(end, child)
        return child

    def tell(self, command, control=None, status=0):
        result = guestmem("migrate", command, "--control", control or self.here)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stderr

    def status(self, control=None):
        result = guestmem("migrate", "status", "--control", control or self.here, "--json")
        self.well(result)
        return json.loads(result.stdout)

    def ask(self, line, control=None):
        """What the socket says, without a process for it."""
        parts = []
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(WAIT)
            sock.connect(control or self.here)
            sock.sendall(line + b"\n")
            while parts[-1:] != [b""]:
                parts.append(sock.recv(65536))
        return b"".join(parts).decode()

    def reaches(self, state, control=None):
        self.assertTrue(wait_for(lambda: json.loads(self.ask(b"json", control))["state"] == state, WAIT), state)

    def gone(self, child, status=0):
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, status, err)
        return err

    def right(self, name="came", worked=True):
        """It has worked, and found all that it had written."""
        report = self.json(name)
        self.assertEqual((report["outcome"], report["exit_status"], report["errors"]), ("done", 0, 0))
        for worker in report["workers"]:
            # Null is 0: of so few that none was a write.
            self.assertEqual((worker["state"], worker["checksum"]), ("done", worker["expected"] or "0x0"))
            self.assertTrue(worker["operations"] or not worked)
        return report

    def move(self, *send, run=(), listen=(), address=None, words=FOREVER, size=SIZE):
        """There and verified."""
        left = self.begin(*run, words=words, size=size)
        came, where = self.listen(*listen, address=address)
        result, events = self.send(where, *send)
        self.well(result)
        self.gone(left)
        self.gone(came)
        self.assertEqual(self.json("left")["outcome"], "moved")
        self.assertFalse(os.path.exists(self.here))
        self.assertEqual((events[-1]["event"], events[-1]["state"]), ("ended", "ended"))
        self.assertGreater(events[-1]["downtime"], 0)
        states = [e["state"] for e in events if e["event"] == "state"]
        there = self.events()
        os.unlink(self.path("events"))
        return self.right(), states, there

    def went_on(self, left):
        """The guest has worked on, and found its memory as it should be: it goes elsewhere after all."""
        came, where = self.listen(address="tcp:127.0.0.1:0")
        self.well(self.send(where, "--stop", "--rounds", "1")[0])
        self.gone(left)
        self.gone(came)
        self.right()

    @staticmethod
    def worked(child, ticks=2):
        """Has the guest, so long? All threads but the first two, which look after it."""
        with contextlib.suppress(OSError):
            tasks = sorted(map(int, os.listdir(f"/proc/{child.pid}/task")))[2:]
            return any(int(read(f"/proc/{child.pid}/task/{t}/stat").rpartition(")")[2].split()[11]) >= ticks for t in tasks)
        return False

    def cut_in_postcopy(self, time="0.3", rate="4M", words=FOREVER):
        """Post-copy without a line: both ends. The guest has worked there."""
        left = self.begin(words=words)
        came, where = self.listen(time=time)
        proxy = Proxy(self.path("proxy"), where.partition(":")[2])
        self.addCleanup(proxy.close)
        sending = self.start_send("unix:" + self.path("proxy"), "--postcopy", "--rate", rate)
        self.reaches("post-copy")
        self.reaches("post-copy", self.there)
        self.assertTrue(wait_for(lambda: self.worked(came), WAIT))
        proxy.cut()
        err = self.gone(sending, 4)
        self.assertIn(f"guestmem migrate resume --control {self.here}", err)
        self.reaches("line lost")
        self.reaches("line lost", self.there)
        return left, came

    @staticmethod
    def taken():
        """Huge pages that somebody has."""
        return int(read(POOL % 2048 + "nr_hugepages")) - int(read(POOL % 2048 + "free_hugepages"))

    @staticmethod
    def spare():
        """What nobody has or was promised, though pages that were promised are taken meanwhile."""
        pool = POOL % 2048
        while True:
            promised = read(pool + "resv_hugepages")
            free = read(pool + "free_hugepages")
            if read(pool + "resv_hugepages") == promised:
                return int(free) - int(promised)

    def begin_hog(self):
        """Takes all that is left in the pool."""
        child = start("exec", "--size", f"{2 * self.spare()}M", "--page-size", "2M", "--", "/bin/sh", "-c", "cat", "sh", "{mem}",
                      stdin=subprocess.PIPE)
        self.addCleanup(end, child)
        self.assertTrue(wait_for(lambda: self.spare() <= 0, WAIT))
        return child
