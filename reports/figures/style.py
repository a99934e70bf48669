"""What all pictures share: their look, how one is written as SVG, and the words that stand for it.

Shapes and line styles differ as well as colours, so a picture reads in black and white and with any
colour vision. The same file serves light and dark pages: ink takes the colour of the page's text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#101112"
"""A colour used for nothing else, replaced in the SVG by the colour of the page's text."""
PAGE_STYLE = (
    "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d8dee4}}"
    'text{font-family:"DejaVu Sans",Verdana,system-ui,sans-serif;fill:currentColor}</style>'
)
BLUE, VERMILION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, GREY = "#cc79a7", "#888888"
"""Okabe and Ito's colours, each readable on white and on near-black."""
MARKS = {
    "full_zero_shot": (GREY, "s"),
    "emulator_zero_shot": (ORANGE, "v"),
    "full_finetuned": (GREEN, "D"),
    "emulator_finetuned": (VERMILION, "^"),
    "plug_in": (BLUE, "o"),
}
WIDTH = 8.6
"""Of every picture that does not grow with its rows, in inches."""
LOOK: Any = {
    "svg.hashsalt": "offsite-bench",  # ids from the content: equal results, equal bytes
    "svg.fonttype": "none",  # words stay words: a tenth of the bytes, and any letter is shown
    "font.family": "DejaVu Sans",  # ships with matplotlib; wider than what replaces it
    "font.size": 9,
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a dollar in a model's name is a dollar
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
UNSEEN = re.compile(r"\A.*?(?=<svg)|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
BETWEEN = re.compile(r">\s+<")
DECIMALS = re.compile(r"(?<=\d\.\d\d)\d+")
NEEDLESS = re.compile(
    r' transform="rotate\(-0 [^)]*\)"|font-family: [^;"]*(; )?|(?<=<g) id="[^"]*"'
)


@contextmanager
def look() -> Iterator[None]:
    """Draw in the look all pictures share."""
    # The widths are taken from a font that may lack a letter; who shows the picture has others.
    with mpl.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def svg(figure: Figure) -> str:
    """The figure's SVG text, the same for the same figure: no date, no random ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = UNSEEN.sub("", buffer.getvalue())
    text = BETWEEN.sub("><", TAG.sub(lambda tag: _short(tag[0]), text))
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: tag[0] + PAGE_STYLE, text, count=1)


def _short(tag: str) -> str:
    """A tag without what nobody sees: third decimals, the font's substitutes, names of groups.

    Only tags: what stands between them is free text.
    """
    tag = DECIMALS.sub("", tag.replace(INK, "currentColor"))
    if tag.startswith("<text"):
        tag = tag.replace("; fill: currentColor", "")  # the style sheet says so
    return " ".join(NEEDLESS.sub("", tag).split())
