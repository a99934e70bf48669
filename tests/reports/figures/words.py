"""The words of a picture and the room they take, read back from its SVG."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from xml.etree import ElementTree

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

ASCENT, DESCENT = 0.74, 0.2
"""Of the letters of the font pictures are laid out with, in sizes."""
TOUCHING = 0.5
"""Points that two boxes may share."""


@dataclass(frozen=True, slots=True)
class Word:
    """One line of text and its box, in points."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Word) -> bool:
        """Whether the two cover each other."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across > TOUCHING and down > TOUCHING


def words(svg: str) -> list[Word]:
    """Every line of text of a picture."""
    tree = ElementTree.fromstring(svg)
    return [_word(e) for e in tree.iter() if e.tag.endswith("}text") and (e.text or "").strip()]


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of a picture in points."""
    found = re.search(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert found
    return float(found[1]), float(found[2])


def overlapping(svg: str) -> list[tuple[str, str]]:
    """Pairs of texts of which one covers the other."""
    return [(a.text, b.text) for a, b in combinations(words(svg), 2) if a.overlaps(b)]


def cut_off(svg: str) -> list[str]:
    """Texts that do not fit into the picture."""
    width, height = size_of(svg)
    return [
        w.text
        for w in words(svg)
        if w.left < -1 or w.top < -1 or w.right > width + 1 or w.bottom > height + 1
    ]


def _word(element: ElementTree.Element) -> Word:
    text, style = element.text or "", element.get("style", "")
    size = float(re.search(r"font-size: ([\d.]+)px", style)[1])
    weight = "bold" if "font-weight: 700" in style else "normal"
    font = FontProperties(family="DejaVu Sans", weight=weight, size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    transform = element.get("transform", "")
    moved = re.search(r"translate\(([-\d.]+) ([-\d.]+)\)", transform)
    x, y = map(float, moved.groups() if moved else (element.get("x"), element.get("y")))
    share = {"middle": 0.5, "end": 1.0}.get(_anchor(style), 0.0)
    before, after = -share * width, (1 - share) * width
    if "rotate(-90" in transform:
        return Word(text, x - ASCENT * size, y - after, x + DESCENT * size, y - before)
    return Word(text, x + before, y - ASCENT * size, x + after, y + DESCENT * size)


def _anchor(style: str) -> str:
    found = re.search(r"text-anchor: (\w+)", style)
    return found[1] if found else "start"
