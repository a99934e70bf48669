"""How much of the full model's skill its emulator has before anyone tunes it: capability leak.

The raw leak, CPL, is LLEOT's: emulator zero-shot over full zero-shot. A model that knows nothing
has a raw leak of its own (half and more on multiple choice), so the corrected leak measures both
from chance: 0 is knowing nothing, 1 is as good as the full model. The correction and the forms for
perplexity are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reports.statistics.intervals import Better, Estimate, Scores, crossed, estimate

STEP = 1e-6
"""Share of a score by which it is moved to see how a leak follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A share of the full model's skill, or why there is none to speak of."""

    value: float | None = None
    reason: str = ""


def raw_leak(emulator: float, full: float, better: Better) -> Leak:
    """S(E)/S(M) of a score; of a perplexity its inverse, ppl(M)/ppl(E).

    >>> raw_leak(0.4, 0.5, "higher").value
    0.8
    >>> raw_leak(50.0, 25.0, "lower").value
    0.5
    """
    part, whole = (emulator, full) if better == "higher" else (full, emulator)
    if whole <= 0:
        return Leak(reason=f"a ratio to {whole:g} has no meaning")
    return Leak(value=part / whole)


def corrected_leak(
    emulator: float, full: float, better: Better, *, chance: float | None, stderr: float = 0.0
) -> Leak:
    """(S(E) - c)/(S(M) - c) of a score; of a perplexity the same with minus its logarithm.

    The logarithm of a perplexity is the loss, and that of knowing nothing is ln c, with c what a
    uniform guess scores (per token, the size of the vocabulary):
    (ln c - ln ppl(E))/(ln c - ln ppl(M)).

    Args:
        emulator: what the untuned emulator scores.
        full: what the untuned full model scores.
        better: which way the scores point.
        chance: c, what a model that knows nothing scores; None if nobody said.
        stderr: standard error of `full`. A model within it of chance has no skill to leak.

    >>> corrected_leak(0.375, 0.5, "higher", chance=0.25).value
    0.5
    >>> round(corrected_leak(100.0, 10.0, "lower", chance=1000.0).value, 12)
    0.5
    """
    if chance is None:
        return Leak(reason="the record names no chance level")
    lead = full - chance if better == "higher" else chance - full
    if lead <= max(stderr, 0.0):
        return Leak(reason="the full model is not above chance by more than its standard error")
    if better == "higher":
        return Leak(value=(emulator - chance) / (full - chance))
    if min(emulator, full) <= 0:
        return Leak(reason="a perplexity that is not above 0 has no logarithm")
    return Leak(value=math.log(chance / emulator) / math.log(chance / full))


def leak_estimate(
    emulator: Scores, full: Scores, leak_of: Callable[[float, float], Leak]
) -> Estimate | Leak:
    """A leak with its interval over the items both have scored, or why there is none.

    To first order in the two scores (the delta method): what both owe to an easy item is not in
    it. Neither has a seed.

    Args:
        emulator: scores of the untuned emulator.
        full: scores of the untuned full model.
        leak_of: the leak of two such scores.
    """
    part, whole = (next(iter(each.values.values())) for each in (emulator, full))
    found = leak_of(part, whole)
    if found.value is None:
        return found
    by_part = _slope(lambda moved: leak_of(moved, whole), part)
    by_whole = _slope(lambda moved: leak_of(part, moved), whole)
    is_paired = emulator.by_item and full.by_item and emulator.documents == full.documents
    if not is_paired or by_part is None or by_whole is None:
        return estimate([found.value])
    parts, wholes = (next(iter(each.by_item.values())) for each in (emulator, full))
    linear = found.value + by_part * (parts - part) + by_whole * (wholes - whole)
    # Equal answers throughout leave only the rounding of the slopes.
    is_spread = float(np.ptp(linear)) > STEP
    return crossed(linear[None, :]).estimate if is_spread else estimate([found.value])


def _slope(leak_of: Callable[[float], Leak], score: float) -> float | None:
    """How fast a leak changes with one score; None where it is not defined on both sides."""
    step = STEP * (abs(score) or 1.0)
    above, below = leak_of(score + step).value, leak_of(score - step).value
    return None if above is None or below is None else (above - below) / (2 * step)
