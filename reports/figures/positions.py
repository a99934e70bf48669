"""Adapter blocks in several places of one model, everything else alike: the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reports.comparison import Comparison, Treatment
from reports.figures.picture import Picture, Sketch
from reports.figures.rows import name_lines, subject
from reports.figures.settings import MOST_ROWS, SIDE_BY_SIDE, TICK_WIDTH, rows_figure
from reports.figures.style import look, svg
from reports.tables.cells import COUNT, one_line
from reports.tables.compressions import adapter_blocks
from reports.tables.positions import Positions, position_groups


def position_sketches(comparison: Comparison) -> Iterator[Sketch]:
    """A picture for every compression and tuning with several choices of adapter blocks."""
    if comparison.metrics:
        for group in position_groups(comparison):
            if len(group.rows) <= MOST_ROWS:
                yield partial(_picture, comparison, group)


def _picture(comparison: Comparison, group: Positions) -> Picture:
    metric = comparison.metrics[0]
    lying = len(group.rows) > SIDE_BY_SIDE
    with look():
        names = [_name(comparison, row) for row in group.rows]
        text = svg(rows_figure(comparison, metric, group.rows, names, lying=lying))
    alike_in = one_line(f"{group.compression}, tuning {group.tuning}")
    places = ", ".join(one_line(adapter_blocks(row.layout)) for row in group.rows)
    table = f"{comparison.model}-{comparison.task}-positions"
    return Picture(
        name=f"{table}-{group.compression}-{group.tuning}",
        title=f"{subject(comparison)}: {metric} by adapter blocks, {alike_in}",
        description=f"{subject(comparison)}, {alike_in}: {metric} of the settings with adapter "
        f"blocks {places}. {_reading(comparison, group)}".strip(),
        svg=text,
        table=table,
    )


def _name(comparison: Comparison, row: Treatment) -> str:
    """The adapter blocks, and how much of them is trained."""
    lines = name_lines(adapter_blocks(row.layout), TICK_WIDTH)
    sizes = comparison.training("trainable_parameters", row).numbers
    return "\n".join([*lines, f"{COUNT.mean(sizes[0])} trained"] if sizes else lines)


def _reading(comparison: Comparison, group: Positions) -> str:
    """Which choice has the best plug-in."""
    metric = comparison.metrics[0]
    found = {row: comparison.setting("plug_in", row, metric) for row in group.rows}
    means = {row: each.mean for row, each in found.items() if each.values}
    if not means:
        return ""
    choose = max if comparison.better(metric) == "higher" else min
    best = choose(means, key=lambda row: means[row])
    return f"The best plug-in, by its mean, has {one_line(adapter_blocks(best.layout))}."
