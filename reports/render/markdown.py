"""A report as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from reports.cells import Cell, Table
from reports.report import Report

SPECIAL = re.compile(
    r"[\\`*\[\]<>|~$#!&]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is no emphasis: names stay readable
    r"|(?<=:)/(?=/)|(?<=www)\."  # a bare address would become a link
)


def render_markdown(report: Report, pictures: Mapping[str, str]) -> str:
    """The whole report; `pictures` gives the file of each picture by its name."""
    return "\n".join(_lines(report, pictures)) + "\n"


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
        lines += [f"- [{mark}]: {escape(text)}" for mark, text in table.footnotes]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that Markdown prints as it stands."""
    return SPECIAL.sub(r"\\\g<0>", text)


def _lines(report: Report, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"# Offsite-Tuning: {escape(report.title)}\n"
    yield f"Stages: {report.counts.text}.\n"
    for warning in report.warnings:
        yield f"**Warning:** {escape(warning)}\n"
    for table in report.tables:
        yield from _section(table, report.own_notes(table))
        if table.name in pictures:
            yield f"![{escape(table.title)}]({pictures[table.name]})\n"
    if report.legend:
        yield "## How to read the tables\n"
        yield from _list(report.legend)
    for table in report.further:
        yield from _section(table, table.notes)
    yield "## Where it ran\n"
    yield from _list(f"{name}: {value}" for name, value in report.facts)


def _section(table: Table, notes: Iterable[str]) -> Iterator[str]:
    yield f"## {escape(table.title)}\n"
    yield markdown_table(table) + "\n"
    yield from _list(notes)


def _list(texts: Iterable[str]) -> Iterator[str]:
    items = [f"- {escape(text)}" for text in texts]
    if items:
        yield "\n".join(items) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"{text} [{cell.mark}]" if cell.mark else text
