"""What a table is made of, and the one place where a number is rounded.

Every output format prints these texts; none formats a number itself, so they agree to the digit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from reports.statistics.intervals import Estimate

MEBIBYTE = 2**20
REASON_LENGTH = 240
LONG = 1000
"""Rows from which on a table is for a spreadsheet: Markdown and LaTeX leave it out."""
TIMES = "×"  # noqa: RUF001
DASH = "–"  # noqa: RUF001 (an en dash: it cannot be taken for a minus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How the numbers of one column are written."""

    decimals: int
    scale: float = 1.0
    signed: bool = False
    """Differences carry their sign, also a plus."""
    least: float = 0.0
    """What is smaller is only said to be so: a probability is never 0."""

    def mean(self, value: float) -> str:
        """The rounded number, thousands separated."""
        if 0 <= value < self.least:
            return f"< {self.least:.{self.decimals}f}"
        # Adding 0.0 turns the -0.0 that a tiny loss rounds to into 0.0.
        rounded = round(value * self.scale, self.decimals) + 0.0
        sign = "+" if self.signed and rounded else ""
        return f"{rounded:{sign},.{self.decimals}f}"

    def spread(self, value: float) -> str:
        """A half-width, as fine as the mean it belongs to."""
        return f"{value * self.scale:,.{self.decimals}f}"


PERCENT = Style(decimals=1, scale=100.0)
PERPLEXITY = Style(decimals=2)
MEBIBYTES = Style(decimals=0, scale=1 / MEBIBYTE)
COUNT = Style(decimals=0)
PROBABILITY = Style(decimals=3, least=0.001)


def quality_style(metric: str) -> Style:
    """Accuracies are fractions in records and percent in reports."""
    return PERPLEXITY if metric.endswith("perplexity") else PERCENT


def three_digits(values: Iterable[float]) -> Style:
    """A style that gives the smallest of the values three significant digits."""
    smallest = min((abs(value) for value in values if value), default=1.0)
    return Style(decimals=min(max(2 - math.floor(math.log10(smallest)), 0), 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A word, not a number: a label, or a dash where nothing applies."""

    text: str
    mark: str = ""
    """Letter of the footnote that belongs to the cell, in every kind of cell."""


NOT_APPLICABLE = Text(text=DASH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A measured number."""

    estimate: Estimate
    style: Style
    ratio: float | None = None
    """To the reference the table names; None where there is none."""
    mark: str = ""
    sources: tuple[str, ...] = ()
    """Digests of the stages whose records it was made from."""
    group: str = ""
    """Letters of its tie groups in its column: numbers that share one cannot be told apart."""
    is_best: bool = False
    """It shares a letter with the best of its column."""
    mean_text: str = field(init=False, compare=False, repr=False)
    """The mean alone."""
    spread_text: str = field(init=False, compare=False, repr=False)
    """The half-width alone; empty where nothing is known of the spread."""

    def __post_init__(self) -> None:
        # Every format asks for them, and rounding takes most of the time.
        half_width = self.estimate.half_width
        spread = "" if half_width is None else self.style.spread(half_width)
        object.__setattr__(self, "mean_text", self.style.mean(self.estimate.mean))
        object.__setattr__(self, "spread_text", spread)

    @property
    def ratio_text(self) -> str:
        """The ratio to two decimals; empty if there is none."""
        return "" if self.ratio is None else f"{self.ratio:.2f}"

    @property
    def beside_text(self) -> str:
        """What stands beside the mean: its spread and its ratio, as far as there are any."""
        spread = f"± {self.spread_text}" if self.spread_text else ""
        ratio = f"({self.ratio_text}{TIMES})" if self.ratio_text else ""
        return f"{spread} {ratio}".strip()

    @property
    def text(self) -> str:
        """What a reader sees, but for the footnote mark."""
        return " ".join(filter(None, (self.mean_text, self.beside_text, self.group)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A number that should be here and is not; its footnote says why."""

    word: str
    """The outcome of the stage, `unmeasured` or `not run`."""
    mark: str = ""
    sources: tuple[str, ...] = ()
    """Digests of the stages that say why, or should have made it."""

    @property
    def text(self) -> str:
        """The word, so that a gap is never a blank."""
        return self.word


Cell = Text | Number | Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: what it is called and its cells from top to bottom."""

    header: str
    detail: str = ""
    """Metric, unit and direction."""
    cells: tuple[Cell, ...]
    kind: Literal["label", "number", "cost", "verdict"] = "number"

    @property
    def right(self) -> bool:
        """Numbers stand under each other by their last digit."""
        return self.kind in ("number", "cost")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Table:
    """One table with all that is needed to read it alone. It equals no other one."""

    name: str
    """For file names."""
    title: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    footnotes: tuple[tuple[str, str], ...] = ()
    """Letter and text, in the order the letters appear."""
    model: str = ""
    """The one model all of it is about; empty where its rows or columns name several."""
    task: str = ""
    """The same of the task."""
    metric: str = ""
    """The quality metric of a settings table, which others of its model and task may replace."""

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


@dataclass(frozen=True, slots=True)
class Footnotes:
    """Hands out one letter per text."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> str:
        """The letter of a footnote, new if the text is."""
        text = one_line(text)
        if text not in self.texts:
            self.texts.append(text)
        return _letter(self.texts.index(text))

    def lettered(self) -> tuple[tuple[str, str], ...]:
        """All footnotes with their letters."""
        return tuple((_letter(index), text) for index, text in enumerate(self.texts))


@lru_cache(maxsize=8192)
def label(text: str, limit: int = REASON_LENGTH) -> Text:
    """A cell for a name; a dash for the name of something that does not apply."""
    return Text(text=one_line(text, limit)) if text else NOT_APPLICABLE


def one_line(text: object, limit: int = REASON_LENGTH) -> str:
    """Free text made fit to print: one line, no control or direction marks, not too long.

    >>> one_line("out of\\n  memory")
    'out of memory'
    """
    words = " ".join(str(text).split())
    clean = words
    if not words.isprintable():
        clean = "".join(each if each.isprintable() else "\ufffd" for each in words)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def broken(text: str, width: int) -> list[str]:
    """A name in lines of `width` letters: broken after commas and pluses, else after brackets.

    A part that is longer still stays whole.

    >>> broken("layer_drop(keep=4)+distill(corpus=text, steps=200)", 28)
    ['layer_drop(keep=4)+', 'distill(corpus=text,', 'steps=200)']
    >>> broken("perplexity_greedy(corpus=text)", 20)
    ['perplexity_greedy(', 'corpus=text)']
    """
    lines = [""]
    for part in re.findall(r"[^,+]*[,+]|[^,+]+", text):
        for piece in re.findall(r"[^(]*\(|[^(]+", part) if len(part) > width else [part]:
            if lines[-1] and len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece if lines[-1] else piece.lstrip()
    return lines


def _letter(index: int) -> str:
    """a to z, then aa, ab, ...

    >>> _letter(0), _letter(25), _letter(26)
    ('a', 'z', 'aa')
    """
    head, tail = divmod(index, 26)
    return (_letter(head - 1) if head else "") + chr(ord("a") + tail)
