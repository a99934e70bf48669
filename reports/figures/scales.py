"""The axes of a picture: what they measure, and how their ticks are spaced."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axis import Axis
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from reports.comparison import Comparison
from reports.statistics.intervals import Better, Estimate
from reports.tables.cells import MEBIBYTES, PERCENT, quality_style
from reports.tables.observed_cells import ARROWS, SETTING_NAMES

WIDE = 3.0
"""From this ratio of largest to smallest on, ticks are spaced by factors."""
PLAIN = StrMethodFormatter("{x:,.10g}")
"""Ticks are written out, thousands separated."""
LARGEST = 700.0
"""Logarithm of the largest number an axis shows."""
TICKS = 5
"""At most, along one axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One axis."""

    text: str
    """What it shows, with unit and arrow."""
    better: Better
    factor: float = 1.0
    """From records to what is shown."""
    by_factors: bool = False
    """Equal distances are equal ratios."""

    def scaled(self, estimate: Estimate) -> Estimate:
        """As it is shown."""
        half = estimate.half_width
        return Estimate(
            mean=self.factor * estimate.mean,
            half_width=None if half is None else self.factor * half,
            n=estimate.n,
        )


def quality_scale(comparison: Comparison, metric: str, setting: str = "") -> Scale:
    """Percent are linear. A perplexity is a ratio, and an untuned emulator's can be huge."""
    better, percent = comparison.better(metric), quality_style(metric) is PERCENT
    name = f"{SETTING_NAMES[setting]}, {metric}" if setting else metric
    unit = f"{name}, % {ARROWS[better]}" if percent else f"{name} {ARROWS[better]}"
    return Scale(
        text=unit, better=better, factor=quality_style(metric).scale, by_factors=not percent
    )


def memory_scale() -> Scale:
    """Peak memory of a training."""
    return Scale(text="peak memory, MiB ↓", better="lower", factor=MEBIBYTES.scale)


def throughput_scale(metric: str) -> Scale:
    """Speed of a training."""
    unit = "samples/s" if metric == "throughput_samples" else "tokens/s"
    return Scale(text=f"tuning throughput, {unit} ↑", better="higher")


def space(axis: Axis, scale: Scale) -> None:
    """Label an axis and space its ticks, once its ends are known."""
    by_factors = axis.get_scale() == "log"
    axis.set_label_text(f"{scale.text} (log scale)" if by_factors else scale.text)
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(locator(low, high, by_factors=by_factors))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_locator(NullLocator())


def locator(low: float, high: float, *, by_factors: bool) -> Locator:
    """A few round ticks between two ends; by factors where that leaves several of them."""
    if not by_factors or high / low <= WIDE:
        return MaxNLocator(TICKS)
    if high / low > 1000:
        return LogLocator()
    return LogLocator(subs=(1, 2, 5) if high / low > 30 else (1, 1.5, 2, 3, 5, 7))
