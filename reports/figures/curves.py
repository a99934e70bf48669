"""Loss over the steps of training: a thick line per row, a thin one per seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.blobs import Kept, finite
from reports.comparison import Comparison, Treatment
from reports.figures.labels import SIZE, apart, points_of
from reports.figures.panels import panels
from reports.figures.picture import Picture, Sketch
from reports.figures.rows import Named, named_rows, subject
from reports.figures.scales import LARGEST, PLAIN, locator
from reports.figures.style import BLUE, GREEN, GREY, INK, PURPLE, VERMILION, look, svg

MOST_LINES = 12
"""More rows cannot be told apart: the first of the plan are drawn."""
POINTS = 40
"""Of one line, at most: a longer training is drawn in means of as many stretches of steps."""
COLOURS = (INK, BLUE, VERMILION, GREEN, PURPLE, GREY)
DASHES = ("-", "--", "-.", ":")
BESIDE = 7.0
"""From a line's end to its label, in points: there may be a diamond between."""
ENTROPY = "perplexity"
"""Ends the metric of tasks whose loss is the logarithm of a perplexity."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The losses of one row."""

    named: Named
    seeds: tuple[Floats, ...]
    """Of every step, a row per seed."""
    selection: Mapping[int, float]
    """Mean over seeds of the loss on the selection slice, by step; empty without a choice."""


def curve_sketches(comparison: Comparison, kept: Kept) -> Iterator[Sketch]:
    """One picture, where the trainings kept the loss of their steps."""
    found = (_curve(comparison, kept, row, named) for row, named in _first(comparison))
    curves = [curve for curve in found if curve]
    if curves:
        yield partial(_picture, comparison, curves)


def in_stretches(losses: Floats, steps: int) -> tuple[Floats, Floats]:
    """Means of `steps` losses each, and the middle step of each stretch; the last may be shorter.

    >>> [part.tolist() for part in in_stretches(np.array([4.0, 2.0, 1.0]), 2)]
    [[1.5, 3.0], [3.0, 1.0]]
    """
    starts = np.arange(0, len(losses), steps)
    ends = np.minimum(starts + steps, len(losses))
    means = np.add.reduceat(losses, starts) / (ends - starts)
    return (starts + ends + 1) / 2, means


def _first(comparison: Comparison) -> list[tuple[Treatment, Named]]:
    return list(named_rows(comparison).items())[:MOST_LINES]


def _curve(comparison: Comparison, kept: Kept, row: Treatment, named: Named) -> Curve | None:
    kind = "tune" if row.layout else "finetune"
    entries = comparison.entries.get((kind, row), ())
    by_seed = {entry.seed: entry.digest for entry in reversed(entries)}
    found = {digest: _losses(kept, digest) for digest in reversed(by_seed.values())}
    seeds = tuple(losses for losses in found.values() if len(losses) > 1)
    if not seeds:
        return None
    selections = [kept.facts(digest, "selection_loss") for digest in found]
    return Curve(named=named, seeds=seeds, selection=_mean_selection(selections))


def _losses(kept: Kept, digest: str) -> Floats:
    """Of every step; none where one step has none."""
    losses = [finite(row.get("loss")) for row in kept.rows(digest, "steps.jsonl")]
    known = [loss for loss in losses if loss is not None]
    return np.array(known if len(known) == len(losses) else [])


def _mean_selection(selections: Sequence[Mapping[str, object]]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for selection in selections:
        for step, loss in selection.items():
            known = finite(loss)
            if step.isdecimal() and known is not None:
                found.setdefault(int(step), []).append(known)
    return {step: float(np.mean(losses)) for step, losses in sorted(found.items())}


def _picture(comparison: Comparison, curves: Sequence[Curve]) -> Picture:
    longest = max(len(losses) for curve in curves for losses in curve.seeds)
    steps = math.ceil(longest / POINTS)
    is_entropy = comparison.metrics[:1] and comparison.metrics[0].endswith(ENTROPY)
    with look():
        figure, (axes,) = panels(1, [curve.named for curve in curves], outside=True)
        _draw(axes, curves, steps)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_ylabel("training loss" + (f", mean of {steps} steps" if steps > 1 else ""))
        if is_entropy:
            _perplexity_axis(axes)
        _legend(axes, curves)
        text = svg(figure)
    left_out = len(named_rows(comparison)) - len(curves)
    return Picture(
        name=f"{comparison.model}-{comparison.task}-loss",
        title=f"{subject(comparison)}: loss over the steps of training",
        description=" ".join(_description(comparison, curves, steps, left_out)),
        svg=text,
    )


def _description(
    comparison: Comparison, curves: Sequence[Curve], steps: int, left_out: int
) -> Iterator[str]:
    yield f"{subject(comparison)}: training loss by step, a thick line a row, a thin one a seed."
    if steps > 1:
        yield f"Every point is the mean of {steps} steps."
    if any(curve.selection for curve in curves):
        yield "Diamonds: the loss of checkpoints on the selection slice, mean over seeds."
    lowest = min(curves, key=_last)
    yield f"The lowest loss at the end has {lowest.named.name}."
    if left_out:
        yield f"{left_out} more rows are not drawn or kept no losses."


def _last(curve: Curve) -> float:
    """The mean of the last tenth of the steps."""
    return float(np.mean([losses[-max(1, len(losses) // 10) :].mean() for losses in curve.seeds]))


def _draw(axes: Axes, curves: Sequence[Curve], steps: int) -> None:
    ends: list[tuple[float, float]] = []
    # Colours and dashes change together, so that neighbours differ without colour too.
    for curve, colour, dash in zip(curves, cycle(COLOURS), cycle(DASHES), strict=False):
        if len(curve.seeds) > 1:
            for losses in curve.seeds:
                axes.plot(
                    *in_stretches(losses, steps), color=colour, linewidth=0.5, alpha=0.45, zorder=2
                )
        shortest = min(map(len, curve.seeds))
        mean = np.mean([losses[:shortest] for losses in curve.seeds], axis=0)
        at, means = in_stretches(mean, steps)
        axes.plot(at, means, color=colour, linestyle=dash, linewidth=1.6, zorder=3)
        if curve.selection:
            points = zip(*curve.selection.items(), strict=True)
            axes.plot(*points, "D", color=colour, markersize=4, fillstyle="none", zorder=4)
        ends.append((float(at[-1]), float(means[-1])))
    axes.margins(x=0.02)
    _end_labels(axes, [curve.named.label for curve in curves], ends)


def _end_labels(axes: Axes, labels: Sequence[str], ends: Sequence[tuple[float, float]]) -> None:
    """The label of every line beside its end, apart from each other."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    axes.set_xlim(axes.get_xlim()[0], axes.get_xlim()[1] * 1.06)
    heights = points_of(axes, ends)[:, 1].tolist()
    floor, ceiling = points_of(axes, [(1.0, low), (1.0, high)])[:, 1].tolist()
    placed = apart(heights, SIZE + 1.0)
    shift = max(floor + SIZE - min(placed), 0.0) or min(ceiling - max(placed), 0.0)
    for label, end, height, place in zip(labels, ends, heights, placed, strict=True):
        axes.annotate(
            label,
            end,
            xytext=(BESIDE, place + shift - height),
            textcoords="offset points",
            va="center",
            fontsize=SIZE,
            weight="bold",
        )


def _perplexity_axis(axes: Axes) -> None:
    """The same heights as perplexities, to the right."""
    other = axes.twinx()
    low, high = axes.get_ylim()
    other.set_ylim(low, high)
    ends = np.exp(np.clip((low, high), -LARGEST, LARGEST)).tolist()
    ticks = [tick for tick in locator(*ends, by_factors=True).tick_values(*ends) if tick > 0]
    shown = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    other.set_yticks([math.log(tick) for tick in shown], labels=map(PLAIN, shown))
    other.set_ylabel("training perplexity")
    other.spines["right"].set_visible(True)


def _legend(axes: Axes, curves: Sequence[Curve]) -> None:
    """What thin lines and diamonds are, where there are any."""
    handles = []
    if any(len(curve.seeds) > 1 for curve in curves):
        handles.append(Line2D([], [], color=INK, linewidth=1.6, label="mean of seeds"))
        handles.append(Line2D([], [], color=INK, linewidth=0.5, alpha=0.6, label="one seed"))
    if any(curve.selection for curve in curves):
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                marker="D",
                markersize=4,
                fillstyle="none",
                linestyle="",
                label="selection slice",
            )
        )
    if handles:
        axes.legend(handles=handles, loc="upper right", frameon=False, fontsize=SIZE)
