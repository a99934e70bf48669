"""Every format of a table says the same, to the digit, and prints every text as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.render.csv_files import render_csv
from reports.render.html import render_html
from reports.render.latex import escape as latex_escape
from reports.render.latex import render_latex
from reports.render.markdown import escape, markdown_table, render_markdown
from reports.report import Report, build_report
from reports.results import read_plan
from reports.statistics.intervals import Estimate
from reports.tables.cells import (
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Style,
    Table,
    Text,
    one_line,
)
from tests.reports.generated_store import fill_generated
from tests.reports.hostile import hostile_texts
from tests.reports.read_back import (
    ZERO_WIDTH,
    Page,
    expected,
    plain,
    read_csv,
    read_latex,
    read_markdown,
)
from tests.reports.synthetic_store import SyntheticStore, fill, fill_compressions, fill_published

HOSTILE = (
    *("[x]", "*", "* [x]", "[a]: http://x.example", "-- '' ,, `` ?` <<", r"\\[1cm]", r"\hline"),
    *("$x$ and $y$", "`code`", "a|b", r"a\|b", r"\|", "&amp; &#35;", "<b>", "<!-- -->", "~~x~~"),
    *("@octocat", "#1", "GH-1", "mail@x.example", ":tada:", "www.x.example", "https://x.example"),
    *("- x", "1. x", "---", "***", "___", "=1+1", "-2", "'=1", "+x", "@sum", "_a_ __b__ c_d"),
    *("{}", "{[}", "$-$", r"\textbf{1}", "1 [a]", "**1**", "%", "^^M", "模型 🙂", "é ß", '"'),
)
ENGINES = ("tectonic", "lualatex", "xelatex", "pdflatex")

# LaTeX shows a question mark where a text had a sign that cannot be printed.
words = (
    st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60))
    .map(lambda text: one_line(text).replace("\ufffd", "?"))
    .filter(bool)
)
estimates = st.builds(
    Estimate,
    mean=st.one_of(st.floats(-1e12, 1e12), st.floats(-1, 1), st.integers(-9999, 9999)),
    half_width=st.none() | st.floats(0, 1e9),
    n=st.integers(1, 2000),
    items=st.none() | st.integers(1, 10**6),
)
styles = st.builds(
    Style,
    decimals=st.integers(0, 6),
    scale=st.sampled_from((1.0, 100.0, 2.0**-20)),
    signed=st.booleans(),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Numbers of every size, words and gaps, any of them with a footnote."""
    footnotes = Footnotes()
    rows = draw(st.integers(0, 4))

    def cell() -> Cell:
        mark = footnotes.mark(draw(words)) if draw(st.booleans()) else ""
        kind = draw(st.sampled_from((Number, Number, Text, Absent)))
        if kind is Text:
            return Text(text=draw(words), mark=mark)
        if kind is Absent:
            return Absent(word=draw(words), mark=mark)
        return Number(
            estimate=draw(estimates),
            style=draw(styles),
            ratio=draw(st.none() | st.floats(0, 1e6)),
            mark=mark,
            group=draw(st.sampled_from(("", "A", "BC", "A-CE", "A1"))),
            is_best=draw(st.booleans()),
        )

    columns = tuple(
        Column(
            header=draw(words),
            detail=draw(st.just("") | words),
            cells=tuple(cell() for _ in range(rows)),
            kind=draw(st.sampled_from(("label", "number", "cost", "verdict"))),
        )
        for _ in range(draw(st.integers(1, 5)))
    )
    return Table(
        name=draw(words),
        title=draw(words),
        columns=columns,
        notes=tuple(draw(st.lists(words, max_size=2))),
        footnotes=footnotes.lettered(),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report with every kind of table."""
    store = SyntheticStore(tmp_path_factory.mktemp("store"))
    fill(store)
    fill_compressions(store)
    return build_report(store.root, read_plan(fill_published(store)))


def all_tables(report: Report) -> tuple[Table, ...]:
    """The main ones, then the details."""
    return (*report.tables, *report.further)


def agree(table: Table) -> None:
    """Markdown, LaTeX and CSV show what the table holds."""
    assert read_markdown(markdown_table(table)) == expected(table)
    has_details = any(column.detail for column in table.columns)
    assert read_latex(render_latex(table), has_details=has_details) == expected(table)
    assert read_csv(render_csv(table), table) == plain(table)


@settings(max_examples=300, deadline=None)
@given(tables())
def test_formats_agree_whatever_a_table_holds(table: Table):
    """Means, spreads, ratios, letters, bold, marks, gaps, headers and footnotes are the same."""
    agree(table)


@pytest.mark.parametrize("number", range(8))
def test_formats_of_a_store_agree(tmp_path: Path, number: int):
    """So are those of stores with other seeds, failures, items and magnitudes."""
    store = SyntheticStore(tmp_path)
    report = build_report(tmp_path, read_plan(fill_generated(store, number)))
    for table in all_tables(report):
        agree(table)
    assert_page_agrees(report)


def test_formats_of_every_kind_of_table_agree(whole: Report):
    """Settings, costs, compressions, disclosure and the paper's."""
    for table in all_tables(whole):
        agree(table)
    assert_page_agrees(whole)


def assert_page_agrees(report: Report) -> None:
    """The page's tables are the report's, with what each shows."""
    shown = Page(render_html(report)).tables
    for table in (*report.tables, *further_tables_of(report)):
        headers = [f"{column.header} {column.detail}".strip() for column in table.columns]
        assert replace(expected(table), headers=headers) in shown, table.title


def further_tables_of(report: Report) -> list[Table]:
    """The details; the stages are no table of the page, which lists them with their records."""
    return [table for table in report.further if table.name != "stages"]


def one_cell(text: str) -> Table:
    """A table that holds one word in every place a word can stand."""
    column = Column(header=text, detail=text, cells=(Text(text=text, mark="a"),), kind="label")
    return Table(name="t", title=text, columns=(column,), notes=(text,), footnotes=(("a", text),))


@pytest.mark.parametrize("text", HOSTILE)
def test_github_makes_no_link_of_a_text(text: str):
    """No mention, mail address, issue, emoji or formula: GitHub looks for them without backslashes.

    Addresses of pages it looks for in the source.
    """
    source = markdown_table(one_cell(text))
    assert not re.search(r"://|\bwww\.", source)
    seen = re.sub("<span>.</span>", "", MarkdownIt("gfm-like", {"linkify": False}).render(source))
    assert not re.search(r"@\w|#\d|\bGH-\d|:[a-z][\w+-]*:|\$", seen.replace("&#", ""))


def test_three_hundred_hostile_texts_are_only_text():
    """In Markdown, LaTeX and CSV they are printed as they stand, wherever they stand."""
    for text in dict.fromkeys(one_line(text).replace("\ufffd", "?") for text in hostile_texts()):
        if text:
            agree(one_cell(text))


def test_what_parts_a_mention_is_not_seen():
    """Between the sign and the name there is a character without width."""
    html = MarkdownIt("gfm-like", {"linkify": False}).renderInline(escape("@me #1 mail@x.y"))
    assert html == f"@{ZERO_WIDTH}me #{ZERO_WIDTH}1 mail@{ZERO_WIDTH}x.y"


def test_names_stay_readable_in_markdown():
    """Underscores inside a word are left alone; those that would be emphasis are not."""
    assert escape("layer_drop(keep=4)") == "layer_drop(keep=4)"
    assert escape("_x_ a|b") == r"\_x\_ a\|b"
    assert escape("at 12:30:15") == "at 12:30:15"


def test_a_footnote_of_one_word_is_no_link():
    """`[a]: timeout` would define where every [a] of the page leads; `[x] done` would be a box."""
    marks = tuple((mark, "timeout") for mark in ("a", "x"))
    cells = (Absent(word="timeout", mark="a"), Absent(word="timeout", mark="x"))
    table = Table(name="t", title="t", columns=(Column(header="h", cells=cells),), footnotes=marks)
    source = markdown_table(table)
    assert "<a " not in MarkdownIt("gfm-like", {"linkify": False}).render(source)
    assert source.endswith("- \\[a\\] timeout\n- \\[x\\] timeout")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_that_begins_like_a_list_is_none(whole: Report, text: str):
    """Notes, facts, warnings and titles make the same page whatever they begin with."""

    def structure(text: str) -> list[str]:
        table = one_cell(text)
        report = replace(
            whole, tables=(table,), further=(), facts=((text, text),), warnings=(text,), pictures=()
        )
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(render_markdown(report, {}))
        return [token.type for token in tokens]

    assert structure(text) == structure("plain")


def test_numbers_that_cannot_be_told_from_the_best_are_bold():
    """The mean alone is bold, and capitals cannot be taken for footnotes."""
    number = Number(
        estimate=Estimate(mean=-1234.56, half_width=1000.5, n=3, items=40),
        style=Style(decimals=1),
        ratio=0.5,
        group="AB",
        is_best=True,
        mark="a",
    )
    column = Column(header="plug-in", cells=(number, replace(number, mark="", is_best=False)))
    table = Table(name="t", title="t", columns=(column,), footnotes=(("a", "why"),))
    assert "| **-1,234.6** ± 1,000.5 (0.50×) AB [a] |\n| -1,234.6 ± 1,000.5 (0.50×) AB |" in (  # noqa: RUF001
        markdown_table(table)
    )
    whole_row, plain_row = render_latex(table).splitlines()[9:11]
    assert whole_row == (
        r"\textbf{$-$1,234.6} $\pm$ 1,000.5 (0.50$\times$)\textsuperscript{AB,a} \\"
    )
    assert plain_row == r"$-$1,234.6 $\pm$ 1,000.5 (0.50$\times$)\textsuperscript{AB} \\"
    assert render_csv(table).splitlines() == [
        "plug-in,± plug-in,n plug-in,items plug-in,× plug-in,ties plug-in,notes",  # noqa: RUF001
        "-1234.6,1000.5,3,40,0.50,AB,why",
        "-1234.6,1000.5,3,40,0.50,AB,",
    ]


def test_a_column_without_a_spread_counts_no_seeds():
    """Where one exact number stands in each row, a count of 1 would look like one seed."""
    cell = Number(estimate=Estimate(mean=5, half_width=None, n=1), style=Style(decimals=0))
    table = Table(name="t", title="t", columns=(Column(header="size", cells=(cell,)),))
    assert render_csv(table) == "size\n5\n"


def test_a_row_that_begins_with_a_bracket_is_no_option_in_latex():
    """TeX would take `[1]` or `*` after the end of a row for an argument of that end."""
    assert latex_escape("[1]") == "{[}1]"
    assert latex_escape("*") == "{*}"


def test_long_names_break_between_parts_in_latex():
    """A column of long names has a width, and the names have places to break."""
    name = "layer_drop(keep=4)+distill(corpus=pydoc_topics, learning_rate=0.001)"
    source = render_latex(one_cell(name))
    assert r"\begin{tabular}{p{45mm}}" in source
    assert r"+\allowbreak{}distill(\allowbreak{}corpus" in source


def test_latex_names_what_it_needs():
    """The head of a file names its packages, and the engine where letters are not ASCII."""
    head = r"% needs \usepackage{booktabs,graphicx}"
    assert render_latex(one_cell("plain")).splitlines()[:2] == [head, r"\begin{table}"]
    assert "LuaLaTeX" in render_latex(one_cell("模型")).splitlines()[1]


DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ENGINES)), reason="no TeX engine is installed")
def test_latex_compiles(whole: Report, tmp_path: Path):
    """A TeX engine makes a page of every table, hostile ones too, without an error."""
    engine = next(filter(shutil.which, ENGINES))
    sources = [render_latex(table) for table in all_tables(whole)]
    sources += [render_latex(one_cell(text)) for text in HOSTILE]
    if engine == "pdflatex":
        sources = [source for source in sources if source.isascii()]
    # TeX holds back only so many tables that found no page yet.
    path = tmp_path / "paper.tex"
    path.write_text(DOCUMENT % "\\clearpage\n".join(sources), encoding="utf-8")
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [engine, *options, path.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert path.with_suffix(".pdf").stat().st_size > 10_000
