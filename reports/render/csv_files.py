"""A table as a CSV file: one column per number, so that a spreadsheet can use it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from reports.render.once import once
from reports.tables.cells import TIMES, Cell, Column, Number, Table


@once
def render_csv(table: Table) -> str:
    """The table with its spreads, counts, ratios, ties and footnotes in columns of their own."""
    columns = [list(lines) for column in table.columns for lines in _lines(column)]
    if table.footnotes:
        columns.append(["notes", *_notes(table)])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(zip(*columns, strict=True))
    return buffer.getvalue()


def _lines(column: Column) -> Iterator[list[str]]:
    """A column's header and cells, then what belongs to them where any of them has it."""
    header = f"{column.header} ({column.detail})" if column.detail else column.header
    yield [_guarded(header), *map(_main_text, column.cells)]
    numbers = [cell if isinstance(cell, Number) else None for cell in column.cells]
    spreads = [number.spread_text if number else "" for number in numbers]
    # Where nothing in a column has a spread, how often it was measured explains nothing.
    counts = [str(number.estimate.n) if number and any(spreads) else "" for number in numbers]
    for name, texts in (
        ("±", spreads),
        ("n", counts),
        ("items", [_items(number) for number in numbers]),
        (TIMES, [number.ratio_text if number else "" for number in numbers]),
        ("ties", [number.group if number else "" for number in numbers]),
    ):
        if any(texts):
            yield [f"{name} {column.header}", *map(_plain, texts)]


def _items(number: Number | None) -> str:
    return str(number.estimate.items) if number and number.estimate.items else ""


def _main_text(cell: Cell) -> str:
    return _plain(cell.mean_text) if isinstance(cell, Number) else _guarded(cell.text)


def _plain(number: str) -> str:
    """The same digits without what only helps the eye."""
    return number.replace(",", "").removeprefix("+")


def _guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _notes(table: Table) -> Iterator[str]:
    texts = dict(table.footnotes)
    for row in table.rows:
        marks = dict.fromkeys(cell.mark for cell in row if cell.mark)
        yield _guarded("; ".join(texts[mark] for mark in marks))
