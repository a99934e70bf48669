"""One picture per model and task: the five settings along the compressions, as SVG.

Shapes differ as well as colours, so it reads in black and white and with any colour vision. The
same file serves light and dark pages: ink takes the colour of the page's text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, LogLocator, NullLocator, StrMethodFormatter

from reports.cells import PERCENT, one_line, quality_style
from reports.comparison import Comparison, Observed, Treatment, comparisons
from reports.observed_cells import ARROWS, SETTING_NAMES
from reports.record import SETTINGS
from reports.statistics import estimate

INK = "#101112"
"""A colour used for nothing else, replaced in the SVG by the colour of the page's text."""
PAGE_INK = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d8dee4}}</style>"
MARKS = {
    "full_zero_shot": ("#888888", "s"),
    "emulator_zero_shot": ("#e69f00", "v"),
    "full_finetuned": ("#009e73", "D"),
    "emulator_finetuned": ("#d55e00", "^"),
    "plug_in": ("#0072b2", "o"),
}
"""Okabe and Ito's colours, each readable on white and on near-black."""
STEP = 0.14
"""Sideways distance of two settings of one row, in rows."""
WIDE = 3.0
"""From this ratio of largest to smallest on, ticks are spaced by factors."""
LOOK: Any = {
    "svg.hashsalt": "offsite-bench",  # ids from the content: equal results, equal bytes
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a dollar in a model's name is a dollar
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An SVG file and the words that stand for it."""

    name: str
    """That of the table it belongs to."""
    description: str
    svg: str


def settings_pictures(frame: pd.DataFrame) -> tuple[Picture, ...]:
    """A picture for every model and task that has something to show."""
    return tuple(
        settings_picture(comparison)
        for comparison in comparisons(frame)
        if comparison.metrics and comparison.sandwiches
    )


def settings_picture(comparison: Comparison) -> Picture:
    """The five settings for every compression and tuning: seeds as points, means as marks."""
    metric = comparison.metrics[0]
    subject = one_line(f"{comparison.model} on {comparison.task}")
    rows = ", ".join(one_line(" ".join(treatment)) for treatment in comparison.sandwiches)
    # matplotlib draws a box for a letter its font lacks and warns; the tables have the letter.
    with mpl.rc_context(LOOK), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        svg = _svg(_drawn(comparison, metric))
    return Picture(
        name=f"{comparison.model}-{comparison.task}",
        description=f"{subject}: {metric} of the settings for {rows}; the table has the numbers.",
        svg=svg,
    )


def _drawn(comparison: Comparison, metric: str) -> Figure:
    treatments = comparison.sandwiches
    figure = Figure(figsize=(max(7.6, 1.6 * len(treatments) + 2.4), 3.6), layout="constrained")
    axes = figure.add_subplot()
    for position, treatment in enumerate(treatments):
        for offset, setting in enumerate(SETTINGS):
            observed = comparison.setting(setting, treatment, metric)
            at = position + (offset - (len(SETTINGS) - 1) / 2) * STEP
            _draw_setting(axes, setting, observed, at, quality_style(metric).scale)
    axes.set_xticks(range(len(treatments)), [_tick(treatment) for treatment in treatments])
    axes.set_xlim(-0.5, len(treatments) - 0.5)
    axes.tick_params(axis="x", length=0)
    _scale(axes, comparison, metric)
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.6)
    figure.legend(
        handles=list(_legend(comparison)), loc="outside upper center", ncols=5, frameon=False
    )
    return figure


def _scale(axes: Axes, comparison: Comparison, metric: str) -> None:
    """Percent are linear. A perplexity is a ratio, and an untuned emulator's can be huge."""
    arrow = ARROWS[comparison.better(metric)]
    if quality_style(metric) is PERCENT:
        axes.set_ylabel(f"{metric}, % {arrow}")
        return
    low, high = axes.get_ylim()
    axes.set_yscale("log")
    wide = low <= 0 or high / low > WIDE
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)) if wide else AutoLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(f"{metric} {arrow} (log scale)")


def _draw_setting(axes: Axes, setting: str, observed: Observed, at: float, scale: float) -> None:
    """One setting of one row: a hollow point per seed beside the filled mark of the mean."""
    if not observed.values:
        return
    colour, marker = MARKS[setting]
    values = [scale * value for value in observed.numbers]
    if len(values) > 1:
        beside = [at + STEP / 2.2] * len(values)
        axes.plot(beside, values, "o", color=colour, markersize=3.4, fillstyle="none", zorder=3)
    mean = estimate(values).mean
    axes.plot([at], [mean], marker, color=colour, markersize=7, markeredgewidth=0, zorder=4)


def _legend(comparison: Comparison) -> Iterator[Line2D]:
    for setting in filter(comparison.has, SETTINGS):
        colour, marker = MARKS[setting]
        yield Line2D(
            [], [], linestyle="", marker=marker, color=colour, label=SETTING_NAMES[setting]
        )


def _tick(treatment: Treatment) -> str:
    return "\n".join(one_line(text, 28) for text in treatment if text)


def _svg(figure: Figure) -> str:
    """The figure's SVG text, the same for the same figure: no date, no random ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue().replace(INK, "currentColor")
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{PAGE_INK}", text, count=1)
