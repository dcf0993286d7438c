#!/usr/bin/python3
"""shim_test.py SHIM TABLE MALLOC: the shim exports what the table says, needs no C++ run-time library, and
makes the C library's calls before its constructors, inside malloc, and in destructors."""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

bound = int(os.environ.get("PATIENCE", 300))  # seconds
shim, table, malloc_library = map(os.path.abspath, sys.argv[1:4])
commands = [
    ["/bin/true"],
    ["ls", "/"],
    ["/bin/sh", "-c", "echo $(echo inner) | cat"],
    ["/usr/bin/python3", "-S", "-c", "import os, time, socket; time.sleep(0.001); print(os.popen('echo x').read(), os.wait3, "
     "socket.getaddrinfo('127.0.0.1', 80)[0][4], socket.gethostbyname('localhost'))"],
]


def text_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def of_table(kinds):
    return set(re.findall(rf"^(?:{kinds})\([^,]+,\s*(\w+)", Path(table).read_text(), re.M))


def taken_over():
    return of_table("CALL|ALIAS|ODD|STREAM|UNLOCKED|OTHERS|LOCK|LOCK_ALIAS")


class Shim(unittest.TestCase):
    def test_exports_everything_in_the_table(self):
        exported = {line.split()[-1].split("@")[0] for line in text_of("nm", "-D", "--defined-only", shim).splitlines()}
        self.assertGreater(len(taken_over()), 100)
        self.assertEqual(sorted(taken_over() - exported), [])

    def test_exports_nothing_but_libc_names_and_those_of_the_table(self):
        libc = {line.split()[-1].split("@")[0] for line in text_of("nm", "-D", "--defined-only", libc_path()).splitlines()}
        exported = {line.split()[-1].split("@")[0] for line in text_of("nm", "-D", "--defined-only", shim).splitlines()}
        # C23's scanf, which the C library has from 2.38 on: the shim may have been built with an
        # older one.
        # __cxa_guard_*: local static variables, which the C++ library initialises.
        ours = ("tendril_", "__isoc23_", "__cxa_guard_")
        self.assertEqual(sorted(n for n in exported - libc - of_table("OTHERS") if not n.startswith(ours)), [])

    def test_needs_no_cpp_runtime(self):
        for library in (shim, os.path.join(os.path.dirname(shim), "../lib/libtendril.so.0")):
            self.assertNotIn("stdc++", text_of("readelf", "-d", library))

    def test_is_not_marked_as_supporting_shadow_stacks(self):
        # A switch changes the stack but not the shadow stack, so the libraries must not claim to
        # support shadow stacks.
        for library in (shim, os.path.join(os.path.dirname(shim), "../lib/libtendril.so.0")):
            self.assertNotIn("SHSTK", text_of("readelf", "-nW", library))

    def test_calls_before_constructors_and_inside_malloc(self):
        # Each of the two libraries first.
        for preload in ((shim, malloc_library), (malloc_library, shim)):
            for cooperate in ({}, {"TENDRIL_COOPERATE": "always"}):
                for command in commands:
                    with self.subTest(preload=preload, cooperate=cooperate, command=command):
                        environment = {**os.environ, **cooperate, "LD_PRELOAD": " ".join(preload)}
                        native = subprocess.run(command, capture_output=True, text=True, timeout=bound)
                        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=bound)
                        self.assertEqual(done.returncode, native.returncode, done.stderr)
                        self.assertEqual(done.stdout, native.stdout)
                        if command == ["/bin/true"]:
                            self.assertEqual(done.stderr, "calls were made\n")


def libc_path():
    maps = Path("/proc/self/maps").read_text()
    return re.search(r"(/\S*/libc\.so\.6)", maps).group(1)


unittest.main(argv=sys.argv[:1], verbosity=1)
