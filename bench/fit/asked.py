"""What a user may ask of `fit`: budgets this machine can hold, lengths, a suite that can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bench.environment import Machine, this_machine
from bench.errors import BenchError

GIGABYTE = 10**9
USUAL = (8.0, 12.0, 16.0, 24.0, 40.0, 80.0)
"""GB of the cards people have."""

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to look for."""

    budgets: list[float]
    """In GB."""
    lengths: list[int]
    """Tokens of a sample; none: each task's own."""
    most: int
    """The largest batch to try."""
    steps: int
    """Of the run that confirms what was found."""


def ask(*, budget: str | None, length: str | None, most: int, steps: int) -> Asked:
    """Read what the command line gives.

    Raises:
        BenchError: no number, or a budget that this machine does not have.
    """
    return Asked(
        budgets=read_budgets(budget, memory_of(this_machine())),
        lengths=[] if length is None else _numbers("--length", length, int, "512,2048"),
        most=most,
        steps=steps,
    )


def memory_of(machine: Machine) -> int:
    """Bytes of the GPU stages run on, or of the machine where they run on its CPU."""
    if machine.device == "cuda":
        return machine.gpus[0].memory
    import psutil

    return int(psutil.virtual_memory().total)


def read_budgets(text: str | None, memory: int) -> list[float]:
    """GB as given, `8,12`; without any, the usual ones that `memory` bytes can hold.

    Raises:
        BenchError: no number, or more than there is.
    """
    most = memory / GIGABYTE
    if text is None:
        usual = [budget for budget in USUAL if budget <= most]
        if not usual:
            raise BenchError(f"this machine has {most:.1f} GB; give --budget GB,GB as in 0.8,2")
        return usual
    budgets = _numbers("--budget", text, float, "8,12,24")
    for budget in budgets:
        if budget > most:
            raise BenchError(
                f"--budget {budget:g}: more than this machine's {most:.1f} GB; give at most that"
            )
    return budgets


def _numbers(option: str, text: str, kind: Callable[[str], N], example: str) -> list[N]:
    """Positive numbers, each once, the smallest first."""
    try:
        numbers = sorted({kind(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    # A comparison with nan is always false.
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise BenchError(f"{option} {text}: give positive numbers with commas, as in {example}")
    return numbers
