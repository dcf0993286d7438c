#!/usr/bin/python3
"""debugger_test.py SHIM PROGRAM: gdb attaches to PROGRAM under SHIM, and reads its core, as natively: it finds the
running function and its callers. Skipped without gdb, or where tracing is not permitted."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # leave no files next to the sources
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import skipping

SHIM, PROGRAM = (os.path.abspath(p) for p in sys.argv[1:3])


def gdb(*arguments):
    done = subprocess.run(["gdb", "-nx", "-batch", *arguments], capture_output=True, text=True, errors="replace",
                          timeout=int(os.environ.get("PATIENCE", 300)), env={**os.environ, "DEBUGINFOD_URLS": ""})
    return done.stdout + done.stderr


class Debugger(unittest.TestCase):
    def start(self, how):
        """Starts the program; returns when it has reached its final state."""
        process = subprocess.Popen([PROGRAM, how], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "LD_PRELOAD": SHIM})
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def attach(self, process, *commands):
        said = gdb("-p", str(process.pid), *(word for c in commands for word in ("-ex", c)))
        if "ptrace: Operation not permitted" in said or "Could not attach" in said:
            self.skipTest("processes may not be traced here")
        return said

    def test_attaching_shows_main_where_it_waits(self):
        said = self.attach(self.start("reads"), "backtrace", "info threads")
        self.assertRegex(said, r"#\d+ .* in reads_in_main \(\)[^#]*#\d+ .* in main \(")
        self.assertIn("Thread 0x", said)

    def test_attaching_shows_a_thread_that_computes(self):
        process = self.start("computes")
        said = self.attach(process, "backtrace", "print counted > 0", "detach")
        self.assertRegex(said, r"#\d+ .*computes_in_thread \(")
        self.assertIsNone(process.poll(), "it goes on")

    def test_preemption_does_not_stop_the_debugged_program(self):
        said = gdb("-ex", "set startup-with-shell off", "-ex", "set environment LD_PRELOAD " + SHIM, "-ex", "run",
                   "--args", PROGRAM, "ends")
        if "ptrace" in said:
            self.skipTest("processes may not be traced here")
        self.assertNotIn("received signal", said)
        self.assertIn("exited normally", said)

    def test_continuing_after_attaching_does_not_stop_again(self):
        process = self.start("computes")
        said = self.attach(process, "set variable goes_on = 1", "continue")
        self.assertNotIn("received signal", said)
        self.assertIn("exited normally", said)

    def test_a_breakpoint_in_a_thread_stops_there(self):
        said = gdb("-ex", "set startup-with-shell off", "-ex", "set environment LD_PRELOAD " + SHIM,
                   "-ex", "break computes_in_thread", "-ex", "run", "-ex", "backtrace 1", "-ex", "kill",
                   "--args", PROGRAM, "computes")
        if "ptrace" in said:
            self.skipTest("processes may not be traced here")
        self.assertRegex(said, r"hit Breakpoint 1, .*computes_in_thread")

    def test_a_core_shows_main_where_it_waits(self):
        with tempfile.TemporaryDirectory() as directory:
            core = os.path.join(directory, "core")
            self.attach(self.start("reads"), "generate-core-file " + core)
            said = gdb("-ex", "backtrace", PROGRAM, core)
        self.assertRegex(said, r"#\d+ .* in reads_in_main \(\)[^#]*#\d+ .* in main \(")

    def test_a_fault_in_a_thread_is_shown_there(self):
        said = gdb("-ex", "set startup-with-shell off", "-ex", "set environment LD_PRELOAD " + SHIM, "-ex", "run",
                   "-ex", "backtrace", "-ex", "kill", "--args", PROGRAM, "fault")
        if "ptrace" in said:
            self.skipTest("processes may not be traced here")
        self.assertIn("received signal SIGSEGV", said)
        self.assertRegex(said, r"#0 .*faults_in_thread \(")


if __name__ == "__main__":
    if not shutil.which("gdb"):
        print("skipped: all cases: not installed: gdb")
        sys.exit(77)
    skipping.main(argv=sys.argv[:1])
