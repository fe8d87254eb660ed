# SPDX-License-Identifier: BSD-3-Clause
"""guestmem migrate: what is said, and what can be done, when a line is lost or a migration comes to nothing."""

import json
import os
import signal

from common import end, guestmem, main, start, wait_for
from moving import FOREVER, RUN, WAIT, Moving, Proxy


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


if __name__ == "__main__":
    main()
