"""How large a loss has to be to count, and how sure one has to be to say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

FALSE_ALARMS = 0.004
"""At most so often does a suite that is the same call any of its lines regressed (or improved)."""
FALSE_PASSES = 0.0005
"""At most so often does a line pass that lost as much as its limit."""
POWER = 0.975
"""How often a loss as large as a line's limit has to be seen before the line may pass."""

MOST_PAIRS = 150
"""Fresh pairs of a line that `ab` makes, unless more are asked for."""
UNBOUNDED = math.log(100)
"""Larger losses are not told apart in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a line of one kind is worse."""

    margin: float
    """A smaller loss is none: a fraction of the baseline, or of all items."""
    limit: float
    """A loss that must not pass unseen."""
    is_ratio: bool
    """Losses are logarithms of ratios; else differences."""
    is_machine_bound: bool = False
    drift: float = 0.0
    """How far a machine may differ from one day to another if nobody measured it: a fraction."""
    grain: float = 0.0
    """Runs that are all alike are known to this fraction; 0 where they would be no measurement."""

    @property
    def margin_loss(self) -> float:
        """The margin as a loss."""
        return math.log1p(self.margin) if self.is_ratio else self.margin

    @property
    def limit_loss(self) -> float:
        """The limit as a loss."""
        return math.log1p(self.limit) if self.is_ratio else self.limit

    @property
    def drift_loss(self) -> float:
        """The drift as a loss."""
        return math.log1p(self.drift)

    def text(self, loss: float) -> str:
        """A loss in words: per cent of the baseline, or points.

        >>> Rule(margin=0.01, limit=0.05, is_ratio=True).text(math.log(1.0525))
        '5.2 %'
        >>> Rule(margin=0.0, limit=0.02, is_ratio=False).text(0.0175)
        '1.8 points'
        """
        if self.is_ratio and loss > math.log(2):
            return f"{math.exp(loss):,.3g} times" if loss < UNBOUNDED else "any amount"
        if self.is_ratio:
            return f"{math.expm1(loss) * 100:.1f} %"
        return f"{loss * 100:.1f} points"


ACCURACY = Rule(margin=0.002, limit=0.02, is_ratio=False)
PERPLEXITY = Rule(margin=0.002, limit=0.02, is_ratio=True)
# Two jobs on shared machines were seen 26 % apart in speed whose runs had 0.3 % of spread.
SPEED = Rule(margin=0.01, limit=0.05, is_ratio=True, is_machine_bound=True, drift=0.30)
# The peak of a process is counted in pages and may be the same in every run.
MEMORY = Rule(
    margin=0.01, limit=0.05, is_ratio=True, is_machine_bound=True, drift=0.01, grain=0.001
)


def rule_of(metric: str) -> Rule:
    """The rule of a metric."""
    if metric.startswith("throughput") or metric == "seconds":
        return SPEED
    if "memory" in metric:
        return MEMORY
    return PERPLEXITY if metric.endswith("perplexity") else ACCURACY
