#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""machine_code.py OBJDUMP FILE [LEAST [LEAST_ORDERED]] - is each access of a number of guest memory one instruction?

FILE is a shared object, an executable or the library. The instructions that touch guest memory are named by its
exception tables (inline/guarded.h, src/arch). In a function that is about numbers of N bytes each of these must be a
load, a store or a read-modify-write of N bytes, nothing is called that is not the library's, and no string
instruction stands there. Where a function has an order in its name, or is an atomic load or store, its instructions must
have it. What it does beyond the table is seen by stepping only (test_single.c). LEAST is how many functions about numbers there must be,
LEAST_ORDERED how many of an order.
"""
import re
import struct
import subprocess
import sys

# Register of x86-64 -> bytes.
REGISTERS = [
    (8, re.compile(r'%r([abcd]x|[sd]i|[bs]p|\d+)$')),
    (4, re.compile(r'%(e([abcd]x|[sd]i|[bs]p)|r\d+d)$')),
    (2, re.compile(r'%([abcd]x|[sd]i|[bs]p|r\d+w)$')),
    (1, re.compile(r'%([abcd][lh]|[sd]il|[bs]pl|r\d+b)$')),
]


class Binary:
    """The parts of an ELF file that matter here."""

    def __init__(self, path, objdump):
        with open(path, 'rb') as file:
            self.data = file.read()
        if self.data[:6] != b'\x7fELF\x02\x01':
            raise ValueError(f'{path}: no ELF file of 64 bits, little-endian')
        self.machine = struct.unpack_from('<H', self.data, 18)[0]
        self.sections = self._sections()
        self.functions = []  # (address, size, name), sorted
        self.by_name = {}
        self.objects = set()  # variables
        self.undefined = set()
        self._symbols()
        self.code = self._disassemble(path, objdump)

    def _sections(self):
        off, = struct.unpack_from('<Q', self.data, 40)
        size, nr, names = struct.unpack_from('<HHH', self.data, 58)
        heads = [struct.unpack_from('<IIQQQQIIQQ', self.data, off + i * size) for i in range(nr)]
        base = heads[names][4]
        return [(self._string(base + h[0]), h) for h in heads]

    def _string(self, at):
        return self.data[at:self.data.index(b'\0', at)].decode()

    def _symbols(self):
        for _, head in self.sections:
            if head[1] != 2:  # SHT_SYMTAB
                continue
            names = self.sections[head[6]][1][4]
            for at in range(head[4], head[4] + head[5], 24):
                name, info, _, section, value, size = struct.unpack_from('<IBBHQQ', self.data, at)
                text = self._string(names + name)
                if section == 0 and info >> 4 == 1:  # not a weak one
                    self.undefined.add(text)
                elif info & 15 == 2 and size:
                    self.functions.append((value, size, text))
                elif info & 15 == 1:
                    self.objects.add(text)
        self.functions.sort()
        self.by_name = {name: (at, size, name) for at, size, name in self.functions}

    @staticmethod
    def _disassemble(path, objdump):
        run = subprocess.run([objdump, '-d', '--no-show-raw-insn', path], text=True, check=True,
                             stdout=subprocess.PIPE)
        lines = re.findall(r'^ *([0-9a-f]+):[ \t]+(.+)$', run.stdout, re.M)
        return {int(at, 16): ' '.join(text.split()) for at, text in lines}

    def guarded(self, table='gm_extable'):
        """Addresses of the instructions with an entry in an exception table, by the begin of its name."""
        found = set()
        for name, head in self.sections:
            if not name.startswith(table):
                continue
            for i in range(0, head[5], 8):
                insn, = struct.unpack_from('<i', self.data, head[4] + i)
                found.add(head[3] + i + insn)
        return found

    def body(self, function):
        """(address, text) of the instructions of a function."""
        start, size, _ = function
        return [(at, self.code[at]) for at in range(start, start + size) if at in self.code]


def widths_of(name):
    """Bytes of the numbers that a function is about, by its name; none if it is about none."""
    name = name.split('.')[0]
    if re.match(r'gm_slice_(load|store)$|gm_guard_rmw$', name):  # which is an argument
        return (1, 2, 4, 8)
    found = re.match(r'single_\w+_(\d+)$', name) or \
        re.match(r'gm_guard_(?:xchg|xadd|cmpxchg)_(\d+)$', name) or \
        re.match(r'cmpxchg_(16)_here$', name)
    if found:
        return (int(found[1]),)
    found = re.match(r'gm_\w+_(?:u|le|be)(8|16|32|64)$', name)
    return (int(found[1]) // 8,) if found else ()


def split_operands(text):
    """At commas that stand in no parentheses."""
    return [o.strip() for o in re.split(r',(?![^()\[]*[)\]])', text)] if text else []


def width_of_x86(text):
    """Bytes that an instruction moves between memory and a register, or None if it is something else."""
    text = re.sub(r' *(#|<).*', '', text)
    lock, mnemonic, rest = re.match(r'(lock )?(\S+) ?(.*)$', text).groups()
    operands = split_operands(rest)
    memory = [o for o in operands if '(' in o]
    if len(memory) != 1:
        return None
    if lock and mnemonic == 'cmpxchg16b':
        return 16
    if len(operands) != 2:
        return None
    register = next(o for o in operands if o not in memory)
    zeroed = re.match(r'movz([bw])[wlq]?$', mnemonic)
    if zeroed:
        return {'b': 1, 'w': 2}[zeroed[1]] if memory[0] == operands[0] else None
    if not re.match(r'mov[bwlq]?$|xchg[bwlq]?$', mnemonic) and \
            not (lock and re.match(r'(xadd|cmpxchg)[bwlq]?$', mnemonic)):
        return None
    return next((n for n, pattern in REGISTERS if pattern.match(register)), None)


def width_of_arm64(text):
    """The same for arm64."""
    text = re.sub(r' *(//|<).*', '', text)
    mnemonic, _, rest = text.partition(' ')
    operands = split_operands(rest)
    if mnemonic in ('ldaxp', 'stlxp'):
        return 16
    found = re.match(r'(ldr|ldur|ldar|ldaxr|str|stur|stlr|stlxr)([bh]?)$', mnemonic)
    if not found or ']!' in text or '],' in text:
        return None
    if found[2]:
        return {'b': 1, 'h': 2}[found[2]]
    return {'w': 4, 'x': 8}.get(operands[found[1] == 'stlxr'][0])


def is_string_instruction(text):
    """One that touches memory again and again."""
    return bool(re.match(r'rep\w* (?!ret)', text))


def called(text):
    """Name of the function that an instruction calls or goes to, or None."""
    found = re.match(r'(?:call|jmp|bl?)\w* .*<([^+>]+)>$', re.sub(r' *#.*', '', text))
    return found[1].split('@')[0] if found else None


def touches(binary, function, guarded, seen):
    """Whether a function, or one that it calls in this file, has a guarded instruction or calls what copies."""
    seen.add(function[2])
    for at, text in binary.body(function):
        name = called(text)
        if at in guarded or re.match(r'gm_guard_copy_|gm_(read|write)_array$', name or ''):
            return True
        if name in binary.by_name and name not in seen and \
                touches(binary, binary.by_name[name], guarded, seen):
            return True
    return False


def check_function(binary, function, guarded):
    """What is wrong with one function that is about numbers."""
    widths, name = widths_of(function[2]), function[2]
    measure = {62: width_of_x86, 183: width_of_arm64}[binary.machine]
    for at, text in binary.body(function):
        if at in guarded and measure(text) not in widths:
            yield f'{name}: not {" or ".join(map(str, widths))} bytes at once: {text}'
        if is_string_instruction(text):
            yield f'{name}: a string instruction: {text}'
        if 'mem' in (called(text) or '') and not called(text).startswith('gm_'):
            yield f'{name}: a call of the C library: {text}'


def is_ordered(binary, text, after, write):
    """Whether an instruction is a sequentially consistent store, or a load that acquires; @after is the next one."""
    if binary.machine == 183:
        return bool(re.match(r'stlr' if write else r'ldar', text))
    return not write or bool(re.match(r'xchg', text) or re.match(r'lock |mfence', after))


def check_order(binary, function, guarded):
    """What is wrong with the order of one function; None if it has none, or leaves the access to another one."""
    name = function[2].split('.')[0]
    found = re.match(r'single_\w*(load|store)_(RELAXED|ACQUIRE|RELEASE|SEQ_CST)_\d+$', name) or \
        re.match(r'gm_(?:atomic|cache|find)_(load|store)_u()\d+$', name)
    body = binary.body(function)
    touching = [(text, body[i + 1][1] if i + 1 < len(body) else '')
                for i, (at, text) in enumerate(body) if at in guarded]
    # A release is not asked of x86-64: each store is one. Other orders that make no sense are the strongest.
    if not found or found[2] == 'RELAXED' or not touching or \
            (found[1] == 'store' and found[2] == 'RELEASE' and binary.machine == 62):
        return None
    good = [is_ordered(binary, text, after, found[1] == 'store') for text, after in touching]
    if all(good) or (not found[2] and any(good)):
        return []
    return [f'{name}: no order: {text}' for (text, _), well in zip(touching, good) if not well]


def check(path, objdump, least, least_ordered=0):
    """All that is wrong with a file."""
    binary = Binary(path, objdump)
    guarded = binary.guarded()
    functions = [f for f in binary.functions if widths_of(f[2])]
    findings = []
    if 'single_inline' in binary.objects: # nothing but accesses
        findings += [f'{path}: calls {name}()' for name in sorted(binary.undefined)
                     if not name.startswith('gm_')]
    for at in sorted(guarded - binary.guarded('gm_extable_asm')):
        if not any(start <= at < start + size for start, size, _ in functions):
            findings.append(f'{path}: {at:x} touches guest memory, in a function that is about no number')
    ordered = [check_order(binary, f, guarded) for f in functions]
    findings += [line for wrong_order in ordered for line in wrong_order or ()]
    if len(ordered) - ordered.count(None) < least_ordered:
        findings.append(f'{path}: {len(ordered) - ordered.count(None)} functions have an order, '
                        f'at least {least_ordered} were expected')
    for function in functions:
        findings += check_function(binary, function, guarded)
        # Of a function that is in parts the first has it, or goes on to it.
        if re.match(r'single_\w+$', function[2]) and not touches(binary, function, guarded, set()):
            findings.append(f'{function[2]}: no instruction that touches guest memory has an entry')
    if len({name for _, _, name in functions}) < least:
        findings.append(f'{path}: {len(functions)} functions about numbers, at least {least} were expected')
    return findings


if __name__ == '__main__':
    wrong = check(sys.argv[2], sys.argv[1], *map(int, sys.argv[3:] or ['1']))
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)
