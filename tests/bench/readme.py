"""The parts of a report that the documents show: all tables, missed targets and pictures in tests/bench/README.md, six
rows and one picture in README.md."""

import dataclasses
import shutil
import textwrap

import report
from questions import QUESTIONS

BEGIN, END = "<!-- written by tests/bench/run --readme -->\n", "<!-- end of what it writes -->\n"
SHIM = "pthreads under the shim"
NATIVE = "pthreads, one core"
WIDTH = 100  # of the documents' lines
TOP_PICTURE = "echo"  # the one of README.md


@dataclasses.dataclass(frozen=True)
class Row:
    text: str
    question: str
    size: int
    who: str = "Tendril"
    against: str = ""       # the contender whose figure counts as one; by default the limit
    peers: bool = True      # whether the peers are shown, too
    top: bool = False       # one of the rows of README.md


ROWS = (
    Row("switch between two fibers", "switch", 2, "Tendril, core", top=True),
    Row("the same with values", "switch", 2, peers=False),
    Row("a turn through the hub, 2 fibers", "yield", 2),
    Row("the same, 100", "yield", 100),
    Row("the same, 10,000", "yield", 10_000),
    Row("the same, 100,000", "yield", 100_000),
    Row("hand-over by a semaphore", "hand_over", 2),
    Row("the same by a channel", "hand_over", 2, "Tendril, channel", peers=False),
    Row("switch between two threads, unmodified, under the shim", "thread_switch", 2, SHIM),
    Row("a lock that nobody else wants, the same", "free_mutex", 1, SHIM, NATIVE),
    Row("a lock that 100 want, the same", "mutex", 100, SHIM, NATIVE),
    Row("hand-over by mutex and condition, the same", "condition", 2, SHIM, NATIVE),
    Row("create and join a thread, unmodified, under the shim", "create", 1, SHIM, NATIVE, top=True),
    Row("spawn, run, join with a result", "spawn", 1, top=True),
    Row("the same in batches of 1,000", "spawn", 1000),
    Row("TCP echo, 100 connections, per request", "echo", 100),
    Row("the same by threads, unmodified, under the shim", "echo", 100, SHIM, peers=False),
    Row("TCP echo, 1,000 connections", "echo", 1000, top=True),
    Row("TCP echo, 1,000, by threads, unmodified, under the shim", "echo", 1000, SHIM, peers=False, top=True),
    Row("TCP echo, 10,000 connections", "echo", 10_000),
    Row("the same by threads, unmodified, under the shim", "echo", 10_000, SHIM, peers=False),
    Row("1,000 busy connections beside 15,000 idle ones", "idle", 1000),
    Row("2,000 fetches with 50 ms delay", "fetch", 2000),
    Row("the same by threads, unmodified, under the shim", "fetch", 2000, SHIM, peers=False),
    Row("the same by python3's threads, unmodified, under the shim", "fetch", 2000, "python3's threads under the shim",
        peers=False),
    Row("100,000 fibers that sleep 0 to 1 s, per wake", "sleep", 100_000),
    Row("memory of a parked fiber, 1 million, KB", "memory", 1_000_000),
    Row("memory of a parked fiber, 100,000, KB", "memory", 100_000, top=True),
    Row("the same of a thread, unmodified, under the shim", "memory", 100_000, SHIM, peers=False),
)
SERVERS = {"microsocks": "microsocks", "tinyproxy": "tinyproxy", "http": "python3", "mariadb": "mariadbd"}
SHOWN = {"cpu_us": "CPU time per request", "per_second": "requests per second", "bytes": "memory per connection"}


def short(x):
    """A figure in two digits, which is its precision."""
    return f"{x:.1f}" if x < 10 else f"{float(f'{x:.2g}'):,.0f}"


def times(x):
    return "-" if x is None else f"{x:.2f}" if x < 1.2 else short(x)


def figure(table, label):
    value, unit = table.median(label), table.question.unit
    if unit == "B":
        return f"{value / 1000:.1f}"
    return f"{short(value / 1000)} us" if unit == "ns" and value >= 1000 else f"{short(value)} {unit}"


def line(row, table):
    """A line of the table of ratios; empty if the report does not have it."""
    against = row.against or table.question.limit
    if row.who not in table.answers or (against and against not in table.answers):
        return None

    def shown(label):
        return times(table.ratio(label, against)) if against else figure(table, label)

    def is_peer(label):
        return label != against and not label.startswith("Tendril") and not label.endswith("under the shim")
    peers = sorted(filter(is_peer, table.answers), key=table.median) if row.peers else ()
    others = ", ".join(f"{p.replace(', ', ' ')} {shown(p)}" for p in peers)
    limit = f"{'natively' if against == NATIVE else against} {figure(table, against)}" if against else ""
    return f"| {row.text} | {limit} | {shown(row.who)} | {others} |"


def servers(tables):
    """The table of servers under the shim compared with themselves natively: a column for each."""
    columns = {q: [t for (name, _), t in tables.items() if name == q] for q in SERVERS}
    columns = {q: of_it for q, of_it in columns.items() if of_it}
    if not columns:
        return
    yield ""
    heads = [f"{SERVERS[q]}, {', '.join(f'{t.size:,}' for t in of_it)}" for q, of_it in columns.items()]
    yield f"| under the shim, natively 1 | {' | '.join(heads)} |"
    yield "| --- |" + " --- |" * len(heads)
    for what, text in SHOWN.items():
        cells = [", ".join(times(t.ratio(f"{SERVERS[q]} under the shim", SERVERS[q], what)) for t in of_it)
                 for q, of_it in columns.items()]
        yield f"| {text} | {' | '.join(cells)} |"


def ratios(context, tables, rows):
    yield from textwrap.wrap(f"Medians of {context['runs']} runs of {context['seconds']:g} s on {context['machine']}, "
                             f"{context['date'][:10]}. CPU time, as a multiple of the limit's:", WIDTH)
    yield ""
    yield "| | limit | Tendril | peers |"
    yield "| --- | --- | --- | --- |"
    yield from filter(None, (line(r, tables[r.question, r.size]) for r in rows if (r.question, r.size) in tables))


def picture(question, directory):
    return f"![{question.title}]({directory}/{question.name}.svg)"


def short_text(context, tables, pictures):
    """The text for README.md, which must be short."""
    yield from ratios(context, tables, [r for r in ROWS if r.top])
    for q in QUESTIONS:
        if q.name == TOP_PICTURE and q.name in pictures:
            yield ""
            yield picture(q, "tests/bench/pictures")


def whole_text(context, tables, pictures):
    """The text for tests/bench/README.md."""
    yield from ratios(context, tables, ROWS)
    yield from servers(tables)
    missed = [f"* {t.title}: {what}." for t in tables.values() for what, reached in t.judged() if not reached]
    if missed:
        yield from ("", "Targets that this run missed:", "", *missed)
    yield ""
    for q in QUESTIONS:
        if q.name in pictures:
            yield picture(q, "pictures")


def put(file, lines):
    """Replaces the text between the two marks in the file."""
    before, _, rest = file.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if END not in rest:
        raise SystemExit(f"{file} has no place for it: two lines, {BEGIN.strip()} and {END.strip()}")
    file.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + after)


def write(root, directory):
    """Puts the report of that directory into the documents, and its pictures next to the questions."""
    context, tables = report.read(directory / "report.json", QUESTIONS)
    pictures = {q.name for q in QUESTIONS if (directory / f"{q.name}.svg").exists()}
    kept = root / "tests/bench/pictures"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for name in pictures:
        shutil.copy(directory / f"{name}.svg", kept)
    put(root / "tests/bench/README.md", whole_text(context, tables, pictures))
    put(root / "README.md", short_text(context, tables, pictures))
