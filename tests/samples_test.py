#!/usr/bin/python3
"""Runs each sample and compares what it prints.

    samples_test.py BUILD_DIRECTORY   (TEST_SERVER: as set by samples/test_server, which runs this)
"""

import concurrent.futures
import contextlib
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import time
import unittest
from http.client import HTTPConnection

build = pathlib.Path(sys.argv.pop(1)).resolve()
samples = build / "samples"
source = pathlib.Path(__file__).resolve().parent.parent
http, https, cacert = (os.environ.get(name, "") for name in ("HTTP_URL", "HTTPS_URL", "CACERT"))
bound = int(os.environ.get("PATIENCE", 300))  # seconds; no test takes nearly as long


def run(name, *arguments, **options):
    return subprocess.run([samples / name, *map(str, arguments)], capture_output=True, text=True, timeout=bound,
                          **options)


def fetch(*arguments):
    return run("fetch", "--timeout", bound, *arguments)


def free_port():
    """A port that refuses connections."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ways():
    """How an unmodified program is run: natively and under the shim."""
    native, shim = [], [build / "shim" / "launcher" / "tendril", "run", "--"]
    # A sanitizer's run-time library must be the first library of a program, so a sanitized shim
    # cannot be preloaded.
    return [native, shim] if os.environ.get("SANITIZE", "none") == "none" else [native]


class EchoServer:
    """A server that prints its address in its first line."""

    def __init__(self, *command):
        self.command = command or (samples / "echo_server",)

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().strip().removeprefix("listening on 127.0.0.1:")
        return self

    def lines_until(self, word, times=1):
        """The output up to the line that contains the word for the `times`-th time."""
        lines = []
        while times:
            lines.append(self.process.stdout.readline().rstrip("\n"))
            times -= word in lines[-1]
        return lines

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class Printing(unittest.TestCase):
    def prints(self, name, *lines, arguments=()):
        done = run(name, *arguments)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("\n".join(lines) + "\n", "", 0))


class Generators(Printing):
    def test_close_ends_a_coroutine_that_prints_goodbye(self):
        self.prints("grep_close", "Looking for python", "python generators rock!", "Going away. Goodbye", "closed")


class Switching(Printing):
    def test_greenlet_example_never_prints_78(self):
        self.prints("greenlet_12_56_34", "12", "56", "34")


class Tasks(Printing):
    def test_tasks_of_an_event_loop_take_turns(self):
        self.prints("event_loop_tasks", "Hello World",
                    "Task A: Compute factorial(2), currently i=2...", "Task B: Compute factorial(3), currently i=2...",
                    "Task C: Compute factorial(4), currently i=2...", "Task A: factorial(2) = 2",
                    "Task B: Compute factorial(3), currently i=3...", "Task C: Compute factorial(4), currently i=3...",
                    "Task B: factorial(3) = 6", "Task C: Compute factorial(4), currently i=4...",
                    "Task C: factorial(4) = 24", "[2, 6, 24]", "the running loop is this one")

    def test_futures_are_completed_by_callbacks_and_tasks(self):
        self.prints("event_loop_futures", "scheduling mark_done", "entering event loop",
                    "setting future result to 'the result'", "returned result: 'the result'", "closing event loop",
                    "future result: 'the result'", "hello ...", "... world", "registering callbacks on future",
                    "setting result of future", "1: future done: the result", "2: future done: the result")

    def test_a_cancelled_task_cleans_up(self):
        cancelled = ("cancel_me(): before sleep", "cancel_me(): cancel sleep", "cancel_me(): after sleep")
        self.prints("cancel", *cancelled, "main(): cancel_me is cancelled now", *cancelled, "main(): timeout!")


class Fetch(unittest.TestCase):
    def test_a_session_fetches_at_once_and_answers_in_order(self):
        paths = [(f"/bytes/{n}", f"200, {n} bytes") for n in range(30)] + [("/status/404", "404, 13 bytes")]
        done = run("concurrent_fetch", *(http + path for path, _ in paths))
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertEqual(done.stdout.splitlines(), [f"{http}{path}: {answer}" for path, answer in paths])

    def test_a_session_reports_a_refused_connection(self):
        done = run("concurrent_fetch", f"http://127.0.0.1:{free_port()}/")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("concurrent_fetch: "), done.stderr)

    def test_each_url_is_announced_and_its_size_printed(self):
        urls = [f"{http}/bytes/0", f"{http}/bytes/5", f"{https}/bytes/300000"]
        done = fetch("--cacert", cacert, *urls)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertCountEqual(done.stdout.splitlines(), [f"GET: {u}" for u in urls] + [
            f"0 bytes received from {urls[0]}.", f"5 bytes received from {urls[1]}.",
            f"300000 bytes received from {urls[2]}."])

    def test_one_download_at_a_time_keeps_the_order(self):
        done = fetch("--concurrency", 1, f"{http}/bytes/1", f"{http}/bytes/2")
        self.assertEqual(done.stdout.splitlines(), [
            f"GET: {http}/bytes/1", f"1 bytes received from {http}/bytes/1.",
            f"GET: {http}/bytes/2", f"2 bytes received from {http}/bytes/2."])

    def failure(self, url, *options):
        """The message about a URL that cannot be fetched, while the others go on."""
        done = fetch(*options, url, f"{http}/bytes/5")
        self.assertIn(f"5 bytes received from {http}/bytes/5.", done.stdout)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertTrue(done.stderr.startswith(f"fetch: {url}: "), done.stderr)
        return done.stderr.removeprefix(f"fetch: {url}: ")

    def test_a_refused_connection_is_reported(self):
        self.assertEqual(self.failure(f"http://127.0.0.1:{free_port()}/"), "Connection refused\n")

    def test_an_unknown_host_is_reported(self):
        self.assertIn("Could not resolve host", self.failure("http://nowhere.invalid/"))

    def test_a_certificate_by_an_unknown_authority_is_reported(self):
        self.assertIn("certificate", self.failure(f"{https}/"))

    def test_http_errors_are_reported(self):
        for status in (404, 410, 500, 503):
            self.assertIn(str(status), self.failure(f"{http}/status/{status}"))

    def test_a_time_out_is_reported(self):
        done = run("fetch", "--timeout", 0.5, f"{http}/delay/3600")
        self.assertEqual(done.returncode, 1)
        self.assertIn("timed out", done.stderr)

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

    def test_200_urls_are_waited_for_at_once(self):
        # The server answers none before all have been requested.
        urls = [f"{scheme}/together/200/{i}" for i in range(100) for scheme in (http, https)]
        done = fetch("--cacert", cacert, *urls)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertEqual(done.stdout.count(" bytes received from "), 200)

    def test_fetching_one_by_one_and_at_once_is_compared(self):
        urls = [f"{scheme}/{i}" for i in range(10) for scheme in (http, https)]
        done = fetch("--cacert", cacert, "--compare", *urls)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertEqual(done.stdout.count(" bytes received from "), 40)
        told = [line for line in done.stdout.splitlines() if not re.search(r"^GET: | bytes received from ", line)]
        self.assertEqual([re.sub(r"\d+\.\d+", "N", line) for line in told],
                         ["sequential: 20 URLs in N s", "concurrent: 20 URLs in N s", "ratio: N"])


class Echo(unittest.TestCase):
    def test_a_thousand_connections_at_once_get_their_echoes(self):
        with EchoServer() as server:
            done = run("echo_client", server.port, 1000, 5)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertIn("1000 connections, 5000 echoes, 0 failures", done.stdout)

    def test_an_idle_client_does_not_delay_the_others(self):
        with EchoServer() as server, socket.create_connection(("127.0.0.1", server.port)):
            done = run("echo_client", server.port, 1, 1)
        self.assertEqual(done.returncode, 0)

    def test_a_client_without_a_server_reports_that(self):
        done = run("echo_client", free_port(), 1, 1)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "echo_client: connection 0: Connection refused\n")


class Servers(unittest.TestCase):
    def test_seven_echo_servers_and_one_client_for_all(self):
        for way in ("blocking", "threads", "thread_pool", "callbacks", "generators", "fibers", "nursery"):
            with self.subTest(way), EchoServer(samples / f"echo_{way}") as server:
                for _ in range(2):  # a server goes on after its clients have left
                    done = run("echo_client", server.port, 30, 5)
                    self.assertEqual((done.stderr, done.returncode), ("", 0))
                    self.assertIn("30 connections, 150 echoes, 0 failures", done.stdout)

    def test_all_but_the_blocking_one_serve_while_a_client_is_idle(self):
        for way in ("threads", "thread_pool", "callbacks", "generators", "fibers", "nursery"):
            with self.subTest(way), EchoServer(samples / f"echo_{way}") as server:
                with socket.create_connection(("127.0.0.1", server.port)):
                    self.assertEqual(run("echo_client", server.port, 1, 1).returncode, 0)

    def test_an_echo_server_on_all_cores_uses_several_kernel_threads_and_ends_in_order(self):
        with EchoServer(samples / "echo_cores", "0", "2") as server:
            done = run("echo_client", server.port, 100, 5)
            self.assertEqual((done.stderr, done.returncode), ("", 0))
            self.assertIn("100 connections, 500 echoes, 0 failures", done.stdout)
            server.process.terminate()
            out, _ = server.process.communicate(timeout=bound)
            served = [re.fullmatch(r"kernel thread (\d+): (\d+) connections", line) for line in out.splitlines()]
            self.assertNotIn(None, served)
            self.assertLessEqual(len(served), 2)
            self.assertNotIn(server.process.pid, [int(s[1]) for s in served])
            self.assertEqual(sum(int(s[2]) for s in served), 100)
            self.assertEqual(server.process.returncode, 0)

    def test_a_nursery_ends_in_order_with_its_clients(self):
        with EchoServer(samples / "echo_nursery") as server, socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"x")
            self.assertEqual(client.recv(1), b"x")
            server.process.terminate()
            self.assertEqual(client.recv(1), b"")
            out, _ = server.process.communicate(timeout=bound)
            self.assertEqual(out.splitlines(), [f"Connection from 127.0.0.1:{client.getsockname()[1]}",
                                                "Connection closed", "Server stopped"])
            self.assertEqual(server.process.returncode, 0)


class HttpServer:
    def __init__(self, delay):
        self.delay = delay

    def __enter__(self):
        self.process = subprocess.Popen([samples / "http_hello", "0", str(self.delay)], stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip().removeprefix("listening on ").rstrip("/")
        self.host, port = self.url.removeprefix("http://").split(":")
        self.port = int(port)
        return self

    def connection(self):
        return HTTPConnection(self.host, self.port, timeout=bound)

    def get(self, path, method="GET"):
        connection = self.connection()
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def says(self, request):
        """The whole answer to bytes that may be invalid HTTP."""
        with socket.create_connection((self.host, self.port), timeout=bound) as s:
            s.sendall(request)
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def unread_on_connections(port):
    """The number of received and unread bytes of each connection to a local port."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if local.endswith(f":{port:04X}") and state == "01":
            yield int(queues.split(":")[1], 16)


def await_that(condition):
    end = time.monotonic() + bound
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {bound} s")
        time.sleep(0.01)


class Http(unittest.TestCase):
    def test_the_routes_answer(self):
        with HttpServer(0) as server:
            self.assertEqual(server.get("/"), (200, "Hello, world!\n"))
            self.assertEqual(server.get("/hello/Ada"), (200, "Hello, Ada!\n"))
            self.assertEqual(server.get("/hello/J%C3%B6rg?x=1"), (200, "Hello, J\u00f6rg!\n"))
            self.assertEqual(server.get("/hello/%zz"), (400, "Bad request\n"))
            for path in ("/hello/", "/hello/a/b", "/nowhere"):
                self.assertEqual(server.get(path), (404, "Not found\n"))
            self.assertEqual(server.get("/", "POST"), (405, "Not allowed\n"))
            self.assertEqual(server.get("/", "HEAD"), (200, ""))

    def test_a_connection_serves_many_requests(self):
        with HttpServer(0) as server:
            connection = server.connection()
            for i in range(10):
                connection.request("POST" if i % 2 else "GET", f"/hello/{i}", b"ignored" * i if i % 2 else None)
                self.assertEqual(connection.getresponse().read().decode(), "Not allowed\n" if i % 2 else f"Hello, {i}!\n")
            connection.close()

    def test_requests_that_come_at_once_are_answered_in_order(self):
        with HttpServer(0) as server:
            answer = server.says(b"".join(b"GET /hello/%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(5)))
            self.assertEqual(re.findall(r"Hello, (\d)!", answer), list("01234"))

    def test_invalid_http_is_refused(self):
        with HttpServer(0) as server:
            for request in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost", b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000):
                self.assertTrue(server.says(request).startswith("HTTP/1.1 400 Bad Request\r\n"), request[:20])
            self.assertEqual(server.get("/"), (200, "Hello, world!\n"))

    def test_an_answer_takes_half_a_second(self):
        with HttpServer(0.5) as server:
            start = time.monotonic()
            self.assertEqual(server.get("/hello/Ada"), (200, "Hello, Ada!\n"))
            self.assertGreaterEqual(time.monotonic() - start, 0.5)

    def test_a_hundred_clients_wait_at_once(self):
        with HttpServer(3600) as server, contextlib.ExitStack() as all_closed:
            clients = [all_closed.enter_context(contextlib.closing(server.connection())) for _ in range(100)]
            for i, client in enumerate(clients):
                client.request("GET", f"/hello/{i}")
            # The server has read all requests and answered none.
            await_that(lambda: sum(unread == 0 for unread in unread_on_connections(server.port)) == 100)
            self.assertEqual(select.select([client.sock for client in clients], [], [], 0)[0], [])

    def test_a_hundred_clients_are_answered(self):
        with HttpServer(0.1) as server, concurrent.futures.ThreadPoolExecutor(100) as clients:
            self.assertEqual(list(clients.map(server.get, [f"/hello/{i}" for i in range(100)])),
                             [(200, f"Hello, {i}!\n") for i in range(100)])

    def test_it_ends_in_order_on_sigterm(self):
        with HttpServer(0.2) as server:
            connection = server.connection()
            connection.request("GET", "/hello/last", headers={"Connection": "close"})
            server.get("/nowhere")  # the first request has been read by now
            server.process.terminate()
            self.assertEqual(connection.getresponse().read().decode(), "Hello, last!\n")
            connection.close()
            self.assertEqual(server.process.wait(bound), 0)


class Unmodified(unittest.TestCase):
    """Programs that do not know Tendril print the same natively and under the shim."""

    def test_a_server_with_a_thread_per_connection_holds_a_thousand(self):
        for way in ways():
            with EchoServer(*way, samples / "threaded_echo_server") as server:
                done = run("echo_client", server.port, 1000, 5)
                self.assertEqual((done.stderr, done.returncode), ("", 0), way)
                server.process.send_signal(signal.SIGUSR1)
                self.assertRegex(server.process.stdout.readline(), r"^\d+ connections$")
                told = [server.process.stdout.readline() for _ in range(3)]
                tasks = int(next(line for line in told if line.startswith("Threads:")).split()[1])
                if len(way) > 0:
                    self.assertLess(tasks, 8, way)

    def test_a_blocking_c_client_gets_its_line_back(self):
        with EchoServer() as server:
            for way in ways():
                done = subprocess.run([*way, samples / "blocking_client", "localhost", str(server.port), "a line"],
                                      capture_output=True, text=True, timeout=bound)
                self.assertEqual((done.stdout, done.stderr, done.returncode), ("a line\n", "", 0), way)

    def test_thirty_python_threads_block_at_once(self):
        for way in ways():
            # The ten threads that fetch get their answers only when all of them wait.
            done = subprocess.run([*way, source / "samples" / "blocking_threads", f"{http}/together/10", "0.5"],
                                  capture_output=True, text=True, timeout=bound)
            self.assertEqual((done.stderr, done.returncode), ("", 0), way)
            self.assertIn("30 of 30 jobs", done.stdout)
            self.assertIn("with the shim" if way else "without the shim", done.stdout)


if __name__ == "__main__":
    unittest.main()
