#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Files of QEMU with mapped-ram, made and read by what its specification says, independently of the library.

make KIND FILE MEMORY writes such a file, and what its blocks have, one behind the other, as a raw file.
read FILE MEMORY      writes what the blocks of FILE have.

Places of pages that the bitmap does not name are full of other bytes: they are zeros nevertheless.
"""

import os
import struct
import sys

MIB = 1 << 20
# Blocks of each kind: name, pages, pages of how many bytes, address, and whether its pages are in another file.
KINDS = {
    "plain": [("pc.ram", 300, 4096, 0, False), ("/rom@etc/acpi/tables", 32, 4096, 0, False), ("vga.vram", 65, 4096, 0, False)],
    "shared": [("mem0", 128, 4096, 0, True), ("pc.bios", 64, 4096, 0xFFFC0000, False), ("mem1", 1, 4096, 1 << 32, True),
               ("x" * 255, 200, 4096, 0x200000000, False)],
    "large": [("mach-virt.ram", 70, 65536, 0, False)],
}


def be(size, value):
    return value.to_bytes(size, "big")


def name_of(text):
    return bytes([len(text)]) + text.encode()


def page_of(block, number, size):
    if (number * 7 + block) % 5 in (0, 1) and number % 67 < 60:
        return bytes(size)
    return struct.pack("<QQ", block << 32 | number, 0x9E3779B97F4A7C15 * (number + 1) & (1 << 64) - 1) * (size // 16)


def front(kind, total):
    machine = b"pc-q35-9.1"
    out = b"QEVM" + be(4, 3) + b"\x07" + be(4, len(machine)) + machine
    if kind == "large":
        out += b"\x05" + name_of("configuration/target-page-bits") + be(4, 1) + be(4, 16)
    names = ["x-ignore-shared", "mapped-ram"] if kind == "shared" else ["mapped-ram"]
    out += b"\x05" + name_of("configuration/capabilities") + be(4, 1) + be(4, len(names))
    out += b"".join(name_of(name) for name in names)
    if kind == "shared":
        out += b"\x05" + name_of("configuration/uuid") + be(4, 1) + bytes(range(16))
    return out + b"\x01" + be(4, 2) + name_of("ram") + be(4, 0) + be(4, 4) + be(8, total | 4)


def make(kind, path, memory):
    blocks = KINDS[kind]
    raw = open(memory, "wb")
    with open(path, "wb") as out:
        out.write(front(kind, sum(pages * size for _, pages, size, _, _ in blocks)))
        for number, (name, pages, size, gpa, elsewhere) in enumerate(blocks):
            out.write(name_of(name) + be(8, pages * size))
            if kind == "shared":
                out.write(be(8, gpa))
            if elsewhere:
                out.write(be(4, 1) + be(8, size) + be(8, 0) + be(8, 0))
                raw.seek(pages * size, os.SEEK_CUR)
                continue
            bitmap = out.tell() + 28
            length = (pages + 63) // 64 * 8
            start = -(-(bitmap + length) // MIB) * MIB
            out.write(be(4, 1) + be(8, size) + be(8, bitmap) + be(8, start))
            bits = bytearray(length)
            for i in range(pages):
                page = page_of(number, i, size)
                raw.write(page)
                out.seek(start + i * size)
                if any(page):
                    bits[i // 8] |= 1 << i % 8
                    out.write(page)
                elif i % 2:
                    out.write(b"\xa5" * size)
            out.seek(bitmap)
            out.write(bits)
            out.seek(start + pages * size)
        # The end of the section, its footer, a device, the end of the stream.
        out.write(be(8, 0x10) + b"\x7e" + be(4, 2))
        out.write(b"\x04" + be(4, 3) + name_of("timer") + be(4, 0) + be(4, 2) + bytes(24) + b"\x7e" + be(4, 3) + b"\x00")
    raw.truncate(sum(pages * size for _, pages, size, _, _ in blocks))
    raw.close()


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def name(self):
        return self.take(self.number(1))


def read(path, memory):
    r = Reader(open(path, "rb").read())
    assert r.take(8) == b"QEVM" + be(4, 3) and r.take(1) == b"\x07"
    r.take(r.number(4))
    names = []
    while r.data[r.at] == 5:
        r.take(1)
        part = r.name()
        r.take(4)
        if part == b"configuration/capabilities":
            names = [r.name() for _ in range(r.number(4))]
        else:
            r.take(16 if part == b"configuration/uuid" else 4)
    assert r.take(1) == b"\x01"
    r.take(4)
    assert r.name() == b"ram"
    r.take(8)
    left = r.number(8) & ~0xFFF
    with open(memory, "wb") as raw:
        while left:
            r.name()
            length = r.number(8)
            if b"x-ignore-shared" in names:
                r.take(8)
            assert r.number(4) == 1, "version"
            size, bitmap, start = r.number(8), r.number(8), r.number(8)
            left -= length
            for i in range(length // size):
                there = start and r.data[bitmap + i // 8] >> i % 8 & 1
                raw.write(r.data[start + i * size : start + (i + 1) * size] if there else bytes(size))
            if start:
                r.at = start + length
    assert r.number(8) == 0x10, "end of the section"


if __name__ == "__main__":
    {"make": make, "read": read}[sys.argv[1]](*sys.argv[2:])
