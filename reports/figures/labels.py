"""Place the numbers of marks so that they cover neither each other nor a mark."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from reports.figures.style import INK

SIZE = 8
"""Of a number, in points."""
DISTANCES = (9.0, 14.0, 20.0, 28.0)
"""From a mark to its number, in points, the nearest free one being taken."""
DIRECTIONS = 12
FAR = 12.0
"""From this distance on a thin line leads from the number to its mark."""
MARK = 8.0
"""Side of the square a mark takes, in points."""

Point = tuple[float, float]
Boxes = npt.NDArray[np.float64]
"""Rows of left, bottom, right, top."""


def place_labels(
    axes: Axes, marks: Sequence[tuple[Point, str]], others: Sequence[Point] = ()
) -> None:
    """Write each mark's label beside it, once the ends of both axes are known.

    Args:
        axes: where the marks are.
        marks: place in data, and label.
        others: what else should stay readable: the seeds.
    """
    if not marks:
        return
    places = points_of(axes, [place for place, _ in marks])
    taken = _around(places, MARK, MARK)
    if others:
        taken = np.concatenate([taken, _around(points_of(axes, others), MARK / 2, MARK / 2)])
    frame = np.asarray(axes.get_window_extent().extents) * _point(axes)
    for (place, text), at in zip(marks, places, strict=True):
        offset, box = _free(at, _width(text), taken, frame)
        taken = np.concatenate([taken, box[None]])
        far = math.hypot(*offset) > FAR
        axes.annotate(
            text,
            place,
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SIZE,
            weight="bold",
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "alpha": 0.6}
            if far
            else None,
        )


def points_of(axes: Axes, places: Sequence[Point]) -> Boxes:
    """Places in data, in points of the page, once the ends of both axes are known."""
    return np.asarray(axes.transData.transform(np.asarray(places))) * _point(axes)


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places near these, in the same order, that are at least `gap` from each other.

    Halfway between pushing up alone and pushing down alone, so a crowd stays where it was.

    >>> apart([1.0, 1.0, 9.0], 2.0)
    [0.0, 2.0, 9.0]
    """
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    # Less its steps, a row keeps its distance where it never falls.
    wanted = np.asarray(places)[order] - steps
    up = np.maximum.accumulate(wanted)
    down = np.minimum.accumulate(wanted[::-1])[::-1]
    moved = np.empty(len(places))
    moved[order] = (up + down) / 2 + steps
    return [float(place) for place in moved]


def _free(at: Boxes, width: float, taken: Boxes, frame: Boxes) -> tuple[Point, Boxes]:
    """The nearest offset at which a label covers nothing, else that at which it covers least."""
    # From the right, where a reader looks first, and around.
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    distances = np.repeat(DISTANCES, DIRECTIONS)
    turns = np.tile(angles, len(DISTANCES))
    # A wide label stands farther off to the sides than above.
    across, up = (distances + width / 4) * np.cos(turns), distances * np.sin(turns)
    offsets = np.stack([across, up], axis=1)
    boxes = _around(at + offsets, width, SIZE + 1.0)
    best = int(np.argmin(_covered(boxes, taken) + _outside(boxes, frame)))
    return (float(across[best]), float(up[best])), boxes[best]


def _covered(boxes: Boxes, taken: Boxes) -> Boxes:
    """The area each box shares with what is there."""
    ends = np.minimum(boxes[:, None, 2:], taken[:, 2:])
    starts = np.maximum(boxes[:, None, :2], taken[:, :2])
    areas: Boxes = np.prod(np.clip(ends - starts, 0, None), axis=2).sum(axis=1)
    return areas


def _outside(boxes: Boxes, frame: Boxes) -> Boxes:
    """How far each box stands out of the frame."""
    out = np.concatenate([frame[:2] - boxes[:, :2], boxes[:, 2:] - frame[2:]], axis=1)
    distances: Boxes = np.clip(out, 0, None).sum(axis=1)
    return distances


def _around(places: Boxes, width: float, height: float) -> Boxes:
    half = np.array([width / 2, height / 2])
    return np.concatenate([places - half, places + half], axis=1)


def _width(text: str) -> float:
    """Of a label, in points: letters of this font are at most so wide."""
    return SIZE * 0.7 * len(text) + 1


def _point(axes: Axes) -> float:
    """A point of the page, in dots of the figure the axes are in."""
    return 72 / float(axes.figure.dpi)
