#!/usr/bin/python3
"""Threaded servers that Debian ships, natively and under the shim, where their threads are fibers: real clients, two
hundred connections at once, the same answers. Prints the number of kernel tasks that each server has meanwhile. Servers
that are not installed are skipped.

    servers_test.py LAUNCHER [UNITTEST ARGUMENT...]
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from http.client import HTTPConnection

sys.dont_write_bytecode = True  # leave no files next to the sources
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
import installed
import skipping
from installed import needs
from local_servers import Server, Socks, Web, free_port

launcher = os.path.abspath(sys.argv.pop(1))
under_shim = [launcher, "run", "--"]
many = 200
bound = int(os.environ.get("PATIENCE", 300))  # seconds for any event; no event takes nearly as long
environment = {"PATH": installed.path, "LC_ALL": "C", "TZ": "UTC"}
hello = b"hello\n" * 20
big = hashlib.shake_256(b"big").digest(1_000_000)


def tasks(pid):
    """The kernel tasks of the process and of those that it has started."""
    count, waiting = 0, [pid]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                count += 1
                waiting += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return count


def at_once(n, call):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        return list(pool.map(call, range(n)))


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=bound)


def fetch(port, path, via=None):
    connection = HTTPConnection("127.0.0.1", via or port, timeout=bound)
    try:
        connection.request("GET", f"http://127.0.0.1:{port}{path}" if via else path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Held:
    """Connections that are all open at once, and have all been answered. talk(i, turn) returns what connection i sends,
    and how the answer begins and ends."""

    def __init__(self, port, talk, n=many, wrap=lambda s: s):
        self.talk = talk
        self.all = [wrap(connect(port)) for _ in range(n)]

    def __enter__(self):
        for turn in range(3):  # send on all before reading from any
            for i, s in enumerate(self.all):
                s.sendall(self.talk(i, turn)[0])
            for i, s in enumerate(self.all):
                (_, start, end), got = self.talk(i, turn), b""
                while len(got) < len(start) or not got.endswith(end):
                    if not (part := s.recv(65536)):
                        break
                    got += part
                if not got.startswith(start) or not got.endswith(end):
                    raise AssertionError(f"connection {i}: {got[:200]!r} instead of {start!r} to {end[-100:]!r}")
        return self

    def __exit__(self, *_):
        for s in self.all:
            s.close()


def get(path, body):
    """A talk for Held: a request on a connection that stays."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    return lambda i, turn: (request, b"HTTP/1.1 200 OK\r\n", body)


def echo(i, turn):
    line = f"line {turn} of {i}\n".encode()
    return line, line, line


class Servers(unittest.TestCase):
    # Kernel tasks under the shim, with all connections open: the one of the threads, the one that
    # preempts them, and a few helpers.
    most_tasks = 8

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="servers_test."))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)
        site = self.directory / "site"
        site.mkdir()
        (site / "hello").write_bytes(hello)
        (site / "big").write_bytes(big)
        self.site = site

    def write(self, name, text):
        (self.directory / name).write_text(text)
        return str(self.directory / name)

    def both(self, command, check, port, *, stop=signal.SIGTERM, ends=None, kernel_tasks=None, ready=None):
        """Starts the server natively, then under the shim; check(process) talks to it; then it must end as it does natively."""
        ended, counts = [], []
        for name, prefix in (("natively", []), ("under the shim", under_shim)):
            with self.subTest(name):
                log = open(self.directory / "log", "w+b")
                process = subprocess.Popen([*prefix, *command], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log, start_new_session=True, env={**environment, "HOME": str(self.directory)})
                try:
                    self.wait_for(process, port, ready)
                    self.tasks = 0
                    check(process)
                    counts.append(self.tasks)
                    process.send_signal(stop)
                    ended.append(process.wait(bound))
                except BaseException as e:
                    log.seek(0)
                    if hasattr(e, "add_note"):
                        e.add_note(f"the server's log ends in: {log.read()[-1000:].decode(errors='replace')}")
                    raise
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    log.close()
        if len(ended) < 2:
            return  # a subtest has failed
        self.assertEqual(ended[1], ended[0], "it ends as natively")
        print(f"  tasks of the kernel with all connections open: {counts[0]} natively, {counts[1]} under the shim", file=sys.stderr)
        self.assertLessEqual(counts[1], kernel_tasks or self.most_tasks)

    def wait_for(self, process, port, ready):
        end = time.monotonic() + bound
        while True:
            self.assertIsNone(process.poll(), "the server has ended")
            self.assertLess(time.monotonic(), end, "the server does not come up")
            with contextlib.suppress(OSError):
                if ready:
                    if ready():
                        return
                else:
                    connect(port).close()
                    return
            time.sleep(0.02)

    def hold(self, process, port, talk, **options):
        with Held(port, talk, **options):
            self.tasks = max(self.tasks, tasks(process.pid))

    def web_server(self, command, port, **options):
        def check(process):
            self.assertEqual(fetch(port, "/hello"), (200, hello))
            self.assertEqual(fetch(port, "/absent")[0], 404)
            self.assertEqual(at_once(16, lambda i: fetch(port, "/big")), [(200, big)] * 16)
            self.hold(process, port, get("/hello", hello))
            self.assertEqual(at_once(50, lambda i: fetch(port, "/hello")), [(200, hello)] * 50)
        self.both(command, check, port, **options)

    def talking_server(self, command, port, talk, wrap=lambda s: s, **options):
        self.both(command, lambda process: self.hold(process, port, talk, wrap=wrap), port, **options)

    def certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"],
                       cwd=self.directory, check=True, capture_output=True)
        return self.write("both.pem", (self.directory / "key.pem").read_text() + (self.directory / "cert.pem").read_text())

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.directory / "cert.pem")
        return context.wrap_socket

    # --- python3 ---

    def test_python_threading_http_server(self):
        port = free_port()
        script = self.write("s.py", "import functools, http.server as h\n"
                            "class H(h.SimpleHTTPRequestHandler):\n  protocol_version = 'HTTP/1.1'\n  def log_message(self, *_): pass\n"
                            "class S(h.ThreadingHTTPServer):\n  request_queue_size = 512\n"
                            f"S(('127.0.0.1', {port}), functools.partial(H, directory={str(self.site)!r})).serve_forever()\n")
        self.web_server(["/usr/bin/python3", script], port)

    @needs("openssl")
    def test_python_ssl(self):
        port, both = free_port(), self.certificate()
        script = self.write("s.py", "import socket, ssl, threading\n"
                            f"context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\ncontext.load_cert_chain({both!r})\n"
                            f"server = socket.create_server(('127.0.0.1', {port}), backlog=512)\n"
                            "def serve(c):\n"
                            "  try:\n"
                            "    with context.wrap_socket(c, server_side=True) as s:\n"
                            "      while data := s.recv(1000): s.sendall(data)\n"
                            "  except OSError: pass\n"
                            "while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()\n")
        self.talking_server(["/usr/bin/python3", script], port, echo, wrap=self.tls())

    def test_python_asyncio_with_threads(self):
        port = free_port()
        script = self.write("s.py", "import asyncio, concurrent.futures, queue, threading\n"
                            "work = queue.Queue()\n"
                            "def worker():\n"
                            "  while True:\n    data, done = work.get()\n    done.set_result(data)\n"
                            "for _ in range(8): threading.Thread(target=worker, daemon=True).start()\n"
                            "async def serve(r, w):\n"
                            "  while data := await r.readline():\n"
                            "    done = concurrent.futures.Future()\n    work.put((data, done))\n"
                            "    w.write(await asyncio.to_thread(done.result))\n"
                            "  w.close()\n"
                            "async def main():\n"
                            f"  server = await asyncio.start_server(serve, '127.0.0.1', {port}, backlog=512)\n"
                            "  await server.serve_forever()\n"
                            "asyncio.run(main())\n")
        self.talking_server(["/usr/bin/python3", script], port, echo)

    # --- proxies ---

    @needs("tinyproxy")
    def test_tinyproxy(self):
        web, port = Server(functools.partial(Web, directory=str(self.site))), free_port()
        self.addCleanup(web.end)
        configuration = self.write("t.conf", f"Port {port}\nListen 127.0.0.1\nMaxClients 500\nTimeout 60\nAllow 127.0.0.1\n")

        def check(process):
            self.assertEqual(at_once(16, lambda i: fetch(web.port, "/big", port)), [(200, big)] * 16)
            request = f"CONNECT 127.0.0.1:{web.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            self.hold(process, port, lambda i, turn: (request, b"HTTP/1.0 200 ", b"\r\n\r\n") if turn == 0 else (b"", b"", b""))
        self.both(["tinyproxy", "-d", "-c", configuration], check, port)

    @needs("microsocks", "curl")
    def test_microsocks(self):
        web, port = Server(functools.partial(Web, directory=str(self.site))), free_port()
        self.addCleanup(web.end)

        def check(process):
            done = subprocess.run(["curl", "-sS", "-x", f"socks5h://127.0.0.1:{port}", f"http://localhost:{web.port}/big"],
                                  capture_output=True, timeout=bound)
            self.assertEqual((done.stdout, done.stderr), (big, b""))
            self.hold(process, port, lambda i, turn: (b"\5\1\0", b"\5\0", b"\0") if turn == 0 else (b"", b"", b""))
        self.both(["microsocks", "-i", "127.0.0.1", "-p", str(port)], check, port)

    @needs("stunnel", "openssl")
    def test_stunnel(self):
        port, both = free_port(), self.certificate()
        echoes = Server(Echo)
        self.addCleanup(echoes.end)
        configuration = self.write("s.conf", f"foreground = yes\npid =\ncert = {both}\n[x]\naccept = 127.0.0.1:{port}\n"
                                   f"connect = 127.0.0.1:{echoes.port}\n")
        self.talking_server(["stunnel", configuration], port, echo, wrap=self.tls())

    # --- databases ---

    @needs("memcached")
    def test_memcached(self):
        port = free_port()
        user = pwd.getpwuid(os.geteuid()).pw_name

        def talk(i, turn):
            value = f"value {turn} of {i}".encode()
            answer = b"STORED\r\nVALUE key%d 0 %d\r\n%s\r\nEND\r\n" % (i, len(value), value)
            return b"set key%d 0 0 %d\r\n%s\r\nget key%d\r\n" % (i, len(value), value, i), answer, answer
        self.talking_server(["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "4", "-c", "1000", "-u", user],
                            port, talk)

    @needs("redis-server", "redis-benchmark")
    def test_redis_with_io_threads(self):
        port = free_port()

        def check(process):
            self.hold(process, port, lambda i, turn: (b"SET k%d %d\r\nGET k%d\r\n" % (i, turn, i), b"+OK\r\n", b"$1\r\n%d\r\n" % turn))
            for prefix in ([], under_shim):
                done = subprocess.run([*prefix, "redis-benchmark", "-p", str(port), "--threads", "4", "-c", "50", "-n", "1000", "-q",
                                       "-t", "set,get"], capture_output=True, text=True, timeout=bound, env=environment)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(len(re.findall(r"requests per second", done.stdout)), 2, done.stdout)
        self.both(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--io-threads", "2", "--io-threads-do-reads", "yes",
                   "--save", "", "--dir", str(self.directory)], check, port)

    @needs("mariadbd", "mariadb")
    def test_mariadb(self):
        socket_path, data = str(self.directory / "sock"), self.directory / "data"

        def client(sql):
            return subprocess.run(["mariadb", "--no-defaults", "-S", socket_path, "-N", "-B", "-e", sql], capture_output=True, text=True,
                                  timeout=bound, env=environment)

        def unix(_):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(bound)
            s.connect(socket_path)
            return s, s.recv(200)

        def check(process):
            held = [unix(i) for i in range(many)]
            self.tasks = tasks(process.pid)
            self.assertTrue(all(b"MariaDB" in greeting for _, greeting in held))
            for s, _ in held:
                s.close()
            made = client("drop database if exists d; create database d; create table d.t(a int primary key, b int) engine=InnoDB; use d; insert into t select seq, 0 from seq_1_to_100")
            self.assertEqual((made.stderr, made.returncode), ("", 0))
            script = "use d;" + "start transaction; update t set b = b + 1 where a < 20; select sleep(0.01); commit;" * 3
            for done in at_once(12, lambda i: client(script)):
                self.assertEqual((done.stderr, done.returncode), ("", 0))
            self.assertEqual(client("select sum(b) from d.t; drop database d").stdout, f"{12 * 3 * 19}\n")
        user = ["--user=root"] if os.geteuid() == 0 else []
        data.mkdir()
        self.both(["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket_path}", "--skip-networking", "--skip-grant-tables",
                   "--max-connections=500", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M",
                   "--innodb-flush-log-at-trx-commit=0", *user], check, None, ready=lambda: client("select 1").returncode == 0)

    # --- apache2 ---

    def apache(self, mpm, more):
        port, modules = free_port(), "/usr/lib/apache2/modules"
        load = "".join(f"LoadModule {m}_module {modules}/mod_{m}.so\n" for m in (f"mpm_{mpm}", "authz_core", "dir"))
        user = "" if os.geteuid() else "User www-data\nGroup www-data\n"
        configuration = self.write("a.conf", f"ServerRoot {self.directory}\nPidFile pid\nListen 127.0.0.1:{port}\nServerName localhost\n"
                                   f"{load}ErrorLog error.log\nDocumentRoot {self.site}\nMutex pthread\nKeepAliveTimeout 60\n{user}"
                                   f"ServerLimit 1\nStartServers 1\nThreadLimit 250\nThreadsPerChild 250\nMaxRequestWorkers 250\nMaxSpareThreads 250\n{more}")
        self.web_server(["apache2", "-f", configuration, "-DFOREGROUND"], port, kernel_tasks=12)

    @needs("apache2")
    def test_apache_worker(self):
        self.apache("worker", "")

    @needs("apache2")
    def test_apache_event(self):
        self.apache("event", "AsyncRequestWorkerFactor 2\n")

    # --- others ---

    @needs("ruby")
    def test_ruby_threads(self):
        port = free_port()
        script = self.write("s.rb", "require 'socket'\n"
                            f"s = TCPServer.new('127.0.0.1', {port}); s.listen(512)\ntrap(:TERM) {{ exit! 0 }}\n"
                            "loop { Thread.start(s.accept) { |c| while l = c.gets; c.write l; end; c.close } }\n")
        self.talking_server(["ruby", script], port, echo)

    @needs("java", "javac")
    def test_java(self):
        port = free_port()
        self.write("S.java", "import java.io.*; import java.net.*;\npublic class S { public static void main(String[] a) throws Exception {\n"
                   f"ServerSocket s = new ServerSocket({port}, 512);\n"
                   "while (true) { Socket c = s.accept(); new Thread(() -> { try { InputStream in = c.getInputStream(); OutputStream out = c.getOutputStream();\n"
                   "byte[] b = new byte[1000]; for (int n; (n = in.read(b)) > 0;) out.write(b, 0, n); c.close(); } catch (IOException e) {} }).start(); } } }\n")
        subprocess.run(["javac", "S.java"], cwd=self.directory, check=True, timeout=bound)
        # Java has many threads of its own.
        self.talking_server(["java", "-Xmx128m", "-Xss256k", "-XX:+UseSerialGC", "-cp", ".", "S"], port, echo)


class Echo(__import__("socketserver").BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


if __name__ == "__main__":
    skipping.main(verbosity=2)
