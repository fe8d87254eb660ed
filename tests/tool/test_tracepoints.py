# SPDX-License-Identifier: BSD-3-Clause
"""test_tracepoints.py LIBRARY - the notes of the trace points, and what a debugger sees of one of them."""
import os
import re
import shutil
import subprocess
import sys
import unittest

LIBRARY = os.path.abspath(sys.argv.pop(1))
TOOL = os.path.abspath(sys.argv.pop(1))
PAGE = open(sys.argv.pop(1), encoding="utf-8").read()


def notes():
    """Name and number of arguments of each trace point."""
    out = subprocess.run(["readelf", "-n", LIBRARY], capture_output=True, text=True, check=True).stdout
    found = {}
    for name, arguments in re.findall(r"Provider: guestmem\s+Name: (\w+)\s+Location:.*\s+Arguments: (.*)", out):
        found.setdefault(name, set()).add(len(arguments.split()))
    return found


class Tracepoints(unittest.TestCase):
    def test_the_manual_names_all_of_them_with_their_arguments(self):
        want = {}
        for name, arguments in re.findall(r"^\|  \*(\w+)\*\n:  ([^:\n]*)", PAGE, re.M):
            want[name] = {len(arguments.replace(" and of ", ",").split(","))}
        self.assertGreaterEqual(len(want), 10)
        self.assertEqual(notes(), want)

    @unittest.skipUnless(shutil.which("gdb"), "no gdb")
    def test_a_debugger_stops_there_and_reads_the_arguments(self):
        run = subprocess.run(
            ["gdb", "-q", "-batch", "-nx", "-ex", "set breakpoint pending on", "-ex", "set confirm off",
             "-ex", "start", "-ex", "break -probe-stap guestmem:populate", "-ex", "continue",
             "-ex", "printf \"block=%s bytes=%lu\\n\", (char *)$_probe_arg0, $_probe_arg2", "-ex", "kill", "--args", TOOL, "run",
             "--engine", "thread", "--size", "4M", "--populate", "touch"],
            capture_output=True, text=True, timeout=120,
            env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0", DEBUGINFOD_URLS=""))
        if "ptrace" in run.stderr:
            self.skipTest("no ptrace")
        self.assertRegex(run.stdout, r"block=\S+ bytes=\d+", run.stdout + run.stderr)


if __name__ == "__main__":
    unittest.main()
