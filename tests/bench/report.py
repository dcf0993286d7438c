"""Reports on the answers: tables as text, Google Benchmark's JSON, and pictures."""

import datetime
import json
import os
import pathlib
import platform
import statistics

NAMES = {"per_second": "per s", "p50_us": "p50 us", "p99_us": "p99 us", "p999_us": "p99.9 us", "bytes": "B each",
         "us": "wall us", "ns": "wall ns", "mappings": "mappings"}


def number(x):
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}" if x >= 1 else f"{x:.2f}"


class Table:
    """The answers to one question at one size."""

    def __init__(self, question, size):
        self.question, self.size = question, size
        self.answers = {}
        self.notes = {}

    def add(self, label, answer):
        self.answers.setdefault(label, []).append(answer)

    def skip(self, label, why):
        self.notes[label] = f"skipped: {why}"

    def void(self, label, why):
        self.answers.pop(label, None)
        self.notes[label] = f"void: {why}"

    def values(self, label, figure=None):
        figure = figure or self.question.figure
        return [a[figure] for a in self.answers.get(label, ()) if figure in a]

    def median(self, label, figure=None):
        values = self.values(label, figure)
        return statistics.median(values) if values else None

    def ratio(self, label, to, figure=None):
        mine, theirs = self.median(label, figure), self.median(to, figure)
        return mine / theirs if mine is not None and theirs else None

    @property
    def title(self):
        return f"{self.question.title} ({self.size:,} {self.question.of})"

    def ours(self):
        """The contender that is compared with each peer: the first that has a target, or Tendril."""
        return [l for l in (*(t.who for t in self.question.targets), "Tendril") if l in self.answers][:1]

    def judged(self):
        """A line for each target that has an answer, and whether it is reached."""
        for t in self.question.targets:
            to = t.to or self.question.limit
            value = self.median(t.who, t.figure) if t.alone else self.ratio(t.who, to, t.figure)
            if value is None or (t.sizes and self.size not in t.sizes):
                continue
            name = NAMES.get(t.figure, t.figure)
            what = (f"{number(value)} {name or self.question.unit}" if t.alone else
                    f"{number(value)} x {to}{', ' + name if name else ''}")
            reached = value >= t.most if t.least else value <= t.most
            yield f"{t.who}: {what}, to be at {'least' if t.least else 'most'} {t.most:,}", reached

    def rows(self):
        q = self.question
        head = ["", f"median {q.unit}", "min", "max"]
        if q.limit:
            head.append("x limit")
        ours = ("Tendril" if "Tendril" in self.answers else (self.ours() or [""])[0])
        if ours:
            head.append(f"{ours} is")
        head += [NAMES.get(b, b) for b in q.beside]
        rows = [head]
        for label in sorted(self.answers, key=self.median):
            v = self.values(label)
            row = [label, number(self.median(label)), number(min(v)), number(max(v))]
            if q.limit:
                row.append(number(self.ratio(label, q.limit)))
            if ours:
                row.append(f"{number(self.ratio(ours, label))} x" if label != ours else "")
            rows.append(row + [number(self.median(label, b)) for b in q.beside])
        return rows

    def text(self):
        rows = self.rows()
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        lines = [self.title]
        for r in rows:
            lines.append("  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))))
        lines += [f"  {line}: {'reached' if reached else 'NOT reached'}" for line, reached in self.judged()]
        lines += [f"  {label} {note}" for label, note in self.notes.items()]
        return "\n".join(lines) + "\n"

    def benchmarks(self):
        """Each run, and the medians, in the form of Google Benchmark."""
        unit = "us" if self.question.unit == "us" else "ns"
        times = {"real_time": unit, "cpu_time": f"cpu_{unit}"}
        for label, answers in self.answers.items():
            name = f"{self.question.name}/{label}/{self.size}"
            common = {"run_name": name, "repetitions": len(answers), "threads": 1}
            for i, a in enumerate(answers):
                yield {"name": name, **common, "run_type": "iteration", "repetition_index": i,
                       "iterations": a.get("ops", 1), **{k: a.get(v, 0) for k, v in times.items()}, "time_unit": unit,
                       **{k: v for k, v in a.items() if k not in (*times.values(), "ops")}}
            figures = set.intersection(*(set(a) for a in answers)) - {*times.values(), "ops"}
            yield {"name": f"{name}_median", **common, "run_type": "aggregate", "aggregate_name": "median",
                   "iterations": len(answers), **{k: self.median(label, v) or 0 for k, v in times.items()},
                   "time_unit": unit, **{k: self.median(label, k) for k in sorted(figures)}}

    def add_benchmark(self, b):
        """The reverse, for one run."""
        label, unit = b["name"].split("/")[1], b["time_unit"]
        of_form = {"name", "run_name", "run_type", "repetitions", "repetition_index", "threads", "iterations", "real_time",
                   "cpu_time", "time_unit"}
        self.add(label, {unit: b["real_time"], f"cpu_{unit}": b["cpu_time"], "ops": b["iterations"],
                         **{k: v for k, v in b.items() if k not in of_form}})


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, {platform.freedesktop_os_release()['PRETTY_NAME']}"


class Report:
    """The tables so far, in a directory. They are rewritten after each question, so an interrupted run leaves its results."""

    def __init__(self, out, runs, seconds):
        self.out = pathlib.Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.tables = []
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self.context = {"date": now, "host_name": platform.node(), "executable": "tests/bench/run",
                        "num_cpus": os.cpu_count(), "library_build_type": "release", "machine": machine(), "runs": runs,
                        "seconds": seconds}

    def add(self, tables, pictures):
        self.tables += tables
        (self.out / "report.txt").write_text(f"{self.context['machine']}, {self.context['date']}\n\n" +
                                             "\n".join(t.text() for t in self.tables))
        benchmarks = [b for t in self.tables for b in t.benchmarks()]
        (self.out / "report.json").write_text(json.dumps({"context": self.context, "benchmarks": benchmarks}, indent=1))
        answered = [t for t in tables if t.answers]
        if answered and pictures:
            picture(self.out / f"{answered[0].question.name}.svg", answered[0].question, answered)


def read(path, questions):
    """Reads the context and the tables of an earlier report."""
    report = json.loads(pathlib.Path(path).read_text())
    tables = {(q.name, size): Table(q, size) for q in questions for size in q.sizes}
    for b in report["benchmarks"]:
        name, _, size = b["name"].split("/")
        if b["run_type"] == "iteration" and (name, int(size)) in tables:
            tables[name, int(size)].add_benchmark(b)
    return report["context"], {k: t for k, t in tables.items() if t.answers}


def can_draw():
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tendril", "font.size": 9})
    return True


def picture(path, question, tables):
    """Bars for each size; with several sizes, curves over them too. Two panels side by side, as wide as a page."""
    import matplotlib.pyplot as plt
    panels = len(tables) + (len(tables) > 1)
    columns = min(panels, 2)
    rows = -(-panels // columns)
    most = max(len(t.answers) for t in tables)
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained",
                                figsize=(4.7 * columns + (columns == 1), 0.4 + rows * (0.9 + 0.22 * max(most, 5))))
    axes = list(axes.flat)
    for table, axis in zip(tables, axes):
        bars(axis, table)
    if len(tables) > 1:
        curves(axes[len(tables)], question, tables)
    for axis in axes[panels:]:
        axis.axis("off")
    figure.suptitle(question.title, fontsize=10)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def plain(axis):
    """Plain numbers on an axis."""
    from matplotlib.ticker import FuncFormatter, NullFormatter
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x == int(x) else f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def bars(axis, table):
    question = table.question
    labels = sorted(table.answers, key=table.median, reverse=True)
    medians = [table.median(l) for l in labels]
    spread = [[m - min(table.values(l)) for l, m in zip(labels, medians)],
              [max(table.values(l)) - m for l, m in zip(labels, medians)]]
    axis.barh(labels, medians, xerr=spread, color=[colour(question, l) for l in labels], error_kw={"linewidth": 0.7})
    if max(medians) > 20 * min(medians) > 0:
        axis.set_xscale("log")
    for y, label in enumerate(labels):
        axis.text(max(table.values(label)), y, f" {number(medians[y])}", va="center", fontsize=8)
    axis.set_title(f"{table.size:,} {question.of}", fontsize=9)
    axis.set_xlabel(f"{question.unit}, logarithmic" if axis.get_xscale() == "log" else question.unit)
    axis.margins(x=0.22, y=0.03)
    plain(axis.xaxis)
    axis.spines[["top", "right"]].set_visible(False)


def curves(axis, question, tables):
    for label in dict.fromkeys(l for t in tables for l in t.answers):
        at = [(t.size, t.median(label)) for t in tables if label in t.answers]
        special = ours(question, label) or label == question.limit
        axis.plot(*zip(*at), marker="o", markersize=3, label=label, linewidth=2 if special else 1,
                  linestyle="--" if label.endswith("under the shim") else "-",
                  **({"color": colour(question, label)} if special else {}))
    axis.set(xscale="log", yscale="log", xlabel=question.of, ylabel=question.unit)
    axis.set_xticks([t.size for t in tables])
    plain(axis.xaxis)
    plain(axis.yaxis)
    axis.minorticks_off()
    low, high = axis.get_ylim()
    if high < 30 * low:  # less than two decades: more marks
        from matplotlib.ticker import LogLocator
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axis.spines[["top", "right"]].set_visible(False)


def ours(question, label):
    return label.startswith("Tendril") or label.endswith("under the shim")


def colour(question, label):
    return "#2a7f62" if ours(question, label) else "#999999" if label == question.limit else "#c9b27c"
