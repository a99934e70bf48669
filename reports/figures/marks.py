"""Draw marks in a plane: intervals, seeds, the front as a step line, and the better corner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from reports.figures.labels import Point, apart, place_labels, points_of
from reports.figures.plane import Mark, Plane, front, numbered
from reports.figures.scales import LARGEST, space
from reports.figures.style import BLUE, GREEN, INK
from reports.statistics.intervals import Estimate

SIGNS = (
    "filled: no other row is better in both; hollow: one is; small: a seed; bars: 95 % intervals"
)
"""What the marks of a plane mean."""
ROOM = 0.12
"""Left free at every end of an axis, as a share of it: the better corner's word stands there."""
CLOSE = 24.0
"""Distance of two lines' names, in points."""


def draw_plane(
    axes: Axes, plane: Plane, marks: Sequence[Mark], lines: Mapping[str, float] | None = None
) -> None:
    """Draw the marks, the front as a step line, and level lines by name."""
    lines = lines or {}
    best = front(plane, marks)
    fit(axes, plane, marks, list(lines.values()))
    for style, (_, value) in zip(("--", ":"), lines.items(), strict=False):
        axes.axhline(value, color=INK, linestyle=style, linewidth=0.9, alpha=0.7, zorder=1)
    corners = _corners(best)
    if corners:
        axes.plot(*zip(*corners, strict=True), color=BLUE, linewidth=1.2, zorder=2)
    draw_intervals(axes, marks)
    points = draw_seeds(axes, marks)
    rows = [mark for mark in marks if not mark.is_reference]
    _marks(axes, [mark for mark in rows if mark in best], "o", BLUE, filled=True)
    _marks(axes, [mark for mark in rows if mark not in best], "o", BLUE, filled=False)
    _marks(axes, [mark for mark in marks if mark.is_reference], "D", GREEN, filled=True)
    corner = _corner(axes, plane)
    place_labels(
        axes,
        [(mark.place, mark.named.label) for mark in numbered(plane, marks)],
        [*points, *corner, *_along_lines(axes, marks, corners)],
    )


def name_lines_outside(axes: Axes, lines: Mapping[str, float]) -> None:
    """Write the names of level lines to the right of the panel, beside their ends."""
    if not lines:
        return
    left = axes.get_xlim()[0]
    heights = points_of(axes, [(left, value) for value in lines.values()])[:, 1].tolist()
    for (name, value), height, placed in zip(
        lines.items(), heights, apart(heights, CLOSE), strict=True
    ):
        axes.annotate(
            name.replace(" ", "\n", 1),
            (1.0, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4, placed - height),
            textcoords="offset points",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )


def fit(axes: Axes, plane: Plane, marks: Sequence[Mark], levels: Sequence[float] = ()) -> None:
    """Ends that show every mark and seed; the end of a very long interval may be cut off."""
    for axis, scale, index, more in (
        (axes.xaxis, plane.across, 0, ()),
        (axes.yaxis, plane.up, 1, levels),
    ):
        shown = [mark.place[index] for mark in marks]
        shown += [seed[index] for mark in marks for seed in mark.seeds]
        estimates = [(mark.across, mark.up)[index] for mark in marks]
        by_factors = scale.by_factors and min([*shown, *more]) > 0
        low, high = ends([*shown, *more], estimates, by_factors=by_factors)
        side = "xy"[index]
        axes.set(**{f"{side}scale": "log" if by_factors else "linear", f"{side}lim": (low, high)})
        space(axis, scale)


def ends(
    shown: Sequence[float], estimates: Sequence[Estimate], *, by_factors: bool
) -> tuple[float, float]:
    """From where to where an axis goes: all that is shown, and intervals up to as much again."""
    values = np.log(shown) if by_factors else np.asarray(shown)
    low, high = float(values.min()), float(values.max())
    span = (high - low) or (0.05 if by_factors else abs(high) * 0.05 or 1.0)
    bars = [
        end
        for each in estimates
        if each.half_width is not None
        for end in (each.mean - each.half_width, each.mean + each.half_width)
        if end > 0 or not by_factors
    ]
    reach = np.clip(np.log(bars) if by_factors else bars, low - span / 2, high + span / 2)
    low, high = min(low, *reach, low), max(high, *reach, high)
    room = ROOM * ((high - low) or span)
    low, high = low - room, high + room
    # No number is so large that its end of the axis is none.
    limits = np.exp(np.clip((low, high), -LARGEST, LARGEST)) if by_factors else (low, high)
    return float(limits[0]), float(limits[1])


def draw_intervals(axes: Axes, marks: Sequence[Mark]) -> None:
    """95 % intervals, both ways."""
    for side in ("xerr", "yerr"):
        known = [
            (mark.place, half)
            for mark in marks
            if (half := (mark.across if side == "xerr" else mark.up).half_width)
        ]
        if known:
            x, y = zip(*(place for place, _ in known), strict=True)
            halves: dict[str, Any] = {side: [half for _, half in known]}
            axes.errorbar(
                x,
                y,
                fmt="none",
                ecolor=INK,
                elinewidth=0.8,
                alpha=0.55,
                zorder=2,
                **halves,
            )


def draw_seeds(axes: Axes, marks: Sequence[Mark]) -> list[Point]:
    """A small hollow point per seed; returns them."""
    points = [seed for mark in marks for seed in mark.seeds]
    if points:
        axes.plot(
            *zip(*points, strict=True), "o", color=INK, markersize=2.8, fillstyle="none",
            markeredgewidth=0.7, zorder=3,
        )  # fmt: skip
    return points


def _marks(axes: Axes, marks: Sequence[Mark], shape: str, colour: str, *, filled: bool) -> None:
    if marks:
        axes.plot(
            *zip(*(mark.place for mark in marks), strict=True), shape, color=colour, markersize=7,
            fillstyle="full" if filled else "none", markeredgewidth=1.4, zorder=4,
        )  # fmt: skip


def _corners(best: Sequence[Mark]) -> list[Point]:
    """The front as steps: right after one of its rows, the next is the best there is."""
    places = [mark.place for mark in best]
    steps = [place for (x, _), (far, y) in pairwise(places) for place in ((x, y), (far, y))]
    return [*places[:1], *steps] if steps else []


def _along_lines(axes: Axes, marks: Sequence[Mark], corners: Sequence[Point]) -> list[Point]:
    """Places all along the intervals and the front that are in sight, to keep numbers off them."""
    ends = list(pairwise(corners))
    for mark in marks:
        (x, y), across, up = mark.place, mark.across.half_width or 0, mark.up.half_width or 0
        ends += [((x - across, y), (x + across, y)), ((x, y - up), (x, y + up))]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    places = [place for one, other in ends for place in np.linspace(one, other, 13).tolist()]
    return [(x, y) for x, y in places if left <= x <= right and low <= y <= high]


def _corner(axes: Axes, plane: Plane) -> list[Point]:
    """Name the better corner in words; returns the places in data its word covers."""
    right, top = plane.corner
    x, y = (0.99 if right else 0.01), (0.985 if top else 0.015)
    arrows = {(False, True): "↖", (True, True): "↗", (False, False): "↙", (True, False): "↘"}
    arrow = arrows[plane.corner]
    axes.text(
        x,
        y,
        f"better {arrow}" if right else f"{arrow} better",
        transform=axes.transAxes,
        ha="right" if right else "left",
        va="top" if top else "bottom",
        style="italic",
    )
    covered = [(abs(x - step), abs(y - 0.02)) for step in (0.01, 0.04, 0.07, 0.1)]
    places = axes.transData.inverted().transform(axes.transAxes.transform(covered))
    return [(float(x), float(y)) for x, y in places]
