"""Every format says the same, and no text from a suite or a failure can become markup."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from reports.errors import ReportError
from reports.record import Metric
from reports.render import FORMATS, write_report
from reports.render.csv_files import render_csv
from reports.render.latex import render_latex
from reports.render.markdown import render_markdown
from reports.render.terminal import print_tables
from reports.report import Report, build_report
from reports.results import read_plan
from reports.statistics.intervals import Estimate
from reports.tables.cells import Absent, Column, Number, Style, Table, Text
from tests.reports.synthetic_store import (
    SyntheticStore,
    accuracy,
    disclosed,
    fill,
    fill_compressions,
    fill_published,
    fill_row,
    training,
)

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a|b`c*d_e_[f](http://x.example)![g](http://y.example)",
    "</style></title><h1>",
    "$\\input{/etc/passwd}$ & # % ~ ^ {",
    "=HYPERLINK(1)",
    "line\nbreak\r\n| x |",
    "\x1b[31mred\x00\u202e",
    "{{ 7 * 7 }}{% raw %}",
    "www.example.com https://example.com <https://example.com>",
    "../../../etc/passwd",
    "模型 🙂",
]

LONG = "layer_drop(keep=4)+distill(corpus=pydoc_topics, learning_rate=0.001, steps=200)"


CELLS = ("td", "th")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of the synthetic run."""
    root = tmp_path_factory.mktemp("store")
    return build_report(root, read_plan(fill(SyntheticStore(root))))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What a hostile report is compared with."""
    return free_text_report(tmp_path_factory.mktemp("store"), "plain")


@pytest.fixture(scope="module", params=HOSTILE)
def hostile(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Report:
    """A report full of one hostile text."""
    return free_text_report(tmp_path_factory.mktemp("store"), request.param)


def free_text_report(root: Path, text: str) -> Report:
    """A report in which every free text, of the plan and of the records, is `text`."""
    store = SyntheticStore(root, suite=text, profile=text, reason=text)
    names = {"case": text, "model": text, "task": text, "compression": text, "tuning": text}
    cut = {**names, "layout": text}
    environment = {"commit": text, "dirty": True, "machine": {text: text}}
    params = {text: {text: [text]}}
    whole = {"environment": environment, "params": params}
    for setting, labels in (("full_finetuned", names), ("plug_in", cut)):
        digest = store.plan("evaluate", setting=setting, seed=0, **labels)
        scored = accuracy("acc", 0.5, 0.1)
        store.save(store.record(digest, "evaluate", scored, **whole))
    digest = store.plan("evaluate", setting="emulator_finetuned", seed=0, **cut)
    store.save_attempt(store.record(digest, "evaluate", outcome="failed", reason=text))
    digest = store.plan("tune", setting="emulator_finetuned", seed=0, **cut)
    speed, *_ = training("throughput_tokens_real", 5.0, 1.0, 1)
    unmeasured = Metric(
        metric="peak_memory_process",
        value=None,
        unit="bytes",
        better="lower",
        phase="train",
        grade="unmeasured",
        reason=text,
    )
    emulator = {"model": text, "layout": text, "compression": text}
    digest = store.plan("emulator", **emulator)
    store.save(store.record(digest, "emulator", facts={"experimental": [text]}, **whole))
    digest = store.plan("disclose", **emulator)
    store.save(store.record(digest, "disclose", *disclosed(0.5, 1.0, 1.0)))
    digest = store.plan("evaluate", setting="emulator_zero_shot", task=text, **emulator)
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    digest = store.plan("evaluate", setting="full_zero_shot", model=text, task=text)
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    graded = speed.model_copy(update={"grade": "bounded", "reason": text})
    store.save(store.record(digest, "tune", graded, unmeasured, **whole))
    return build_report(root, read_plan(store.save_plan()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report with every kind of table: settings, compressions, disclosure, the paper's."""
    store = SyntheticStore(tmp_path_factory.mktemp("store"))
    fill(store)
    fill_compressions(store)
    return build_report(store.root, read_plan(fill_published(store)))


def structure(text: str) -> list[str]:
    """What Markdown makes of a text, but for the words and the spans that hold a dollar."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    inner = [each for token in tokens for each in (token, *(token.children or ()))]
    words = ("text", "text_special", "softbreak")
    spans = ("<span>", "</span>")
    return [each.type for each in inner if each.type not in words and each.content not in spans]


def test_a_whole_report_has_every_kind_of_table(whole: Report):
    """In the order in which they are read; the parts of a leak are among the details."""
    titles = [table.title.partition(":")[0] for table in whole.tables]
    assert titles[-7:] == [
        "All tasks",
        "All tasks",
        "Ours beside the paper's Table 1",
        "Compressions on one budget",
        "Compressions on one budget",
        "Tunings of one emulator",
        "What the owner gave away",
    ]
    further = [table.title for table in whole.further]
    assert [title for title in further if title.startswith("Capability leak")] == [
        "Capability leak: tiny-lm",
        "Capability leak: tiny-vit",
        "Capability leak: owner-lm",
        "Capability leak: opt-1.3b",
    ]


def test_no_text_becomes_markdown(plain: Report, hostile: Report):
    """Whatever stands in a free text, tables keep their columns and nothing becomes a link."""
    text = render_markdown(hostile, {})
    assert structure(text) == structure(render_markdown(plain, {}))
    # GitHub also links bare addresses, which the parser used here does not.
    assert not re.search(r"://|\bwww\.", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_a_formula_or_a_column(text: str):
    """CSV rows keep their length, and no text cell starts a formula."""
    table = Table(
        name="t",
        title="t",
        columns=(
            Column(header="name", cells=(Text(text=text),), kind="label"),
            Column(header="value", detail=text, cells=(Absent(word=text, mark="a"),)),
        ),
        footnotes=(("a", text),),
    )
    rows = list(csv.reader(io.StringIO(render_csv(table), newline="")))
    assert [len(row) for row in rows] == [3, 3]
    assert not [cell for cell in rows[1] if cell.startswith(("=", "+", "-", "@"))]


def test_no_text_becomes_a_command(hostile: Report):
    """In LaTeX a text has no command, no column and no group of its own."""
    for table in hostile.tables:
        source = render_latex(table)
        assert "\\input" not in source
        rows = [line for line in source.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(table.columns) - 1}
        braces = re.sub(r"\\[{}]", "", source)
        assert braces.count("{") == braces.count("}")


def test_files_stay_in_the_folder(hostile: Report, tmp_path: Path):
    """A model named like a path writes no file outside the report's folder."""
    for path in write_report(hostile, tmp_path):
        assert path.resolve().is_relative_to(tmp_path.resolve())
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)


def test_two_tables_never_share_a_file(tmp_path: Path):
    """Names that differ only in what a file name cannot hold, or not at all, get files each."""
    store = SyntheticStore(tmp_path)
    for model, task in (("A-B", "t"), ("a/b", "t"), ("a:b", "t"), ("a-b", "t"), ("a", "b-t")):
        digest = store.plan("evaluate", model=model, task=task, setting="full_zero_shot")
        store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    report = build_report(tmp_path, read_plan(store.save_plan()))
    names = [path.name.lower() for path in write_report(report, tmp_path / "out", ["csv"])]
    assert len(set(names)) == len(names)


def test_a_report_is_the_same_bytes_twice(tmp_path: Path):
    """Gathering and rendering again changes no byte of any file."""
    plan = read_plan(fill(SyntheticStore(tmp_path / "store")))
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        write_report(build_report(tmp_path / "store", plan), folder)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert first == second


def test_a_report_folder_holds_what_was_promised(report: Report, tmp_path: Path):
    """report.html, report.md, a figure and a table file each; no temporary file stays."""
    files = {path.relative_to(tmp_path).as_posix() for path in write_report(report, tmp_path)}
    assert {"report.html", "report.md"} <= files
    assert "tables/tiny-lm-pydoc_topics.tex" in files
    assert "tables/tiny-lm-pydoc_topics.csv" in files
    assert "figures/tiny-lm-pydoc_topics.svg" in files
    on_disk = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert on_disk == files


def test_only_the_formats_asked_for_are_written(report: Report, tmp_path: Path):
    """`--format html` writes one file, and an unknown format names those there are."""
    assert [path.name for path in write_report(report, tmp_path, ["html"])] == ["report.html"]
    with pytest.raises(ReportError, match=f"known: {', '.join(FORMATS)}"):
        write_report(report, tmp_path, ["pdf"])


def test_markdown_shows_the_pictures_it_writes(report: Report, tmp_path: Path):
    """Every image of the page is a file beside it."""
    write_report(report, tmp_path, ["markdown"])
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (tmp_path / "report.md").read_text())
    assert links
    assert all((tmp_path / link).is_file() for link in links)


def test_csv_numbers_are_numbers(report: Report):
    """Means, spreads and ratios stand in columns of their own that a program can read."""
    sheet = list(csv.DictReader(io.StringIO(render_csv(report.tables[0]))))
    row = sheet[1]
    assert float(row["plug-in (perplexity ↓)"]) == 40.90
    assert float(row["± plug-in"]) == 0.75
    assert float(row["plug-in gap (perplexity ↑)"]) == 2.70
    assert float(row["trainable parameters (↓)"]) == 442368
    assert sheet[2]["notes"].startswith("2 of 3 seeds; seed 1: oom_host")


def test_latex_is_a_booktabs_table(report: Report):
    """Rules, caption and minus signs as a paper wants them."""
    source = render_latex(report.tables[0])
    assert [rule for rule in ("\\toprule", "\\midrule", "\\bottomrule") if rule not in source] == []
    assert r"\caption{tiny-lm on pydoc\_topics: perplexity (lower is better)}" in source
    assert r"$-$5.20 $\pm$ 0.00" in source


def test_terminal_output_is_plain_and_fits(report: Report):
    """Without a terminal there is no escape code, no broken word and no line over 118 columns."""
    out = io.StringIO()
    print_tables(report.tables, out)
    text = out.getvalue()
    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 118
    for words in ("2-4-2 layer_drop(keep=4)", "40.90", "± 0.75", "beats plug-in", "8,020 [a]"):
        assert words in text


def test_a_terminal_names_each_metric_where_no_title_does():
    """The tasks of one table have metrics of their own; that of all settings is said once."""
    columns = (
        Column(header="row", cells=(Text(text="plug-in"),), kind="label"),
        Column(header="arc", detail="acc, % ↑", cells=(Text(text="1"),)),
        Column(header="wiki", detail="perplexity ↓", cells=(Text(text="2"),)),
    )
    tasks = Table(name="tasks", title="All tasks", columns=columns)
    out = io.StringIO()
    print_tables([tasks], out)
    assert "acc, % ↑ perplexity ↓" in " ".join(out.getvalue().split())
    out = io.StringIO()
    print_tables([replace(tasks, title="acc in %", metric="acc")], out)
    assert "acc, % ↑" not in out.getvalue()


class Terminal(io.StringIO):
    """A terminal that keeps what it shows."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 118, 200])
def test_terminal_output_fits_the_terminal(
    whole: Report, monkeypatch: pytest.MonkeyPatch, width: int
):
    """A table comes in as many parts as its width needs, with every number on one line."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    print_tables(whole.tables, terminal)
    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())
    assert max(map(len, shown.splitlines())) <= width
    cells = [cell for table in whole.tables for row in table.rows for cell in row]
    numbers = [cell for cell in cells if isinstance(cell, Number)]
    words = Counter(word for cell in numbers for word in cell.text.split())
    assert words - Counter(shown.split()) == Counter()


def test_numbers_that_cannot_be_told_from_the_best_are_bold_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
):
    """Their letters stand under them, also where nothing can be bold."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    best = Number(
        estimate=Estimate(mean=41.2, half_width=0.3, n=3),
        style=Style(decimals=1),
        group="A",
        is_best=True,
    )
    other = replace(best, group="B", is_best=False)
    names = Column(header="row", cells=(Text(text="x"), Text(text="y")), kind="label")
    numbers = Column(header="plug-in", cells=(best, other))
    table = Table(name="t", title="t", columns=(names, numbers))
    terminal, out = Terminal(), io.StringIO()
    print_tables([table], terminal)
    print_tables([table], out)
    assert terminal.getvalue().count("\x1b[1m41.2") == 1
    assert re.findall(r"± 0.3 ([AB])", out.getvalue()) == ["A", "B"]


def test_long_names_break_between_parts_on_the_terminal(tmp_path: Path):
    """No word of a composition is cut in two."""
    store = SyntheticStore(tmp_path)
    fill_row(store, "2-4-2", LONG, 0.5)
    out = io.StringIO()
    print_tables(build_report(tmp_path, read_plan(store.save_plan())).tables, out)
    for line in ("layer_drop(keep=4)+", "corpus=pydoc_topics,", "learning_rate=0.001,"):
        assert any(row[:27].strip().endswith(line) for row in out.getvalue().splitlines())


def test_wide_tables_fit_the_terminal_with_their_marks(whole: Report):
    """A table wider than the page comes in parts, and a marked name keeps its mark."""
    out = io.StringIO()
    print_tables(whole.tables, out)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 118
    disclosure = text.partition("What the owner gave away")[2].partition("Ours beside")[0]
    assert disclosure.count("2-8-2 identity") == 2
    assert "2-4-2 scale_ot(keep=4) [a]" in disclosure
    for word in ("parameters", "verbatim", "similarity", "corrected", "choices", "-5.3"):
        assert word in disclosure


def test_markup_of_the_terminal_is_only_text(tmp_path: Path):
    """A model named like the terminal's own markup keeps its name."""
    out = io.StringIO()
    print_tables(free_text_report(tmp_path, "[bold]m[/bold]").tables, out)
    assert "[bold]m[/bold]" in out.getvalue()


def test_header_counts_stages_and_names_the_machine(report: Report):
    """How far the plan got, the commit with its local changes, and the versions."""
    assert report.counts.text == "58 planned, 55 ok, 3 failed"
    facts = dict(report.facts)
    assert facts["commit"] == "0123456789abcdef + local changes"
    assert facts["machine.processor"] == "Test CPU"
    assert facts["packages.torch"] == "2.11.0"


def test_two_machines_are_told_apart(tmp_path: Path):
    """Speed is the busier machine's; the other one is named as a source of quality only."""
    store = SyntheticStore(tmp_path)
    plan = fill(store)
    digest = store.plan("evaluate", model="tiny-lm", task="other", setting="full_zero_shot")
    scored = accuracy("acc", 0.5, 0.1)
    store.save(store.record(digest, "evaluate", scored, machine="elsewhere"))
    plan = store.save_plan()
    facts = dict(build_report(tmp_path, read_plan(plan)).facts)
    assert facts["also from machines"] == "elsewhere (quality only)"


def test_a_report_of_half_a_plan_says_so(tmp_path: Path):
    """What was planned and never ran is counted in the header and named in the table."""
    store = SyntheticStore(tmp_path)
    digest = store.plan("evaluate", model="m", task="t", setting="full_zero_shot")
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    store.plan("evaluate", model="m", task="t", setting="full_finetuned", tuning="full", seed=0)
    report = build_report(tmp_path, read_plan(store.save_plan()))
    assert report.counts.text == "2 planned, 1 ok, 1 not run"
    (cell,) = (cell for cell in report.tables[0].rows[0] if isinstance(cell, Absent))
    assert (cell.word, len(cell.sources)) == ("not run", 1)


def test_a_number_reads_the_same_whole_and_in_parts():
    """The cell's text is its mean, its spread and its ratio."""
    number = Number(
        estimate=Estimate(mean=8020.0, half_width=49.7, n=3), style=Style(decimals=0), ratio=2.0
    )
    parts = (number.mean_text, number.spread_text, number.ratio_text)
    assert parts == ("8,020", "50", "2.00")
    assert all(part in number.text for part in parts)
