# SPDX-License-Identifier: BSD-3-Clause
"""Control sockets: who may connect, what is answered, and clients that are slow, silent, many or wrong."""

import json
import os
import signal
import socket
import stat

from common import MIB, Case, end, guestmem, main, start, wait_for

WAIT = 60
CLIENTS = 16
REQUEST = 4096


class Control(Case):
    def setUp(self):
        super().setUp()
        self.image = self.path("image")
        self.control = self.path("control")
        with open(self.image, "wb") as file:
            file.truncate(MIB)

    def commands(self):
        """Each that has such a socket, with the words that start it and a member of its JSON."""
        return (("serve", ["serve", "--snapshot", self.image, "--control", self.control, self.path("pages")], "guests"),
                ("blk", ["blk", "--blk-file", self.image, "--control", self.control, "--socket-path", self.path("pages")], "queues"))

    def each(self):
        for name, words, member in self.commands():
            with self.subTest(command=name):
                yield words, member
                self.assertFalse(os.path.exists(self.control))

    def connect(self):
        """None: nobody listens."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(WAIT)
        return sock if sock.connect_ex(self.control) == 0 else None

    def begin(self, words, **kwargs):
        child = start(*words, **kwargs)
        self.addCleanup(end, child)

        def listens():
            self.assertIsNone(child.poll(), "it ended")
            sock = self.connect()
            if sock:
                sock.close()
            return sock

        self.assertTrue(wait_for(listens, WAIT))
        return child

    def ends_well(self, child):
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=WAIT)
        self.assertEqual(child.returncode, 0, said)

    def rest(self, sock):
        parts = []
        while parts[-1:] != [b""]:
            parts.append(sock.recv(65536))
        return b"".join(parts).decode()

    def ask(self, text):
        with self.connect() as sock:
            sock.sendall(text)
            return self.rest(sock)

    def test_only_its_owner_may_connect(self):
        for words, _ in self.each():
            child = self.begin(words, umask=0)
            self.assertEqual(stat.S_IMODE(os.stat(self.control).st_mode), 0o600)
            self.ends_well(child)

    def test_what_is_answered(self):
        for words, member in self.each():
            child = self.begin(words)
            self.assertIn(member, json.loads(self.ask(b"json\n")))
            self.assertIn(member, json.loads(self.ask(b"\n")))
            self.assertIn("\n# TYPE guestmem_", self.ask(b"metrics\r\n"))
            for path, kind in (("/json", "application/json"), ("/metrics", "text/plain; version=0.0.4"), ("/", "application/json")):
                head, body = self.ask(f"GET {path}?x HTTP/1.1\r\nHost: x\r\n\r\n".encode()).split("\r\n\r\n", 1)
                self.assertTrue(head.startswith("HTTP/1.0 200 OK\r\n"))
                self.assertIn(f"\r\nContent-Type: {kind}\r\n", head)
                self.assertIn(f"\r\nContent-Length: {len(body)}\r\n", head)
            self.assertTrue(self.ask(b"GET /nothing HTTP/1.0\r\n\r\n").startswith("HTTP/1.0 404"))
            self.assertTrue(self.ask(b"nonsense\n").startswith("error: json or metrics"))
            self.ends_well(child)

    def test_a_served_socket_is_refused_and_stays(self):
        for words, _ in self.each():
            child = self.begin(words)
            other = [w if w != self.path("pages") else self.path("others") for w in words]
            self.fails(1, self.control, "listens", args=other)
            self.assertFalse(os.path.exists(self.path("others")))
            self.assertTrue(self.ask(b"json\n"))
            self.ends_well(child)

    def test_what_a_killed_process_left_is_replaced(self):
        for words, _ in self.each():
            for _ in range(3):
                child = self.begin(words)
                child.kill()
                child.wait()
                self.assertTrue(os.path.exists(self.control))
            self.ends_well(self.begin(words))

    def test_what_is_no_socket_stays(self):
        for words, _ in self.each():
            with open(self.control, "wb"):
                pass
            self.fails(1, self.control, args=words)
            os.unlink(self.control)
            self.fails(1, "too long", args=[w if w != self.control else self.path("x" * 120) for w in words])

    def test_the_name_of_another_one_is_not_removed(self):
        for words, _ in self.each():
            child = self.begin(words)
            os.unlink(self.control)
            with open(self.control, "wb"):
                pass
            self.ends_well(child)
            os.unlink(self.control)

    def test_slow_and_wrong_clients(self):
        for words, member in self.each():
            child = self.begin(words)
            fds = f"/proc/{child.pid}/fd"
            self.assertTrue(wait_for(lambda: self.ask(b"json\n")))
            before = len(os.listdir(fds))
            slow = self.connect()
            for byte in b"json":
                slow.sendall(bytes([byte]))
                self.assertIn(member, json.loads(self.ask(b"json\n")))
            slow.sendall(b"\n")
            self.assertIn(member, json.loads(self.rest(slow)))
            for text in (b"x" * REQUEST, b"GET /json HTTP/1.0\r\n" + b"x" * REQUEST):
                sock = self.connect()
                sock.sendall(text)
                try:
                    self.assertEqual(self.rest(sock), "")
                except ConnectionResetError:
                    pass
            half = self.connect()
            half.sendall(b"js")
            half.shutdown(socket.SHUT_WR)
            self.assertEqual(self.rest(half), "")
            gone = self.connect()
            gone.sendall(b"json\n")
            gone.close()
            self.assertTrue(wait_for(lambda: len(os.listdir(fds)) == before, WAIT))
            self.ends_well(child)

    def test_silent_clients_are_waited_for_by_nobody(self):
        for words, member in self.each():
            child = self.begin(words)
            silent = [self.connect() for _ in range(CLIENTS)]
            # One who talks has to wait until one of them is sent away, each of which is.
            self.assertIn(member, json.loads(self.ask(b"json\n")))
            self.assertEqual([self.rest(sock) for sock in silent], [""] * CLIENTS)
            silent = [self.connect() for _ in range(CLIENTS - 1)]
            self.assertIn(member, json.loads(self.ask(b"json\n")))
            # They do not keep it from ending.
            self.ends_well(child)

    def test_it_is_refused_where_no_socket_can_be(self):
        for words, _ in self.each():
            self.fails(1, "No such file", args=[w if w != self.control else "/nowhere/control" for w in words])
            self.assertNotEqual(guestmem(words[0], "--control").returncode, 0)


if __name__ == "__main__":
    main()
