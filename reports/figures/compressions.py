"""Compressions by their size, in every setting an emulator enters: the paper's Figure 4."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle

from matplotlib.axes import Axes

from reports.comparison import Comparison, Observed, Treatment
from reports.figures.labels import place_labels
from reports.figures.marks import draw_intervals, draw_seeds, fit
from reports.figures.panels import panels
from reports.figures.picture import Picture, Sketch
from reports.figures.plane import Mark, Plane
from reports.figures.rows import Named, named_rows, row_text, subject
from reports.figures.scales import Scale, quality_scale
from reports.figures.settings import MOST_ROWS
from reports.figures.style import BLUE, GREEN, GREY, PURPLE, VERMILION, look, svg
from reports.statistics.intervals import estimate
from reports.tables.cells import MEBIBYTES, one_line
from reports.tables.compressions import FEWEST, Alike, alike
from reports.tables.observed_cells import SETTING_NAMES

SETTINGS = ("emulator_zero_shot", "emulator_finetuned", "plug_in")
FAMILIES = (("o", BLUE), ("s", VERMILION), ("^", GREEN), ("D", PURPLE), ("v", GREY), ("P", BLUE))
"""Shape and colour of the rows that differ in one number alone."""
AMOUNT = re.compile(r"(\w+)=(\d[\d.e+-]*)")
SIZE = Scale(text="effective bytes, MiB ↓", better="lower", factor=MEBIBYTES.scale)


def compression_sketches(comparison: Comparison) -> Iterator[Sketch]:
    """A picture for every choice of adapter blocks and tuning with enough compressions."""
    if not comparison.metrics:
        return
    for group in alike(comparison):
        if FEWEST <= len({row.compression for row in group.rows}) <= MOST_ROWS:
            yield from _sketch(comparison, group)


def _sketch(comparison: Comparison, group: Alike) -> Iterator[Sketch]:
    scale, sizes = _sizes(comparison, group.rows)
    settings = [each for each in SETTINGS if _scored(comparison, each, sizes) >= FEWEST]
    if settings:
        yield partial(_picture, comparison, group, scale, sizes, settings)


def _sizes(
    comparison: Comparison, rows: Sequence[Treatment]
) -> tuple[Scale, dict[Treatment, float]]:
    """What an emulator takes, where most were disclosed; else the one number they differ in."""
    disclosed = {row: comparison.disclosed("effective_bytes", row) for row in rows}
    known = {row: found.mean for row, found in disclosed.items() if found.values}
    if len(known) >= FEWEST:
        return SIZE, known
    name, amounts = differing_amount([row.compression for row in rows])
    return Scale(text=name, better="lower"), dict(zip(rows, amounts, strict=False))


def differing_amount(labels: Sequence[str]) -> tuple[str, list[float]]:
    """The number in which names differ and nothing else does; no name and none where it is not so.

    >>> differing_amount(["layer_drop(keep=4)", "layer_drop(keep=2)"])
    ('keep', [4.0, 2.0])
    >>> differing_amount(["layer_drop(keep=4)", "prune(ratio=0.5)"])
    ('', [])
    """
    if len({AMOUNT.sub(r"\1=", label) for label in labels}) != 1:
        return "", []
    amounts = [AMOUNT.findall(label) for label in labels]
    differing = [column for column in zip(*amounts, strict=True) if len(set(column)) > 1]
    if len(differing) != 1:
        return "", []
    try:
        return differing[0][0][0], [float(amount) for _, amount in differing[0]]
    except ValueError:
        return "", []


def _scored(comparison: Comparison, setting: str, sizes: dict[Treatment, float]) -> int:
    metric = comparison.metrics[0]
    return sum(bool(comparison.setting(setting, row, metric).values) for row in sizes)


def _picture(
    comparison: Comparison,
    group: Alike,
    scale: Scale,
    sizes: dict[Treatment, float],
    settings: list[str],
) -> Picture:
    metric = comparison.metrics[0]
    named = {row: each for row, each in named_rows(comparison).items() if row in sizes}
    with look():
        figure, axes = panels(len(settings), named.values())
        for each, setting in zip(axes, settings, strict=True):
            plane = Plane(
                across=scale,
                up=quality_scale(comparison, metric, setting),
                wanted=("lower", comparison.better(metric)),
            )
            _draw(each, comparison, plane, setting, named, sizes)
        text = svg(figure)
    alike_in = one_line(", ".join(filter(None, (group.tuning, group.adapter_blocks))))
    best = next(iter(sizes))
    is_scored = comparison.setting("plug_in", best, metric).values
    return Picture(
        name=f"{comparison.model}-{comparison.task}-compressions-{group.tuning}"
        f"-{group.adapter_blocks}",
        title=f"{subject(comparison)}: compressions by {scale.text.partition(',')[0]}, {alike_in}",
        description=(
            f"{subject(comparison)}: {metric} of {len(sizes)} compressions against "
            f"{scale.text.partition(',')[0]}, a panel each for "
            f"{', '.join(SETTING_NAMES[setting] for setting in settings)}; lines join rows that "
            "differ in one number."
            + (f" The best plug-in, by its mean, is {row_text(best)}." if is_scored else "")
        ),
        svg=text,
        table=_table(comparison, group),
    )


def _table(comparison: Comparison, group: Alike) -> str:
    """The table of the same rows, where their emulators were disclosed."""
    if not comparison.emulators:
        return ""
    return (
        f"{comparison.model}-{comparison.task}-compressions-{group.tuning}-{group.adapter_blocks}"
    )


def _draw(
    axes: Axes,
    comparison: Comparison,
    plane: Plane,
    setting: str,
    named: dict[Treatment, Named],
    sizes: dict[Treatment, float],
) -> None:
    families: dict[str, list[Mark]] = {}
    for row, size in sizes.items():
        found = comparison.setting(setting, row, comparison.metrics[0])
        family = families.setdefault(AMOUNT.sub(r"\1=", row.compression), [])
        if found.values:
            family.append(_mark(plane, named[row], size, found))
    marks = [each for family in families.values() for each in family]
    fit(axes, plane, marks)
    draw_intervals(axes, marks)
    seeds = []
    for (shape, colour), family in zip(cycle(FAMILIES), families.values(), strict=False):
        seeds += draw_seeds(axes, family)
        if family:
            places = sorted(each.place for each in family)
            x, y = zip(*places, strict=True)
            axes.plot(x, y, marker=shape, color=colour, markersize=6, linewidth=0.9, zorder=4)
    place_labels(axes, [(each.place, each.named.label) for each in marks], seeds)


def _mark(plane: Plane, named: Named, size: float, found: Observed) -> Mark:
    """A size has no spread: every seed stands at it."""
    at = plane.across.scaled(estimate([size]))
    seeds = tuple((at.mean, plane.up.factor * value) for value in found.numbers)
    return Mark(
        named=named,
        across=at,
        up=plane.up.scaled(found.scores.spread.estimate),
        seeds=seeds if len(seeds) > 1 else (),
    )
