"""Python's own threads. Usage and answers as in bench.hpp."""

import json
import os
import resource
import socket
import sys
import threading
import time

question, n, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
good = []


def fetch():
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        got = 0
        while data := connection.recv(4096):
            got += len(data)
    good.append(got == 1024)


if question != "fetch":
    sys.exit(77)
wall, cpu = time.perf_counter(), time.process_time()
threads = [threading.Thread(target=fetch) for _ in range(n)]
for t in threads:
    t.start()
for t in threads:
    t.join()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
assert good == [True] * n
print(json.dumps({"ns": wall * 1e9 / n, "cpu_ns": cpu * 1e9 / n, "ops": n}), flush=True)
os._exit(0)
