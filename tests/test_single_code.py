#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""test_single_code.py PROGRAM LIBRARY WHAT SOURCE_ROOT - are accesses of numbers single, however they are compiled?

single_inline.c is compiled by gcc and clang in many ways. Its machine code is read (machine_code.py), and the program
test_single steps through it. So is the code of the library read. Then single_mutant.h puts bad accesses in: those must
be found. WHAT is all, or only the library, or with the generic guard, where callers have no accesses of their own, calls.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import machine_code

LEVELS = ['-O0', '-O1', '-O2', '-O3', '-Os']
ALWAYS = ['-std=gnu11', '-shared', '-fPIC', '-nostdlib']

# Mutant -> who must find it: reading, stepping.
MUTANTS = {1: (1, 1), 2: (1, 1), 3: (1, 1), 4: (1, 1), 5: (1, 1), 6: (0, 1), 7: (1, 0), 8: (1, 0)}

# Numbers that the library reads and writes for those who do not inline, and its read-modify-write.
LEAST_IN_LIBRARY = 60
LEAST_IN_CALLERS = 100
# Of a bad access, where one width is compiled.
LEAST_IN_MUTANT = 30
# Of these, atomic loads and stores whose order is looked at.
LEAST_ORDERED_IN_LIBRARY = 16
LEAST_ORDERED_IN_CALLERS = 16


class Run:
    """The cases, and what they need."""

    def __init__(self, program, library, what, root):
        self.program, self.library, self.what = program, library, what
        self.tests, self.include = os.path.join(root, 'tests'), os.path.join(root, 'include')
        self.objdump = shutil.which('objdump') or shutil.which('llvm-objdump')
        self.failed = 0

    def case(self, name, findings):
        """One case: it passes if there are no findings."""
        print(f'[ RUN      ] {name}')
        for line in findings[:20]:
            print(line)
        self.failed += bool(findings)
        print(f'[ {" FAILED " if findings else "      OK"} ] {name}', flush=True)

    def skip(self, name, reason):
        """One that cannot be tried here."""
        print(f'[ RUN      ] {name}\nskipped: {reason}\n[  SKIPPED ] {name}', flush=True)

    def compile(self, compiler, options, out):
        """What the compiler says if it fails."""
        command = [compiler, *ALWAYS, *options, f'-I{self.include}', '-o', out,
                   os.path.join(self.tests, 'single_inline.c')]
        run = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return [f'{" ".join(command)}:', run.stdout] if run.returncode else []

    def step(self, path, least=LEAST_IN_CALLERS):
        """What stepping finds."""
        run = subprocess.run([self.program, path, str(least)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             check=False)
        return run.stdout.splitlines() if run.returncode else []

    def read(self, path, least, least_ordered):
        """What reading finds."""
        return machine_code.check(path, self.objdump, least, least_ordered)

    def way(self, compiler, options):
        """One way of compiling."""
        name = '_'.join([compiler] + [o.strip('-').replace('=', '_') for o in options])
        with tempfile.TemporaryDirectory() as scratch:
            out = os.path.join(scratch, 'single.so')
            findings = self.compile(compiler, options, out)
            if not findings:
                findings = self.step(out)
                if '-DGM_NO_INLINE=1' not in options:
                    findings += self.read(out, LEAST_IN_CALLERS, LEAST_ORDERED_IN_CALLERS)
        self.case(name, findings)

    def mutant(self, compiler, number):
        """One bad access. It must be compiled, and found by those who can."""
        with tempfile.TemporaryDirectory() as scratch:
            out = os.path.join(scratch, 'mutant.so')
            findings = self.compile(compiler, ['-O2', f'-DMUTANT={number}'], out)
            if not findings:
                found = bool(self.read(out, LEAST_IN_MUTANT, 0)), bool(self.step(out, LEAST_IN_MUTANT))
                for who, has, should in zip(('reading', 'stepping'), found, MUTANTS[number]):
                    if has != bool(should):
                        findings.append(f'mutant {number}: {who} {"finds" if has else "does not find"} it')
        self.case(f'{compiler}_mutant_{number}_is_noticed', findings)

    def compiler(self, compiler):
        """All ways of one compiler."""
        if not shutil.which(compiler):
            self.skip(compiler, f'{compiler} is not installed')
            return
        self.way(compiler, ['-O2', '-DGM_NO_INLINE=1'])
        if self.what == 'calls':
            return
        for level in LEVELS:
            self.way(compiler, [level])
            self.way(compiler, [level, '-march=native'])
        for number in MUTANTS:
            self.mutant(compiler, number)

    def all(self):
        """All cases."""
        print('[==========] Running the ways to compile an access.')
        for compiler in ('gcc', 'clang') if self.what != 'library' else ():
            self.compiler(compiler)
        if self.what != 'calls':
            self.case('library', self.read(self.library, LEAST_IN_LIBRARY, LEAST_ORDERED_IN_LIBRARY))
        return 1 if self.failed else 0


if __name__ == '__main__':
    sys.exit(Run(*sys.argv[1:]).all())
