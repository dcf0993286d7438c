"""Servers for the tests of real programs, in threads of the test itself."""

import http.server
import os
import socket
import socketserver
import struct
import subprocess
import threading


class Web(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a directory; /slow, which is never answered; /smart/, git's own protocol."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/slow":
            self.server.closing.wait()
        elif self.path.startswith("/smart/"):
            self.git()
        else:
            super().do_GET()

    def do_POST(self):
        self.git()

    def git(self):
        path, _, query = self.path.removeprefix("/smart").partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env={
            **os.environ,
            "GIT_PROJECT_ROOT": self.directory, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")})
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in {**fields, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Socks(socketserver.StreamRequestHandler):
    """A SOCKS5 proxy that connects every address to the same server."""

    def handle(self):
        count = self.rfile.read(2)[1]
        self.rfile.read(count)
        self.wfile.write(b"\5\0")
        _, command, _, kind = self.rfile.read(4)
        self.rfile.read({1: 4, 3: 0, 4: 16}[kind] or self.rfile.read(1)[0])
        self.rfile.read(2)
        self.server.requests += 1
        self.wfile.write(b"\5\0\0\1" + socket.inet_aton("10.1.2.3") + struct.pack("!H", 0))
        if command != 1:  # torsocks first asks for the address of a name
            return
        with socket.create_connection(self.server.behind) as there:
            back = threading.Thread(target=pump, args=(there, self.connection))
            back.start()
            pump(self.connection, there)
            back.join()


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.port = self.server_address[1]
        self.requests = 0
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self):
        self.closing.set()
        self.shutdown()
        self.server_close()


def free_port():
    """A port that refuses connections."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
