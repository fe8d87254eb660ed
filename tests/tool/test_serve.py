# SPDX-License-Identifier: BSD-3-Clause
"""guestmem serve and keep, against a program that does what Firecracker does: right bytes, takeovers, ends, what is refused."""

import array
import json
import os
import random
import re
import signal
import socket
import subprocess
import time

from common import MIB, PAGE, ROOT, TOOL, Case, guestmem, main, members, need_pool, read, start, state_of, wait_for

MONITOR = os.path.abspath(os.environ["GM_MONITOR"])
KILLS = max(1, int(10 * float(os.environ.get("GM_TEST_SCALE", "1"))))
SEED = int(os.environ.get("GM_TEST_SEED", "0"), 0)
ONE = b'[{"base_host_virt_addr":8192,"size":8192,"offset":0}]'


def uffd():
    """A userfaultfd that nothing is registered with, as a number."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(323 if os.uname().machine == "x86_64" else 282, os.O_CLOEXEC)


class Serve(Case):
    def setUp(self):
        super().setUp()
        self.image = self.path("image")
        self.socket = self.path("pages")
        self.stat = self.path("stat")
        self.keeper = self.path("keep")
        noise = random.Random(6 + SEED)
        with open(self.image, "wb") as file:
            file.truncate(8 * MIB)
            for page in range(0, 2048, 2):
                file.seek(page * PAGE)
                file.write(noise.randbytes(PAGE))

    def serve(self, *args, files=None):
        words = [w for f in files or [self.image] for w in ("--snapshot", f)]
        server = start("serve", *words, "--control", self.stat, "--json", self.path("events"), *args, self.socket)
        self.addCleanup(server.kill)
        self.assertTrue(wait_for(lambda: server.poll() is not None or self.events("ready")), "it does not begin")
        self.assertIsNone(server.poll(), server.poll() is not None and server.stderr.read())
        return server

    def keep(self, *args):
        keeper = start("keep", *args, self.keeper)
        self.addCleanup(keeper.kill)
        self.assertTrue(wait_for(lambda: os.path.exists(self.keeper)))
        return keeper

    def events(self, name):
        try:
            lines = read(self.path("events")).splitlines(True)
        except OSError:
            return []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        return [e for e in found if e["event"] == name]

    def monitor(self, *args, image=None):
        child = start(MONITOR, self.socket, image or self.image, *args, stdin=subprocess.PIPE)
        self.addCleanup(child.kill)
        return child

    def ends_well(self, child, status=0, seconds=60):
        out, err = child.communicate(timeout=seconds)
        self.assertEqual(child.returncode, status, out + err)
        return out

    def ask(self, text):
        """One request of the control socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(self.stat)
            sock.sendall(text)
            parts = []
            while parts[-1:] != [b""]:
                parts.append(sock.recv(65536))
        return b"".join(parts).decode()

    def stats(self):
        return json.loads(self.ask(b"json\n"))

    def stop(self, server, status=0):
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=60)
        self.assertEqual(server.returncode, status, err)

    def send(self, text, fds=(), whole=True):
        """A monitor of another sort: its socket."""
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.connect(self.socket)
        sock.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        if whole:
            sock.shutdown(socket.SHUT_WR)
        return sock

    # ---- bytes ----

    def test_each_format_is_served(self):
        saved, diff, both = self.path("saved"), self.path("diff"), self.path("both")
        self.well(guestmem("snapshot", "--codec", "zstd", self.image, saved))
        with open(diff, "wb") as file:
            file.truncate(8 * MIB)
            file.seek(4 * PAGE)
            file.write(b"\xaa" * 8 * PAGE)
        self.well(guestmem("convert", "--to", "raw", self.image, diff, both))
        for files, image, form in ([self.image], self.image, "raw"), ([saved], self.image, "saved"), ([self.image, diff], both, "raw"):
            server = self.serve(files=files)
            guests = [self.monitor("only=1", f"seed={SEED + n}", f"threads={n + 1}", image=image) for n in range(3)]
            for guest in guests:
                self.ends_well(guest)
            self.assertTrue(wait_for(lambda: self.stats()["guests"] == 0))
            found = self.stats()
            self.assertEqual((found["arrived"], found["refused"], found["format"]), (3, 0, form))
            counts = found["counts"]
            self.assertGreater(counts["faults"], 3 * 2048 // 2)
            self.assertGreater(counts["events"], 100)
            self.assertEqual((counts["poisoned"], counts["stray"]), (0, 0))
            self.assertEqual(sum(counts["latency"]), counts["loaded"])
            self.classes_are_right(counts, "packed" if form == "saved" else "raw")
            self.stop(server)
            os.unlink(self.path("events"))
        self.assertFalse(os.path.exists(self.socket))

    def classes_are_right(self, counts, kind):
        """Half of the image is zeros, the rest of one sort; JSON and Prometheus agree."""
        by_class = counts["latency_by_class"]
        self.assertEqual({k for k, v in by_class.items() if v["count"]}, {"zero", kind})
        self.assertEqual(sum(v["count"] for v in by_class.values()), counts["loaded"])
        text = self.ask(b"metrics\n")
        self.assertIn("# TYPE guestmem_fault_seconds histogram\n", text)
        for name, value in by_class.items():
            self.assertEqual(sum(value["below"]), value["count"])
            self.assertEqual(value["sum_seconds"] > 0, value["count"] > 0)
            self.assertIn(f'guestmem_fault_seconds_bucket{{class="{name}",le="+Inf"}} {value["count"]}\n', text)
            self.assertIn(f'guestmem_fault_seconds_count{{class="{name}"}} {value["count"]}\n', text)
            self.assertIn(f'guestmem_fault_seconds_sum{{class="{name}"}} {value["sum_seconds"]:.9f}\n', text)

    def test_another_one_waits_for_the_keeper(self):
        self.keep()
        first = self.serve("--keeper", self.keeper)
        words = "serve", "--snapshot", self.image, "--keeper", self.keeper, "--json", self.path("second"), self.socket
        second = start(*words)
        self.addCleanup(second.kill)
        # It asks again and again, and is told so, whichever of both closes first.
        time.sleep(1)
        self.assertIsNone(second.poll(), second.poll() is not None and second.stderr.read())
        first.kill()
        first.wait()
        self.assertTrue(wait_for(lambda: "ready" in read(self.path("second"))))
        self.ends_well(self.monitor("ops=50"))
        second.terminate()
        self.assertEqual(second.wait(60), 0)

    def test_no_socket_is_left_by_one_that_could_not_begin(self):
        with open(self.stat, "wb"):
            pass
        server = start("serve", "--snapshot", self.image, "--control", self.stat, self.socket)
        self.assertIn("somebody listens there", server.communicate(timeout=60)[1])
        self.assertEqual(server.returncode, 1)
        self.assertFalse(os.path.exists(self.socket))
        self.assertTrue(os.path.exists(self.stat))

    def test_huge_pages(self):
        need_pool(2048, 4)
        server = self.serve()
        self.ends_well(self.monitor("only=1", "page=2097152", "ops=300"))
        self.assertEqual(self.stats()["refused"], 0)
        self.stop(server)

    def test_all_is_filled_and_told(self):
        server = self.serve("--fill", "all")
        guest = self.monitor("stay=1", "wait=1")
        self.assertTrue(wait_for(lambda: [g for g in self.stats()["list"] if g["to_all"]]))
        found = self.stats()["list"][0]
        self.assertEqual((found["absent"], found["present"], found["memory"]), (0, 8 * MIB, 8 * MIB))
        self.assertLessEqual(found["to_half"], found["to_most"])
        self.assertLessEqual(found["to_most"], found["to_all"])
        self.assertEqual(found["pid"], guest.pid)
        self.assertEqual(found["counts"]["bytes_ahead"], 8 * MIB)
        text = self.ask(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n")
        self.assertTrue(text.startswith("HTTP/1.0 200 OK\r\n"))
        head, body = text.split("\r\n\r\n", 1)
        self.assertIn(f"Content-Length: {len(body)}", head)
        self.assertIn("\nguestmem_guests 1\n", body)
        self.assertIn(f'guestmem_guest_bytes{{guest="1",pid="{guest.pid}",state="present"}} {8 * MIB}\n', body)
        for line in body.splitlines():
            self.assertRegex(line, r"^(# (HELP|TYPE) guestmem_[a-z_]+ .+|guestmem_[a-z_]+(\{[^}]*\})? [0-9.e+-]+)$")
        self.assertEqual(self.ask(b"metrics\n").count("# TYPE"), body.count("# TYPE"))
        self.assertTrue(self.ask(b"GET /nothing HTTP/1.0\r\n\r\n").startswith("HTTP/1.0 404"))
        self.assertIn("error", self.ask(b"nonsense\n"))
        self.assertEqual(json.loads(self.ask(b"GET / HTTP/1.0\r\n\r\n").split("\r\n\r\n", 1)[1])["guests"], 1)
        # Each member of it is in the manual page.
        page = set(re.findall(r"\*([a-z_]+)\*", read(os.path.join(ROOT, "man", "guestmem-serve.1.scd"))))
        self.assertEqual(members(self.stats()) - page, set())
        for event in self.events("arrived"):
            self.assertEqual(members(event) - page, set())
        guest.communicate("\n", timeout=60)
        self.assertEqual(guest.returncode, 0)
        self.stop(server)

    def test_working_sets_are_recorded_and_brought(self):
        wset = self.path("wset")
        server = self.serve("--record", wset)
        for seed in 1, 2:
            self.ends_well(self.monitor("only=1", "ops=50", "check=0", f"seed={seed}"))
            self.assertTrue(wait_for(lambda: len(self.events("ended")) == seed))
        touched = self.stats()["counts"]["loaded"] // 2
        self.stop(server)
        result = guestmem("wset", "--json", "-", wset)
        self.well(result)
        self.assertIn('"recordings": 2', result.stdout)
        os.unlink(self.path("events"))
        server = self.serve("--working-set", wset)
        guest = self.monitor("only=1", "ops=50", "check=0", "seed=1", "wait=1")
        self.assertTrue(wait_for(lambda: [g for g in self.stats()["list"] if g["counts"]["bytes_ahead"] >= touched * PAGE]))
        guest.stdin.write("go\n")
        self.ends_well(guest)
        self.assertTrue(wait_for(lambda: self.stats()["guests"] == 0))
        counts = self.stats()["counts"]
        self.assertEqual((counts["loaded"], counts["poisoned"]), (0, 0))
        self.stop(server)
        os.utime(self.image)
        self.fails(1, "another image", args=("serve", "--snapshot", self.image, "--working-set", wset, self.socket))
        self.fails(1, "No such file", args=("serve", "--snapshot", self.image, "--working-set", self.path("no"), self.socket))

    # ---- ends ----

    def test_a_guest_may_die_at_any_time(self):
        server = self.serve("--fill", "all", "--rate", "4M")
        for _ in range(6):
            guest = self.monitor("ops=100000000", "only=1")
            self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
            guest.kill()
            guest.wait()
            self.assertTrue(wait_for(lambda: self.stats()["guests"] == 0))
        self.ends_well(self.monitor("only=1"))
        self.assertTrue(wait_for(lambda: len(self.events("ended")) == 7))
        self.assertLess(len(os.listdir(f"/proc/{server.pid}/fd")), 20)
        self.stop(server)

    def test_at_the_end_all_is_complete(self):
        server = self.serve("--at-end", "complete")
        guest = self.monitor("only=1", "wait=1")
        self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
        self.stop(server)
        guest.stdin.write("go\n")
        self.ends_well(guest)

    def test_at_the_end_the_rest_is_poisoned(self):
        for words in ["--at-end", "poison"], ["--at-end", "handover", "--keeper", self.keeper]:
            keeper = self.keep("--wait", "0.05") if len(words) > 2 else None
            server = self.serve(*words)
            guest = self.monitor("only=1", "wait=1")
            self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
            self.stop(server)
            guest.stdin.write("go\n")
            self.ends_well(guest, 7)
            if keeper:
                self.stop(keeper)
            os.unlink(self.path("events"))

    def test_an_image_that_fails_is_poison(self):
        server = self.serve()
        guest = self.monitor("only=1", "wait=1")
        self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
        os.truncate(self.image, 0)
        guest.stdin.write("go\n")
        self.ends_well(guest, 7)
        self.assertTrue(wait_for(lambda: self.stats()["counts"]["poisoned"] > 0))
        self.stop(server)

    # ---- refusals ----

    def test_bad_monitors_are_refused_and_hurt_nobody(self):
        server = self.serve("--deadline", "0.3", "--guests", "2")
        fd = uffd()
        self.addCleanup(os.close, fd)
        slow = [self.send(ONE[:5], [fd], whole=False) for _ in range(3)]
        for text, fds, whole in ((b"", [], True), (b"[]", [fd], True), (b"nonsense", [fd], True), (ONE, [], True),
                                 (ONE, [fd, fd], True), (ONE, [0], True), (ONE[:9], [fd], True), (b" " * 65536, [fd], False)):
            if text:
                self.send(text, fds, whole)
            else:
                self.send(b"\n", fds, whole)
        self.ends_well(self.monitor("only=1"))
        self.assertTrue(wait_for(lambda: self.stats()["refused"] == 11), self.stats())
        self.assertEqual(self.stats()["connections"], 0)
        # Memory that does not lie in the image; it stands still, and is forgotten when its process ends.
        big = self.path("big")
        with open(big, "wb") as file:
            file.truncate(16 * MIB)
        guest = self.monitor("only=1", "wait=1", image=big)
        self.assertTrue(wait_for(lambda: self.stats()["refused"] == 12))
        self.assertEqual([g["served"] for g in self.stats()["list"]], [False])
        guest.kill()
        guest.wait()
        self.assertTrue(wait_for(lambda: not self.stats()["list"]))
        self.assertTrue(all(s.fileno() >= 0 for s in slow))
        self.assertIsNone(server.poll())
        self.stop(server)

    def test_who_cannot_be_served_is_killed_if_that_is_wanted(self):
        server = self.serve("--kill")
        big = self.path("big")
        with open(big, "wb") as file:
            file.truncate(16 * MIB)
        self.assertEqual(self.monitor("only=1", "wait=1", image=big).wait(60), -signal.SIGKILL)
        self.stop(server)

    def test_more_guests_than_are_wanted_wait(self):
        server = self.serve("--guests", "1", "--deadline", "0.2")
        first = self.monitor("wait=1", "only=1")
        self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
        second = self.monitor("only=1")
        self.assertTrue(wait_for(lambda: self.stats()["connections"] == 1))
        time.sleep(0.5)
        self.assertEqual(self.stats()["guests"], 1)
        first.stdin.write("go\n")
        self.ends_well(first)
        self.ends_well(second)
        self.stop(server)

    def test_wrong_use(self):
        for args, status, why in (
                (("serve", self.socket), 2, "--snapshot FILE"),
                (("serve", "--snapshot", self.image), 2, "SOCKET is wanted"),
                (("serve", "--snapshot", self.image, self.socket, "x"), 2, "one SOCKET"),
                (("serve", "--snapshot", self.image, "--at-end", "handover", self.socket), 2, "--keeper"),
                (("serve", "--snapshot", self.image, "--at-end", "never", self.socket), 2, "--at-end"),
                (("serve", "--snapshot", self.image, "--guests", "0", self.socket), 2, "--guests"),
                (("serve", "--snapshot", self.path("none"), self.socket), 1, "No such file"),
                (("serve", "--snapshot", self.image, self.image), 1, "no socket"),
                (("serve", "--snapshot", self.image, self.path("x" * 120)), 1, "too long"),
                (("serve", "--snapshot", self.image, "--keeper", self.keeper, self.socket), 1, "keeper"),
                (("keep",), 2, "SOCKET"),
                (("keep", "--then", "sing", self.keeper), 2, "--then"),
                (("keep", "a", "b"), 2, "one SOCKET")):
            result = guestmem(*args)
            self.assertEqual(result.returncode, status, result.stderr)
            self.assertIn(why, result.stderr)

    def test_services(self):
        """What a service manager does: sockets with names, and a word when it is ready."""
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(self.path("notify"))
        told.settimeout(60)
        socks = []
        for path in self.stat, self.socket:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            sock.listen(8)
            socks.append(sock)

        def dress():
            copies = [os.dup(s.fileno()) for s in socks]
            for i, fd in enumerate(copies):
                os.dup2(fd, 3 + i)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="control:x",
                              NOTIFY_SOCKET=self.path("notify"))
            os.execv(TOOL, [TOOL, "serve", "--snapshot", self.image])

        pid = os.fork()
        if pid == 0:
            try:
                os.set_inheritable(2, True)
                dress()
            finally:
                os._exit(9)
        self.addCleanup(lambda: state_of(pid) and os.kill(pid, signal.SIGKILL))
        self.assertEqual(told.recv(64), b"READY=1")
        self.ends_well(self.monitor("only=1"))
        self.assertEqual(self.stats()["arrived"], 1)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(told.recv(64), b"STOPPING=1")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        for sock in (told, *socks):
            sock.close()

    # ---- takeover ----

    def test_killed_at_any_moment_and_taken_over(self):
        rnd = random.Random(SEED + 9)
        keeper = self.keep("--wait", "60")
        server = self.serve("--keeper", self.keeper)
        guests, kills, done, times = [], 0, 0, []
        while kills < KILLS or guests:
            while len(guests) < 3 and kills < KILLS:
                guests.append(self.monitor("only=1", "ops=1500", f"seed={rnd.randrange(1 << 30)}"))
            time.sleep(rnd.random() * 0.1)
            if kills < KILLS:
                server.kill()
                server.communicate()
                kills += 1
                os.unlink(self.path("events"))
                server = self.serve("--keeper", self.keeper, *(["--fill", "all", "--rate", "2M"] if kills % 2 else []))
                times += [float(re.search(r"in ([0-9.]+) ms", e["text"]).group(1)) for e in self.events("takeover")]
            for guest in [g for g in guests if kills >= KILLS or g.poll() is not None]:
                self.ends_well(guest)
                guests.remove(guest)
                done += 1
        self.assertGreater(len(times), kills // 2)
        self.assertGreater(done, 2)
        self.assertTrue(wait_for(lambda: self.stats()["guests"] == 0))
        print(f"figure: serve-kills {kills}")
        self.stop(server)
        self.stop(keeper)

    def test_nobody_takes_over(self):
        for then, status in ("poison", 7), ("kill", -signal.SIGKILL):
            keeper = self.keep("--wait", "0.05", "--then", then)
            server = self.serve("--keeper", self.keeper)
            guest = self.monitor("only=1", "wait=1")
            self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
            server.kill()
            server.wait()
            if then == "poison":
                guest.stdin.write("go\n")
                guest.stdin.flush()
            self.assertEqual(guest.wait(60), status)
            self.stop(keeper)
            os.unlink(self.path("events"))

    def test_a_keeper_may_be_replaced(self):
        keeper = self.keep("--then", "hold")
        server = self.serve("--keeper", self.keeper)
        guest = self.monitor("only=1", "wait=1")
        self.assertTrue(wait_for(lambda: self.stats()["guests"] == 1))
        # Another serve waits for this one, and is told after a while; another image takes nothing.
        keeper.kill()
        keeper.communicate()
        self.assertTrue(wait_for(lambda: not self.stats()["kept"]))
        self.ends_well(self.monitor("only=1"))
        keeper = self.keep("--then", "hold")
        self.assertTrue(wait_for(lambda: self.stats()["kept"]))
        server.kill()
        server.communicate()
        os.unlink(self.path("events"))
        other = self.path("other")
        with open(other, "wb") as file:
            file.truncate(8 * MIB)
        server = self.serve("--keeper", self.keeper, files=[other])
        self.assertIn("another image", self.events("refused")[0]["text"])
        self.stop(server)
        os.unlink(self.path("events"))
        server = self.serve("--keeper", self.keeper)
        self.assertEqual(self.stats()["taken_over"], 1)
        guest.stdin.write("go\n")
        self.ends_well(guest)
        self.stop(server)
        self.stop(keeper)


if __name__ == "__main__":
    main()
