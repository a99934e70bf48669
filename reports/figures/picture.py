"""What a picture is. Light: whoever shows pictures need not know how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An SVG file and the words that stand for it."""

    name: str
    """For its file; no two pictures of a report share it."""
    title: str
    description: str
    """What it shows and says, for those who do not see it."""
    svg: str
    table: str = ""
    """The name of the table it stands under; empty for one that stands alone."""


Sketch = Callable[[], Picture]
"""A picture that has something to show and is yet to be drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """What was drawn."""

    pictures: tuple[Picture, ...]
    note: str
    """Says that not all was; empty where it was."""
