"""A report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from reports.figures.picture import Picture
from reports.render.once import once
from reports.report import Report
from reports.tables.cells import LONG, Cell, Number, Table

SPECIAL = re.compile(
    r"[\\`*\[\]<>|~#!&]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is no emphasis: names stay readable
    r"|(?<=:)/(?=/)|(?<=www)\."  # a bare address would become a link
)
LINKED = re.compile(r"@(?=\w)|#(?=\d)|\bGH(?=-\d)|:(?=[A-Za-z+-][\w+-]*:)")
"""Where GitHub sees a mention, a mail address, an issue or an emoji. It looks for them in the text
that is left when no backslash is: only what nobody sees can part them."""
NOTHING = "&#8203;"
DOLLAR = "<span>$</span>"
"""As GitHub's manual says: any other dollar may begin a formula."""
LIST_MARK = re.compile(r"^(\d*)([-+.)])")
"""At the start of a line it would begin a list or draw a rule."""


def render_markdown(report: Report, pictures: Mapping[str, str]) -> str:
    """The whole report, with the pictures that have a file in `pictures`, by their names."""
    return "\n".join(_lines(report, pictures)) + "\n"


@once
def markdown_table(table: Table) -> str:
    """One table with its footnotes."""
    header = (
        f"{column.header} ({column.detail})" if column.detail else column.header
        for column in table.columns
    )
    rule = ("---:" if column.right else "---" for column in table.columns)
    lines = [_row(map(escape, header)), _row(rule)]
    lines += [_row(map(_cell, row)) for row in table.rows]
    if table.footnotes:
        lines.append("")
        # Without the backslashes the line would define a link or, with an x, be a task to do.
        lines += [rf"- \[{mark}\] {escape(text)}" for mark, text in table.footnotes]
    return "\n".join(lines)


@lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """Text that GitHub prints as it stands, inside a line."""
    escaped = SPECIAL.sub(r"\\\g<0>", text)
    return LINKED.sub(rf"\g<0>{NOTHING}", escaped).replace("$", DOLLAR)


def _lines(report: Report, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"# Offsite-Tuning: {escape(report.title)}\n"
    yield f"Stages: {report.counts.text}.\n"
    for warning in report.warnings:
        yield f"**Warning:** {escape(warning)}\n"
    for table in report.tables:
        yield from _section(table, report.own_notes(table))
        yield from _shown((each for each in report.pictures if each.table == table.name), pictures)
    placed = {table.name for table in report.tables}
    apart = [picture for picture in report.pictures if picture.table not in placed]
    if apart or report.figures_note:
        yield "## Figures\n"
        yield from _shown(apart, pictures)
        yield from _list(filter(None, [report.figures_note]))
    if report.legend:
        yield "## How to read the tables\n"
        yield from _list(report.legend)
    for table in report.further:
        yield from _section(table, table.notes)
    yield "## Where it ran\n"
    yield from _list(f"{name}: {value}" for name, value in report.facts)


def _section(table: Table, notes: Iterable[str]) -> Iterator[str]:
    yield f"## {escape(table.title)}\n"
    if len(table.rows) > LONG:
        yield f"{len(table.rows):,} rows: they are in the CSV file.\n"
        return
    yield markdown_table(table) + "\n"
    yield from _list(notes)


def _shown(pictures: Iterable[Picture], files: Mapping[str, str]) -> Iterator[str]:
    for picture in (each for each in pictures if each.name in files):
        yield f"![{escape(picture.description)}]({files[picture.name]})\n"


def _list(texts: Iterable[str]) -> Iterator[str]:
    items = ["- " + LIST_MARK.sub(r"\1\\\2", escape(text)) for text in texts]
    if items:
        yield "\n".join(items) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if isinstance(cell, Number) and cell.is_best:
        text = f"**{cell.mean_text}**{text.removeprefix(cell.mean_text)}"
    return f"{text} [{cell.mark}]" if cell.mark else text
