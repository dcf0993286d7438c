"""count.py TESTLOG CONFIGURATION FAILURES SKIPS [OPTIONAL...]: counts the results in meson's log of a test run.

Prints how many tests passed and how many failed. Appends the failed tests and the end of their output to the file
FAILURES, and a line for each skip to SKIPS. A test reports a skip in a line `skipped: WHAT: REASON`. If the REASON is
`not installed: PROGRAM`, where PROGRAM is not one of OPTIONAL, the test has failed: tests/run has installed all others.
A test that was skipped without a reason has failed too."""

import json
import re
import sys

log, configuration, failures, skips, *optional = sys.argv[1:]
passed = failed = 0
with open(log) as tests, open(failures, "a") as failures, open(skips, "a") as skips:
    for test in map(json.loads, tests):
        output = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
        result = test["result"]
        skipped = re.findall(r"^skipped: (.*)", output, re.M)
        for skip in skipped:
            print(f"skipped: {configuration}: {test['name']}: {skip}", file=skips)
        missing = re.findall(r"^skipped: .*?: not installed: (.*)", output, re.M)
        needless = [program for names in missing for program in names.split(", ") if program not in optional]
        if needless:
            result = f"{result}, with what is not installed: {', '.join(needless)}"
        elif result == "SKIP" and not skipped:
            result = "SKIP, and it does not say why"
        if result in ("OK", "EXPECTEDFAIL"):
            passed += 1
        elif result != "SKIP":
            failed += 1
            print(f"== {configuration}: {test['name']}: {result}", file=failures)
            print(*output.splitlines()[-40:], sep="\n", file=failures)
print(passed, failed)
