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
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, LogLocator, NullLocator, StrMethodFormatter

from reports.cells import PERCENT, broken, one_line, quality_style
from reports.comparison import Compared, Comparison, Observed, Treatment
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
"""Distance of two settings of one row, in rows."""
SIDE_BY_SIDE = 5
"""From more rows on, their names would overlap along the bottom: they go down the side."""
TICK_WIDTH = 28
"""Letters of a line of a name along the bottom."""
NAME_WIDTH = 44
"""The same down the side."""
LINES = 5
"""Of one name."""
LINE = 0.16
"""Height of a line, in inches."""
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


def settings_pictures(found: Compared) -> tuple[Picture, ...]:
    """A picture for every model and task that has something to show."""
    return tuple(
        settings_picture(comparison)
        for comparison in found.tasks
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
        svg = _svg(drawn(comparison, metric))
    return Picture(
        name=f"{comparison.model}-{comparison.task}",
        description=f"{subject}: {metric} of the settings for {rows}; the table has the numbers.",
        svg=svg,
    )


def drawn(comparison: Comparison, metric: str) -> Figure:
    """The figure itself.

    Few rows stand side by side; many lie one under the other, where their names have room.
    """
    rows = len(comparison.sandwiches)
    lying = rows > SIDE_BY_SIDE
    texts = [row_name(treatment, lying=lying) for treatment in comparison.sandwiches]
    tallest = max(text.count("\n") + 1 for text in texts)
    height = rows * max(0.8, LINE * tallest) + 1.3
    size = (8.6, height) if lying else (max(7.6, 1.6 * rows + 2.4), 3.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    names, values = (axes.yaxis, axes.xaxis) if lying else (axes.xaxis, axes.yaxis)
    for position, treatment in enumerate(comparison.sandwiches):
        for offset, setting in enumerate(SETTINGS):
            observed = comparison.setting(setting, treatment, metric)
            at = position + (offset - (len(SETTINGS) - 1) / 2) * STEP
            _draw_setting(axes, setting, observed, at, quality_style(metric).scale, lying=lying)
    names.set_ticks(range(rows), labels=texts)
    names.set_tick_params(length=0)
    ends = (-0.5, rows - 0.5)
    axes.set(ylim=ends[::-1]) if lying else axes.set(xlim=ends)  # the first row on top
    values.set_label_text(_scale(axes, values, comparison, metric))
    values.grid(visible=True, color=INK, alpha=0.15, linewidth=0.6)
    if lying:
        axes.tick_params(axis="x", labeltop=True)  # a tall picture is read from both ends
        for between in range(1, rows):
            axes.axhline(between - 0.5, color=INK, alpha=0.15, linewidth=0.6)
    figure.legend(
        handles=list(_legend(comparison)), loc="outside upper center", ncols=5, frameon=False
    )
    return figure


def _scale(axes: Axes, values: Axis, comparison: Comparison, metric: str) -> str:
    """Percent are linear. A perplexity is a ratio, and an untuned emulator's can be huge."""
    arrow = ARROWS[comparison.better(metric)]
    if quality_style(metric) is PERCENT:
        return f"{metric}, % {arrow}"
    low, high = sorted(values.get_view_interval())
    axes.set(xscale="log") if values is axes.xaxis else axes.set(yscale="log")
    wide = low <= 0 or high / low > WIDE
    values.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)) if wide else AutoLocator())
    values.set_major_formatter(StrMethodFormatter("{x:,g}"))
    values.set_minor_locator(NullLocator())
    return f"{metric} {arrow} (log scale)"


def _draw_setting(
    axes: Axes, setting: str, observed: Observed, at: float, scale: float, *, lying: bool
) -> None:
    """One setting of one row: a hollow point per seed beside the filled mark of the mean."""
    if not observed.values:
        return
    colour, marker = MARKS[setting]
    values = [scale * value for value in observed.numbers]

    def places(at: float, values: list[float]) -> tuple[list[float], list[float]]:
        along = [at] * len(values)
        return (values, along) if lying else (along, values)

    size = 5.5 if lying else 7
    if len(values) > 1:
        seeds = places(at + STEP / 2.2, values)
        axes.plot(*seeds, "o", color=colour, markersize=size / 2, fillstyle="none", zorder=3)
    mean = places(at, [estimate(values).mean])
    axes.plot(*mean, marker, color=colour, markersize=size, markeredgewidth=0, zorder=4)


def _legend(comparison: Comparison) -> Iterator[Line2D]:
    for setting in filter(comparison.has, SETTINGS):
        colour, marker = MARKS[setting]
        yield Line2D(
            [], [], linestyle="", marker=marker, color=colour, label=SETTING_NAMES[setting]
        )


def row_name(treatment: Treatment, *, lying: bool) -> str:
    """The name of a row: along the bottom it has to be narrow, down the side low."""
    layout, compression, tuning = map(one_line, treatment)
    if lying:
        beside = ", ".join(filter(None, (layout, tuning)))
        return "\n".join([*_lines(compression, NAME_WIDTH), *_lines(beside, NAME_WIDTH)])
    parts = (_lines(text, TICK_WIDTH) for text in (layout, compression, tuning) if text)
    return "\n".join(line for lines in parts for line in lines)


def _lines(text: str, width: int) -> list[str]:
    """At most LINES lines; what is left over is cut off."""
    lines = broken(text, width)
    head, tail = lines[: LINES - 1], lines[LINES - 1 :]
    return [one_line(line, width) for line in (*head, "".join(tail)) if line]


def _svg(figure: Figure) -> str:
    """The figure's SVG text, the same for the same figure: no date, no random ids."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue().replace(INK, "currentColor")
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{PAGE_INK}", text, count=1)
