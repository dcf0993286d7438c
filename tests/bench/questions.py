"""The questions: what is measured, at which sizes, by which contenders, and Tendril's targets. Data only."""

import dataclasses

# The packages that a contender needs besides this repository, by their Debian names.
PACKAGES = {
    "boost_fiber": "libboost-fiber-dev", "state_threads": "libst-dev", "pth": "libpth-dev", "uring": "liburing-dev",
    "asio": "libboost-coroutine-dev", "go": "golang-go", "gevent": "python3-gevent", "microsocks": "microsocks",
    "tinyproxy": "tinyproxy", "mariadbd": "mariadb-server-core",
}
PICTURES = "python3-matplotlib"


@dataclasses.dataclass(frozen=True)
class Contender:
    label: str
    program: str          # of contenders/, or a program of the system (see run: COMMANDS)
    question: str = ""    # the name of the question for it; by default the question's own
    shim: bool = False    # unmodified, under the shim, its threads as fibers
    poller: str = "epoll"
    cores: str = "one"    # or "two"
    most: int = 10**9     # the largest size that it supports, or that is worth waiting for


def ours(**more):
    return Contender("Tendril", "tendril", **more)


def shimmed(label="pthreads under the shim", program="pthreads", **more):
    return Contender(label, program, shim=True, **more)


@dataclasses.dataclass(frozen=True)
class Target:
    """A target of a contender: a figure at most `most` times another's."""
    who: str
    most: float             # or, with `least`, at least
    to: str = ""            # the contender to compare with; by default the limit
    figure: str = ""        # by default the question's figure
    alone: bool = False     # compared with no contender: `most` is the figure itself
    least: bool = False
    sizes: tuple = ()       # by default all


@dataclasses.dataclass(frozen=True)
class Question:
    name: str
    title: str
    sizes: tuple               # of what `of` names; one table and one bar chart each, and a curve over them
    of: str
    contenders: tuple
    limit: str = ""            # the contender that is the physical limit
    targets: tuple = ()
    unit: str = "ns"           # of the figure
    figure: str = "cpu_ns"     # the member of an answer to compare; CPU time is stable when a neighbour is noisy
    beside: tuple = ("ns",)    # further members that the table shows
    kind: str = "alone"        # how the question is put: see run
    idle: int = 0              # connections that send nothing


SERVER = {"unit": "us", "figure": "cpu_us", "of": "connections",
          "beside": ("per_second", "p50_us", "p99_us", "p999_us", "bytes")}
THREADS_ONE = Contender("pthreads, one core", "pthreads")
THREADS_TWO = Contender("pthreads, two cores", "pthreads", cores="two")
EPOLL = Contender("raw epoll", "epoll")
FCONTEXT = Contender("jump_fcontext", "fcontext")
BY_RING = Contender("Tendril, io_uring", "tendril", poller="io_uring")
FIBER, GO, GEVENT = Contender("Boost.Fiber", "boost_fiber"), Contender("Go", "go"), Contender("gevent", "gevent")
ST, PTH = Contender("State Threads", "state_threads"), Contender("GNU Pth", "pth")


def proxied(program):
    """The targets of a proxy under the shim, compared with itself natively."""
    shim = f"{program} under the shim"
    return (Target(shim, 1.6, to=program, figure="per_second", least=True, sizes=(100,)),
            Target(shim, 1.9, to=program, figure="per_second", least=True, sizes=(1000, 5000)),
            Target(shim, 0.5, to=program, figure="bytes"))


def but(contender, **changes):
    return dataclasses.replace(contender, **changes)


QUESTIONS = (
    Question(
        "switch", "A switch between two fibers", (2,), "fibers",
        (FCONTEXT, Contender("Tendril, core", "tendril", "core_switch"), ours(),
         Contender("Boost.Context fiber", "boost_context"), Contender("greenlet", "gevent")),
        limit="jump_fcontext", targets=(Target("Tendril, core", 1.05), Target("Tendril", 1.5))),
    Question(
        "yield", "A turn through the hub", (2, 100, 10_000, 100_000), "fibers",
        (but(FCONTEXT, label="jump_fcontext ring"), ours(), FIBER, ST, but(PTH, most=1000), GO,
         but(GEVENT, most=10_000), but(THREADS_ONE, most=1000)),
        limit="jump_fcontext ring",
        targets=(Target("Tendril", 2, sizes=(2, 100)), Target("Tendril", 1.4, sizes=(10_000,)),
                 Target("Tendril", 1.9, sizes=(100_000,)))),
    Question(
        "hand_over", "A hand-over through a channel or semaphore", (2,), "fibers",
        (but(FCONTEXT, question="switch"), ours(), Contender("Tendril, channel", "tendril", "hand_over_channel"),
         ST, FIBER, PTH, GO, GEVENT,
         but(THREADS_ONE, label="pthreads, semaphore, one core"),
         but(THREADS_ONE, label="pthreads, condition, one core", question="hand_over_condition"),
         but(THREADS_TWO, label="pthreads, semaphore, two cores"), shimmed()),
        limit="jump_fcontext", targets=(Target("Tendril", 3.2), Target("Tendril, channel", 3.2))),
    Question(
        "thread_switch", "A switch between two threads, each with thread-local storage", (2,), "threads",
        (but(FCONTEXT, label="jump_fcontext + wrfsbase"), but(THREADS_ONE, question="yield"),
         shimmed(question="yield")),
        limit="jump_fcontext + wrfsbase", targets=(Target("pthreads under the shim", 1.5),)),
    Question(
        "free_mutex", "A lock that nobody else wants", (1,), "locks",
        (THREADS_ONE, shimmed()), targets=(Target("pthreads under the shim", 1, to="pthreads, one core"),)),
    Question(
        "condition", "A hand-over between two threads by mutex and condition", (2,), "threads",
        (but(THREADS_ONE, question="hand_over_condition"), shimmed(question="hand_over_condition")),
        targets=(Target("pthreads under the shim", 0.05, to="pthreads, one core"),)),
    Question(
        "create", "Create and join a thread", (1,), "threads at once",
        (but(THREADS_ONE, question="spawn"), shimmed(question="spawn")),
        targets=(Target("pthreads under the shim", 0.1, to="pthreads, one core"),)),
    Question(
        "mutex", "A lock that all want", (2, 100), "threads",
        (THREADS_ONE, THREADS_TWO, shimmed()), targets=(Target("pthreads under the shim", 1, to="pthreads, one core"),)),
    Question(
        "spawn", "Spawn, run, and join with a result: one by one, and in batches", (1, 1000), "fibers at once",
        (FCONTEXT, ours(), Contender("Boost.Context, pooled", "boost_context", most=1), FIBER, ST, PTH, GO, GEVENT,
         THREADS_ONE, shimmed()),
        limit="jump_fcontext", targets=(Target("Tendril", 3),)),
    Question(
        "tree", "A tree of calls, each a fiber, on two cores (skynet): per leaf", (100_000, 1_000_000), "leaves",
        (ours(cores="two"), but(FIBER, label="Boost.Fiber, work stealing", cores="two"), but(GO, label="Go, two cores", cores="two")),
        targets=(Target("Tendril", 1, to="Boost.Fiber, work stealing"), Target("Tendril", 1, to="Go, two cores")),
        figure="ns", beside=("cpu_ns",)),
    Question(
        "memory", "Memory of a parked fiber: resident, and page tables", (100_000, 1_000_000), "fibers",
        (ours(), but(ST, most=100_000), but(FIBER, most=100_000), GO, but(GEVENT, most=100_000),
         but(THREADS_ONE, label="pthreads (10,000)", most=100_000), shimmed(most=100_000)),
        targets=(Target("Tendril", 4403, alone=True), Target("Tendril", 100, figure="mappings", alone=True),
                 Target("pthreads under the shim", 8704, alone=True)),
        unit="B", figure="bytes", beside=("mappings",), kind="memory"),
    Question(
        "echo", "TCP echo of 64 bytes, one core: CPU per request", (100, 1000, 10_000), contenders=(
            EPOLL, ours(), BY_RING, Contender("raw io_uring", "uring"), Contender("Asio, callbacks", "asio"),
            Contender("Asio, spawn", "asio", "echo_spawn"), but(ST, most=5000), but(PTH, most=100), GO, GEVENT,
            but(THREADS_ONE, most=5000), shimmed()),
        limit="raw epoll",
        targets=(Target("Tendril", 1.03, sizes=(100, 1000)), Target("Tendril", 1.05, sizes=(10_000,)),
                 Target("Tendril", 1.15, figure="p99_us", sizes=(10_000,)), Target("Tendril, io_uring", 1),
                 Target("pthreads under the shim", 1.2),
                 Target("pthreads under the shim", 0.7, to="pthreads, one core")),
        kind="server", **SERVER),
    Question(
        "idle", "The same with 15,000 idle connections beside", (1000,), contenders=(
            but(EPOLL, question="echo"), ours(question="echo"), but(BY_RING, question="echo"),
            Contender("raw io_uring", "uring", "echo"),
            Contender("Asio, callbacks", "asio", "echo"), but(GO, question="echo")),
        limit="raw epoll", targets=(Target("Tendril", 1.03),), kind="server", idle=15_000, **SERVER),
    Question(
        "fetch", "Fetches with 50 ms delay, all at once: CPU of the client", (2000,), "fetches",
        (EPOLL, ours(), GO, GEVENT, THREADS_ONE, shimmed(),
         Contender("python3's threads", "python_threads"), shimmed("python3's threads under the shim", "python_threads")),
        limit="raw epoll",
        targets=(Target("Tendril", 1.3), Target("pthreads under the shim", 0.7, to="pthreads, one core"),
                 Target("python3's threads under the shim", 1, to="gevent")),
        unit="us", figure="cpu_us", beside=("us",), kind="client"),
    Question(
        "sleep", "Sleeping 0 to 1 s over and over: CPU per wake, and lateness", (100_000,), "fibers",
        (but(EPOLL, label="callbacks on a heap"), ours(), Contender("Asio, callbacks", "asio"), FIBER,
         but(ST, most=10_000), GO, GEVENT),
        limit="callbacks on a heap", targets=(Target("Tendril", 2), Target("Tendril", 2000, figure="p99_us", alone=True)),
        beside=("p50_us", "p99_us", "p999_us")),
    Question(
        "microsocks", "microsocks, unmodified: 64 bytes through it and back", (100, 1000, 5000), contenders=(
            but(EPOLL, label="a relay on callbacks", question="relay"), Contender("microsocks", "microsocks"),
            shimmed("microsocks under the shim", "microsocks")),
        limit="a relay on callbacks",
        targets=(Target("microsocks under the shim", 1.3), *proxied("microsocks")), kind="socks5", **SERVER),
    Question(
        "tinyproxy", "tinyproxy, unmodified: 64 bytes through it and back", (100, 1000, 5000), contenders=(
            Contender("tinyproxy", "tinyproxy"), shimmed("tinyproxy under the shim", "tinyproxy")),
        targets=proxied("tinyproxy"), kind="connect", **SERVER),
    Question(
        "http", "python3's ThreadingHTTPServer, unmodified", (100, 1000), contenders=(
            Contender("python3", "http_server"), shimmed("python3 under the shim", "http_server")),
        targets=(Target("python3 under the shim", 1, to="python3"),), kind="http", **SERVER),
    Question(
        "mariadb", "mariadbd, unmodified: select of a text", (100, 1000), contenders=(
            Contender("mariadbd", "mariadbd"), shimmed("mariadbd under the shim", "mariadbd")),
        targets=(Target("mariadbd under the shim", 1, to="mariadbd"),), kind="mysql", **SERVER),
)
