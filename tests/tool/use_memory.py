# SPDX-License-Identifier: BSD-3-Clause
"""Uses memory as a guest would: use_memory.py WHAT PATH ARGUMENT... ends or sleeps when told to."""

import ctypes
import mmap
import os
import signal
import sys
import time

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def map_at(fd, size, skew):
    """Maps the whole file, @skew bytes behind a multiple of 2 MiB or of a larger page."""
    align = max(HUGE, os.fstat(fd).st_blksize)
    room = libc.mmap(None, size + 2 * align, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, -1, 0)
    at = (room + align - 1) // align * align + skew
    got = libc.mmap(at, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | 0x10, fd, 0)
    if got != at:
        sys.exit(f"mmap: {os.strerror(ctypes.get_errno())}")
    return at


def touch(at, count, step):
    for i in range(count):
        ctypes.c_char.from_buffer(ctypes.c_char.from_address(at + i * step)).value = b"x"


def main():
    what, path = sys.argv[1:3]
    args = sys.argv[3:]
    if what == "signals":
        return signals(args)
    fd = os.open(path, os.O_RDWR)
    size = os.fstat(fd).st_size
    touched = int(args[0])
    seconds = float(args[1])
    at = map_at(fd, size, PAGE if what == "unaligned" else 0)
    if what in ("advised", "unaligned"):
        libc.madvise(at, size, MADV_HUGEPAGE)
    if what == "partly":
        libc.madvise(at, HUGE, MADV_HUGEPAGE)
    if what == "partly-not":
        libc.madvise(at, size, MADV_HUGEPAGE)
        libc.madvise(at + HUGE, HUGE, MADV_NOHUGEPAGE)
    if what == "fork":
        return fork(at, touched, seconds)
    if what == "stopped":
        return stopped(at, fd, size, touched)
    touch(at, touched // PAGE, PAGE)
    if what == "again":
        # A second view of the same bytes in the same process.
        touch(map_at(fd, size, 0), touched // PAGE, PAGE)
    time.sleep(seconds)
    return 0


def fork(at, touched, seconds):
    """Parent and child touch the same pages."""
    child = os.fork()
    touch(at, touched // PAGE, PAGE)
    time.sleep(seconds)
    if child:
        os.waitpid(child, 0)
    return 0


def stopped(at, fd, size, touched):
    """Huge pages where there can be any, three small ones elsewhere, some that are not mapped; then it stops."""
    libc.madvise(at, size, MADV_HUGEPAGE)
    libc.madvise(at + 4 * HUGE, HUGE, MADV_NOHUGEPAGE)
    touch(at, touched // PAGE, PAGE)
    touch(at + 4 * HUGE, 3, 2 * PAGE)
    os.posix_fallocate(fd, 6 * HUGE, HUGE)
    os.kill(os.getpid(), signal.SIGSTOP)
    return 0


def signals(args):
    """Prints the name of each signal that comes."""
    wanted = {getattr(signal, "SIG" + name) for name in args}
    # Waited for, not handled: one that comes just before pause() would not be told before the next.
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    print("ready", flush=True)
    while True:
        print(signal.sigwait(wanted).name, flush=True)


if __name__ == "__main__":
    sys.exit(main())
