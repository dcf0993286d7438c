"""Which of the programs that the tests need are installed."""

import functools
import shutil

path = "/usr/bin:/bin:/usr/sbin:/sbin"


def missing(programs):
    return [p for p in programs if not shutil.which(p, path=path)]


def needs(*programs):
    """Skips a test whose programs are not installed."""
    def decorate(test):
        @functools.wraps(test)
        def wrapper(self):
            if absent := missing(programs):
                self.skipTest(f"not installed: {', '.join(absent)}")
            test(self)
        return wrapper
    return decorate
