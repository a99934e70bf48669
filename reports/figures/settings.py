"""The five settings along the rows of a model and task: seeds as points, means as marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.comparison import Comparison, Treatment
from reports.figures.picture import Picture, Sketch
from reports.figures.rows import listed, name_lines, row_text, subject
from reports.figures.scales import Scale, quality_scale, space
from reports.figures.style import INK, MARKS, WIDTH, look, svg
from reports.record import SETTINGS
from reports.tables.cells import one_line
from reports.tables.observed_cells import SETTING_NAMES

STEP = 0.14
"""Distance of two settings of one row, in rows."""
SIDE_BY_SIDE = 5
"""From more rows on, their names would overlap along the bottom: they go down the side."""
MOST_ROWS = 40
"""More rows are no picture but a long list, which the table is already."""
TICK_WIDTH = 28
"""Letters of a line of a name along the bottom."""
NAME_WIDTH = 44
"""The same down the side."""
LINE = 0.16
"""Height of a line, in inches."""
LETTER = 0.08
"""Width of a letter, in inches, with some to spare."""


def settings_sketches(comparison: Comparison) -> Iterator[Sketch]:
    """One picture, if anything was scored and the rows are not too many."""
    if comparison.metrics and 0 < len(comparison.sandwiches) <= MOST_ROWS:
        yield partial(_picture, comparison)


def _picture(comparison: Comparison) -> Picture:
    metric = comparison.metrics[0]
    rows = listed(map(row_text, comparison.sandwiches))
    with look():
        text = svg(drawn(comparison, metric))
    return Picture(
        name=f"{comparison.model}-{comparison.task}",
        title=f"{subject(comparison)}: {metric} of the settings",
        table=f"{comparison.model}-{comparison.task}",
        description=f"{subject(comparison)}: {metric} of the settings for {rows}; the table has "
        "the numbers.",
        svg=text,
    )


def drawn(comparison: Comparison, metric: str) -> Figure:
    """The figure of all rows with an emulator.

    Few rows stand side by side; many lie one under the other, where their names have room.
    """
    lying = len(comparison.sandwiches) > SIDE_BY_SIDE
    names = [row_name(treatment, lying=lying) for treatment in comparison.sandwiches]
    return rows_figure(comparison, metric, comparison.sandwiches, names, lying=lying)


def rows_figure(
    comparison: Comparison,
    metric: str,
    rows: Sequence[Treatment],
    names: Sequence[str],
    *,
    lying: bool,
) -> Figure:
    """The settings of some rows, under names that have been broken into lines."""
    figure, axes = _framed(names, lying=lying)
    along, values = (axes.yaxis, axes.xaxis) if lying else (axes.xaxis, axes.yaxis)
    scale = quality_scale(comparison, metric)
    for offset, setting in enumerate(SETTINGS):
        at = (offset - (len(SETTINGS) - 1) / 2) * STEP
        _draw_setting(axes, comparison, metric, setting, rows, at, scale, lying=lying)
    along.set_ticks(range(len(rows)), labels=names)
    along.set_tick_params(length=0)
    ends = (-0.5, len(rows) - 0.5)
    axes.set(ylim=ends[::-1]) if lying else axes.set(xlim=ends)  # the first row on top
    if scale.by_factors:
        axes.set(xscale="log") if lying else axes.set(yscale="log")
    space(values, scale)
    values.grid(visible=True, color=INK, alpha=0.15, linewidth=0.6)
    if lying:
        axes.tick_params(axis="x", labeltop=True)  # a tall picture is read from both ends
        between = [row + 0.5 for row in range(len(rows) - 1)]
        across = axes.get_yaxis_transform()
        axes.hlines(between, 0, 1, transform=across, color=INK, alpha=0.15, linewidth=0.6)
    figure.legend(
        handles=list(_legend(comparison)),
        loc="upper center",
        borderaxespad=0.3,
        ncols=5,
        frameon=False,
    )
    return figure


def _framed(names: Sequence[str], *, lying: bool) -> tuple[Figure, Axes]:
    """A figure with room for the names, and its axes.

    The places are worked out here: matplotlib's own layout draws everything twice to find them.
    """
    lines = [name.splitlines() for name in names]
    tallest = max(map(len, lines))
    if lying:
        width, above, below = WIDTH, 0.55, 0.55
        left = LETTER * max(len(line) for each in lines for line in each) + 0.2
        height = len(names) * max(0.8, LINE * tallest) + above + below
    else:
        width, height, left = max(7.6, 1.6 * len(names) + 2.4), 3.6, 0.75
        above, below = 0.4, 0.2 + LINE * tallest
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (
            left / width,
            below / height,
            (width - left - 0.1) / width,
            (height - above - below) / height,
        )
    )
    return figure, axes


def _draw_setting(
    axes: Axes,
    comparison: Comparison,
    metric: str,
    setting: str,
    rows: Sequence[Treatment],
    at: float,
    scale: Scale,
    *,
    lying: bool,
) -> None:
    """One setting of all rows: a hollow point per seed beside the filled mark of the mean."""
    colour, shape = MARKS[setting]
    size = 5.5 if lying else 7
    means: list[tuple[float, float]] = []
    seeds: list[tuple[float, float]] = []
    for position, row in enumerate(rows):
        found = comparison.setting(setting, row, metric)
        if found.values:
            means.append((position + at, scale.factor * found.mean))
        if len(found.values) > 1:
            seeds += [(position + at + STEP / 2.2, scale.factor * n) for n in found.numbers]
    hollow = {"marker": "o", "markersize": size / 2, "fillstyle": "none", "zorder": 3}
    full = {"marker": shape, "markersize": size, "markeredgewidth": 0, "zorder": 4}
    for points, style in ((seeds, hollow), (means, full)):
        if points:
            places = list(zip(*points, strict=True))
            x, y = reversed(places) if lying else places
            axes.plot(x, y, linestyle="", color=colour, **style)


def _legend(comparison: Comparison) -> Iterator[Line2D]:
    for setting in filter(comparison.has, SETTINGS):
        colour, shape = MARKS[setting]
        yield Line2D([], [], linestyle="", marker=shape, color=colour, label=SETTING_NAMES[setting])


def row_name(treatment: Treatment, *, lying: bool) -> str:
    """The name of a row: along the bottom it has to be narrow, down the side low."""
    layout, compression, tuning = map(one_line, treatment)
    if lying:
        beside = ", ".join(filter(None, (layout, tuning)))
        return "\n".join([*name_lines(compression, NAME_WIDTH), *name_lines(beside, NAME_WIDTH)])
    parts = (name_lines(text, TICK_WIDTH) for text in (layout, compression, tuning) if text)
    return "\n".join(line for lines in parts for line in lines)
