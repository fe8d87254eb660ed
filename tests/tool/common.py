# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the command share: running it, commands that use memory, settings of the host."""

import atexit
import glob
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOOL = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "guestmem"
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
USE = os.path.join(HERE, "use_memory.py")
PAGE = mmap.PAGESIZE
MIB = 1 << 20
THP = "/sys/kernel/mm/transparent_hugepage/"
POOL = "/sys/kernel/mm/hugepages/hugepages-%dkB/"
NOBODY = 65534

# For builds with the leak sanitizer.
os.environ["LSAN_OPTIONS"] = f"suppressions={HERE}/lsan.supp:print_suppressions=0"


def guestmem(*args, timeout=60, **kwargs):
    """Runs the command to its end."""
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stderr", subprocess.PIPE)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([TOOL, *map(str, args)], timeout=timeout, text=True, errors="replace",
                          check=False, **kwargs)


def start(*args, **kwargs):
    """Starts the command, or another one if it begins with a path."""
    words = [str(a) for a in args]
    if not words[0].startswith("/"):
        words.insert(0, TOOL)
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stderr", subprocess.PIPE)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    child = subprocess.Popen(words, text=True, errors="replace", **kwargs)
    atexit.register(end, child)
    return child


def end(child):
    if child.poll() is None:
        child.kill()
        child.wait()
    for stream in (child.stdout, child.stderr):
        if stream:
            stream.close()


def python(*args):
    """The words that run use_memory.py."""
    return [sys.executable, "-S", USE, *map(str, args)]


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(str(text))


def setting(path):
    """The value of a setting; of a list of choices the one in brackets."""
    text = read(path).strip()
    chosen = re.search(r"\[(.*?)\]", text)
    return chosen.group(1) if chosen else text


_undo = []


def set_host(path, value):
    """Changes a setting of the host until the program ends."""
    _undo.append((path, setting(path)))
    write(path, value)


def need_pool(kilobytes, pages):
    """Sees to it that so many huge pages are free."""
    pool = POOL % kilobytes
    spare = int(read(pool + "free_hugepages")) - int(read(pool + "resv_hugepages"))
    if spare < pages:
        set_host(pool + "nr_hugepages", int(read(pool + "nr_hugepages")) + pages - spare)
        spare = int(read(pool + "free_hugepages")) - int(read(pool + "resv_hugepages"))
    if spare < pages:
        raise AssertionError(f"the host has no {pages} huge pages of {kilobytes} kB")


def put_back():
    while _undo:
        path, value = _undo.pop()
        write(path, value)


def _die(signo, _frame):
    sys.exit(128 + signo)


atexit.register(put_back)
for _signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(_signo, _die)


def pools():
    """All numbers of all pools."""
    return {path: read(path) for path in glob.glob("/sys/kernel/mm/hugepages/*/*_hugepages")}


def holders(name):
    """Processes that still have a memfd of this name mapped or open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"/memfd:{name} " in read(f"/proc/{pid}/maps"):
                found.append(pid)
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"/memfd:{name} "):
                    found.append(pid)
        except OSError:
            continue
    return found


def wait_for(condition, seconds=20):
    """Waits until it is true; returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result or time.monotonic() > deadline:
            return result
        time.sleep(0.01)


def state_of(pid):
    """R, S, T, Z ... or an empty string."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def documented(begin, end):
    """The words of guestmem(1) between two headings that stand there as members of JSON."""
    page = read(os.path.join(ROOT, "man", "guestmem.1.scd"))
    return set(re.findall(r"\*([A-Za-z0-9_]+)\*", page.split(begin)[1].split(end)[0]))


def members(value):
    """The names of all members of JSON, but sizes of pages."""
    if isinstance(value, list):
        return {name for v in value for name in members(v)}
    if not isinstance(value, dict):
        return set()
    return {n for n in value if not n[0].isdigit()} | {name for v in value.values() for name in members(v)}


def as_nobody():
    """For preexec_fn."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def nobody_can_run_tool():
    return guestmem("--version", preexec_fn=as_nobody).returncode == 0


class Case(unittest.TestCase):
    """A test with a directory of its own."""

    def setUp(self):
        self._dir = tempfile.TemporaryDirectory()
        self.dir = self._dir.name
        self.addCleanup(self._dir.cleanup)

    def path(self, name):
        return os.path.join(self.dir, name)

    def well(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)

    def fails(self, status, *words, result=None, args=(), **kwargs):
        """One line on standard error that has all the words, nothing on standard output."""
        result = result or guestmem(*args, **kwargs)
        self.assertEqual(result.returncode, status, f"{args}: {result.stderr}")
        self.assertRegex(result.stderr, r"\Aguestmem: [^\n]+\n\Z", args)
        for word in words:
            self.assertIn(str(word), result.stderr)
        self.assertEqual(result.stdout or "", "")

    def json(self, name):
        return json.loads(read(self.path(name)))


class _Result(unittest.TestResult):
    """Writes as cmocka does, so that each case is counted."""

    def startTest(self, test):
        super().startTest(test)
        print(f"[ RUN      ] {test.id().rpartition('.')[2]}", flush=True)

    def _end(self, word, test):
        print(f"[ {word} ] {test.id().rpartition('.')[2]}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._end("      OK", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print(self.failures[-1][1])
        self._end(" FAILED ", test)

    def addError(self, test, err):
        super().addError(test, err)
        print(self.errors[-1][1])
        self._end(" FAILED ", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            print((self.failures + self.errors)[-1][1])
            self._end(" FAILED ", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"skipped: {reason}")
        self._end(" SKIPPED", test)


def main():
    """Runs the tests of the calling program: PROGRAM TOOL [TEST]..."""
    module = sys.modules["__main__"]
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    cases = [t for group in suite for t in group]
    wanted = sys.argv[2:]
    if wanted:
        cases = [t for t in cases if t.id().rpartition(".")[2] in wanted]
    print(f"[==========] Running {len(cases)} test(s).", flush=True)
    result = _Result()
    unittest.TestSuite(cases).run(result)
    print(f"[==========] {len(cases)} test(s) run.")
    sys.exit(0 if result.wasSuccessful() else 1)
