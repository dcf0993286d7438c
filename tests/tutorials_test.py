#!/usr/bin/python3
"""Compares the output of the tutorials' programs with what the tutorials show, or with Python's.

    tutorials_test.py BUILD_DIRECTORY   (TEST_SERVER: as set by samples/test_server, which runs this)

Times, thread numbers, ports and descriptors are masked.
"""

import concurrent.futures
import contextlib
import http.server
import os
import pathlib
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from samples_test import EchoServer, HttpServer, Printing, await_that, bound, cacert, https, run, samples, ways
from samples_test import http as http_url

fibers_for_threads = os.environ.get("SANITIZE", "none") == "none"
stderr_repr = "<_io.TextIOWrapper name='<stderr>' mode='w' encoding='UTF-8'>"


class Stoppable:
    @contextlib.contextmanager
    def stopped(self):
        """Stops the server meanwhile, so that it sees all events at once when it goes on."""
        self.process.send_signal(signal.SIGSTOP)
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat")
        await_that(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        yield
        self.process.send_signal(signal.SIGCONT)


def reset(s):
    """Closes a connection by a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Server(Stoppable):
    """A server that prints its address on standard error."""

    def __init__(self, name, stdout=subprocess.PIPE):
        self.command = [samples / name, "0"]
        self.stdout = stdout

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=self.stdout, stderr=subprocess.PIPE, text=True)
        self.port = int(self.process.stderr.readline().rsplit(":", 1)[1])
        return self

    def lines_until(self, word, times=1):
        """The output up to the line that contains the word for the `times`-th time."""
        lines = []
        while times:
            line = self.process.stdout.readline()
            assert line, lines  # the server has ended
            lines.append(line.rstrip("\n"))
            times -= word in line
        return lines

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def takes_at_least(test, seconds):
    start = time.monotonic()
    yield
    test.assertGreaterEqual(time.monotonic() - start, seconds)


class Generators(Printing):
    def test_two_rockets_count_down_in_turns(self):
        first = [f"神州十一号 倒计时: {n}秒" for n in range(5, 0, -1)] + ["神州十一号 发射"]
        second = [f"天宫二号 倒计时: {n}秒" for n in range(10, 0, -1)] + ["天宫二号 发射"]
        in_turns = [line for pair in zip(first, second) for line in pair] + second[len(first):]
        self.prints("countdown", *in_turns, arguments=[0])

    def test_each_count_takes_its_time(self):
        start = time.monotonic()
        rockets = subprocess.Popen([samples / "countdown", "0.01"], stdout=subprocess.PIPE, text=True)
        waits = 0  # the waits before a line: one countdown delays the other, as with time.sleep()
        for line in rockets.stdout:
            self.assertGreaterEqual(time.monotonic() - start, 0.01 * waits, line)
            waits += "倒计时" in line
        rockets.stdout.close()
        self.assertEqual((rockets.wait(), waits), (0, 15))

    def test_a_producer_sends_and_a_consumer_replies(self):
        self.prints("producer_consumer", *(line for n in range(1, 6) for line in (
            f"[PRODUCER] Producing {n}...", f"[CONSUMER] Consuming {n}...", "[PRODUCER] Consumer return: 200 OK")))

    def test_two_consumers_eat_baozi(self):
        self.prints("baozi", *["--->starting eating baozi..."] * 2, *(line for n in range(1, 6) for line in (
            f"[c1] is eating baozi {n}", f"[c2] is eating baozi {n}", f"\033[32;1m[producer]\033[0m is making baozi {n}")))

    def test_close_ends_a_coroutine(self):
        self.prints("end_by_close", "Start", "oh, I'm info1", "Of course you are", "Exit")

    def test_a_pipeline_returns_the_list_of_joined_strings(self):
        self.prints("yield_from", "['5,6', 'adad,123']")

    def test_coroutine_object_and_closure_are_timed(self):
        done = run("grep_timing", 1000)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertRegex(done.stdout, r"\Acoroutine: [\d.e-]+\nobject: [\d.e-]+\nclosure: [\d.e-]+\n\Z")


class Greenlets(Printing):
    def test_greenlets_print_12_56_34_78(self):
        self.prints("greenlet_12_56_34_78", "12", "56", "34", "78")

    def test_gevent_alternates_between_foo_and_bar(self):
        self.prints("foo_bar", "Running in foo", "Explicit context to bar", "Explicit context switch to foo again",
                    "Implicit context switch back to bar")


class Hello(unittest.TestCase):
    def run_masked(self, *arguments):
        """The lines with times and thread numbers masked, and the thread numbers."""
        done = run("hello_four_ways", *arguments)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        threads = re.findall(r"serve thread id = (\d+)$", done.stdout, re.M)
        masked = re.sub(r"\d\d:\d\d:\d\d", "TIME", re.sub(r"id = \d+$", "id = ID", done.stdout, flags=re.M))
        return masked.splitlines(), threads

    def lines(self, numbers):
        return [f"Hello {n} now = TIME serve thread id = ID" for n in numbers] + [
            f"Bye.. {n} now = TIME" for n in numbers]

    def hello(self, way, numbers):
        with takes_at_least(self, 0.1 * max(numbers)):
            printed, threads = self.run_masked(way, 0.1)
        self.assertEqual(len(threads), 3)
        return printed, self.lines(numbers), set(threads)

    def test_without_arguments_it_is_gevents_way_as_in_the_tutorial(self):
        with takes_at_least(self, 2):  # the longest of the waits, 0, 1 and 2 seconds
            printed, threads = self.run_masked()
        self.assertEqual(printed, self.lines((0, 1, 2)))
        self.assertEqual((len(threads), len(set(threads))), (3, 1))

    def test_all_four_ways_run_in_turn(self):
        printed, _ = self.run_masked("all", 0.1)
        self.assertCountEqual(printed[:6], self.lines((0, 1, 2)))  # the kernel's threads come in any order
        self.assertEqual(printed[6:], [line for numbers in ((1, 2, 3), (0, 1, 2), (0, 1, 2)) for line in self.lines(numbers)])

    def test_tasks_of_a_loop_async_functions_and_patched_tasks_share_a_kernel_thread(self):
        for way, numbers in (("asyncio", (1, 2, 3)), ("async", (0, 1, 2)), ("gevent", (0, 1, 2))):
            with self.subTest(way):
                printed, expected, threads = self.hello(way, numbers)
                self.assertEqual(printed, expected)
                self.assertEqual(len(threads), 1)

    def test_threads_share_a_kernel_thread_where_they_are_fibers(self):
        printed, expected, threads = self.hello("threads", (0, 1, 2))
        if fibers_for_threads:
            self.assertEqual(printed, expected)
            self.assertEqual(len(threads), 1)
        else:  # the kernel's threads, in any order
            self.assertCountEqual(printed, expected)

    def test_an_unknown_way_is_refused(self):
        done = run("hello_four_ways", "twisted")
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("", "hello_four_ways: no such way: twisted\n", 2))

    def test_two_hellos_wait_at_once_in_a_loop(self):
        with takes_at_least(self, 1):
            done = run("hello_twice")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertRegex(done.stdout, r"\A(Hello world! (\(<_MainThread\(MainThread, started \d+\)>\))\n)\1"
                                      r"(Hello again! \2\n)\3\Z")


class Loop(Printing):
    def test_the_running_loop_is_known_inside_only(self):
        self.prints("running_loop", "outside: no running event loop",
                    "beside a loop that does not run: no running event loop",
                    "in a task: there is a running event loop", "it is this one",
                    "in a callback: there is a running event loop", "afterwards: no running event loop")

    def test_eternity_is_cancelled_by_wait_for(self):
        with takes_at_least(self, 1):
            self.prints("eternity", "cancel_me(): cancel sleep", "cancel_me(): after sleep", "cancel ended")

    def command(self, name, *missing, **environment):
        """The output has each command's lines in order; the two commands' lines may come in any."""
        with takes_at_least(self, 1):
            done = run(name, env={**os.environ, "LC_ALL": "C", **environment})
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        rest = done.stdout
        for path in missing:
            for text in (f"['ls {path}' exited with 2]\n",
                         f"[stderr]\nls: cannot access '{path}': No such file or directory\n\n"):
                self.assertEqual(rest.count(text), 1, done.stdout)
            self.assertLess(rest.index(f"'ls {path}' exited"), rest.index(f"access '{path}'"))
        for path in missing:
            rest = rest.replace(f"['ls {path}' exited with 2]\n", "").replace(
                f"[stderr]\nls: cannot access '{path}': No such file or directory\n\n", "")
        self.assertEqual(rest, "")

    def test_a_command_that_fails_reports_that(self):
        self.command("subprocess_run", "/rrr")

    def test_two_commands_run_at_once(self):
        """Neither `ls` goes on before both have started."""
        with tempfile.TemporaryDirectory() as there:
            ls = pathlib.Path(there, "ls")
            ls.write_text('#!/bin/bash\n: >"$MEET/started${1//\\//-}"\n'
                          'until [[ -e $MEET/started-zzz && -e $MEET/started-zzas ]]; do sleep 0.01; done\n'
                          'exec -a ls /bin/ls "$@"\n')
            ls.chmod(0o755)
            self.command("subprocess_gather", "/zzz", "/zzas", PATH=f"{there}:{os.environ['PATH']}", MEET=there)

    def test_blocking_and_computing_calls_run_in_three_pools(self):
        done = run("run_in_executor")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        one, two, three = done.stdout.splitlines()
        for line, pool in ((one, "default"), (two, "custom")):
            start, literal = line.split(" b", 1)
            self.assertEqual(start, f"{pool} thread pool")
            random = eval("b" + literal)  # a Python literal
            self.assertEqual((len(random), repr(random)), (100, "b" + literal))
        self.assertEqual(three, "custom process pool 333333283333335000000")


def thread_pool_of_python():
    """Yields the lines of samples/executors/thread_pool.cpp as concurrent.futures prints them; those of a list in any order."""

    def task(n):
        time.sleep(n * 0.01)
        return n * n

    def fails():
        raise RuntimeError("the value 8 is no good")

    def waits(for_what, result):
        for_what.wait()
        return result

    pool = concurrent.futures.ThreadPoolExecutor(2)
    numbers = [5, 4, 3, 2, 1]
    yield "map, in order: " + " ".join(map(str, pool.map(task, numbers)))
    yield f"submit: {pool.submit(task, 6).result()}"
    squares = [f.result() for f in concurrent.futures.as_completed([pool.submit(task, n) for n in numbers])]
    yield f"as completed, in any order: {' '.join(map(str, sorted(squares)))}, together {sum(squares)}"

    not_yet = threading.Event()
    one_waits = [pool.submit(task, 1), pool.submit(waits, not_yet, 0)]
    one_waits[0].result()
    try:
        for f in concurrent.futures.as_completed(one_waits, 0.01):
            yield f"in time: {f.result()}"
    except concurrent.futures.TimeoutError as e:
        yield f"TimeoutError: {e}"
    not_yet.set()

    any_order = []
    called_back = pool.submit(task, 7)
    called_back.add_done_callback(lambda f: any_order.append(f"7: value returned: {f.result()}"))
    try:
        pool.submit(fails).result()
    except RuntimeError as e:
        any_order.append(f'main: saw error "{e}" when accessing result')

    pending = pool.submit(task, 9)
    pool.shutdown()
    yield any_order
    yield f"shutdown: pending future {'done' if pending.done() else 'not done'}"
    try:
        pool.submit(task, 10)
    except RuntimeError:
        yield "after shutdown: the executor was shut down"  # Tendril's wording

    one = concurrent.futures.ThreadPoolExecutor(1)
    go_on = threading.Event()
    left = [one.submit(waits, go_on, 11), one.submit(task, 12)]
    one.shutdown(wait=False)
    for f in left:
        yield f"shutdown without waiting: pending future {'done' if f.done() else 'not done'}"
    go_on.set()
    for f in left:
        yield f"its result: {f.result()}"


class Executors(unittest.TestCase):
    def test_a_thread_pool_prints_the_same_as_python(self):
        done = run("thread_pool")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        lines = done.stdout.splitlines()
        # The results in the order of completion are sorted.
        name, results, together = re.fullmatch(r"(as completed, in any order:)((?: \d+)+)(, together \d+)", lines[2]).groups()
        lines[2] = f"{name} {' '.join(sorted(results.split(), key=int))}{together}"
        for expected in thread_pool_of_python():
            if isinstance(expected, list):
                self.assertCountEqual([lines.pop(0) for _ in expected], expected)
            else:
                self.assertEqual(lines.pop(0), expected)
        self.assertEqual(lines, [])

    def test_shutdown_of_a_thread_pool_interrupts_no_call(self):
        """Follows the tutorial's tips, whatever this Python does."""
        lines = run("thread_pool").stdout.splitlines()
        self.assertIn("TimeoutError: 1 (of 2) futures unfinished", lines)
        self.assertEqual(lines[-6:], [
            "shutdown: pending future done", "after shutdown: the executor was shut down",
            *["shutdown without waiting: pending future not done"] * 2, "its result: 11", "its result: 144"])


class Fetching(unittest.TestCase):
    def test_urlopen_fetches_one_by_one_and_then_at_once(self):
        urls = [f"{http_url}/bytes/3", f"{https}/bytes/50000", f"{http_url}/bytes/0"]
        done = run("urlopen", *urls, env={**os.environ, "CURL_CA_BUNDLE": cacert})
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        lines = done.stdout.splitlines()
        received = [f"{n} bytes received from {url}." for n, url in zip((3, 50000, 0), urls)]
        self.assertEqual(lines[:6], [line for url, got in zip(urls, received) for line in (f"GET: {url}", got)])
        self.assertRegex(lines[6], r"^同步cost [\d.e-]+$")
        self.assertEqual(lines[7:10], [f"GET: {url}" for url in urls])
        self.assertCountEqual(lines[10:13], received)
        self.assertRegex(lines[13], r"^异步cost [\d.e-]+$")
        self.assertEqual(len(lines), 14)

    def test_urlopen_reports_why_a_page_cannot_be_fetched(self):
        done = run("urlopen", f"{http_url}/status/404")
        self.assertEqual((done.stdout, done.returncode), (f"GET: {http_url}/status/404\n", 1))
        self.assertRegex(done.stderr, r"^urlopen: .*404\n$")

    def test_urlopen_goes_on_when_a_page_fails_at_once_with_the_others(self):
        asked = []

        class Once(http.server.BaseHTTPRequestHandler):
            """Each page can be had once only; /always as often as you like."""

            def do_GET(self):
                self.send_response(404 if self.path in asked and self.path != "/always" else 200)
                asked.append(self.path)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"hi")

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Once) as server:
            threading.Thread(target=server.serve_forever).start()
            base = f"http://127.0.0.1:{server.server_port}"
            done = run("urlopen", f"{base}/once", f"{base}/always")
            server.shutdown()
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"\Aurlopen: .*404\n\Z")
        received = f"2 bytes received from {base}/always."
        lines = done.stdout.splitlines()
        self.assertEqual(lines[:4], [f"GET: {base}/once", f"2 bytes received from {base}/once.", f"GET: {base}/always", received])
        self.assertRegex(lines[4], r"^同步cost [\d.e-]+$")
        self.assertEqual(lines[5:8], [f"GET: {base}/once", f"GET: {base}/always", received])
        self.assertRegex(lines[8], r"^异步cost [\d.e-]+$")
        self.assertEqual(len(lines), 9)


seven_ways = ("blocking", "threads", "thread_pool", "callbacks", "generators", "fibers", "nursery")

# select_server and its client
parts = ["This is the message. ", "It will be sent ", "in parts."]
waiting = ("", "waiting for the next event")


class SelectServer(Stoppable):
    def __enter__(self):
        self.process = subprocess.Popen([samples / "select_server", "0"], stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline()
        self.port = int(re.fullmatch(rf"{re.escape(stderr_repr)} starting up on localhost port (\d+)\n", first)[1])
        return self

    def prints(self, *lines):
        """Reads the given lines, each of which must be the next one."""
        for i, line in enumerate(lines):
            printed = self.process.stdout.readline()
            assert printed == line + "\n", f"{printed!r}, not {line!r}, after {lines[:i]}"

    lines_until = Server.lines_until

    __exit__ = Server.__exit__


class Servers(unittest.TestCase):
    def test_the_gevent_server_and_its_interactive_client(self):
        with Server("gevent_server") as server:
            done = run("interactive_client", server.port, input="hello\nit's \"x\"\n你好\n")
            served = server.lines_until("Errno")
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        sent = [b"hello", b"it's \"x\"", "你好".encode()]
        self.assertEqual(done.stdout, "".join(f">>:Received {data!r}\n" for data in sent) + ">>:\n")
        self.assertEqual(served, [*(f"recv: {data!r}" for data in sent), "recv: b''", "recv: b''",
                                  "[Errno 32] Broken pipe"])

    def test_a_hundred_threads_hammer_the_gevent_server(self):
        for way in ways():
            with self.subTest(way), Server("gevent_server") as server:
                done = subprocess.run([*way, samples / "hammer_client", str(server.port), "10"],
                                      capture_output=True, text=True, timeout=bound)
                served = server.lines_until("recv: b'hello", times=1000)
                self.assertEqual((done.stderr, done.returncode), ("", 0))
                said = {}  # by thread; an ended thread may leave its number to the next
                for line in done.stdout.splitlines():
                    thread, what = re.fullmatch(r"\[(\d+)\]recv from server: (hello \d)", line).groups()
                    said.setdefault(thread, []).append(what)
                self.assertEqual(sum(map(len, said.values())), 1000)
                for lines in said.values():
                    self.assertEqual(lines, [f"hello {k}" for k in range(10)] * (len(lines) // 10))
                self.assertEqual(sorted(line for line in served if "hello" in line),
                                 [f"recv: b'hello {k}'" for k in range(10) for _ in range(100)])

    def test_the_hundred_threads_hammer_without_end_and_are_fibers_under_the_shim(self):
        for way in ways():
            with self.subTest(way), Server("gevent_server", stdout=subprocess.DEVNULL) as server:
                client = subprocess.Popen([*way, samples / "hammer_client", str(server.port)], stdout=subprocess.PIPE,
                                          text=True)
                try:
                    next_of = {}  # the number of the next line of each thread
                    while len(next_of) < 100 or min(next_of.values()) < 20:
                        thread, number = re.fullmatch(r"\[(\d+)\]recv from server: hello (\d+)\n",
                                                      client.stdout.readline()).groups()
                        self.assertEqual(int(number), next_of.get(thread, 0))
                        next_of[thread] = int(number) + 1
                    self.assertEqual(len(next_of), 100)
                    tasks = len(os.listdir(f"/proc/{client.pid}/task"))
                    if way:
                        self.assertLess(tasks, 8)
                    else:
                        self.assertEqual(tasks, 101)
                finally:
                    client.kill()
                    client.communicate()

    def test_the_hammering_client_does_not_know_tendril(self):
        libraries = subprocess.run(["ldd", samples / "hammer_client"], capture_output=True, text=True, check=True).stdout
        self.assertIn("libc.so", libraries)
        self.assertNotIn("tendril", libraries)

    def test_select_server_and_client_print_what_is_shown(self):
        with SelectServer() as server:
            done = run("select_client", server.port)
            served = server.lines_until("after reading no data", times=2)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        a, b = list(dict.fromkeys(re.findall(r"\('127\.0\.0\.1', \d+\)", done.stdout)))
        self.assertEqual(done.stdout.splitlines(), [
            f"{stderr_repr} connecting to localhost port {server.port}",
            *(f"{stderr_repr} {s}: {line}" for part in parts for line in (
                f'sending "{part}"', f'received "{part.encode()!r}"') for s in (a, b))])

        # Which descriptors are ready together depends on timing, and so does whether a queue is
        # found empty before the next part has come; the other lines about each connection do not.
        for s in (a, b):
            about = [line for line in served if s in line and "after reading" not in line]
            empty = f"output queue for {s} is empty"
            self.assertEqual([line for line in about if line != empty], [
                f"new connection from {s}",
                *(line for part in parts for line in (
                    f'{stderr_repr} received "{part.encode()!r}" from {s}', f'sending "{part.encode()!r}" to {s}'))])
            for before, line in zip(about, about[1:]):
                if line == empty:
                    self.assertTrue(before.startswith("sending"), about)
        # As in the tutorial: both lines name the latest connection.
        self.assertEqual(served.count(f"closing {b} after reading no data"), 2)

    def test_select_server_prints_each_event_as_shown(self):
        """The tutorial's whole listing: each event is complete before the next one."""
        with SelectServer() as server, contextlib.ExitStack() as closed:
            server.prints(*waiting)
            clients = []
            for _ in range(2):
                clients.append(closed.enter_context(socket.create_connection(("127.0.0.1", server.port))))
                server.prints(f"new connection from {clients[-1].getsockname()}", *waiting)
            for part in parts:
                data = part.encode()
                for s in clients:
                    s.sendall(data)
                    server.prints(f'{stderr_repr} received "{data!r}" from {s.getsockname()}', *waiting,
                                  f'sending "{data!r}" to {s.getsockname()}', *waiting,
                                  f"output queue for {s.getsockname()} is empty", *waiting)
                    self.assertEqual(s.recv(100), data)
            last = clients[-1].getsockname()
            for s in reversed(clients):
                s.close()
                server.prints(f"closing {last} after reading no data", *waiting)

    def test_select_server_accepts_first_then_reads_then_writes_in_order(self):
        """Descriptors that are ready together are handled in Python's order: that of the lists of inputs and of outputs."""
        with SelectServer() as server, contextlib.ExitStack() as closed:
            server.prints(*waiting)

            def received(s, data):
                return f'{stderr_repr} received "{data!r}" from {s.getsockname()}'

            def sending(s, data):
                return f'sending "{data!r}" to {s.getsockname()}'

            def empty(s):
                return f"output queue for {s.getsockname()} is empty"

            def new(s):
                return f"new connection from {s.getsockname()}"

            with server.stopped():
                a, b, c = (closed.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(3))
                for s, data in ((c, b"3"), (b, b"2"), (a, b"1")):
                    s.sendall(data)
            server.prints(new(a), *waiting, new(b), received(a, b"1"), *waiting,
                          new(c), received(b, b"2"), sending(a, b"1"), *waiting,
                          received(c, b"3"), empty(a), sending(b, b"2"), *waiting,
                          empty(b), sending(c, b"3"), *waiting, empty(c), *waiting)

            with server.stopped():
                for s, data in ((c, b"6"), (b, b"5"), (a, b"4")):
                    s.sendall(data)
            server.prints(received(a, b"4"), received(b, b"5"), received(c, b"6"), *waiting,
                          sending(a, b"4"), sending(b, b"5"), sending(c, b"6"), *waiting,
                          empty(a), empty(b), empty(c), *waiting)

            self.assertEqual(b.recv(100), b"25")  # unread data would reset the connection when it is closed
            with server.stopped():
                a.sendall(b"7")
                d = closed.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                b.close()
            server.prints(new(d), received(a, b"7"), f"closing {d.getsockname()} after reading no data", *waiting,
                          sending(a, b"7"), *waiting, empty(a), *waiting)
            for s, data in ((a, b"147"), (c, b"36")):
                self.assertEqual(s.recv(100), data)

    def test_select_server_outlives_clients_that_reset_or_end_early(self):
        with SelectServer() as server:
            server.prints(*waiting)
            with server.stopped():  # reset before it is accepted
                client = socket.create_connection(("127.0.0.1", server.port))
                name = client.getsockname()
                reset(client)
            server.prints(f"new connection from {name}", *waiting, f"closing {name} after reading no data", *waiting)

            with server.stopped():  # sends, and resets before it is accepted: the data is gone, or is there
                client = socket.create_connection(("127.0.0.1", server.port))
                name = client.getsockname()
                client.sendall(b"hello")
                reset(client)
            served = server.lines_until("after reading no data")
            self.assertEqual((served[0], served[-1]), (f"new connection from {name}", f"closing {name} after reading no data"))
            server.prints(*waiting)

            with server.stopped():  # ends its sending: then its answer is not sent
                client = socket.create_connection(("127.0.0.1", server.port))
                name = client.getsockname()
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
            served = server.lines_until("after reading no data")
            self.assertIn(f"{stderr_repr} received \"b'hello'\" from {name}", served)
            client.close()
            server.prints(*waiting)

            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"still here")
                self.assertEqual(client.recv(100), b"still here")

    def test_select_server_drops_a_connection_with_urgent_data(self):
        with SelectServer() as server:
            server.prints(*waiting)
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                name = client.getsockname()
                server.prints(f"new connection from {name}", *waiting)
                with server.stopped():
                    client.sendall(b"ab")
                    client.send(b"!", socket.MSG_OOB)
                server.prints(f"{stderr_repr} received \"b'ab'\" from {name}",
                              f"handling exceptional condition for {name}", *waiting)
                with contextlib.suppress(ConnectionResetError):  # urgent data was left unread
                    self.assertEqual(client.recv(100), b"")
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"next")
                self.assertEqual(client.recv(100), b"next")

    def selectors_lines(self, server, *lines):
        """Compares the lines up to the first one that closes a connection, with descriptors masked."""
        served = [re.sub(r"fd=\d+", "fd=N", line) for line in server.lines_until("closing")]
        self.assertEqual(served, list(lines))

    def test_the_selectors_server_outlives_clients_that_close_or_reset_at_once(self):
        with Server("selectors_echo") as server:
            without = f"<socket.socket fd=N, family=2, type=1, proto=0, laddr={('127.0.0.1', server.port)}>"

            def connected(s):
                return without[:-1] + f", raddr={s.getsockname()}>"

            with server.stopped():  # closes with its answer unread: the server's socket is no longer connected
                client = socket.create_connection(("127.0.0.1", server.port))
                name, connection = client.getsockname(), connected(client)
                client.sendall(b"hello")
                client.close()
            served = [re.sub(r"fd=\d+", "fd=N", line) for line in server.lines_until("closing")]
            # The answer's reset comes at any time after the answer.
            self.assertEqual(served[:2], [f"accepted {connection} from {name}", f"echoing b'hello' to {connection}"])
            self.assertIn(served[2:], ([f"closing {without}"], [f"closing {connection}"]))

            with server.stopped():
                client = socket.create_connection(("127.0.0.1", server.port))
                name = client.getsockname()
                reset(client)
            self.selectors_lines(server, f"accepted {without} from {name}", f"closing {without}")

            client = socket.create_connection(("127.0.0.1", server.port))
            name, connection = client.getsockname(), connected(client)
            client.sendall(b"hello")
            self.assertEqual(client.recv(100), b"hello")
            reset(client)
            self.selectors_lines(server, f"accepted {connection} from {name}", f"echoing b'hello' to {connection}",
                                 f"closing {without}")

            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"still here")
                self.assertEqual(client.recv(100), b"still here")

    def test_a_server_whose_port_is_in_use_says_so(self):
        servers = {f"echo_{way}": [] for way in seven_ways} | {"gevent_server": [], "selectors_echo": [], "select_server": []}
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            servers["select_server"] = [f"{stderr_repr} starting up on localhost port {port}"]
            for name, lines in servers.items():
                with self.subTest(name):
                    done = run(name, port)
                    self.assertEqual((done.stdout.splitlines(), done.stderr, done.returncode),
                                     (lines, f"{name}: bind: Address already in use\n", 1))
            done = run("http_index", "127.0.0.1", port)
            self.assertEqual((done.stdout, done.stderr, done.returncode),
                             ("", "http_index: bind: Address already in use\n", 1))

    def test_the_selectors_server_echoes(self):
        with Server("selectors_echo") as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                name = client.getsockname()
                client.sendall(b"hello")
                self.assertEqual(client.recv(100), b"hello")
            served = server.lines_until("closing")
        connection = (f"<socket.socket fd=N, family=2, type=1, proto=0, laddr={('127.0.0.1', server.port)}, "
                      f"raddr={name}>")
        self.assertEqual([re.sub(r"fd=\d+", "fd=N", line) for line in served], [
            f"accepted {connection} from {name}", f"echoing b'hello' to {connection}", f"closing {connection}"])


class IndexServer(HttpServer):
    def __init__(self, *seconds, address="127.0.0.1"):
        self.address = address
        self.seconds = map(str, seconds)  # the duration of an answer, if it is not the tutorial's

    def __enter__(self):
        self.process = subprocess.Popen([samples / "http_index", self.address, "0", *self.seconds],
                                        stdout=subprocess.PIPE, text=True)
        self.started = self.process.stdout.readline()
        self.host, port = re.fullmatch(r"Server started at http://(.*):(\d+)\.\.\.\n", self.started).groups()
        self.port = int(port)
        return self


class Http(unittest.TestCase):
    def test_the_index_server_greets_and_shuts_down_on_ctrl_c(self):
        with IndexServer() as server:
            self.assertEqual(server.get("/"), (200, "<h1>Index</h1>"))
            self.assertEqual(server.get("/hello/you"), (200, "<h1>hello, you!</h1>"))
            self.assertEqual(server.get("/hello/J%C3%B6rg?x=1"), (200, "<h1>hello, Jörg!</h1>"))
            self.assertEqual(server.get("/hello/a%2Fb"), (200, "<h1>hello, a/b!</h1>"))
            for nowhere in ("/nowhere", "/hello/", "/hello/a/b", "/hello/you/", "/hello/{you"):
                self.assertEqual(server.get(nowhere), (404, "404: Not Found"))
            self.assertEqual(server.get("/", "POST"), (405, "405: Method Not Allowed"))
            connection = server.connection()
            connection.request("GET", "/")
            self.assertEqual(connection.getresponse().headers["Content-Type"], "text/html; charset=utf-8")
            connection.close()
            server.process.send_signal(signal.SIGINT)
            out, _ = server.process.communicate(timeout=bound)
        self.assertEqual(server.process.returncode, 0)
        self.assertEqual(re.sub(r"fd=\d+", "fd=N", out).splitlines(), [
            "Receive: <Request GET / >", "Receive: <Request GET /hello/you >", "Receive: <Request GET /hello/J\\xf6rg >",
            "Receive: <Request GET /hello/a/b >", "Receive: <Request GET / >",
            "Server <Server sockets=(<asyncio.TransportSocket fd=N, family=2, type=1, proto=6, "
            f"laddr={('127.0.0.1', server.port)}>,)> shutting down."])

    def test_the_index_server_listens_on_the_address_of_a_name_or_of_ipv6(self):
        addresses = ["localhost"]
        with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
            addresses.append("::1")
        for address in addresses:
            with self.subTest(address), IndexServer(0, address=address) as server:
                self.assertEqual(server.host, address)
                self.assertEqual(server.get("/"), (200, "<h1>Index</h1>"))
                server.process.send_signal(signal.SIGINT)
                out, _ = server.process.communicate(timeout=bound)
                family, _, _, _, name = socket.getaddrinfo(address, server.port, type=socket.SOCK_STREAM)[0]
                self.assertIn(f", family={int(family)}, type=1, proto=6, laddr={name}>,)> shutting down.\n", out)

    def test_each_answer_of_the_index_server_takes_half_a_second(self):
        def asked(path):
            start = time.monotonic()
            return server.get(path), time.monotonic() - start >= 0.5

        paths = ["/", *(f"/hello/{i}" for i in range(9))]
        with IndexServer() as server, concurrent.futures.ThreadPoolExecutor(len(paths)) as clients:
            self.assertEqual(list(clients.map(asked, paths)), [
                ((200, "<h1>Index</h1>"), True), *(((200, f"<h1>hello, {i}!</h1>"), True) for i in range(9))])

    def test_requests_to_the_index_server_wait_at_once(self):
        with IndexServer(3600) as server, contextlib.ExitStack() as all_closed:
            clients = [all_closed.enter_context(contextlib.closing(server.connection())) for _ in range(3)]
            for client, path in zip(clients, ("/", "/hello/you", "/")):
                client.request("GET", path)
            # It has begun with each request, and answered none.
            self.assertEqual(sorted(server.process.stdout.readline() for _ in clients), [
                "Receive: <Request GET / >\n", "Receive: <Request GET / >\n", "Receive: <Request GET /hello/you >\n"])
            self.assertEqual(select.select([client.sock for client in clients], [], [], 0)[0], [])


class Echo(unittest.TestCase):
    def test_the_seven_echo_servers_outlive_a_client_that_resets_before_it_is_accepted(self):
        for way in seven_ways:
            with self.subTest(way), EchoServer(samples / f"echo_{way}") as server:
                with Stoppable.stopped(server):
                    reset(socket.create_connection(("127.0.0.1", server.port)))
                with socket.create_connection(("127.0.0.1", server.port)) as client:
                    client.sendall(b"still here")
                    self.assertEqual(client.recv(100), b"still here")

    def test_an_echo_server_in_seven_ways(self):
        for way in seven_ways:
            with self.subTest(way), EchoServer(samples / f"echo_{way}") as server:
                with socket.create_connection(("127.0.0.1", server.port)) as client:
                    for message in (b"hello", b"again"):
                        client.sendall(message)
                        self.assertEqual(client.recv(100), message)


if __name__ == "__main__":
    unittest.main()
