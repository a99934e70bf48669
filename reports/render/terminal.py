"""Tables on a terminal, or as plain lines where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text as RichText

from reports.tables.cells import NOT_APPLICABLE, Absent, Cell, Column, Number, Table, broken
from reports.tables.notes import shared_notes

WIDTH = 118
"""Of plain output. A terminal has a width of its own."""
LABEL_WIDTH = 26
COLUMN_WIDTH = 20


def print_tables(tables: Sequence[Table], file: TextIO) -> None:
    """Print tables to a terminal in its width and colours, elsewhere plain and wide enough."""
    console = Console(file=file, width=None if file.isatty() else WIDTH, highlight=False)
    shared = shared_notes(tables)
    for table in tables:
        console.print(_table(table, shared, console.width))
    for note in shared:
        console.print(RichText(note, style="dim"))


def _table(table: Table, shared: tuple[str, ...], width: int) -> Group:
    """One table in blocks that fit the width: the settings, then the costs."""
    labels = [column for column in table.columns if column.kind == "label"]
    quality = [column for column in table.columns if column.kind in ("number", "verdict")]
    cost = [column for column in table.columns if column.kind == "cost"]
    if table.metric:
        # The metric of the settings is in the title and not said seven times.
        quality = [replace(column, detail="") for column in quality]
    room = width - LABEL_WIDTH - 3
    blocks = [_block(labels, part) for columns in (quality, cost) for part in _parts(columns, room)]
    footnotes = [RichText(f"[{mark}] {text}") for mark, text in table.footnotes]
    notes = [RichText(note, style="dim") for note in table.notes if note not in shared]
    return Group(RichText(table.title, style="bold"), *blocks, *footnotes, *notes, "")


def _parts(columns: Sequence[Column], room: int) -> list[Sequence[Column]]:
    """Columns in as few equal parts as fit the room; one that is wider stands alone."""
    widths = list(map(_width, columns))
    for count in range(1, len(columns) + 1):
        size = math.ceil(len(columns) / count)
        starts = range(0, len(columns), size)
        if size == 1 or all(sum(widths[start : start + size]) <= room for start in starts):
            return [columns[start : start + size] for start in starts]
    return []


def _width(column: Column) -> int:
    """What a column needs so that no word is broken, with the blanks beside it."""
    texts = (_header(column), *map(_text, column.cells))
    longest = max(len(word) for text in texts for word in (text.plain.split() or [""]))
    return min(longest, COLUMN_WIDTH) + 2


def _block(labels: Sequence[Column], columns: Sequence[Column]) -> RichTable:
    rich = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    joined = _joined(labels)
    longest = max((len(line) for text in joined for line in text.plain.splitlines()), default=0)
    # Not to be narrowed: the room of the other columns is what it leaves.
    rich.add_column(width=min(longest, LABEL_WIDTH), overflow="fold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        rich.add_column(_header(column), justify=justify, max_width=COLUMN_WIDTH)
    for row in zip(joined, *(map(_text, column.cells) for column in columns), strict=True):
        rich.add_row(*row)
    return rich


def _header(column: Column) -> RichText:
    """One word a line, then metric, unit and direction."""
    lines = column.header.split()
    if column.detail:
        lines.append(column.detail)
    return RichText("\n".join(lines))


def _joined(labels: Sequence[Column]) -> list[RichText]:
    """The label cells of each row in one cell."""
    rows = zip(*(column.cells for column in labels), strict=True)
    return [
        RichText(" ".join(_name(cell) for cell in row if cell != NOT_APPLICABLE)) for row in rows
    ]


def _name(cell: Cell) -> str:
    """A label, on several lines if it is long."""
    text = "\n".join(broken(cell.text, LABEL_WIDTH))
    return f"{text} [{cell.mark}]" if cell.mark else text


def _marked(cell: Cell) -> str:
    return f"{cell.text} [{cell.mark}]" if cell.mark else cell.text


def _text(cell: Cell) -> RichText:
    """A cell with its spread, its ratio and its ties under the number."""
    if not isinstance(cell, Number):
        return RichText(_marked(cell), style="yellow" if isinstance(cell, Absent) else "")
    mark = f" [{cell.mark}]" if cell.mark else ""
    below = f"{cell.beside_text} {cell.group}".strip()
    mean = (cell.mean_text, "bold" if cell.is_best else "")
    return RichText.assemble(mean, mark, f"\n{below}" if below else "")
