"""Panels side by side above a key: rows are numbered, as their names are longer than the room."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.rows import Named, name_lines
from reports.figures.style import INK, WIDTH

LEFT, RIGHT, BELOW, ABOVE, BETWEEN = 0.75, 0.25, 0.6, 0.3, 0.75
"""Room around the panels and between two of them, in inches."""
OUTSIDE = 1.0
"""Room for words to the right of the last panel, in inches."""
KEY_LINE = 0.165
"""Height of a line of the key, in inches."""
KEY_SIZE = 8
KEY_WIDTH = 108
"""Letters of a line of the key."""
COLUMN_WIDTH = 50
"""The same in two columns."""
SHORT_KEY = 4
"""Up to so many rows the key has one column."""


def panels(
    count: int,
    key: Iterable[Named],
    *,
    note: str = "",
    height: float = 3.0,
    outside: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in a row, `height` inches tall, and the key below them.

    The places are worked out here: matplotlib's own layout draws everything twice to find them.

    Args:
        count: of panels.
        key: what the numbers stand for.
        note: a line below the key.
        height: of a panel.
        outside: leave room for words to the right of the last panel.
    """
    columns = _columns(list(key))
    lines = max(map(len, columns), default=0)
    low = (lines + bool(note)) * KEY_LINE + 0.1 + BELOW
    total = low + height + ABOVE
    right = OUTSIDE if outside else RIGHT
    wide = (WIDTH - LEFT - right - BETWEEN * (count - 1)) / count
    figure = Figure(figsize=(WIDTH, total))
    places = [LEFT + index * (wide + BETWEEN) for index in range(count)]
    axes = [
        figure.add_axes((at / WIDTH, low / total, wide / WIDTH, height / total)) for at in places
    ]
    for each in axes:
        each.grid(visible=True, color=INK, alpha=0.12, linewidth=0.6)
        each.set_axisbelow(True)
    for index, column in enumerate(columns):
        at = (LEFT + index * (WIDTH - LEFT) / 2) / WIDTH
        for number, line in enumerate(column):
            y = (low - BELOW - (number + 0.5) * KEY_LINE) / total
            figure.text(at, y, line.name, fontsize=KEY_SIZE, va="center")
            figure.text(
                at - 0.01, y, line.label, fontsize=KEY_SIZE, va="center", ha="right", weight="bold"
            )
    if note:
        y = (low - BELOW - (lines + 0.7) * KEY_LINE) / total
        figure.text(LEFT / WIDTH, y, note, fontsize=KEY_SIZE, va="center", style="italic")
    return figure, axes


def _columns(key: list[Named]) -> list[list[Named]]:
    """The lines of the key, a long name in several of them, in one column or two."""
    if len(key) > SHORT_KEY and all(len(each.name) <= COLUMN_WIDTH for each in key):
        half = (len(key) + 1) // 2
        return [key[:half], key[half:]]
    lines = [
        Named("" if index else each.label, line)
        for each in key
        for index, line in enumerate(name_lines(each.name, KEY_WIDTH))
    ]
    return [lines] if lines else []
