# SPDX-License-Identifier: BSD-3-Clause
"""guestmem migrate: guests of guestmem run go from one process to another, by real sockets, and are looked at at their end."""

import contextlib
import json
import os
import re
import resource
import signal

from common import MIB, ROOT, end, guestmem, main, members, need_pool, read, start, wait_for
from moving import FOREVER, SIZE, WAIT, Moving


class Migrate(Moving):
    def test_it_goes_by_each_way(self):
        _, states, _ = self.move("--precopy", "--downtime", "2000")
        self.assertIn("pre-copy", states)
        self.assertNotIn("post-copy", states)
        _, states, there = self.move("--postcopy")
        self.assertNotIn("pre-copy", states)
        self.assertTrue({"post-copy", "finishing"} & set(states))
        self.assertGreater(there[-1]["requests"]["asked"], 0)
        self.assertGreater(there[-1]["requests"]["p99_us"], 0)
        self.assertEqual((there[-1]["missing"], there[-1]["lost"]), (0, 0))
        # The first round is the last: the rest comes on demand, or while it stands still.
        _, states, _ = self.move("--rounds", "1", "--downtime", "1")
        self.assertIn("pre-copy", states)
        _, states, _ = self.move("--stop", "--rounds", "1", "--downtime", "1")
        self.assertNotIn("post-copy", states)

    def test_it_goes_by_tcp_of_both_sorts(self):
        self.move("--stop", "--rounds", "2", "--bulk", "2", "--urgent", "2", "--codec", "zstd", "--level", "-5", address="tcp:127.0.0.1:0", run=("-c", "2"))
        self.move("--postcopy", "--bulk", "0", "--urgent", "0", address="tcp:[::1]:0")

    def test_pages_are_those_it_had(self):
        need_pool(2048, 16)
        taken = self.taken()
        for pages, size, ways in (("base", "4K", ["--stop"]), ("thp", "2M", ["--stop", "--postcopy"]), ("2M", "2M", ["--stop", "--postcopy"])):
            for way in ways:
                listen = () if pages == "2M" else ("--pages", pages)
                report, _, _ = self.move(way, run=("--pages", pages), listen=listen)
                self.assertEqual(report["page_size"], size)
                self.assertEqual(report["pages_kind"], {"2M": "hugetlb"}.get(pages, pages))
        # After a round, what is missing are parts of huge pages.
        self.move("--rounds", "1", "--downtime", "1", run=("--pages", "thp"), listen=("--pages", "thp"))
        # Smaller ones do as well.
        report, _, _ = self.move("--postcopy", run=("--pages", "2M"), listen=("--pages", "base", "--share"))
        self.assertEqual(report["page_size"], "4K")
        self.assertTrue(wait_for(lambda: self.taken() <= taken, WAIT))

    def test_transparent_huge_pages_are_no_huge_pages_of_a_pool(self):
        """Nothing is wished: there may be no pool, and what was written after a round goes again by small pages."""
        left = self.begin("--pages", "thp", size="64M", words=("store", "ops=1000000000000", "writes=1", "skew=2"))
        came, where = self.listen()
        result, events = self.send(where, "--rounds", "1", "--downtime", "1", "--rate", "96M")
        self.well(result)
        self.gone(left)
        self.gone(came)
        self.assertNotEqual(self.right()["pages_kind"], "hugetlb")
        self.assertIn("post-copy", [event["state"] for event in events])
        again = events[-1]["sent"] - events[-1]["memory"]
        # Most blocks of 2 MiB were written to.
        self.assertTrue(0 < again < 48 * MIB, again)

    def test_what_came_by_pages_becomes_huge(self):
        left = self.begin("--pages", "thp")
        first, where = self.listen("--pages", "thp", time="120")
        self.well(self.send(where, "--postcopy")[0])
        self.gone(left)
        rollup = f"/proc/{first.pid}/smaps_rollup"
        self.assertTrue(wait_for(lambda: int(re.search(r"AnonHugePages:\s+(\d+)", read(rollup)).group(1)) * 1024 >= 16 * MIB, WAIT))
        os.unlink(self.path("events"))
        os.rename(self.there, self.here)
        second, again = self.listen(address="tcp:127.0.0.1:0")
        self.well(self.send(again, "--stop")[0])
        self.gone(first)
        self.gone(second)
        self.right()

    def test_memory_may_go_by_descriptors(self):
        report, _, there = self.move("--fds", run=("--share",))
        self.assertEqual(report["page_size"], "4K")
        # Its own memory is no page that came.
        self.assertLess(there[-1]["received"], 80 * MIB)
        need_pool(2048, 8)
        self.move("--fds", run=("--share", "--pages", "2M"))

    def test_payloads_in_threads_go_too(self):
        for words, way in ((FOREVER, "--postcopy"), (FOREVER, "--stop"), (("stamp", "rounds=0", "pages=500", "pause=0.002"), "--stop")):
            report, _, _ = self.move(way, run=("-e", "thread", "-c", "2"), words=words)
            self.assertEqual(report["engine"], "thread")
        left = self.begin("-e", "thread", words=("touch", "rounds=1000000"))
        _, where = self.listen()
        result, _ = self.send(where)
        self.assertEqual(result.returncode, 1)
        self.assertIn("only store and stamp", result.stderr)
        left.kill()

    def test_what_has_come_may_go_on(self):
        left = self.begin()
        first, where = self.listen(time="20")
        self.well(self.send(where, "--postcopy")[0])
        self.gone(left)
        os.rename(self.path("events"), self.path("events-1"))
        os.rename(self.there, self.here)
        self.there = self.path("second")
        second, again = self.listen(address="tcp:127.0.0.1:0")
        result, _ = self.send(again, "--stop")
        self.well(result)
        self.gone(first)
        self.gone(second)
        self.right()

    def test_it_can_be_cancelled(self):
        left = self.begin()
        for how in "command", "signal":
            came, where = self.listen()
            sending = self.start_send(where, "--rate", "1M")
            self.reaches("pre-copy")
            if how == "command":
                self.tell("cancel")
            else:
                sending.send_signal(signal.SIGINT)
            self.assertIn("the guest runs here", self.gone(sending, 3))
            self.gone(came, 3)
            self.assertEqual(self.status()["state"], "cancelled")
            self.assertIn("no migration here that can be cancelled", self.tell("cancel", status=1))
            os.unlink(self.path("events"))
        self.went_on(left)

    def test_one_that_ends_meanwhile_stays(self):
        came, where = self.listen()
        # On a slow machine it may have ended before.
        for time in "0.5", "2", "8", "20":
            left = self.begin(time=time)
            sending = self.start_send(where, "--rate", "1M")
            _, err = sending.communicate(timeout=60)
            self.gone(left)
            if sending.returncode != 1:
                break
        self.assertEqual(sending.returncode, 3, err)
        self.assertIn("the guest runs here", err)
        self.gone(came, 3)
        self.right("left", worked=False)

    def test_a_destination_that_dies_leaves_it_here(self):
        left = self.begin()
        came, where = self.listen()
        sending = self.start_send(where, "--rate", "1M")
        self.reaches("pre-copy")
        came.kill()
        came.wait()
        os.unlink(self.path("events"))
        self.assertIn("the guest runs here", self.gone(sending, 3))
        self.assertEqual(self.status()["state"], "failed")
        self.went_on(left)

    def test_a_line_that_was_cut_is_resumed(self):
        left, came = self.cut_in_postcopy()
        missing = self.status(self.there)["missing"]
        self.assertGreater(missing, 0)
        self.assertIsNone(left.poll())
        self.assertIsNone(came.poll())
        for command, why in (("cancel", "reclaimed instead"), ("reclaim", "cannot be reclaimed"), ("postcopy", "in pre-copy")):
            self.assertIn(why, self.tell(command, status=1))
        self.assertIn("done at the source", self.tell("resume", self.there, status=1))
        text = guestmem("migrate", "status", "--control", self.here)
        self.well(text)
        self.assertIn("migrate resume", text.stdout)
        self.tell("resume")
        self.gone(left)
        self.gone(came)
        self.assertEqual(self.events()[-1]["line"], 2)
        self.right()

    def test_pages_that_nobody_brings_are_given_up(self):
        left, came = self.cut_in_postcopy(rate="1M")
        self.tell("give-up", self.there)
        self.assertIn("are lost", self.gone(came, 4))
        self.assertIn("pages", [e["event"] for e in self.events()])
        self.assertEqual(self.json("came")["outcome"], "crashed")
        left.kill()

    def test_the_source_hears_of_lost_pages(self):
        # A guest that waits without touching any memory.
        left, came = self.cut_in_postcopy(rate="32K", time="30", words=("stamp", "rounds=0", "pages=1", "pause=100"))
        self.assertIn("at the destination", self.tell("give-up", status=1))
        self.tell("give-up", self.there)
        self.reaches("given up", self.there)
        self.assertIn("some of its pages are lost", self.tell("resume", status=5))
        self.gone(left, 1)
        self.assertEqual(self.json("left")["outcome"], "moved")
        self.assertGreater(self.status(self.there)["lost"], 0)
        came.kill()

    def hears(self, child, signo):
        """Sent and read: two at once would be one."""
        def pending():
            return int(re.search(r"^ShdPnd:\s*(\w+)", read(f"/proc/{child.pid}/status"), re.MULTILINE).group(1), 16)

        child.send_signal(signo)
        self.assertTrue(wait_for(lambda: not pending() >> (signo - 1) & 1, WAIT))

    def test_signals_wait_for_a_guest_that_needs_its_memory(self):
        left = self.begin()
        came, where = self.listen()
        sending = self.start_send(where, "--rate", "1M")
        self.reaches("pre-copy")
        left.send_signal(signal.SIGTERM)
        self.gone(sending, 3)
        self.gone(left, 128 + signal.SIGTERM)
        self.assertEqual(self.json("left")["outcome"], "interrupted")
        self.gone(came, 3)
        os.unlink(self.path("events"))
        left, came = self.cut_in_postcopy()
        for child, control, why in (left, self.here, "needs its memory here"), (came, self.there, "waits for pages"):
            self.hears(child, signal.SIGTERM)
            self.assertEqual(self.status(control)["state"], "line lost")
            self.assertIsNone(child.poll())
            child.send_signal(signal.SIGTERM)
            self.assertIn(why, self.gone(child, 128 + signal.SIGTERM))

    def test_what_cannot_be_is_said(self):
        left = self.begin()
        for address, why in (("unix:" + self.path("none"), "No such file"), ("tcp:127.0.0.1:1", "Connection refused")):
            result, _ = self.send(address)
            self.assertEqual(result.returncode, 3, result.stderr)
            self.assertIn(why, result.stderr)
            self.assertIn("the guest runs here", result.stderr)
        came, where = self.listen("--memory-max", "1M")
        result, _ = self.send(where)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertRegex(result.stderr, "memory")
        self.gone(came, 3)
        os.unlink(self.path("events"))
        # Pages that are larger than its own.
        need_pool(2048, 1)
        came, where = self.listen("--pages", "2M")
        result, _ = self.send(where)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertRegex(result.stderr + self.gone(came, 3), "page")
        result, _ = self.send(where, "--fds")
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(left.poll(), None)
        left.kill()

    def test_a_pool_that_is_too_small_is_named(self):
        need_pool(2048, 8)
        left = self.begin("--pages", "2M")
        hog = self.begin_hog() if self.spare() > 0 else None
        came, where = self.listen()
        result, _ = self.send(where)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("huge", result.stderr)
        self.assertIn("huge", self.gone(came, 3))
        if hog:
            self.gone(hog)
        left.kill()

    def test_a_bad_command_line_is_refused(self):
        sock = self.path("none")
        for args, why in (((), "a command is wanted"), (("go",), "no such command"), (("send", "--control", sock), "one ADDRESS"),
                          (("send", "unix:x"), "--control SOCKET is missing"), (("status", "x", "--control", sock), "takes no ADDRESS"),
                          (("send", "here", "--control", sock), "is no address"), (("send", "tcp:::1:5", "--control", sock), "brackets"),
                          (("send", "tcp:h:70000", "--control", sock), "port"), (("send", "unix:", "--control", sock), "path"),
                          (("send", "unix:x", "--control", sock, "--stop", "--precopy"), "do not go together"),
                          (("send", "unix:x", "--control", sock, "--pages", "2M"), "none of its options"),
                          (("listen", "unix:x", "--postcopy"), "none of its options"),
                          (("listen", "unix:x", "--share", "--backing", "memfd"), "--share"),
                          (("send", "unix:x", "--control", sock, "--bulk", "17"), "--bulk"),
                          (("send", "unix:x", "--control", sock, "--level", "-200000"), "--level: '-200000'"),
                          (("send", "unix:x", "--control", sock, "--rounds", "10001"), "--rounds"),
                          (("send", "unix:x", "--control", sock, "--codec", "gzip"), "--codec")):
            self.fails(2, why, args=("migrate", *args))
        self.fails(1, "No such file", args=("migrate", "status", "--control", sock))
        self.fails(1, "No such file", args=("migrate", "send", "unix:x", "--control", sock))
        self.fails(1, "/nowhere/", args=("migrate", "listen", "unix:/nowhere/at/all", "-q"))
        self.fails(2, "--control-socket", args=("run", "-s", SIZE, "--restart", "1", "--control-socket", sock, "store"))

    def test_the_socket_takes_what_is_documented(self):
        left = self.begin(time="20")

        idle = self.status()
        self.assertEqual((idle["role"], idle["state"]), (None, "idle"))
        self.assertEqual(guestmem("migrate", "status", "--control", self.here).stdout, "no migration\n")
        for line, why in ((b"nonsense", "is wanted"), (b"send", "is wanted"), (b"send {", "no options"), (b"send []", "no options"),
                          (b'send {"to":"x"}', "no address"), (b'send {"to":"unix:x","bulk":99}', "bulk: is no whole number of 0 to 16"),
                          (b'send {"to":"unix:x","bogus":1}', "bogus: there is no such option"), (b'send {"to":"unix:x","fds":1}', "true nor false"),
                          (b'send {"to":"unix:x","way":"fast"}', "none of auto"), (b'send {"to":"unix:x","codec":1}', "none of raw"),
                          (b'send {"to":"unix:x","rate":1e99}', "rate: "), (b'send {"to":"unix:x","urgent":-1}', "urgent: "),
                          (b'send {"to":"unix:x","downtime_ms":0}', "downtime_ms: "), (b'send {"to":"unix:x","rounds":10001}', "rounds: "),
                          (b'send {"to":"unix:x","throttle":100}', "throttle: "), (b'send {"to":"unix:x","level":101}', "level: "),
                          (b"resume", "at the source"), (b"reclaim", "reclaimed"),
                          (b"force", "forced"), (b"give-up", "destination"), (b"stop", "pre-copy")):
            self.assertIn(why, json.loads(self.ask(line))["error"])
        self.assertIn("404", self.ask(b"GET /force HTTP/1.0\r\n\r"))
        self.assertIn("guestmem_migrate_state 0", self.ask(b"metrics"))
        came, where = self.listen()
        options = {"to": where, "way": "stop", "fds": False, "bulk": 2, "urgent": 1, "codec": "zstd", "level": -5, "rate": 1 << 32,
                   "downtime_ms": 2000, "rounds": 3, "limit_ms": 60000, "throttle": 0, "line_ms": 5000}
        # Until all is said: it listens on.
        events = [json.loads(line) for line in self.ask(b"send " + json.dumps(options).encode()).splitlines()]
        self.assertEqual(events[0], {"ok": True})
        self.assertIn("ended", [e["event"] for e in events[1:]])
        self.gone(left)
        self.gone(came)
        page = set(re.findall(r"\*([a-z0-9_]+)\*", read(os.path.join(ROOT, "man", "guestmem-migrate.1.scd"))))
        self.assertEqual(members([events[1:], self.events(), idle, options]) - page, set())

    def test_no_descriptor_or_memory_is_left_behind(self):
        left = self.begin(time="20")
        fds = f"/proc/{left.pid}/fd"

        def settled():
            return len(os.listdir(fds))

        result, _ = self.send("unix:" + self.path("none"))
        self.assertEqual(result.returncode, 3)
        first = settled()
        for _ in range(5):
            self.assertEqual(self.send("unix:" + self.path("none"))[0].returncode, 3)
        self.assertTrue(wait_for(lambda: settled() <= first, WAIT))
        self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, 4 << 20)
        left.kill()


if __name__ == "__main__":
    main()
