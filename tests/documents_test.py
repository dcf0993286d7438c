#!/usr/bin/python3
"""documents_test BUILD_DIRECTORY: the programs and commands of the documents do what the documents show.

A code block whose first line is a comment with a file's name (`// first.cpp`, `# waiting.py`) is that file. The lines
of a console block that begin with `$ ` are run by bash, in one directory for each document, with an installed Tendril
on the path; the lines below are what is printed: `...` stands for any text in a line, a line `...` for any lines. A
block that cannot be run here has the reason above it: `<!-- not run: REASON -->`."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / line for line in subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True,
    text=True).stdout.splitlines()] or sorted(
        p for p in ROOT.rglob("*.md") if not any(q.startswith(("build", ".")) for q in p.relative_to(ROOT).parts))
GUIDES = [ROOT / "README.md", ROOT / "include/README.md", ROOT / "shim/README.md"]
LONGEST_README = 130
NOT_RUN = re.compile(r"<!-- not run: .+ -->")


def name_of(document):
    return str(document.relative_to(ROOT))


def blocks(document):
    """Yields each fenced block: its language, its lines, the line above it, the number of its first line."""
    lines = document.read_text().splitlines()
    fence = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if fence is None:
            fence = number
        else:
            yield lines[fence][3:].strip(), lines[fence + 1:number], lines[fence - 1] if fence else "", fence + 2
            fence = None
    assert fence is None, f"{name_of(document)}: a block has no end"


def file_name(lines):
    named = re.fullmatch(r"(?://|#) ([\w.-]+\.\w+)", lines[0]) if lines else None
    return named and named[1]


def commands(lines):
    """Yields each command of a console block, with its expected output; `> ` continues a command."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line[2:], [])
        elif found:
            found[-1][1].append(line)
    return found


def pattern(expected):
    """A regular expression for the lines of output that a document shows. A table may be wider or narrower."""
    parts = []
    for line in expected:
        if line.strip() == "...":
            parts.append(r"(?:.*\n)*?")
        else:
            words = re.split(r"(\.\.\.|\s+)", line.rstrip())
            parts.append("".join(".*" if w == "..." else r"\s+" if w.isspace() else re.escape(w) for w in words) + r"\s*\n")
    return re.compile("".join(parts))


def anchor(heading):
    """The anchor that GitHub generates for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


class Installed:
    """A Tendril installed into a separate directory, and the environment of its user."""

    def __init__(self, scratch):
        staged = scratch / "staged"
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", staged], check=True,
                       stdout=subprocess.DEVNULL)
        pc = next(staged.rglob("tendril.pc"))
        prefix = next(p for p in pc.parents if (p / "bin/tendril").exists())
        for f in pc.parent.glob("*.pc"):
            f.write_text(re.sub(r"^prefix=.*$", f"prefix={prefix}", f.read_text(), flags=re.M))
        self.environment = {
            "PATH": f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin",
            "PKG_CONFIG_PATH": str(pc.parent),
            "LD_LIBRARY_PATH": str(pc.parent.parent),
            "HOME": os.environ.get("HOME", "/"),
            "LC_ALL": "C.UTF-8",
        }

    def run(self, command, directory):
        return subprocess.run(["bash", "-c", command], cwd=directory, env=self.environment, text=True,
                              timeout=int(os.environ.get("PATIENCE", 300)),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Documents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = Path(tempfile.mkdtemp(prefix="documents-"))
        cls.addClassCleanup(shutil.rmtree, cls.scratch, ignore_errors=True)
        cls.installed = Installed(cls.scratch)

    def test_guides_compile_and_run_as_printed(self):
        for document in GUIDES:
            directory = self.scratch / name_of(document).replace("/", "-")
            directory.mkdir()
            run = 0
            for language, lines, above, number in blocks(document):
                where = f"{name_of(document)}:{number}"
                if file := file_name(lines):
                    (directory / file).write_text("\n".join(lines) + "\n")
                if language != "console" or NOT_RUN.fullmatch(above):
                    continue
                for command, expected in commands(lines):
                    with self.subTest(where, command=command):
                        r = self.installed.run(command, directory)
                        self.assertRegex(r.stdout, re.compile(rf"\A{pattern(expected).pattern}\Z"),
                                         f"{where}: $ {command}: status {r.returncode}")
                        run += 1
            self.assertGreater(run, 2, f"{name_of(document)} shows nothing that can be run")

    def test_every_whole_program_has_its_compile_line(self):
        for document in GUIDES:
            named = {}
            for language, lines, above, number in blocks(document):
                file = file_name(lines)
                if language in ("cpp", "c") and any(re.match(r"int main\(", line) for line in lines):
                    self.assertIsNotNone(file, f"{name_of(document)}:{number}: a program without a file's name")
                    named[file] = number
                if language == "console" and not NOT_RUN.fullmatch(above):
                    for command, _ in commands(lines):
                        if re.match(r"(g\+\+|gcc|clang|clang\+\+) ", command):
                            for file in [f for f in named if f in command.split()]:
                                del named[file]
            self.assertEqual(named, {}, f"{name_of(document)}: nobody compiles these")

    def test_every_link_and_picture_is_there(self):
        for document in DOCUMENTS:
            text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
            text = re.sub(r"`[^`\n]*`", "", text)
            for target in re.findall(r"\]\(([^)\s]+)\)", text):
                if re.match(r"\w+:", target):
                    continue
                path, _, heading = target.partition("#")
                file = (document.parent / path).resolve() if path else document
                self.assertTrue(file.exists(), f"{name_of(document)}: {target} is not there")
                self.assertTrue(file.is_relative_to(ROOT), f"{name_of(document)}: {target} is outside")
                if heading and file.suffix == ".md":
                    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
                    self.assertIn(heading, map(anchor, headings), f"{name_of(document)}: {target}")

    def test_readme_is_read_in_two_minutes(self):
        self.assertLessEqual(len((ROOT / "README.md").read_text().splitlines()), LONGEST_README)

    def test_readme_shows_figures_of_the_whole_report(self):
        def rows(document):
            return set(re.findall(r"^\| .* \| .* \| [\d.,]+ \|.*\|$", document.read_text(), re.M))

        def machine(document):
            return re.search(r"^Medians of[^:]*?, 20\d\d-\d\d-\d\d", document.read_text(), re.M | re.S)[0].split()
        few, all_of_them = ROOT / "README.md", ROOT / "tests/bench/README.md"
        self.assertEqual(len(rows(few)), 6)
        self.assertLessEqual(rows(few), rows(all_of_them))
        self.assertEqual(machine(few), machine(all_of_them))

    def test_report_goes_into_the_documents(self):
        sys.path.insert(0, str(ROOT / "tests/bench"))
        sys.dont_write_bytecode = True  # leave no files next to the sources
        import questions
        import readme
        import report
        at = self.scratch / "report"
        made = report.Report(at, 1, 0.5)
        made.context["machine"] = "1 x a machine that nobody has"
        for q in questions.QUESTIONS:
            for size in q.sizes:
                table = report.Table(q, size)
                for n, c in enumerate(q.contenders, 1):
                    figures = {q.figure, "ns", "cpu_ns", "us", "cpu_us", "bytes", "per_second", *q.beside}
                    table.add(c.label, {f: 1000.0 * n for f in figures} | {"ops": 1})
                made.add([table], False)
            (at / f"{q.name}.svg").write_text("<svg/>")
        root = self.scratch / "repository"
        documents = {f: (ROOT / f).read_text() for f in ("README.md", "tests/bench/README.md")}
        for f, text in documents.items():
            (root / f).parent.mkdir(parents=True, exist_ok=True)
            (root / f).write_text(text)
        readme.write(root, at)
        for f, rows in (("README.md", 6), ("tests/bench/README.md", len(readme.ROWS))):
            text = (root / f).read_text()
            before, written, after = re.split("<!-- written by.*?-->|<!-- end of.*?-->", text)
            was_before, _, was_after = re.split("<!-- written by.*?-->|<!-- end of.*?-->", documents[f])
            self.assertEqual((before, after), (was_before, was_after), f"{f}: changed beside what the report fills")
            table = written.split("under the shim, natively 1")[0]
            self.assertEqual(len(re.findall(r"^\| [^|]* \| [^|]* \| [\d.,]+ \|", table, re.M)), rows, f)
            self.assertIn("a machine that nobody has", written)
            pictures = re.findall(r"\]\((.*?\.svg)\)", written)
            self.assertEqual(len(pictures), 1 if f == "README.md" else len(questions.QUESTIONS))
            for picture in pictures:
                self.assertTrue(((root / f).parent / picture).exists(), picture)


unittest.main(argv=sys.argv[:1], verbosity=1)
