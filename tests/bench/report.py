"""What the answers say: tables as text, Google Benchmark's JSON, and pictures."""

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
        """Who is compared with each peer: the first of those that have a target, or Tendril."""
        return [l for l in (*(t.who for t in self.question.targets), "Tendril") if l in self.answers][:1]

    def judged(self):
        """Of each target that has an answer, a line, and whether it is reached."""
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
        """Each run in the form of Google Benchmark."""
        for label, answers in self.answers.items():
            for i, a in enumerate(answers):
                unit = {"us": "us"}.get(self.question.unit, "ns")
                real, cpu = (a.get("us", 0), a.get("cpu_us", 0)) if unit == "us" else (a.get("ns", 0), a.get("cpu_ns", 0))
                yield {"name": f"{self.question.name}/{label}/{self.size}", "run_name": f"{self.question.name}/{label}/{self.size}",
                       "run_type": "iteration", "repetitions": len(answers), "repetition_index": i, "threads": 1,
                       "iterations": a.get("ops", 1), "real_time": real, "cpu_time": cpu, "time_unit": unit,
                       **{k: v for k, v in a.items() if k not in ("ns", "cpu_ns", "us", "cpu_us", "ops")}}


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, {platform.freedesktop_os_release()['PRETTY_NAME']}"


def write(out, tables, pictures):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    (out / "report.txt").write_text(f"{machine()}, {now}\n\n" + "\n".join(t.text() for t in tables))
    context = {"date": now, "host_name": platform.node(), "executable": "tests/bench/run", "num_cpus": os.cpu_count(),
               "machine": machine(), "library_build_type": "release"}
    benchmarks = [b for t in tables for b in t.benchmarks()]
    (out / "report.json").write_text(json.dumps({"context": context, "benchmarks": benchmarks}, indent=1))
    if not pictures:
        return
    try:
        import matplotlib
    except ImportError:
        print("No pictures: they need python3-matplotlib")
        return
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tendril", "font.size": 9})
    for name in dict.fromkeys(t.question.name for t in tables):
        of_it = [t for t in tables if t.question.name == name and t.answers]
        if of_it:
            picture(out / f"{name}.svg", of_it[0].question, of_it)


def picture(path, question, tables):
    """Bars for each size; with several sizes, curves over them too."""
    import matplotlib.pyplot as plt
    curves = len(tables) > 1
    panels = len(tables) + curves
    most = max(len(t.answers) for t in tables)
    figure, axes = plt.subplots(1, panels, figsize=(4.2 * panels, 1.2 + 0.28 * max(most, 6)), squeeze=False)
    for table, axis in zip(tables, axes[0]):
        labels = sorted(table.answers, key=table.median, reverse=True)
        medians = [table.median(l) for l in labels]
        spread = [[m - min(table.values(l)) for l, m in zip(labels, medians)],
                  [max(table.values(l)) - m for l, m in zip(labels, medians)]]
        axis.barh(labels, medians, xerr=spread, color=[colour(question, l) for l in labels], error_kw={"linewidth": 0.7})
        for y, m in enumerate(medians):
            axis.text(m, y, f" {number(m)}", va="center", fontsize=8)
        if max(medians) > 20 * min(medians) > 0:
            axis.set_xscale("log")
        axis.set_title(f"{table.size:,} {question.of}", fontsize=9)
        axis.set_xlabel(question.unit)
        axis.margins(x=0.18)
        axis.spines[["top", "right"]].set_visible(False)
    if curves:
        axis = axes[0][-1]
        for label in dict.fromkeys(l for t in tables for l in t.answers):
            at = [(t.size, t.median(label)) for t in tables if label in t.answers]
            axis.plot(*zip(*at), marker="o", markersize=3, label=label, linewidth=2 if ours(question, label) else 1)
        axis.set(xscale="log", yscale="log", xlabel=question.of, ylabel=question.unit)
        axis.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(question.title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def ours(question, label):
    return label.startswith("Tendril") or label.endswith("under the shim")


def colour(question, label):
    return "#2a7f62" if ours(question, label) else "#999999" if label == question.limit else "#c9b27c"
