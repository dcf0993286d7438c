#!/usr/bin/python3
"""The shim with other preloaded libraries, in both orders and in the order of their own commands; and under programs that
trace others. A program with threads must do the same as without the shim. Libraries that are not installed are skipped.

    preloads_test.py LAUNCHER SHIM WAITS_UNTIL [UNITTEST ARGUMENT...]

WAITS_UNTIL is a C program with a thread that waits until a point of time, and prints whether it woke in time."""

import glob
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True  # leave no files next to the sources
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import installed
import skipping
from installed import needs

launcher, shim, waits_until = (os.path.abspath(sys.argv.pop(1)) for _ in range(3))
bound = 100  # seconds for one run; no run takes nearly as long

# Threads, locks, sockets, pipes, files, children, sleeping, time-outs.
script = """
import os, queue, socket, subprocess, threading, time
done = queue.Queue()
def echo(s):
    while data := s.recv(100): s.sendall(data)
def speak(i):
    a, b = socket.socketpair()
    t = threading.Thread(target=echo, args=(b,))
    t.start()
    a.sendall(b'hello %d' % i)
    answer = a.recv(100)
    time.sleep(0.01)
    a.shutdown(socket.SHUT_WR)
    t.join()
    with open('file%d' % i, 'wb') as f:
        f.write(answer); f.flush(); os.fsync(f.fileno()); os.fchmod(f.fileno(), 0o640)
    done.put((i, answer, os.stat('file%d' % i).st_size, oct(os.stat('file%d' % i).st_mode)))
threads = [threading.Thread(target=speak, args=(i,)) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(sorted(done.get() for t in threads))
event, begin = threading.Event(), time.monotonic()
print(event.wait(0.05), time.monotonic() - begin >= 0.05)
print(subprocess.run(['sh', '-c', 'echo child; exit 3'], stdout=subprocess.PIPE).stdout)
"""


def libraries(*patterns):
    """The first of these files that exists, or None."""
    return next((f for p in patterns for f in sorted(glob.glob("/usr/lib/*/" + p) + glob.glob("/usr/libexec/coreutils/" + p))), None)


def run(command, extra=()):
    environment = {"PATH": installed.path, "LC_ALL": "C", "TZ": "UTC", "HOME": "/nowhere", **dict(extra)}
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(command, cwd=empty, env=environment, text=True, errors="replace", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=bound)
    return done.stdout, done.returncode


under = [launcher, "run", "--"]
python = ["/usr/bin/python3", "-S", "-c", script]


class Libraries(unittest.TestCase):
    def same(self, *patterns, programs=(python, [waits_until]), behind=True, **variables):
        library = libraries(*patterns)
        if not library:
            self.skipTest("not installed: " + patterns[0])
        for program in programs:
            native = run(program, {"LD_PRELOAD": library, **variables})
            self.assertEqual(native[1], 0, native)
            ways = {"as the launcher arranges them": (under + program, library), "in front": (program, library + ":" + shim)}
            if behind:
                ways["behind"] = program, shim + ":" + library
            for name, (command, preload) in ways.items():
                with self.subTest(name, program=program[0]):
                    self.assertEqual(run(command, {"LD_PRELOAD": preload, **variables}), native)

    def test_jemalloc(self):
        self.same("libjemalloc.so.2")

    def test_tcmalloc(self):
        self.same("libtcmalloc_minimal.so.4")

    def test_mimalloc(self):
        self.same("libmimalloc.so.[23]*")

    def test_eatmydata(self):
        self.same("libeatmydata.so*")

    def test_stdbuf(self):
        self.same("libstdbuf.so", "coreutils/libstdbuf.so")

    def test_libfaketime(self):
        # With the library behind the shim, the program's clocks differ from those that the shim
        # waits by. (The library does not interpose python3's own waits, natively either.)
        self.same("faketime/libfaketimeMT.so.1", programs=[[waits_until]], behind=False, FAKETIME="+3600s")


class Commands(unittest.TestCase):
    """Commands that preload their own library, or trace."""

    def same(self, wrapper, program=python, without=True):
        native = run(wrapper + program)
        self.assertEqual(native[1], 0, native)
        ways = {"within": wrapper + under + program}
        if without:
            ways["without"] = under + wrapper + program
        for name, command in ways.items():
            with self.subTest(name):
                self.assertEqual(run(command), native)

    @needs("fakeroot")
    def test_fakeroot(self):
        self.same(["fakeroot"])
        self.same(["fakeroot"], ["sh", "-c", "touch a; chown 7:8 a; stat -c '%u %g' a; id -u"])

    @needs("eatmydata")
    def test_eatmydata(self):
        self.same(["eatmydata"])

    @needs("stdbuf")
    def test_stdbuf(self):
        self.same(["stdbuf", "-oL"])
        self.same(["stdbuf", "-o0", "-i0"], ["sh", "-c", "seq 5 | tr 1-5 a-e"])

    @needs("faketime")
    def test_faketime(self):
        # In the other order, faketime itself puts its library behind the shim, where clocks and
        # waits disagree.
        self.same(["faketime", "-f", "+3600s"], [waits_until], without=False)

    def observes(self, wrapper):
        """Skips a test where the system does not permit the command to trace others."""
        if run(wrapper + ["true"])[1] != 0:
            self.skipTest(f"{wrapper[0]} is not allowed to observe others here")

    @needs("strace")
    def test_strace(self):
        self.observes(["strace", "-o", "/dev/null"])
        self.same(["strace", "-f", "-qq", "-o", "/dev/null"])

    @needs("perf")
    def test_perf(self):
        self.observes(["perf", "stat", "-o", "/dev/null", "--"])
        self.same(["perf", "stat", "-o", "/dev/null", "--"])

    @needs("valgrind")
    def test_memcheck_and_helgrind_find_nothing(self):
        for tool in ("memcheck", "helgrind"):
            self.same(["valgrind", "-q", "--tool=" + tool, "--error-exitcode=9"], [waits_until])


if __name__ == "__main__":
    skipping.main(verbosity=2)
