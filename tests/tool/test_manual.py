# SPDX-License-Identifier: BSD-3-Clause
"""The manual page, --help and the completion name the same options; the command itself."""

import os
import re
import subprocess

from common import ROOT, TOOL, Case, guestmem, main, read

COMMANDS = ("blk", "convert", "doctor", "exec", "inspect", "keep", "map", "migrate", "restore", "run", "serve", "snapshot", "tables", "verify", "vhost-user", "walk", "wset")


def helped(command):
    """The options of --help: long name to (letter, does it take a value)."""
    found = {}
    for line in guestmem(command, "--help").stdout.splitlines():
        match = re.match(r"  (?:-(.), |    )--([a-z0-9-]+)(?:( |\[=)[A-Z])?", line)
        if match:
            found[match.group(2)] = (match.group(1), bool(match.group(3)))
    return found


def manual(command):
    """The same from the manual page's section, or from a page of its own."""
    own = os.path.join(ROOT, "man", f"guestmem-{command}.1.scd")
    alone = os.path.exists(own)
    page = read(own if alone else os.path.join(ROOT, "man", "guestmem.1.scd"))
    section = page.split(f"\n# {'OPTIONS' if alone else command.upper()}\n")[1].split("\n# ")[0]
    found = {}
    for line in re.findall(r"^(?:\*-.*)$", section, re.MULTILINE):
        match = re.match(r"(?:\*-(.)\*, )?\*--([a-z0-9-]+)\*( _|\[=_)?", line)
        if match:
            found[match.group(2)] = (match.group(1), bool(match.group(3)))
    return found


def completed(*words):
    """What the completion offers for the last word."""
    script = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _guestmem; printf "%s\\n" "${COMPREPLY[@]}"'
    result = subprocess.run(["bash", "-c", script, "-", os.path.join(ROOT, "completions", "guestmem.bash"), TOOL, *words],
                            capture_output=True, text=True, check=True)
    return result.stdout.split()


class Manual(Case):
    def test_help_and_manual_name_the_same_options(self):
        for command in COMMANDS:
            in_help = helped(command)
            self.assertEqual(in_help.pop("help"), ("h", False))
            self.assertTrue(in_help)
            self.assertEqual(in_help, manual(command), command)

    def test_help_and_manual_name_the_same_commands(self):
        listed = re.findall(r"^  ([a-z-]+) ", guestmem("--help").stdout, re.MULTILINE)
        self.assertEqual(listed, list(COMMANDS))
        page = read(os.path.join(ROOT, "man", "guestmem.1.scd"))
        for command in COMMANDS:
            self.assertIn(f"*guestmem* *{command}*", page)

    def test_completion_knows_every_option(self):
        for command in COMMANDS:
            self.assertEqual(set(completed(command, "--")), {f"--{name}" for name in helped(command)})
        self.assertEqual(set(completed("")), {*COMMANDS, "--help", "--version"})
        self.assertEqual(set(completed("exec", "--page-size", "")), {"base", "thp", "2M", "1G"})
        self.assertEqual(set(completed("run", "--guest-pages", "")), {"4K", "2M", "1G"})
        self.assertIn("touch", completed("run", "--size", "1M", "to"))
        self.assertIn("order=random", completed("run", "--size", "1M", "touch", "order="))
        self.assertIn(str(os.getpid()), completed("inspect", str(os.getpid())))
        self.assertEqual(set(completed("walk", "--paging", "n")), {"native", "nested"})
        self.assertIn(str(os.getpid()), completed("walk", "--pid", str(os.getpid())))
        self.assertIn("sleep", completed("exec", "--size", "1M", "--", "slee"))

    def test_help_and_version_go_to_standard_output(self):
        for words in (["--help"], ["-h"], ["--version"], ["-V"], *([c, "--help"] for c in COMMANDS), ["exec", "-h"]):
            result = guestmem(*words)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertTrue(result.stdout.endswith("\n"))
            for line in result.stdout.splitlines():
                self.assertLessEqual(len(line), 90)
            with open("/dev/full", "w", encoding="utf-8") as full:
                result = guestmem(*words, stdout=full)
            self.fails(1, "standard output", result=result)
        self.assertRegex(guestmem("--version").stdout, r"^guestmem [0-9]+\.[0-9]+\.[0-9]+\n$")

    def test_wrong_commands_are_refused(self):
        self.fails(2, "no command", args=())
        for word in ("nonsense", "", "Exec", "--nonsense", "\x1b[31m"):
            self.fails(2, args=(word,))


if __name__ == "__main__":
    main()
