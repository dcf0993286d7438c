#!/usr/bin/python3
"""Runs each sample and compares what it prints.

    samples_test.py BUILD_DIRECTORY   (TEST_SERVER: as set by samples/test_server, which runs this)
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import unittest

build = pathlib.Path(sys.argv.pop(1)).resolve()
samples = build / "samples"
source = pathlib.Path(__file__).resolve().parent.parent
http, https, cacert = (os.environ.get(name, "") for name in ("HTTP_URL", "HTTPS_URL", "CACERT"))
bound = 60  # seconds; nothing here takes nearly as long


def run(name, *arguments, **options):
    return subprocess.run([samples / name, *map(str, arguments)], capture_output=True, text=True, timeout=bound,
                          **options)


def free_port():
    """A port that refuses connections."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class EchoServer:
    def __enter__(self):
        self.process = subprocess.Popen([samples / "echo_server"], stdout=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().strip().removeprefix("listening on 127.0.0.1:")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class Switching(unittest.TestCase):
    def prints(self, name, *lines):
        done = run(name)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("\n".join(lines) + "\n", "", 0))

    def test_greenlet_example_never_prints_78(self):
        self.prints("greenlet_12_56_34", "12", "56", "34")

    def test_greenlet_example_with_one_switch_more_prints_78(self):
        self.prints("greenlet_12_56_34_78", "12", "56", "34", "78")

    def test_gevent_example_alternates_between_foo_and_bar(self):
        self.prints("foo_bar", "Running in foo", "Explicit context to bar", "Explicit context switch to foo again",
                    "Implicit context switch back to bar")


class Fetch(unittest.TestCase):
    def test_each_url_is_announced_and_its_size_told(self):
        urls = [f"{http}/bytes/0", f"{http}/bytes/5", f"{https}/bytes/300000"]
        done = run("fetch", "--cacert", cacert, *urls)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertCountEqual(done.stdout.splitlines(), [f"GET: {u}" for u in urls] + [
            f"0 bytes received from {urls[0]}.", f"5 bytes received from {urls[1]}.",
            f"300000 bytes received from {urls[2]}."])

    def test_one_download_at_a_time_keeps_the_order(self):
        done = run("fetch", "--concurrency", 1, f"{http}/bytes/1", f"{http}/bytes/2")
        self.assertEqual(done.stdout.splitlines(), [
            f"GET: {http}/bytes/1", f"1 bytes received from {http}/bytes/1.",
            f"GET: {http}/bytes/2", f"2 bytes received from {http}/bytes/2."])

    def failure(self, url, *options):
        """What is said of a URL that cannot be had, while the others go on."""
        done = run("fetch", *options, url, f"{http}/bytes/5")
        self.assertIn(f"5 bytes received from {http}/bytes/5.", done.stdout)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertTrue(done.stderr.startswith(f"fetch: {url}: "), done.stderr)
        return done.stderr.removeprefix(f"fetch: {url}: ")

    def test_a_refused_connection_is_told(self):
        self.assertEqual(self.failure(f"http://127.0.0.1:{free_port()}/"), "Connection refused\n")

    def test_an_unknown_host_is_told(self):
        self.assertIn("Could not resolve host", self.failure("http://nowhere.invalid/"))

    def test_a_certificate_by_an_unknown_authority_is_told(self):
        self.assertIn("certificate", self.failure(f"{https}/"))

    def test_http_errors_are_told(self):
        for status in (404, 410, 500, 503):
            self.assertIn(str(status), self.failure(f"{http}/status/{status}"))

    def test_a_time_out_is_told(self):
        self.assertIn("timed out", self.failure(f"{http}/delay/30", "--timeout", 0.5))

    def test_a_file_url_is_refused(self):
        self.assertIn("not supported", self.failure("file:///etc/passwd"))

    def test_bad_options_are_refused_in_a_line(self):
        for options in (["--cacert", "/nonexistent", http], ["--timeout", "0", http], ["--concurrency", "x", http], []):
            done = run("fetch", *options)
            self.assertNotEqual(done.returncode, 0)
            self.assertNotEqual(done.stderr, "")

    def test_help_names_every_option(self):
        done = run("fetch", "--help")
        self.assertEqual(done.returncode, 0)
        for option in ("--cacert", "--concurrency", "--timeout", "--compare"):
            self.assertIn(option, done.stdout)

    def test_200_urls_take_a_small_part_of_the_sequential_time(self):
        urls = [f"{scheme}/{i}" for i in range(100) for scheme in (http, https)]
        done = run("fetch", "--cacert", cacert, "--compare", *urls)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertEqual(done.stdout.count(" bytes received from "), 400)
        ratio = float(re.search(r"^ratio: (.*)$", done.stdout, re.M)[1])
        self.assertGreater(ratio, 2, "1 is sequential; 20 and more on an idle machine, 9 seen on a busy one")


class Echo(unittest.TestCase):
    def test_a_thousand_connections_at_once_get_their_echoes(self):
        with EchoServer() as server:
            done = run("echo_client", server.port, 1000, 5)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertIn("1000 connections, 5000 echoes, 0 failures", done.stdout)

    def test_an_idle_client_does_not_hold_up_the_others(self):
        with EchoServer() as server, socket.create_connection(("127.0.0.1", server.port)):
            done = run("echo_client", server.port, 1, 1)
        self.assertEqual(done.returncode, 0)

    def test_a_client_without_a_server_says_so(self):
        done = run("echo_client", free_port(), 1, 1)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "echo_client: connection 0: Connection refused\n")


class Unmodified(unittest.TestCase):
    """Programs that know nothing of Tendril print the same natively and under the shim."""

    launcher = build / "shim" / "launcher" / "tendril"

    def ways(self):
        native, shim = [], [self.launcher, "run", "--"]
        # A sanitizer's run-time library has to come first in a program, so a shim that needs it cannot be preloaded.
        return [native, shim] if os.environ.get("SANITIZE", "none") == "none" else [native]

    def test_a_blocking_c_client_gets_its_line_back(self):
        with EchoServer() as server:
            for way in self.ways():
                done = subprocess.run([*way, samples / "blocking_client", "localhost", server.port, "a line"],
                                      capture_output=True, text=True, timeout=bound)
                self.assertEqual((done.stdout, done.stderr, done.returncode), ("a line\n", "", 0), way)

    def test_thirty_python_threads_block_at_once(self):
        for way in self.ways():
            done = subprocess.run([*way, source / "samples" / "blocking_threads", http, "0.5"], capture_output=True,
                                  text=True, timeout=bound)
            self.assertEqual((done.stderr, done.returncode), ("", 0), way)
            self.assertIn("30 of 30 jobs", done.stdout)
            self.assertIn("with the shim" if way else "without the shim", done.stdout)
            self.assertLess(float(re.search(r"done in (\S+) s", done.stdout)[1]), 5, "one after another: 15 s")


if __name__ == "__main__":
    unittest.main()
