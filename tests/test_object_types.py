#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_object_types.py INCLUDE COMPILER... - which types GM_PLAIN_DATA() and the object macros accept.

Compiles little programs as C and, where there is a compiler for it, as C++. What is to be refused
must be refused for the reason that is named, and compiles without the line that is wrong.
"""
import re
import shutil
import subprocess
import sys

HEAD = """
#include <guestmem/chain.h>
#include <guestmem/object.h>
#include <guestmem/slice_access.h>
#include <stdbool.h>
struct inner { uint32_t a; uint32_t b; };
GM_PLAIN_DATA(struct inner, a, b);
enum colour { RED };
struct holed { uint8_t a; uint32_t b; };
struct real { double a; float b[2]; };
struct holed_real { float a; double b; };
struct wide { long double a; };
struct mixed { union { char a; uint64_t b; } c; };
union either { char a; uint64_t b; };
union pointed { char *a; uint64_t b; };
"""

# Refused in C++ only: what a structure consists of cannot be asked in C.
PLUS = 'C++ refuses'

WRONG = 'no pointer, bool, union, long double or padding goes to a guest'

# Name, fields, list of fields, words of the refusal or None.
STRUCTS = [
    ('one field', 'uint64_t a;', 'a', None),
    ('a descriptor', 'uint64_t addr; uint32_t len; uint16_t flags; uint16_t next;',
     'addr, len, flags, next', None),
    ('arrays', 'uint8_t a[6]; const uint16_t b; uint32_t c[2][3];', 'a, b, c', None),
    ('a structure', 'struct inner a; struct inner b[2]; uint64_t c;', 'a, b, c', None),
    ('numbers of other sorts', 'double a; enum colour b; float c;', 'a, b, c', None),
    ('24 fields', 'char ' + ', '.join(f'f{i}' for i in range(24)) + ';',
     ', '.join(f'f{i}' for i in range(24)), None),
    ('packed', 'uint8_t a; uint64_t b __attribute__((packed));', 'a, b', None),
    ('padding within', 'uint8_t a; uint32_t b;', 'a, b', 'padding'),
    ('padding behind', 'uint32_t a; uint8_t b;', 'a, b', 'padding'),
    ('padding by alignment', 'uint32_t a __attribute__((aligned(8)));', 'a', 'padding'),
    ('first field not named', 'uint32_t a; uint32_t b;', 'b', 'another field'),
    ('middle field not named', 'uint32_t a; uint32_t b; uint32_t c;', 'a, c', 'another field'),
    ('last field not named', 'uint32_t a; uint32_t b;', 'a', 'another field'),
    ('a field named twice', 'uint32_t a; uint32_t b;', 'a, a', 'another field'),
    ('other order', 'uint32_t a; uint32_t b;', 'b, a', 'another field'),
    ('a pointer', 'uint64_t a; struct inner *b;', 'a, b', WRONG),
    ('a pointer to nothing known', 'void *a;', 'a', WRONG),
    ('a constant pointer', 'const char *const a;', 'a', WRONG),
    ('an array of pointers', 'char *a[4];', 'a', WRONG),
    ('rows of pointers', 'char *a[4][2];', 'a', WRONG),
    ('a pointer to an array', 'char (*a)[4];', 'a', WRONG),
    ('a pointer to a function', 'int (*a)(void);', 'a', ''),
    ('a bool', 'bool a;', 'a', WRONG),
    ('bools', 'bool a[8];', 'a', WRONG),
    ('a long double', 'long double a;', 'a', WRONG),
    ('long doubles', 'long double a[2][2];', 'a', WRONG),
    ('a complex number', '_Complex double a;', 'a', WRONG),
    ('a wide complex number', '_Complex long double a;', 'a', WRONG),
    ('a structure with a long double', 'struct wide a;', 'a', PLUS),
    ('a structure with a union of two sizes', 'struct mixed a;', 'a', PLUS),
    ('a union', 'uint64_t a; union either b;', 'a, b', WRONG),
    ('unions', 'union pointed a[2];', 'a', WRONG),
    ('a structure of floating point', 'struct real a; struct real b[2];', 'a, b', None),
    ('a structure with padding', 'struct holed a;', 'a', PLUS),
    ('structures with padding', 'struct holed a[3];', 'a', PLUS),
    ('a structure of floating point with padding', 'struct holed_real a;', 'a', PLUS),
    ('fields of a structure', 'struct inner a; uint64_t b;', 'a.a, a.b, b', None),
    ('fields of a structure with padding', 'struct holed a;', 'a.a, a.b', 'padding'),
    ('fields of structures', 'struct inner a[2];', 'a[0].a, a[0].b, a[1].a, a[1].b', None),
    ('a bit-field', 'uint32_t a : 16, b : 16;', 'a, b', ''),
    ('an array without end', 'uint32_t a; uint8_t b[];', 'a, b', ''),
]

# Name, what ptr points to, words of the refusal or None.
OBJECTS = [
    ('a number', 'uint32_t it', None),
    ('a structure', 'struct inner it', None),
    ('a structure of floating point', 'struct real it', None),
    ('an array', 'uint8_t it[8]', None),
    ('rows of structures', 'struct inner it[2][3]', None),
    ('a pointer', 'char *it', WRONG),
    ('a pointer to nothing known', 'void *it', WRONG),
    ('an array of pointers', 'char *it[4]', WRONG),
    ('rows of pointers', 'char *it[4][2]', WRONG),
    ('a bool', 'bool it', WRONG),
    ('an array of bools', 'bool it[4]', WRONG),
    ('rows of bools', 'bool it[4][2]', WRONG),
    ('a long double', 'long double it', WRONG),
    ('an array of long doubles', 'long double it[2]', WRONG),
    ('a union', 'union either it', WRONG),
    ('an array of unions', 'union pointed it[2]', WRONG),
    ('a structure with padding', 'struct holed it', PLUS),
    ('an array of structures with padding', 'struct holed it[2]', PLUS),
    ('a structure of floating point with padding', 'struct holed_real it', PLUS),
]

# All of them are tried with the objects that have these names, the first two with every one.
EACH = ('an array of pointers', 'a structure with padding', 'a structure')
CALLS = [
    'gm_write_object(v, 0, &it)', 'gm_chain_write_object(c, v, &it)', 'gm_read_object(v, 0, &it)',
    'gm_read_objects(v, 0, &it, n, &d)', 'gm_write_objects(v, 0, &it, n, NULL)',
    'gm_chain_read_object(c, v, &it)', 'gm_chain_peek_object(c, v, &it)',
    'gm_slice_read_object(s, NULL, 0, &it)', 'gm_slice_write_object(s, NULL, 0, &it)',
]


def why(language, refusal):
    """The words that a compiler of this language says."""
    if refusal == PLUS:
        return WRONG if language == 'C++' else None
    return refusal


def cases(language):
    """(name, what stands around, what is tried, words of the refusal or None) of each, with names of their own."""
    for i, (name, fields, names, refusal) in enumerate(STRUCTS):
        if '[]' in fields and language == 'C++':
            continue
        yield (name, f'struct it{i} {{ {fields} }};\nextern int unused{i};\n',
               f'GM_PLAIN_DATA(struct it{i}, {names});\n', why(language, refusal))
    for i, (name, declared, refusal) in enumerate(OBJECTS):
        for j, call in enumerate(CALLS if name in EACH else CALLS[:2]):
            this = f'of{i}_{j}'
            declaration = re.sub(r'\bit\b', this, declared)
            function = f'int f_{this}(const struct gm_view *v, struct gm_chain *c, const struct iovec *s, size_t n)'
            yield (f'{call} of {name}', f'extern {declaration};\n{function};\n',
                   f'{function} {{ size_t d = n; return {call.replace("&it", "&" + this)} + (int)d; }}\n',
                   why(language, refusal))


def compiles(command, text):
    """Whether, and what the compiler says."""
    run = subprocess.run([*command, '-fsyntax-only', '-'], input=HEAD + text, text=True,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    return run.returncode == 0, run.stderr


def judge(language, command):
    """All cases in one language; the number of those that failed."""
    failed = 0
    # What is good, and what stands around the rest, compiles all at once.
    well, said = compiles(command, ''.join(around + ('' if refusal is not None else tried)
                                           for _, around, tried, refusal in cases(language)))
    if not well:
        print(f'not ok - {language}: something that should compile is refused\n{said}')
        failed += 1
    for name, around, tried, refusal in cases(language):
        if refusal is None:
            continue
        well, said = compiles(command, around + tried)
        if well or refusal not in said:
            print(f'not ok - {language}: {name}: {"accepted" if well else "refused for another reason"}\n{said}')
            failed += 1
    return failed


def main():
    """All languages."""
    include, *compiler = sys.argv[1:]
    warnings = ['-Wall', '-Wextra', '-Wpedantic', '-Werror', '-Wno-unused-parameter', f'-I{include}']
    languages = {'C': compiler + ['-x', 'c', '-std=c11'] + warnings}
    plus = shutil.which('clang++' if 'clang' in compiler[-1] else 'g++')
    if plus:
        languages['C++'] = [plus, '-x', 'c++', '-std=c++17', '-Wno-pedantic'] + warnings[:2] + warnings[3:]
    return 1 if sum(judge(language, command) for language, command in languages.items()) else 0


if __name__ == '__main__':
    sys.exit(main())
