"""unittest.main() for tests some of whose cases cannot run everywhere. Prints a line `skipped: NAME: REASON` for each
skipped case, which tests/run counts; if all were skipped, the status is 77, which meson counts as skipped."""

import sys
import unittest


def main(**options):
    result = unittest.main(exit=False, **options).result
    sys.stderr.flush()
    for test, reason in result.skipped:
        print(f"skipped: {test.id().removeprefix('__main__.')}: {reason}")
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.skipped and len(result.skipped) >= result.testsRun else 0)
