# SPDX-License-Identifier: BSD-3-Clause
"""guestmem migrate: what is said, and what can be done, when a line is lost or a migration comes to nothing."""

import json
import os
import resource
import socket
import subprocess

from common import end, guestmem, main, need_pool, start, wait_for
from moving import RUN, WAIT, Moving, Proxy


class Ends(Moving):
    def cut_before_run(self, *args):
        """Both ends, where the guest may run and does not: RUN was said, and never read."""
        left = self.begin()
        came, where = self.listen(*args)
        proxy = Proxy(self.path("proxy"), where.partition(":")[2], before=RUN)
        self.addCleanup(proxy.close)
        sending = self.start_send("unix:" + self.path("proxy"), "--stop", "--rounds", "1")
        err = self.gone(sending, 4)
        self.reaches("line lost", self.there)
        return left, came, proxy, err

    def text(self, control=None):
        result = guestmem("migrate", "status", "--control", control or self.here)
        self.well(result)
        return result.stdout

    def test_a_source_hears_that_it_was_given_up(self):
        left, came, _, err = self.cut_before_run()
        self.assertIn("may run at the destination, or not", err)
        self.assertIn("reclaim", err)
        self.assertEqual((self.status()["runs"], self.status(self.there)["runs"]), ("may", "no"))
        self.assertIn("does not run here", self.text(self.there))
        self.assertNotIn("missing here", self.text(self.there))
        self.tell("give-up", self.there)
        self.reaches("failed", self.there)
        self.assertIsNone(came.poll())
        self.assertIn("the guest runs here", self.tell("resume", status=3))
        self.assertEqual((self.status()["state"], self.status()["runs"]), ("reclaimed", "no"))
        self.gone(came, 3)
        os.unlink(self.path("events"))
        self.went_on(left)

    def test_a_source_hears_of_lost_pages_when_the_guest_has_died(self):
        left, came = self.cut_in_postcopy(rate="1M")
        self.assertEqual((self.status()["runs"], self.status(self.there)["runs"]), ("yes", "yes"))
        self.assertIn("runs at the destination, and lacks", self.text())
        self.assertIn("are missing here", self.text(self.there))
        self.tell("give-up", self.there)
        # It touches one of them, and there is a report of that.
        self.assertTrue(wait_for(lambda: os.path.exists(self.path("came")) and os.path.getsize(self.path("came")), WAIT))
        self.assertIsNone(came.poll())
        self.assertRegex(self.text(self.there), "the guest has ended here, and .* are lost")
        self.assertIn("some of its pages are lost", self.tell("resume", status=5))
        self.assertIn("are lost", self.gone(came, 4))
        self.assertEqual(self.json("came")["outcome"], "crashed")
        self.gone(left, 1)

    def test_force_is_named_when_nobody_answers(self):
        left, came, proxy, err = self.cut_before_run()
        self.assertNotIn("force", err)
        came.kill()
        came.wait()
        proxy.close()
        os.unlink(self.path("events"))
        for command in "resume", "reclaim":
            err = self.tell(command, status=4)
            self.assertIn(f"unix:{self.path('proxy')}: Connection refused", err)
            self.assertIn(f"guestmem migrate force --control {self.here}", err)
            self.assertNotIn("embedder", err)
        self.assertIn("migrate force", self.text())
        self.tell("force")
        self.reaches("reclaimed")
        self.went_on(left)

    def test_what_was_reclaimed_is_no_failure(self):
        left, came, _, _ = self.cut_before_run()
        result = guestmem("migrate", "reclaim", "--control", self.here, "--json")
        self.well(result)
        last = json.loads(result.stdout.splitlines()[-1])
        self.assertEqual((last["event"], last["state"], last["error"]), ("reclaimed", "reclaimed", None))
        self.assertEqual(last["why"], "the destination has given the guest back")
        self.assertGreater(last["downtime"], 0)
        status = self.status()
        self.assertEqual((status["error"], status["downtime"]), (None, last["downtime"]))
        self.assertIn("why: the destination has given the guest back\n", self.text())
        self.assertIn("stood still", self.text())
        self.gone(came, 3)
        os.unlink(self.path("events"))
        self.went_on(left)

    def test_a_source_that_dies_has_begun(self):
        left = self.begin()
        _, where = self.listen()
        sending = self.start_send(where, "--postcopy", "--rate", "1M")
        self.reaches("post-copy")
        left.kill()
        self.assertIn("ask the destination", self.gone(sending, 4))

    def test_what_cannot_be_shown_changes_nothing(self):
        for args in ("--json=/dev/full",), ("--json",), ():
            left = self.begin()
            came, where = self.listen()
            with open("/dev/full", "w", encoding="ascii") as full:
                result = guestmem("migrate", "send", where, "--control", self.here, "--stop", "--rounds", "1", *args, stdout=full)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stderr, r"\Aguestmem: (/dev/full|standard output): No space left on device\n\Z")
            self.gone(left)
            self.gone(came)
            os.unlink(self.path("events"))

    def refused(self, left, came, where, *args):
        """What both ends say; the guest stays."""
        result, events = self.send(where, *args)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIsNone(left.poll())
        self.assertNotRegex(result.stderr, "embedder|GM_|gpa_limit")
        err = self.gone(came, 3) if came else ""
        if came:
            os.unlink(self.path("events"))
        return result.stderr, err, events[-1]

    def test_why_there_is_no_connection_is_said(self):
        left = self.begin()
        for address, why in (("unix:" + self.path("none"), "No such file or directory"), ("tcp:127.0.0.1:1", "Connection refused"),
                             ("tcp:nobody.invalid:44", "(Name or service not known|failure in name resolution)")):
            err, _, last = self.refused(left, None, address)
            self.assertRegex(err, rf"\Aguestmem: migrate: failed, the guest runs here: {address}: [^:]*{why}\n\Z")
            self.assertRegex(last["why"], why)
        self.assertRegex(self.text(), r"why: tcp:nobody\.invalid:44: ")

    def test_why_it_was_cancelled_is_said(self):
        left = self.begin()
        came, where = self.listen("--no-postcopy")
        err, _, last = self.refused(left, came, where, "--postcopy")
        self.assertIn("--postcopy was asked for, and the destination takes no post-copy", err)
        self.assertEqual(last["error"], "Operation not supported")
        self.assertNotIn("Operation", err)
        came, where = self.listen()
        err, _, _ = self.refused(left, came, where, "--precopy", "--rounds", "1", "--downtime", "1")
        self.assertRegex(err, "writes faster than its memory goes, and --precopy allows no other way\n")
        came, where = self.listen("--no-postcopy")
        err, _, _ = self.refused(left, came, where, "--rounds", "1", "--downtime", "1")
        self.assertIn("--stop", err)

    def test_sizes_of_what_is_too_much_are_said(self):
        left = self.begin()
        came, where = self.listen("--memory-max", "1M")
        theirs, ours, _ = self.refused(left, came, where)
        self.assertRegex(theirs, r"more memory than the destination takes: it has [0-9.]+ MiB\n")
        self.assertRegex(ours, r"more memory than the destination takes: more than --memory-max 1 MiB\n")

    def test_what_a_listener_could_not_make_is_said_at_once(self):
        where = "unix:" + self.path("line")
        for args, why in ((("--backing", "/nonexistent/x"), "--backing: /nonexistent/x: No such file"), (("--numa", "bind:63"), "node"),
                          (("--backing", "/proc/self/"), "no regular file")):
            result = guestmem("migrate", "listen", where, *args)
            self.fails(1, why, result=result)
            self.assertFalse(os.path.exists(self.path("line")))
        # What went meanwhile is said with its own number.
        os.mkdir(self.path("files"))
        left = self.begin()
        came, address = self.listen("--backing", self.path("files/memory"))
        os.rmdir(self.path("files"))
        err, ours, last = self.refused(left, came, address)
        self.assertEqual(last["error"], "No such file or directory")
        self.assertEqual(err.count("No such file or directory"), 1, err)
        self.assertNotIn("Cannot allocate", err + ours)

    def test_an_empty_pool_is_said_at_once(self):
        need_pool(2048, 4)
        hog = self.begin_hog()
        result = guestmem("migrate", "listen", "unix:" + self.path("line"), "--pages", "2M")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("could not be made", result.stderr)
        self.assertNotIn("GM_", result.stderr)
        hog.communicate()

    def test_memory_that_takes_no_demand_takes_no_post_copy(self):
        left = self.begin()
        child = start("migrate", "listen", "unix:" + self.path("line"), "--control", self.there, "--backing", "shared",
                      f"--json={self.path('came')}", "-t", "0.3", "--events", self.path("events"))
        self.addCleanup(end, child)
        self.assertTrue(wait_for(lambda: self.events() or child.poll() is not None, WAIT))
        where = self.events()[0]["address"]
        self.well(self.send(where, "--rounds", "1", "--downtime", "1", "--stop")[0])
        self.gone(left)
        self.assertIn("no post-copy is taken", self.gone(child))
        self.right()
        os.unlink(self.path("events"))
        left = self.begin()
        came, where = self.listen("--backing", "shared")
        err, _, _ = self.refused(left, came, where, "--postcopy")
        self.assertIn("takes no post-copy", err)

    def test_a_full_file_system_is_named(self):
        small = self.path("small")
        os.mkdir(small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", small], check=True)
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        left = self.begin()
        came, where = self.listen("--backing", small + "/memory")
        err, ours, _ = self.refused(left, came, where, "--stop")
        self.assertIn("pages could not be stored", err)
        self.assertIn(f"pages could not be stored: {small}/memory: No space left on device", ours)

    def test_a_listener_without_descriptors_says_so(self):
        left = self.begin()
        came, where = self.listen()
        before = resource.prlimit(came.pid, resource.RLIMIT_NOFILE)
        fds = set(map(int, os.listdir(f"/proc/{came.pid}/fd")))
        first = min(set(range(len(fds) + 1)) - fds)
        resource.prlimit(came.pid, resource.RLIMIT_NOFILE, (first, before[1]))
        # So is who asks: he waits.
        asks = socket.socket(socket.AF_UNIX)
        self.addCleanup(asks.close)
        asks.settimeout(WAIT)
        asks.connect(self.there)
        asks.sendall(b"json\n")
        err, _, _ = self.refused(left, None, where)
        self.assertIn(f"{where} closed the connection before it took the guest", err)
        resource.prlimit(came.pid, resource.RLIMIT_NOFILE, before)
        self.assertIn(b'"role":"destination"', asks.recv(65536))
        self.assertGreater(self.status(self.there)["stray"], 0)
        self.assertIn("connections were refused", self.text(self.there))
        self.well(self.send(where, "--stop", "--rounds", "1")[0])
        self.gone(left)
        self.assertIn("a connection was refused: Too many open files", self.gone(came))
        self.right()

    def test_strangers_are_told_of(self):
        left = self.begin()
        came, where = self.listen()
        strangers = [socket.socket(socket.AF_UNIX) for _ in range(70)]
        for one in strangers:
            one.connect(where.partition(":")[2])
        self.assertTrue(wait_for(lambda: json.loads(self.ask(b"json", self.there))["stray"] >= 6, WAIT))
        err, _, _ = self.refused(left, None, where)
        self.assertIn("closed the connection before it took the guest", err)
        for one in strangers:
            one.close()
        self.assertTrue(wait_for(lambda: self.send(where, "--stop", "--rounds", "1")[0].returncode == 0, WAIT))
        self.gone(left)
        self.assertIn("too many that have not said who they are", self.gone(came))
        self.right()

    def test_status_says_how_rounds_get_on(self):
        left = self.begin()
        came, where = self.listen()
        text = self.text(self.there)
        self.assertIn("missing 0 B of 0 B", text)
        self.assertEqual(self.status(self.there)["missing"], 0)
        # A round takes seconds, and is not the last.
        sending = self.start_send(where, "--rate", "4M", "--downtime", "1", "--rounds", "10000")
        self.assertTrue(wait_for(lambda: "written anew; it would stand still for" in self.ask(b"text"), WAIT))
        self.tell("cancel")
        self.gone(sending, 3)
        self.gone(came, 3)
        left.kill()


if __name__ == "__main__":
    main()
