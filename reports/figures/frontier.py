"""What the data owner gets against what the model owner gives away: the paper's central trade."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from reports.comparison import Comparison, Observed, Treatment
from reports.figures.marks import SIGNS, draw_plane, name_lines_outside
from reports.figures.panels import panels
from reports.figures.picture import Picture, Sketch
from reports.figures.plane import Mark, Plane, front, mark, numbered
from reports.figures.rows import listed, named_rows, subject
from reports.figures.scales import quality_scale
from reports.figures.style import look, svg
from reports.statistics.intervals import Better
from reports.tables.observed_cells import SETTING_NAMES

FEWEST = 2
"""Rows that make a frontier."""
OPPOSITE: dict[Better, Better] = {"higher": "lower", "lower": "higher"}


def frontier_sketches(comparison: Comparison) -> Iterator[Sketch]:
    """One picture, where enough rows were plugged in and their emulators scored."""
    if not comparison.metrics:
        return
    setting = _emulators(comparison)
    plane = _plane(comparison, setting)
    marks = _marks(comparison, plane, setting)
    if len(marks) >= FEWEST:
        yield partial(_picture, comparison, plane, setting, marks)


def _emulators(comparison: Comparison) -> str:
    """Which score of the emulators to show: tuned, else as sent."""
    tuned = [_score(comparison, "emulator_finetuned", row) for row in comparison.sandwiches]
    enough = sum(bool(each.values) for each in tuned) >= FEWEST
    return "emulator_finetuned" if enough else "emulator_zero_shot"


def _plane(comparison: Comparison, setting: str) -> Plane:
    metric = comparison.metrics[0]
    better = comparison.better(metric)
    return Plane(
        across=quality_scale(comparison, metric, setting),
        up=quality_scale(comparison, metric, "plug_in"),
        # An emulator that is good by itself is what the owner did not want to give away.
        wanted=(OPPOSITE[better], better),
    )


def _marks(comparison: Comparison, plane: Plane, setting: str) -> list[Mark]:
    found: list[Mark] = []
    first: Observed | None = None
    named = named_rows(comparison)
    for row in comparison.sandwiches:
        emulator, plug_in = (_score(comparison, name, row) for name in (setting, "plug_in"))
        first = first or plug_in
        scored = emulator.values and plug_in.values
        if scored and emulator.is_comparable(plug_in) and plug_in.is_comparable(first):
            found.append(mark(plane, named[row], emulator, plug_in))
    return found


def _picture(comparison: Comparison, plane: Plane, setting: str, marks: list[Mark]) -> Picture:
    lines = _lines(comparison, plane)
    shown = numbered(plane, marks)
    with look():
        key = [each.named for each in shown]
        figure, (axes,) = panels(1, key, note=SIGNS, height=3.4, outside=True)
        draw_plane(axes, plane, marks, lines)
        name_lines_outside(axes, lines)
        text = svg(figure)
    best = listed(each.named.name for each in front(plane, marks))
    return Picture(
        name=f"{comparison.model}-{comparison.task}-frontier",
        title=f"{subject(comparison)}: what tuning gains against what the emulator gives away",
        description=(
            f"{subject(comparison)}: {comparison.metrics[0]} of the plug-in against the "
            f"{SETTING_NAMES[setting]} of {len(marks)} rows, with 95 % intervals and seeds. Better "
            "is a good plug-in and a poor emulator. No other row beats these in both, by their "
            f"means: {best}."
        ),
        svg=text,
    )


def _lines(comparison: Comparison, plane: Plane) -> dict[str, float]:
    """The whole model before and after fine-tuning, by name."""
    wholes = (("full_finetuned", comparison.reference), ("full_zero_shot", Treatment("", "", "")))
    found = {
        SETTING_NAMES[setting]: _score(comparison, setting, whole)
        for setting, whole in wholes
        if whole
    }
    return {name: plane.up.factor * each.mean for name, each in found.items() if each.values}


def _score(comparison: Comparison, setting: str, row: Treatment) -> Observed:
    return comparison.setting(setting, row, comparison.metrics[0])
