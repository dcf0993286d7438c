#!/usr/bin/python3
"""Tests what count.py reports of meson's log of a test run."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

count = pathlib.Path(__file__).resolve().parent / "count.py"


class Count(unittest.TestCase):
    def counted(self, *tests, optional=()):
        """Returns the two numbers, and what count.py wrote about failures and skips."""
        with tempfile.TemporaryDirectory() as scratch:
            log, failures, skips = (pathlib.Path(scratch) / name for name in ("log", "failures", "skips"))
            log.write_text("".join(json.dumps({"name": f"test {i}", "result": result, "stdout": output}) + "\n"
                                   for i, (result, output) in enumerate(tests)))
            out = subprocess.run([sys.executable, count, log, "plain", failures, skips, *optional], capture_output=True,
                                 text=True, check=True).stdout
            return out, failures.read_text(), skips.read_text()

    def test_results_are_counted(self):
        out, failures, skips = self.counted(("OK", "fine\n"), ("EXPECTEDFAIL", ""), ("FAIL", "wrong\n"), ("TIMEOUT", ""))
        self.assertEqual((out, skips), ("2 2\n", ""))
        self.assertIn("== plain: test 2: FAIL\nwrong\n", failures)
        self.assertIn("== plain: test 3: TIMEOUT\n", failures)

    def test_skips_are_reported_with_their_reasons(self):
        out, failures, skips = self.counted(
            ("SKIP", "skipped: all: no ptrace\n"), ("OK", "one\nskipped: Case.two: needs root\nskipped: three: no IPv6\n"))
        self.assertEqual((out, failures), ("1 0\n", ""))
        self.assertEqual(skips, "skipped: plain: test 0: all: no ptrace\nskipped: plain: test 1: Case.two: needs root\n"
                                "skipped: plain: test 1: three: no IPv6\n")

    def test_a_skip_for_a_program_that_should_be_installed_fails(self):
        for result in ("OK", "SKIP"):
            out, failures, skips = self.counted((result, "skipped: Case.one: not installed: gdb\n"), optional=["perf"])
            self.assertEqual(out, "0 1\n")
            self.assertIn(f"== plain: test 0: {result}, with what is not installed: gdb\n", failures)
            self.assertEqual(skips, "skipped: plain: test 0: Case.one: not installed: gdb\n")

    def test_a_skip_for_an_optional_program_does_not_fail(self):
        tests = ("OK", "skipped: a: not installed: perf\n"), ("OK", "skipped: b: not installed: perf, gdb\n")
        self.assertEqual(self.counted(*tests, optional=["perf", "valgrind"])[0], "1 1\n")

    def test_a_skip_without_a_reason_fails(self):
        self.assertEqual(self.counted(("SKIP", "nothing\n"))[0], "0 1\n")


if __name__ == "__main__":
    unittest.main()
