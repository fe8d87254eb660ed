# SPDX-License-Identifier: BSD-3-Clause
"""guestmem exec: the command line, the command that it runs, signals, and what is left behind."""

import os
import pty
import resource
import signal
import subprocess
import sys
import time

from common import (MIB, Case, as_nobody, documented, end, guestmem, holders, main, members, nobody_can_run_tool, pools,
                    python, read, start, state_of, wait_for, write)

SMALL = ("exec", "--size", "64K")


class CommandLine(Case):
    def test_sizes_that_are_none_are_refused(self):
        for size in ("0", "", "abc", "-1", "+1", " 1M", "1e6", "nan", "inf", "1.5G", "M", "1X", "1MM",
                     "18446744073709551616", "16E", "99999999999999999999999", "0x"):
            self.fails(2, "--size", f"'{size}'", args=("exec", f"--size={size}", "true", "{mem}"))

    def test_sizes_that_do_not_fit_the_page_are_refused(self):
        for policy, size in (("base", "1"), ("base", "4097"), ("thp", "4K"), ("2M", "3M"), ("1G", "512M")):
            self.fails(2, "--size", "multiple", args=("exec", "-s", size, "-p", policy, "true", "{mem}"))

    def test_limits_that_cannot_be_are_refused(self):
        good = ("exec", "-s", "1G")
        for limit in ("0", "", "x", "1X"):
            self.fails(2, "--limit", f"'{limit}'", args=(*good, f"--limit={limit}", "true", "{mem}"))
        for limit in ("1", "4097", "2G"):
            self.fails(2, "--limit", "more than --size", args=(*good, f"--limit={limit}", "true", "{mem}"))
        self.fails(2, "--size", "multiple", args=("exec", "-s", "512M", "-l", "4M", "true", "{mem}"))
        for more in (("--populate",), ("--numa=bind:0",), ("-p", "thp"), ("-p", "2M"), ("-p", "1G")):
            self.fails(2, "--limit", "--page-size", args=(*good, "-l", "4M", *more, "true", "{mem}"))

    def test_more_than_there_is_is_refused(self):
        for size in ("1000T", "8191P", "7E"):
            self.fails(1, "memory of", args=("exec", "-s", size, "true", "{mem}"))

    def test_a_pool_that_is_too_small_is_named(self):
        before = pools()
        self.fails(1, "huge pages", "nr_hugepages", args=("exec", "-s", "16T", "-p", "2M", "true", "{mem}"))
        self.fails(1, "huge pages", "nr_hugepages", args=("exec", "-s", "16T", "-p", "1G", "true", "{mem}"))
        self.assertEqual(pools(), before)

    def test_policies_and_nodes_that_are_none_are_refused(self):
        for policy in ("", "4K", "THP", "2m", "default"):
            self.fails(2, "--page-size", args=(*SMALL, f"--page-size={policy}", "true", "{mem}"))
        for nodes in ("", "bind", "bind:", ":0", "bind:x", "bind:0-", "bind:1-0", "bind:0,", "bind:256",
                      "bind:99999999999999999999", "local:0", "bind:-1", "bind:0 1"):
            self.fails(2, "--numa", args=(*SMALL, f"--numa={nodes}", "true", "{mem}"))
        self.fails(1, "NUMA", args=(*SMALL, "--numa", "bind:63", "true", "{mem}"))

    def test_times_that_are_none_are_refused(self):
        for seconds in ("nan", "inf", "-1", "0", "", "1s", "1e400", "0.001", "99999", "-nan", "0x"):
            self.fails(2, "--interval", args=(*SMALL, f"--interval={seconds}", "true", "{mem}"))

    def test_names_have_1_to_31_bytes(self):
        for name in ("", "x" * 32):
            self.fails(2, "--name", args=(*SMALL, f"--name={name}", "true", "{mem}"))
        self.well(guestmem(*SMALL, "--name", "x" * 31, "true", "{mem}"))

    def test_options_that_are_none_are_refused(self):
        self.fails(2, "--sise", args=("exec", "--sise=1M", "true", "{mem}"))
        self.fails(2, "-Z", args=("exec", "-Z", "true", "{mem}"))
        self.fails(2, "--size", "value, SIZE", args=("exec", "--size"))
        self.fails(2, "--json", "value, FILE", "'--'", args=(*SMALL, "--json", "--", "true", "{mem}"))
        self.fails(2, "--json", "value, FILE", "'--quiet'", args=(*SMALL, "-j", "--quiet", "true", "{mem}"))
        self.fails(2, "--require", args=(*SMALL, "--require=yes", "true", "{mem}"))
        self.fails(2, "--require", "--page-size", args=(*SMALL, "--require", "true", "{mem}"))
        self.fails(2, "--heatmap", args=(*SMALL, "--heatmap=a.jpg", "true", "{mem}"))
        file = self.path("a.png")
        for _ in range(2): # it is not there, and it is
            for other in (file, self.path("./a.png")):
                self.fails(2, "both go to", args=(*SMALL, "--heatmap", file, "--json", other, "true", "{mem}"))
            write(file, "")

    def test_size_command_and_mem_must_be_there(self):
        self.fails(2, "--size is missing", args=("exec", "true", "{mem}"))
        self.fails(2, "no command", args=SMALL)
        self.fails(2, "no command", args=(*SMALL, "--"))
        self.fails(2, "{mem}", args=(*SMALL, "true", "{ mem }", "{MEM}"))

    def test_numa_policy_reaches_the_memory(self):
        script = "import sys, mmap, os; m = mmap.mmap(os.open(sys.argv[1], 2), 65536);" \
                 "print([l for l in open('/proc/self/numa_maps') if 'numa-test' in l])"
        result = guestmem(*SMALL, "--name", "numa-test", "--numa", "bind:0", sys.executable, "-c", script, "{mem}")
        self.well(result)
        self.assertIn("bind:0", result.stdout)


class Command(Case):
    def test_the_exit_status_is_that_of_the_command(self):
        for status in (0, 1, 2, 7, 255):
            result = guestmem(*SMALL, "-q", "sh", "-c", f"exit {status} # {{mem}}")
            self.assertEqual((result.returncode, result.stderr), (status, ""))
        result = guestmem(*SMALL, "sh", "-c", "kill -KILL $$ # {mem}")
        self.assertEqual(result.returncode, 128 + 9)

    def test_commands_that_cannot_be_run_are_named(self):
        file = self.path("file")
        write(file, "no program")
        json = self.path("report")
        for status, command in ((127, "/no/such"), (127, "no-such-command"), (126, file), (126, self.dir),
                                (127, "")):
            self.fails(status, command, args=(*SMALL, "--json", json, "--", command, "{mem}"))
            self.assertFalse(os.path.exists(json))

    def test_every_mem_is_replaced(self):
        result = guestmem(*SMALL, "-q", "--", "echo", "{mem}", "a={mem},b={mem}", "{mem", "--size")
        self.well(result)
        path = result.stdout.split()[0]
        self.assertRegex(path, r"^/proc/self/fd/[0-9]+$")
        self.assertEqual(result.stdout, f"{path} a={path},b={path} {{mem --size\n")

    def test_the_report_leaves_standard_output_alone(self):
        result = guestmem(*SMALL, "sh", "-c", "echo out; echo err >&2 # {mem}")
        self.assertEqual(result.stdout, "out\n")
        self.assertIn("err\n", result.stderr)
        self.assertIn("guestmem: 64 KiB, page size default asked, none got;", result.stderr)

    def test_the_command_inherits_the_memory_and_nothing_else(self):
        result = guestmem(*SMALL, "-q", "sh", "-c", "ls -l /proc/self/fd; : {mem}")
        names = [line.split(" -> ")[-1] for line in result.stdout.splitlines() if " -> " in line]
        names = [n for n in names if not n.startswith(("/proc/", "pipe:", "/dev/null"))]
        self.assertEqual(names, ["/memfd:guestmem-exec (deleted)"])

    def test_the_command_gets_the_signals_that_were_there(self):
        def masks(text):
            return [line.split(":")[-2:] for line in text.splitlines() if "SigBlk" in line or "SigIgn" in line]

        ignore = lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        words = ["grep", "Sig", "/proc/self/status"]
        alone = subprocess.run(words, capture_output=True, text=True, preexec_fn=ignore, check=True)
        result = guestmem(*SMALL, "-q", *words, "{mem}", preexec_fn=ignore)
        self.assertEqual(len(masks(alone.stdout)), 2)
        self.assertEqual(masks(result.stdout), masks(alone.stdout))

    def test_an_end_is_seen_though_the_signal_for_it_was_ignored(self):
        ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        result = guestmem(*SMALL, "-q", "sh", "-c", "exit 7 # {mem}", preexec_fn=ignore, timeout=20)
        self.assertEqual((result.returncode, result.stderr), (7, ""))
        result = guestmem(*SMALL, "-q", "grep", "SigIgn", "/proc/self/status", "{mem}", preexec_fn=ignore)
        self.assertTrue(int(result.stdout.split()[-1], 16) & 1 << (signal.SIGCHLD - 1))

    def test_the_memory_is_sealed(self):
        script = "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR);" \
                 "print(os.fstat(fd).st_size, fcntl.fcntl(fd, 1034) & 7)"
        result = guestmem(*SMALL, "-q", sys.executable, "-c", script, "{mem}")
        self.assertEqual(result.stdout, "65536 7\n")

    def test_nothing_is_left_behind(self):
        before = pools()
        for words in (["true", "{mem}"], ["/no/such", "{mem}"], ["sh", "-c", "kill -9 $$; {mem}"]):
            guestmem(*SMALL, "--name", "left-behind", *words)
            self.assertEqual(holders("left-behind"), [])
        self.assertEqual(pools(), before)
        self.assertEqual(os.listdir(self.dir), [])

    def test_it_runs_without_privilege(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        result = guestmem("exec", "-s", "1M", "--json", "-", "-q", "/usr/bin/python3", *python("touch", "{mem}", MIB, 0.2)[1:],
                          preexec_fn=as_nobody)
        self.well(result)
        self.assertIn('"present_bytes": 1048576', result.stdout)


class Results(Case):
    def test_files_that_cannot_be_written_are_known_before_the_command_runs(self):
        marker = self.path("ran")
        os.mkdir(self.path("a.png"))
        for file in ("/no/such/dir/x.png", self.path("a.png"), "/proc/version/x.png"):
            for option, name in (("--json", file), ("--heatmap", file)):
                self.fails(1, name, args=(*SMALL, option, name, "touch", marker, "{mem}"))
                self.assertFalse(os.path.exists(marker))

    def test_a_full_disk_is_an_error(self):
        result = guestmem(*SMALL, "-q", "--json", "/dev/full", "true", "{mem}")
        self.fails(1, "/dev/full", "No space", result=result)
        result = guestmem(*SMALL, "-q", "--json", "/dev/full", "sh", "-c", "exit 3 # {mem}")
        self.fails(3, "/dev/full", result=result)

    def test_streams_that_are_closed_stay_closed(self):
        report = self.path("report")
        for fd in (0, 1, 2):
            def close_it(fd=fd):
                os.close(fd)
            result = guestmem("exec", "-s", "4M", "--json", report, "sh", "-c", f"[ ! -e /proc/$$/fd/{fd} ] # {{mem}}",
                              preexec_fn=close_it)
            self.well(result)
            self.assertEqual(self.json("report")["size"], 4 * MIB)
        no_stdout = lambda: os.close(1)
        self.fails(1, "standard output", "Bad file", args=("exec", "-q", "-s", "4M", "-j", "-", "true", "{mem}"), preexec_fn=no_stdout)
        self.fails(1, "standard output", "Bad file", args=("doctor",), preexec_fn=no_stdout)
        self.fails(1, "standard output", "Bad file", args=("doctor", "--json"), preexec_fn=no_stdout)

    def test_a_report_goes_to_a_file(self):
        file = self.path("report")
        for words in ([f"--json={file}"], ["--json", file], [f"-j{file}"], [f"-j={file}"], ["-j", file]):
            self.well(guestmem("exec", "-s=64K", "-p=base", "-i", "0.1", "-q", *words, "true", "{mem}"))
            self.assertEqual(self.json("report")["size"], 65536)
            os.unlink(file)

    def test_an_old_report_is_replaced_whole(self):
        report = self.path("report")
        write(report, "x" * 100000)
        self.well(guestmem(*SMALL, "--json", report, "true", "{mem}"))
        self.assertEqual(self.json("report")["exit_status"], 0)
        self.fails(127, args=(*SMALL, "--json", report, "/no/such", "{mem}"))
        self.assertEqual(self.json("report")["exit_status"], 0)

    def test_a_result_that_cannot_be_written_leaves_the_old_one(self):
        picture, report = self.path("a.png"), self.path("report")
        no_more = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        # Who draws first on a machine makes the cache of its fonts, and complains if that cannot be written.
        self.well(guestmem("inspect", "--quick", "--heatmap", picture, os.getpid()))
        os.unlink(picture)
        for file, words in ((report, ("doctor", "--json", report)),
                            (picture, ("inspect", "--quick", "--heatmap", picture, os.getpid()))):
            result = guestmem(*words, preexec_fn=no_more, stdout=subprocess.DEVNULL)
            self.fails(1, file, "too large", result=result)
            self.assertEqual(os.listdir(self.dir), [])
            write(file, "old")
            self.fails(1, file, "too large", result=guestmem(*words, preexec_fn=no_more, stdout=subprocess.DEVNULL))
            self.assertEqual(read(file), "old")
            self.assertEqual(os.listdir(self.dir), [os.path.basename(file)])
            os.unlink(file)
        os.symlink("/dev/full", picture)
        self.fails(1, picture, "No space", args=(*SMALL, "-q", "--heatmap", picture, "true", "{mem}"))

    def test_a_result_has_the_rights_of_the_file_that_it_replaces(self):
        report = self.path("report")
        for mode in (0o600, 0o644):
            write(report, "")
            os.chmod(report, mode)
            self.well(guestmem("doctor", "--json", report))
            self.assertEqual(os.stat(report).st_mode & 0o777, mode)
        os.unlink(report)
        self.well(guestmem("doctor", "--json", report, preexec_fn=lambda: os.umask(0o026)))
        self.assertEqual(os.stat(report).st_mode & 0o777, 0o640)

    def test_what_is_no_plain_file_is_written_in_place(self):
        report, other = self.path("report"), self.path("other")
        os.link(self.touch(report), other)
        self.well(guestmem("doctor", "--json", report))
        self.assertTrue(os.path.samefile(report, other))
        os.unlink(other)
        os.symlink(report, other)
        os.unlink(report)
        self.well(guestmem("doctor", "--json", other))
        self.well(guestmem("doctor", "--json", other))
        self.assertTrue(os.path.islink(other))
        self.assertTrue(self.json("report")["basics_work"])
        with open(report, "w", encoding="utf-8") as file:
            self.well(guestmem("doctor", "--json", "/dev/stdout", stdout=file))
            self.assertTrue(os.path.samestat(os.fstat(file.fileno()), os.stat(report)))
        self.assertTrue(self.json("report")["basics_work"])

    def test_a_file_of_somebody_else_is_written_in_place(self):
        if os.getuid() or not nobody_can_run_tool():
            self.skipTest("the program is not where everybody can run it, or we are not root")
        os.chmod(self.dir, 0o755)
        os.mkdir(self.path("sticky"))
        os.chmod(self.path("sticky"), 0o1777)
        os.chmod(self.touch(self.path("sticky/report")), 0o666)
        self.well(guestmem("doctor", "--json", self.path("sticky/report"), preexec_fn=as_nobody))
        self.assertTrue(self.json("sticky/report")["basics_work"])
        self.assertEqual(os.stat(self.path("sticky/report")).st_uid, 0)
        os.chmod(self.path("sticky"), 0o755)
        self.well(guestmem("doctor", "--json", self.path("sticky/report"), preexec_fn=as_nobody))

    def touch(self, path):
        write(path, "")
        return path

    def test_a_report_can_go_to_a_pipe(self):
        result = guestmem(*SMALL, "-q", "-j", "-", "true", "{mem}")
        self.assertTrue(result.stdout.startswith("{\n") and result.stdout.endswith("}\n"))
        out, into = os.pipe()
        os.close(out)
        result = guestmem(*SMALL, "-q", "-j", "-", "true", "{mem}", stdout=into)
        os.close(into)
        self.assertEqual((result.returncode, result.stderr), (1, ""))

    def test_pictures_are_drawn(self):
        for name, magic in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
            self.well(guestmem("exec", "-s", "4M", "--heatmap", self.path(name), *python("touch", "{mem}", MIB, 0.1)))
            with open(self.path(name), "rb") as file:
                self.assertTrue(file.read().startswith(magic))

    def test_words_that_are_no_text_are_escaped(self):
        report = self.path("report")
        self.well(guestmem(*SMALL, "--json", report, "true", "{mem}", b"\xff\x1b[31m".decode(errors="surrogateescape")))
        self.assertIn("\\377\\033[31m", self.json("report")["command"][-1])


class Samples(Case):
    def test_faults_that_no_sample_saw_are_explained(self):
        """Samples are 0.01 s apart in the beginning, and then twice as long each time."""
        use = " ".join(python("plain", '"$1"', MIB, 0))
        result = guestmem("exec", "-s", "1M", "-i", "60", "-j", self.path("json"), "--",
                          "sh", "-c", f"sleep 0.7; {use}", "-", "{mem}")
        self.well(result)
        report = self.json("json")
        if report["page_size_effective"] == "none" and report["guest_faults"]:
            self.assertRegex(result.stderr, "less than the time between two samples")


class Limit(Case):
    def use(self, touched):
        """The command's status, the report and its notes."""
        if os.getuid():
            self.skipTest("only root can make a file system with a limit")
        result = guestmem("exec", "-s", "1G", "-l", "4M", "-j", self.path("json"), "--",
                          *python("plain", "{mem}", touched, 0))
        return result, self.json("json")

    def test_a_touch_above_it_is_a_sigbus_that_is_explained(self):
        result, report = self.use(5 * MIB)
        self.assertEqual(result.returncode, 128 + signal.SIGBUS, result.stderr)
        self.assertEqual(members(report) - documented("# EXEC", "# INSPECT"), set())
        self.assertEqual(report["limit"], 4 * MIB)
        self.assertEqual(report["peak_allocated_bytes"], 4 * MIB)
        self.assertRegex(result.stderr, "note: all that --limit allows was backed")

    def test_below_it_nothing_is_said(self):
        result, report = self.use(3 * MIB)
        self.well(result)
        self.assertEqual((report["limit"], report["allocated_bytes"]), (4 * MIB, 3 * MIB))
        self.assertNotIn("--limit", result.stderr)


class Signals(Case):
    name = f"signals-{os.getpid()}"

    def begin(self, *names, **kwargs):
        child = start(*SMALL, "--name", self.name, *python("signals", "{mem}", *names), **kwargs)
        self.addCleanup(end, child)
        self.assertEqual(child.stdout.readline(), "ready\n")
        return child

    def child_of(self, pid):
        return int(wait_for(lambda: read(f"/proc/{pid}/task/{pid}/children").split())[0])

    def test_each_is_forwarded_once(self):
        names = ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH")
        child = self.begin(*names)
        for name in names:
            child.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual(child.stdout.readline(), f"SIG{name}\n")
        os.kill(self.child_of(child.pid), signal.SIGKILL)
        self.assertEqual(child.wait(20), 137)
        self.assertEqual(child.stdout.read(), "")

    def test_a_term_ends_both(self):
        child = self.begin()
        child.terminate()
        self.assertEqual(child.wait(20), 143)
        self.assertEqual(holders(self.name), [])

    def test_if_we_are_killed_the_command_is_ended(self):
        child = self.begin()
        inner = self.child_of(child.pid)
        child.kill()
        child.wait()
        self.assertTrue(wait_for(lambda: state_of(inner) in ("", "Z")))
        self.assertEqual(holders(self.name), [])

    def test_both_stop_and_go_on(self):
        # A job of its own: one that nobody could continue would not be stopped.
        child = self.begin(process_group=0)
        inner = self.child_of(child.pid)
        child.send_signal(signal.SIGTSTP)
        self.assertTrue(wait_for(lambda: state_of(child.pid) == state_of(inner) == "T"))
        child.send_signal(signal.SIGCONT)
        self.assertTrue(wait_for(lambda: "T" not in (state_of(child.pid), state_of(inner))))
        child.terminate()
        self.assertEqual(child.wait(20), 143)

    def test_a_job_that_nobody_could_continue_is_not_stopped(self):
        child = self.begin("USR1", start_new_session=True)
        child.send_signal(signal.SIGTSTP)
        child.send_signal(signal.SIGUSR1)
        self.assertEqual(child.stdout.readline(), "SIGUSR1\n")
        child.terminate()
        self.assertEqual(child.wait(20), 143)

    def press_ctrl_c(self, *before):
        """Ctrl-C on a terminal of its own, for a command behind the words @before."""
        leader, follower = pty.openpty()

        def own_terminal():
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))

        child = start(*SMALL, *before, *python("signals", "{mem}", "INT"), stdin=follower, preexec_fn=own_terminal)
        self.assertEqual(child.stdout.readline(), "ready\n")
        os.write(leader, b"\x03")
        self.assertEqual(child.stdout.readline(), "SIGINT\n")
        time.sleep(0.2)
        child.terminate()
        self.assertEqual(child.wait(20), 143)
        self.assertEqual(child.stdout.read(), "")
        os.close(leader)
        os.close(follower)
        end(child)

    def test_ctrl_c_of_a_terminal_comes_once(self):
        self.press_ctrl_c()

    def test_ctrl_c_reaches_a_command_that_has_left_the_group(self):
        self.press_ctrl_c("setsid")

    def test_orphans_are_reaped_and_no_reason_to_wait(self):
        begun = time.monotonic()
        script = "(sleep 0.1 &); sleep 60 >/dev/null 2>&1 & echo $!; sleep 0.4; cat /proc/[0-9]*/stat 2>/dev/null; : {mem}"
        result = guestmem(*SMALL, "-q", "bash", "-c", script)
        self.well(result)
        orphan, *stats = result.stdout.splitlines()
        os.kill(int(orphan), signal.SIGKILL)
        self.assertLess(time.monotonic() - begun, 30)
        parents = {line.split()[0]: line for line in stats}
        tool = parents[orphan].rpartition(")")[2].split()[1]
        tool = parents[tool].rpartition(")")[2].split()[1]
        self.assertEqual([l for l in stats if l.rpartition(")")[2].split()[:2] == ["Z", tool]], [])


class From(Case):
    def test_it_begins_with_what_was_saved(self):
        raw, diff, both, saved = (self.path(n) for n in ("raw", "diff", "both", "saved"))
        with open(raw, "wb") as file:
            file.truncate(4 * MIB)
            file.write(os.urandom(MIB))
            file.seek(3 * MIB)
            file.write(os.urandom(MIB))
        with open(diff, "wb") as file:
            file.truncate(4 * MIB)
            file.seek(2 * MIB)
            file.write(b"x" * 4096)
        self.well(guestmem("snapshot", raw, saved))
        self.well(guestmem("convert", "--to", "raw", raw, diff, both))
        for args, wanted in ((["-f", saved], raw), (["-f", raw], raw), (["-f", raw, "-f", diff], both)):
            result = guestmem("exec", "--size", "4M", "--json", self.path("json"), "-q", *args, "--", "cmp", "{mem}", wanted)
            self.well(result)
        self.fails(1, "more than --size", args=("exec", "--size", "2M", "-q", "-f", raw, "--", "true", "{mem}"))
        self.fails(1, "No such file", args=("exec", "--size", "2M", "-q", "-f", self.path("none"), "--", "true", "{mem}"))
        self.fails(2, "--from", args=("exec", "--size", "1G", "--limit", "1M", "-f", raw, "--", "true", "{mem}"))


if __name__ == "__main__":
    main()
