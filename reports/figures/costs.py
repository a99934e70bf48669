"""What quality costs: the plug-in against peak memory and against throughput."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reports.comparison import Comparison, Observed
from reports.figures.marks import SIGNS, draw_plane
from reports.figures.panels import panels
from reports.figures.picture import Picture, Sketch
from reports.figures.plane import Mark, Plane, front, mark, numbered
from reports.figures.rows import listed, named_rows, subject
from reports.figures.scales import Scale, memory_scale, quality_scale, throughput_scale
from reports.figures.style import look, svg

FEWEST = 2
"""Rows that make a panel."""

Panel = tuple[Plane, list[Mark]]


def cost_sketches(comparison: Comparison) -> Iterator[Sketch]:
    """One picture with a panel for each cost that enough rows have, all on one machine."""
    if not comparison.metrics:
        return
    costs = (
        (comparison.memory, memory_scale()),
        (comparison.throughput, throughput_scale(comparison.throughput)),
    )
    found = [_panel(comparison, metric, scale) for metric, scale in costs]
    drawn = [panel for panel in found if _rows(panel[1]) >= FEWEST]
    if drawn:
        yield partial(_picture, comparison, drawn)


def _panel(comparison: Comparison, cost: str, scale: Scale) -> Panel:
    metric = comparison.metrics[0]
    up = quality_scale(comparison, metric, "plug_in")
    plane = Plane(across=scale, up=up, wanted=(scale.better, up.better))
    marks: list[Mark] = []
    machines: frozenset[str] = frozenset()
    first: Observed | None = None
    for row, named in named_rows(comparison).items():
        own = comparison.training(cost, row)
        quality = comparison.setting("plug_in" if row.layout else "full_finetuned", row, metric)
        if not (own.values and quality.values):
            continue
        machines, first = machines or own.machines, first or quality
        if own.machines == machines and len(machines) == 1 and quality.is_comparable(first):
            marks.append(mark(plane, named, own, quality, is_reference=not row.layout))
    return plane, marks


def _rows(marks: list[Mark]) -> int:
    return sum(not each.is_reference for each in marks)


def _picture(comparison: Comparison, drawn: list[Panel]) -> Picture:
    shown = dict.fromkeys(each.named for plane, marks in drawn for each in numbered(plane, marks))
    with look():
        figure, axes = panels(len(drawn), shown, note=f"{SIGNS}; diamonds: no emulator")
        for each, (plane, marks) in zip(axes, drawn, strict=True):
            draw_plane(each, plane, marks)
        text = svg(figure)
    costs = " and ".join(plane.across.text.partition(",")[0] for plane, _ in drawn)
    return Picture(
        name=f"{comparison.model}-{comparison.task}-costs",
        title=f"{subject(comparison)}: quality against {costs}",
        description=f"{subject(comparison)}: {comparison.metrics[0]} of the plug-in against "
        f"{costs} of its tuning, with 95 % intervals and seeds; diamonds are full fine-tuning. "
        + " ".join(map(_reading, drawn)),
        svg=text,
    )


def _reading(panel: Panel) -> str:
    """Which rows are on the front."""
    plane, marks = panel
    best = listed(each.named.name for each in front(plane, marks))
    cost = plane.across.text.partition(",")[0]
    return f"By {cost} no other row beats these in both, by their means: {best}."
