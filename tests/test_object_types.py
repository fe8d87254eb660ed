#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_object_types.py INCLUDE COMPILER... - which types GM_PLAIN_DATA() and the object macros accept.

Compiles little programs as C and, where there is a compiler for it, as C++. What is to be refused
must be refused for the reason that is named, and compiles without the line that is wrong.
"""
import shutil
import subprocess
import sys

HEAD = """
#include <guestmem/object.h>
#include <stdbool.h>
struct inner { uint32_t a; uint32_t b; };
GM_PLAIN_DATA(struct inner, a, b);
enum colour { RED };
"""

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
    ('a pointer', 'uint64_t a; struct inner *b;', 'a, b', 'a pointer or a bool'),
    ('a pointer to nothing known', 'void *a;', 'a', 'a pointer or a bool'),
    ('a constant pointer', 'const char *const a;', 'a', 'a pointer or a bool'),
    ('an array of pointers', 'char *a[4];', 'a', 'a pointer or a bool'),
    ('rows of pointers', 'char *a[4][2];', 'a', 'a pointer or a bool'),
    ('a pointer to an array', 'char (*a)[4];', 'a', 'a pointer or a bool'),
    ('a pointer to a function', 'int (*a)(void);', 'a', ''),
    ('a bool', 'bool a;', 'a', 'a pointer or a bool'),
    ('bools', 'bool a[8];', 'a', 'a pointer or a bool'),
    ('a bit-field', 'uint32_t a : 16, b : 16;', 'a, b', ''),
    ('an array without end', 'uint32_t a; uint8_t b[];', 'a, b', ''),
]

# Name, what ptr points to, words of the refusal or None.
OBJECTS = [
    ('a number', 'uint32_t', None),
    ('a structure', 'struct inner', None),
    ('an array', 'uint8_t', None),
    ('a pointer', 'char *', 'neither pointers nor bools'),
    ('a bool', 'bool', 'neither pointers nor bools'),
]


def compiles(command, text):
    """Whether, and what the compiler says."""
    run = subprocess.run(command + ['-fsyntax-only', '-'], input=text, text=True,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    return run.returncode == 0, run.stderr


def judge(name, command, base, text, refusal):
    """One case; 1 if it failed."""
    well, said = compiles(command, base)
    if not well:
        print(f'not ok - {name}: what stands around it does not compile\n{said}')
        return 1
    well, said = compiles(command, base + text)
    if well != (refusal is None) or (refusal and refusal not in said):
        print(f'not ok - {name}: {"accepted" if well else "refused"}\n{said}')
        return 1
    return 0


def main():
    """All cases, in each language."""
    include, *compiler = sys.argv[1:]
    warnings = ['-Wall', '-Wextra', '-Wpedantic', '-Werror', f'-I{include}']
    languages = {'C': compiler + ['-x', 'c', '-std=c11'] + warnings}
    plus = shutil.which('clang++' if 'clang' in compiler[-1] else 'g++')
    if plus:
        languages['C++'] = [plus, '-x', 'c++', '-std=c++17', '-Wno-pedantic'] + warnings[:2] + warnings[3:]
    failed = 0
    for language, command in languages.items():
        for name, fields, names, refusal in STRUCTS:
            base = HEAD + f'struct it {{ {fields} }};\nextern int unused;\n'
            if language == 'C' and '[]' not in fields:
                base += 'extern struct it *it;\n'
            if '[]' in fields and language == 'C++':
                continue
            failed += judge(f'{language}: {name}', command, base,
                            f'GM_PLAIN_DATA(struct it, {names});\n', refusal)
        for name, of, refusal in OBJECTS:
            base = HEAD + f'extern {of} *it;\nint f(const struct gm_view *v, size_t n);\n'
            text = 'int f(const struct gm_view *v, size_t n) { size_t d; return '
            for call in ('gm_read_object(v, 0, it)', 'gm_write_object(v, 0, it)',
                         'gm_read_objects(v, 0, it, n, &d)', 'gm_write_objects(v, 0, it, n, NULL)'):
                failed += judge(f'{language}: {call} of {name}', command, base,
                                text + (call if '&d' in call else f'(d = n) + {call}') + '; }\n', refusal)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
