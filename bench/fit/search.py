"""Look for the largest batch that trains. Pure: a trial tells whether one batch does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

PROBE_STEPS = 5
"""Of a trial: the optimizer has its state after the first, so the second is at the peak. Where a
step is recorded, it is the fourth."""

Trial = Callable[[float, int, int], str | None]
"""Train within a budget (GB) for so many steps with a batch: None, or how it ran out of memory.
Raises `Undetermined` where it fails otherwise."""


class Undetermined(Exception):
    """A training failed, and not for want of memory: whether it would fit is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest batch within one budget."""

    batch: int
    """0: not even one sample trains."""
    beyond: str | None
    """How one more ran out of memory; None where the search was not to go further."""
    dropped: int = 0
    """So many larger ones trained a few steps, and not the whole confirming run."""


def limits(
    trial: Trial, budgets: Sequence[float], *, most: int, steps: int
) -> Iterator[tuple[float, Limit | Undetermined]]:
    """The limit within each budget, the smallest first: it is where the next search begins.

    Args:
        trial: trains one batch of the row in question.
        budgets: in GB.
        most: largest batch to try.
        steps: of the run that confirms what was found.
    """
    known = 0
    for budget in sorted(budgets):
        try:
            limit = find_limit(
                partial(trial, budget, PROBE_STEPS),
                partial(trial, budget, steps),
                most=most,
                known=known,
            )
        except Undetermined as error:
            yield budget, error
        else:
            known = limit.batch
            yield budget, limit


def find_limit(
    probe: Callable[[int], str | None],
    confirm: Callable[[int], str | None],
    *,
    most: int,
    known: int = 0,
) -> Limit:
    """Search with `probe`; then go down from there until `confirm` trains too.

    Both return None for a batch that trains, else how it ran out of memory.
    """
    refused: dict[int, str] = {}

    def trains(batch: int, how: Callable[[int], str | None]) -> bool:
        reason = how(batch)
        if reason is not None:
            refused[batch] = reason
        return reason is None

    found = batch = largest(lambda batch: trains(batch, probe), most=most, known=known)
    while batch and not trains(batch, confirm):
        batch -= 1
    return Limit(batch=batch, beyond=refused.get(batch + 1), dropped=found - batch)


def largest(fits: Callable[[int], bool], *, most: int, known: int = 0) -> int:
    """The largest number up to `most` that fits, by doubling and then bisection.

    `known` fits already; 0 always does. At most 2 log2(n) + 2 questions for the result n.

    >>> largest(lambda batch: batch <= 11, most=1024)
    11
    """
    low, high = known, most + 1
    while high > most and low < most:
        step = min(max(1, 2 * low), most)
        if fits(step):
            low = step
        else:
            high = step
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
