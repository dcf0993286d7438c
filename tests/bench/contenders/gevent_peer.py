"""greenlet and gevent. Usage and answers as in bench.hpp."""

import json
import os
import random
import resource
import sys
import time

import gevent
import gevent.lock
import gevent.server
import greenlet
from gevent import socket

question, n, argument = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
extra = {}


class Timed:
    def __enter__(self):
        self.cpu, self.wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def switch(ops):
    main = greenlet.getcurrent()

    def add(x):
        while True:
            x = main.switch(x + 1)

    adder, total = greenlet.greenlet(add), 0
    with Timed() as t:
        for _ in range(ops // 2):
            total = adder.switch(total)
    assert total == ops // 2
    return ops, t


def give_way(ops):
    done = 0

    def body():
        nonlocal done
        for _ in range(ops // n):
            gevent.sleep(0)
            done += 1

    tasks = [gevent.spawn(body) for _ in range(n)]
    with Timed() as t:
        gevent.joinall(tasks)
    assert done == ops // n * n
    return done, t


def hand_over(ops):
    ping, pong = gevent.lock.Semaphore(0), gevent.lock.Semaphore(0)
    handed = 0

    def other():
        nonlocal handed
        for _ in range(ops // 2):
            ping.acquire()
            handed += 1
            pong.release()

    task = gevent.spawn(other)
    with Timed() as t:
        for _ in range(ops // 2):
            ping.release()
            pong.acquire()
    task.join()
    assert handed == ops // 2
    return ops, t


def spawn(ops):
    total = i = 0
    with Timed() as t:
        while i < ops:
            batch = [gevent.spawn(lambda x: x, x) for x in range(i, i + n)]
            i += n
            total += sum(task.get() for task in batch)
    assert total == i * (i - 1) // 2
    return i, t


def resident():
    with open("/proc/self/status") as status:
        return 1024 * sum(int(line.split()[1]) for line in status if line.startswith(("VmRSS", "VmPTE")))


def memory(_):
    before = resident()
    with Timed() as t:
        tasks = [gevent.spawn(gevent.sleep, 1000) for _ in range(n)]
        gevent.sleep(0)
    gevent.sleep(0)
    extra["bytes"] = (resident() - before) / n
    extra["mappings"] = sum(1 for _ in open("/proc/self/maps"))
    assert len(tasks) == n
    return n, t


def echo(_):
    def serve(connection, _address):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(4096):
            connection.sendall(data)

    server = gevent.server.StreamServer(("127.0.0.1", 0), serve, backlog=4096)
    server.start()
    print("port", server.server_port, flush=True)
    server.serve_forever()


def fetch(_):
    def one():
        connection = socket.create_connection(("127.0.0.1", int(argument)))
        connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        got = 0
        while data := connection.recv(4096):
            got += len(data)
        connection.close()
        assert got == 1024

    with Timed() as t:
        gevent.joinall([gevent.spawn(one) for _ in range(n)], raise_error=True)
    return n, t


def sleep(_):
    late = []

    def sleeper():
        while True:
            seconds = random.random()
            until = time.monotonic() + seconds
            gevent.sleep(seconds)
            late.append(time.monotonic() - until)

    for _ in range(n):
        gevent.spawn(sleeper)
    gevent.sleep(1)
    late.clear()
    with Timed() as t:
        gevent.sleep(argument)
    late.sort()
    for name, share in ("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999):
        extra[name] = late[int(len(late) * share)] * 1e6
    return len(late), t


questions = {"switch": switch, "yield": give_way, "hand_over": hand_over, "spawn": spawn, "memory": memory, "echo": echo,
             "fetch": fetch, "sleep": sleep}
ops = 1000 + 2 * n
ops, t = questions[question](ops)
while question in ("switch", "yield", "hand_over", "spawn") and t.wall < argument / 2:
    ops, t = questions[question](ops * 4)
print(json.dumps({"ns": t.wall * 1e9 / ops, "cpu_ns": t.cpu * 1e9 / ops, "ops": ops, **extra}), flush=True)
os._exit(0)
