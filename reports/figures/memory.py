"""Memory over time: from loading a model to scoring what came of it, phase by phase."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.blobs import Kept, finite
from reports.comparison import Comparison, Treatment
from reports.figures.picture import Picture, Sketch
from reports.figures.rows import named_rows, subject
from reports.figures.scales import PLAIN
from reports.figures.style import BLUE, INK, VERMILION, WIDTH, look, svg
from reports.tables.cells import MEBIBYTES, one_line

MOST_ROWS = 4
"""Panels: full fine-tuning, then the first rows with an emulator."""
POINTS = 80
"""Of a phase, at most: each the highest of its stretch."""
PHASES = {
    "load": ("", 0.04),
    "build": ("///", 0.06),
    "train": ("", 0.1),
    "evaluate": ("\\\\\\", 0.06),
}
"""Hatch and shade of every phase."""
SOURCES: dict[str, tuple[str, str, Literal["-", "--"]]] = {
    "rss": ("process", BLUE, "-"),
    "gpu_process": ("process on the GPU", VERMILION, "--"),
}
"""What was sampled, with its colour and line style."""
STAGES = {"emulator": "emulator", "tune": "tuning", "finetune": "fine-tuning"}
PANEL, BETWEEN, BELOW, ABOVE = 1.05, 0.5, 0.5, 0.62
"""Heights in inches."""
LEFT, RIGHT = 0.85, 0.15
LETTER = 0.075
"""Width of a letter, in inches: a phase too short for its name has none."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One phase of one stage."""

    stage: str
    phase: str
    seconds: float
    lines: dict[str, tuple[Floats, Floats]]
    """By source: seconds since the phase began, and MiB."""

    @property
    def peak(self) -> float:
        """The most that any source saw."""
        return max(float(values.max()) for _, values in self.lines.values())


Chain = tuple[str, tuple[Span, ...]]
"""A row's name and its stages one after the other."""


def memory_sketches(comparison: Comparison, kept: Kept) -> Iterator[Sketch]:
    """One picture, where the stages of a training kept their samples."""
    named = named_rows(comparison).items()
    wholes = [row for row in named if not row[0].layout][:1]
    rows = [*wholes, *(row for row in named if row[0].layout)][:MOST_ROWS]
    found = [(each.name, _spans(comparison, kept, row)) for row, each in rows]
    chains = [chain for chain in found if any(span.phase == "train" for span in chain[1])]
    if chains:
        yield partial(_picture, comparison, chains)


def _spans(comparison: Comparison, kept: Kept, row: Treatment) -> tuple[Span, ...]:
    """The phases of a row's stages with its first seed, in the order they were run."""
    emulator = Treatment(row.layout, row.compression, "")
    roles = [("emulator", emulator), ("tune", row), ("plug_in", row)]
    if not row.layout:
        roles = [("finetune", row), ("full_finetuned", row)]
    trained = comparison.entries.get(roles[-2], ())
    seed = next((entry.seed for entry in trained), None)
    spans: list[Span] = []
    for role in roles:
        entries = comparison.entries.get(role, ())
        digest = next((entry.digest for entry in entries if entry.seed in (None, seed)), "")
        name = STAGES.get(role[0], "evaluation")
        spans += _phases(name, kept.rows(digest, "memory.jsonl"))
    return tuple(spans)


def _phases(stage: str, rows: Sequence[dict[str, object]]) -> Iterator[Span]:
    by_phase: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        phase = row.get("phase")
        if isinstance(phase, str) and phase in PHASES:
            by_phase.setdefault(phase, []).append(row)
    for phase, own in by_phase.items():
        lines = {source: _line(own, source) for source in SOURCES}
        measured = {source: line for source, line in lines.items() if len(line[0])}
        if measured:
            seconds = max(float(at[-1]) for at, _ in measured.values())
            yield Span(stage=stage, phase=phase, seconds=seconds, lines=measured)


def _line(rows: Sequence[dict[str, object]], source: str) -> tuple[Floats, Floats]:
    """At most POINTS points, so that no peak is lost."""
    points = [
        (at, value * MEBIBYTES.scale)
        for row in rows
        if (at := finite(row.get("t"))) is not None
        and (value := finite(row.get(source))) is not None
    ]
    stretches = np.array_split(np.array(points).reshape(-1, 2), min(POINTS, len(points)) or 1)
    highest = [part[part[:, 1].argmax()] for part in stretches if len(part)]
    seconds, values = np.array(highest).reshape(-1, 2).T
    return seconds, values


def _picture(comparison: Comparison, chains: Sequence[Chain]) -> Picture:
    with look():
        text = svg(_drawn(chains))
    readings = (f"{name}: {_peak(spans)}" for name, spans in chains)
    return Picture(
        name=f"{comparison.model}-{comparison.task}-memory",
        title=f"{subject(comparison)}: memory over time",
        description=f"{subject(comparison)}: memory of each stage's process over time, one seed, "
        f"by phase, for {len(chains)} rows. {'; '.join(readings)}.",
        svg=text,
    )


def _peak(spans: Sequence[Span]) -> str:
    """The highest sample of a chain and where it was."""
    highest = max(spans, key=lambda span: span.peak)
    # Sizes were scaled for drawing already.
    size = f"{MEBIBYTES.mean(highest.peak / MEBIBYTES.scale)} MiB"
    return f"highest {size}, {highest.stage}, {highest.phase}"


def _drawn(chains: Sequence[Chain]) -> Figure:
    count = len(chains)
    height = ABOVE + count * PANEL + (count - 1) * BETWEEN + BELOW
    figure = Figure(figsize=(WIDTH, height))
    wide = WIDTH - LEFT - RIGHT
    longest = max(sum(span.seconds for span in spans) for _, spans in chains) or 1.0
    top = 1.18 * max(span.peak for _, spans in chains for span in spans) or 1.0
    for index, (name, spans) in enumerate(chains):
        bottom = height - ABOVE - PANEL - index * (PANEL + BETWEEN)
        axes = figure.add_axes(
            (LEFT / WIDTH, bottom / height, wide / WIDTH, PANEL / height),
            xlim=(0, longest),
            ylim=(0, top),
        )
        axes.set_title(one_line(name, 110), loc="left", fontsize=9, pad=3)
        _draw_chain(axes, spans, wide / longest)
        axes.set_ylabel("MiB")
        for axis, ticks in ((axes.xaxis, 8), (axes.yaxis, 4)):
            axis.set_major_locator(MaxNLocator(ticks))
            axis.set_major_formatter(PLAIN)
        axes.tick_params(labelbottom=index == count - 1)
    axes.set_xlabel("seconds of sampled phases, one stage after the other")
    _legend(figure, chains, 1 - 0.06 / height)
    return figure


def _draw_chain(axes: Axes, spans: Sequence[Span], inches: float) -> None:
    """One stage after the other; `inches` is the width of a second."""
    start, before = 0.0, ""
    for span in spans:
        end = start + span.seconds
        hatch, shade = PHASES[span.phase]
        axes.axvspan(start, end, facecolor=INK, alpha=shade, linewidth=0)
        if hatch:
            axes.axvspan(
                start,
                end,
                facecolor="none",
                edgecolor=INK,
                hatch=hatch,
                alpha=0.45,
                linewidth=0,
            )
        if span.stage != before:
            axes.axvline(start, color=INK, linewidth=0.8)
        for source, (at, values) in span.lines.items():
            _, colour, dash = SOURCES[source]
            axes.plot(start + at, values, color=colour, linestyle=dash, linewidth=1.3)
        text = _fitting(span, span.seconds * inches)
        top = axes.get_ylim()[1] * 0.985
        axes.text((start + end) / 2, top, text, ha="center", va="top", fontsize=8)
        start, before = end, span.stage


def _fitting(span: Span, inches: float) -> str:
    """As much of a phase's name as it has room for."""
    texts = (f"{span.stage}: {span.phase}", span.phase)
    return next((text for text in texts if len(text) * LETTER < inches), "")


def _legend(figure: Figure, chains: Sequence[Chain], top: float) -> None:
    spans = [span for _, spans in chains for span in spans]
    sources = dict.fromkeys(source for span in spans for source in span.lines)
    phases = [phase for phase in PHASES if any(span.phase == phase for span in spans)]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linestyle=dash, label=name)
        for name, colour, dash in (SOURCES[source] for source in sources)
    ]
    handles += [_swatch(phase) for phase in phases]
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, top), borderaxespad=0,
        ncols=len(handles), frameon=False, fontsize=8,
    )  # fmt: skip


def _swatch(phase: str) -> Patch:
    hatch, shade = PHASES[phase]
    # A shade would make the hatch as faint as itself.
    face = "none" if hatch else to_rgba(INK, 2 * shade)
    return Patch(facecolor=face, edgecolor=INK, linewidth=0.4, hatch=hatch, label=phase)
