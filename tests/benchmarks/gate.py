"""How often the gate errs: `python -m tests.benchmarks.gate`.

Suites are simulated in which nothing changed, and suites in which one line lost what its rule must
not let pass. Every number comes from the functions that `check` and `ab` call, with the sample
sizes that they ask for themselves.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from reports.gate.baseline import Baseline, Measured
from reports.gate.evidence import Evidence, Verdict
from reports.gate.judge import judge
from reports.gate.lines import Line
from reports.gate.noise import Noise, Session, Values
from reports.gate.staged import (
    FIRST_PAIRS,
    P,
    Pair,
    evidence,
    in_rounds,
)
from tests.reports.gate.measured import HOW, PLUG_IN, answered, baseline, timed
from tests.reports.statistics.simulated import answers

LINES = 24
TASKS = 6
OUTLIERS = 0.05
"""Of all runs, so many take 5 to 25 % longer for reasons of their own."""
BANK = 8
"""Seeds of a baseline."""
SEEDS = 3
"""Seeds at first."""
MOST_SEEDS = 20
"""More are not trained, however many are asked for."""
CLOCKED = 8
"""Runs a side on a GPU whose clock moves."""
RUN = 0.003
"""Their standard deviation at equal clocks, as a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one setting's suites."""

    setting: str
    alarms: int
    """Suites in which nothing changed and a line regressed."""
    words: Counter[str]
    """Verdicts on the line that did lose."""
    cost: float
    """Mean of the pairs made, or of the seeds trained, for one suite."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=int, default=1000)
    parser.add_argument("--of", nargs="*", default=list(KINDS), choices=list(KINDS))
    given = parser.parse_args()
    print("| what | noise | false alarms | REGRESSED | INCONCLUSIVE | PASS | cost |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in given.of:
        for result in KINDS[name](given.suites):
            print(line(name, result), flush=True)


def line(name: str, result: Result) -> str:
    """A row of the table."""
    words = (str(result.words[word]) for word in ("REGRESSED", "INCONCLUSIVE", "PASS"))
    return (
        f"| {name} | {result.setting} | {result.alarms} | {' | '.join(words)} | {result.cost:.0f} |"
    )


def speeds(suites: int) -> Iterator[Result]:
    """`ab` over throughput: 5 % slower."""
    for spread in (0.005, 0.01, 0.015, 0.02):
        for share in (0.0, OUTLIERS):
            yield _in_turn(suites, "throughput_samples", spread, share, 0.05)


def memories(suites: int) -> Iterator[Result]:
    """`ab` over peak memory: 5 % more."""
    for spread in (0.0005, 0.002, 0.005, 0.01):
        for share in (0.0, OUTLIERS):
            yield _in_turn(suites, "peak_memory_process", spread, share, 0.05)


def accuracies(suites: int) -> Iterator[Result]:
    """`check` over trainings made again: two points less."""
    for seed_sd, own, items in (
        (0.0, 0.1, 1838),
        (0.0023, 0.1, 1838),
        (0.0034, 0.2, 1838),
        (0.0034, 0.2, 3676),
        (0.0057, 0.35, 3676),
        (0.0057, 0.35, 10042),
        (0.01, 0.2, 3676),
        (0.0023, 0.1, 500),
    ):
        yield _trained_again(suites, seed_sd, own, items)


def clocks(suites: int) -> Iterator[Result]:
    """`check` and `ab` on a GPU whose clock is not what it was.

    The words are on a line that is 5 % slower under the same clock or one 5 % higher, or the same
    under one 10 % lower.
    """
    changes = ((0.0, 0.05, 0.0), (0.03, 0.05, 0.05), (0.10, 0.0, -0.10))
    for follows, run in product((1.0, 0.5, 0.0), (0.001, 0.02)):
        for session, loss, lift in changes:
            gpu = Gpu(follows=follows, session=session, run=run)
            yield in_two_sessions(suites, gpu, loss, lift)
    for follows, run, lift in product((1.0, 0.0), (0.001, 0.02), (0.0, 0.05)):
        gpu = Gpu(follows=follows, session=0.10, run=run)
        yield in_turn_at_clocks(suites, gpu, 0.05, lift)


KINDS: dict[str, Callable[[int], Iterator[Result]]] = {
    "speed": speeds,
    "memory": memories,
    "accuracy": accuracies,
    "clocks": clocks,
}


def _in_turn(suites: int, metric: str, spread: float, outliers: float, loss: float) -> Result:
    draw = np.random.default_rng(0)
    named = _named(metric)
    alarms, words, made = 0, Counter[str](), 0
    for _ in range(suites):
        same = _two_rounds(draw, named, spread, outliers, 0.0)
        alarms += any(each.word == "REGRESSED" for each in same[0])
        made += same[1]
        worse = _two_rounds(draw, named, spread, outliers, loss)
        words[worse[0][0].word] += 1
    shown = f"{spread:.2%} a run" + (f", {outliers:.0%} outliers" if outliers else "")
    return Result(setting=shown, alarms=alarms, words=words, cost=made / suites)


def _named(metric: str) -> list[Line]:
    return [
        Line(model="m", tuning="full", task=str(number), stage="tune", metric=metric)
        for number in range(LINES)
    ]


def _two_rounds(
    draw: np.random.Generator, named: list[Line], spread: float, outliers: float, loss: float
) -> tuple[list[Verdict], int]:
    """The verdicts, and how many pairs they took. The first line lost."""
    better = "higher" if named[0].metric.startswith("throughput") else "lower"
    sign = -1 if better == "higher" else 1

    def more(number: int, count: int) -> list[Pair]:
        cost = draw.normal(0, spread, (count, 2))
        is_outlier = draw.random((count, 2)) < outliers
        cost += is_outlier * np.log1p(draw.uniform(0.05, 0.25, (count, 2)))
        cost[:, 1] += math.log1p(loss) if number == 0 else 0.0
        return [(float(base), float(candidate)) for base, candidate in np.exp(sign * cost)]

    return _rounds(
        named,
        lambda each, count: more(named.index(each), count),
        lambda each, pairs: evidence(each, pairs, better),
    )


def _rounds(
    named: list[Line],
    more: Callable[[Line, int], list[P]],
    found: Callable[[Line, Sequence[P]], Evidence],
) -> tuple[list[Verdict], int]:
    """The verdicts, and how many pairs were made."""
    made = 0

    def make(counts: Mapping[Line, int]) -> dict[Line, list[P]]:
        nonlocal made
        made += sum(counts.values())
        return {each: more(each, count) for each, count in counts.items()}

    pairs = make(dict.fromkeys(named, FIRST_PAIRS))
    first = {each: found(each, given) for each, given in pairs.items()}
    return in_rounds(first, make, found), made


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """How its clock moves, as logarithms, and what a line's speed makes of that."""

    follows: float
    """Share of a change of the clock that the speed makes too."""
    session: float
    """Standard deviation from one session to another."""
    run: float
    """From run to run."""

    def runs(
        self, draw: np.random.Generator, middle: float, cost: float, count: int
    ) -> tuple[list[float], list[float]]:
        """Speeds and MHz of some runs of code that costs so much, about a middle of the clock."""
        clock = middle + draw.normal(0, self.run, count)
        speed = self.follows * clock - cost + draw.normal(0, RUN, count)
        return (100 * np.exp(speed)).tolist(), (1755 * np.exp(clock)).tolist()

    def shown(self, loss: float, lift: float) -> str:
        """In words."""
        moves = f"clock {self.session:.0%} a session, {self.run:.1%} a run"
        return f"{moves}, speed follows {self.follows:g}; code {loss:+.0%}, clock {lift:+.0%}"


def in_two_sessions(suites: int, gpu: Gpu, loss: float, lift: float) -> Result:
    """`check` where each side has a clock of its own, and one line is changed."""
    draw = np.random.default_rng(0)
    # As `calibrate` left it while the clock kept still.
    named, days = _named("throughput_samples"), range(12)
    values = {each: draw.normal(100, 100 * RUN, (len(days), 4)) for each in named}
    sessions = tuple(
        Session(
            started=str(day),
            commit="c",
            lines=tuple(
                Values(line=each, setup=HOW, values=tuple(found[day].tolist()))
                for each, found in values.items()
            ),
        )
        for day in days
    )
    noise = Noise(machine="here", sessions=sessions)
    alarms, words = 0, Counter[str]()
    for _ in range(suites):
        was = _session(draw, named, gpu, 0.0, 0.0)
        same = judge(was, _session(draw, named, gpu, 0.0, 0.0), noise)
        alarms += any(each.word == "REGRESSED" for each in same)
        still = replace(gpu, session=0.0)
        sides = [_session(draw, named, still, *moved) for moved in ((0.0, 0.0), (loss, lift))]
        words[judge(sides[0], sides[1], noise)[0].word] += 1
    setting = f"check: {gpu.shown(loss, lift)}"
    return Result(setting=setting, alarms=alarms, words=words, cost=CLOCKED)


def _session(
    draw: np.random.Generator, named: list[Line], gpu: Gpu, loss: float, lift: float
) -> Baseline:
    """Runs of all lines, of which the first one's code and clock differ."""
    middle = float(draw.normal(0, gpu.session))
    first = gpu.runs(draw, middle + math.log1p(lift), math.log1p(loss), CLOCKED)
    others = [gpu.runs(draw, middle, 0.0, CLOCKED) for _ in named[1:]]
    return baseline(
        *(
            timed(values, each, clocks=mhz)
            for each, (values, mhz) in zip(named, [first, *others], strict=True)
        )
    )


def in_turn_at_clocks(suites: int, gpu: Gpu, loss: float, lift: float) -> Result:
    """`ab` where one line is changed."""
    draw = np.random.default_rng(0)
    alarms, words, made = 0, Counter[str](), 0
    for _ in range(suites):
        same = _turns(draw, gpu, 0.0, 0.0)
        alarms += any(each.word == "REGRESSED" for each in same[0])
        made += same[1]
        words[_turns(draw, gpu, loss, lift)[0][0].word] += 1
    setting = f"ab: {gpu.shown(loss, lift)}"
    return Result(setting=setting, alarms=alarms, words=words, cost=made / suites)


def _turns(
    draw: np.random.Generator, gpu: Gpu, loss: float, lift: float
) -> tuple[list[Verdict], int]:
    """The verdicts, and how many pairs they took. The session's clock is that of both sides."""
    middle = float(draw.normal(0, gpu.session))
    named = _named("throughput_samples")

    def more(each: Line, count: int) -> list[tuple[Pair, Pair]]:
        is_first = each == named[0]
        moved = (math.log1p(lift), math.log1p(loss)) if is_first else (0.0, 0.0)
        base = gpu.runs(draw, middle, 0.0, count)
        candidate = gpu.runs(draw, middle + moved[0], moved[1], count)
        values, mhz = (zip(*sides, strict=True) for sides in zip(base, candidate, strict=True))
        return list(zip(values, mhz, strict=True))

    def found(each: Line, pairs: Sequence[tuple[Pair, Pair]]) -> Evidence:
        values, mhz = ([pair[which] for pair in pairs] for which in (0, 1))
        return evidence(each, values, "higher", clocks=mhz)

    return _rounds(named, more, found)


def _trained_again(suites: int, seed_sd: float, own: float, items: int) -> Result:
    draw = np.random.default_rng(0)
    alarms, words, trained = 0, Counter[str](), 0
    for _ in range(suites):
        same = _asked(draw, seed_sd, own, items, 0.0)
        alarms += any(each.word == "REGRESSED" for each in same[0])
        trained += same[1]
        worse = _asked(draw, seed_sd, own, items, 0.02)
        words[worse[0][0].word] += 1
    setting = f"seeds {100 * seed_sd:.2f} points, answers {own}, {items} items"
    return Result(setting=setting, alarms=alarms, words=words, cost=trained / suites)


def _asked(
    draw: np.random.Generator, seed_sd: float, own: float, items: int, loss: float
) -> tuple[list[Verdict], int]:
    """The verdicts on a few seeds or, where these do not decide, on as many as are asked for."""
    eases = [draw.normal(0, 1, items) for _ in range(TASKS)]
    # So many steps of ease are worth the loss.
    less = loss * math.hypot(1, own) / 0.3956

    def side(seeds: int, harder: float) -> Baseline:
        """The first task may be harder than it was."""
        shifts = [harder, *[0.0] * (TASKS - 1)]
        return baseline(
            *(
                _task(number, draw, seeds, seed_sd, own, ease - shift)
                for number, (ease, shift) in enumerate(zip(eases, shifts, strict=True))
            )
        )

    was = side(BANK, 0.0)
    found = judge(was, side(SEEDS, less))
    more = max((each.more_runs or 0 for each in found), default=0)
    if not more:
        return found, SEEDS
    seeds = SEEDS + min(more, MOST_SEEDS)
    if any(each.anew for each in found):
        was = side(max(BANK, seeds), 0.0)
    return judge(was, side(seeds, less)), seeds


def _task(
    number: int,
    draw: np.random.Generator,
    seeds: int,
    seed_sd: float,
    own: float,
    ease: np.ndarray,
) -> Measured:
    found = answers(draw, seeds=seeds, items=len(ease), seed_sd=seed_sd, ease=ease, own=own)
    return answered(found, PLUG_IN.model_copy(update={"task": str(number)}))


if __name__ == "__main__":
    main()
