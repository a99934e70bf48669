"""How pictures name rows: by a number that is the same in all pictures of a model and task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from reports.comparison import Comparison, Treatment
from reports.tables.cells import broken, one_line

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_LISTED = 5
"""Names in one sentence: who hears it cannot skip them."""
LINES = 5
"""Of one name."""


class Named(NamedTuple):
    """One line of a picture's key."""

    label: str
    """What stands at the row's mark."""
    name: str


def named_rows(comparison: Comparison) -> dict[Treatment, Named]:
    """Whole models by letter, then rows with an emulator by number."""
    wholes = [row for row in comparison.treatments if not row.layout and row.tuning]
    labels = [*zip(LETTERS, wholes, strict=False)]
    labels += [(str(number), row) for number, row in enumerate(comparison.sandwiches, start=1)]
    return {row: Named(label, row_text(row)) for label, row in labels}


def row_text(treatment: Treatment) -> str:
    """A row's name in one line."""
    layout, compression, tuning = map(one_line, treatment)
    if not layout:
        return one_line(f"full fine-tuning, {tuning}")
    return one_line(", ".join(filter(None, (layout, compression, tuning))))


def listed(names: Iterable[str]) -> str:
    """A few names as words; more than MOST_LISTED are counted.

    >>> listed(["a", "b"])
    'a; b'
    """
    all_names = list(names)
    rest = len(all_names) - MOST_LISTED
    return "; ".join([*all_names[:MOST_LISTED], *[f"and {rest} more"] * (rest > 0)])


def subject(comparison: Comparison) -> str:
    """What a picture is about, in its title."""
    return one_line(f"{comparison.model} on {comparison.task}")


def name_lines(text: str, width: int) -> list[str]:
    """At most LINES lines; what is left over is cut off."""
    lines = broken(text, width)
    head, tail = lines[: LINES - 1], lines[LINES - 1 :]
    return [one_line(line, width) for line in (*head, "".join(tail)) if line]
