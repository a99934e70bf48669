"""The same data judged by everybody's rules: `python -m tests.benchmarks.gate_rules`.

Suites are simulated in which nothing changed, and suites in which one line got 5 % slower. Every
rule measures as its own documentation has it and decides with its own code; ours with the functions
that `check` and `ab` call. pyperf and asv are optional: their rows say so where they are missing.
With `--bank` the runs are those that `tests.benchmarks.gate_bank` made on a real machine.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import product, repeat
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from pytest_benchmark.utils import parse_compare_fail
from scipy.stats import norm

from reports.gate.baseline import Baseline
from reports.gate.evidence import FEWEST_RUNS, Evidence, Verdict
from reports.gate.judge import judge
from reports.gate.lines import Line
from reports.gate.noise import Noise, Session, Values
from reports.gate.staged import (
    FIRST_PAIRS,
    MOST_PAIRS,
    evidence,
    in_rounds,
)
from reports.statistics.intervals import Better, Items, Part
from tests.benchmarks.gate import BANK as BASELINE_SEEDS
from tests.benchmarks.gate import LINES, MOST_SEEDS, OUTLIERS, SEEDS, TASKS
from tests.reports.gate.measured import HOW, PLUG_IN, SPEED, answered, baseline, timed
from tests.reports.statistics.simulated import RATE, answers

LOSS = 0.05
"""What the slower line lost."""
SETTINGS = ((0.005, 0.0), (0.01, OUTLIERS), (0.015, 0.0), (0.02, OUTLIERS))
"""Standard deviation of a run, as a share of its seconds, and the share of outliers."""
WITHIN = 0.01
"""Of a step within its run."""
DRIFTS = (0.0, 0.01, 0.03, 0.08)
"""Standard deviations of the difference of two sessions; all lines of a session share it."""
STEPS = 50
"""Of a run."""
SESSIONS = 10
"""Of `calibrate`, before `check` is asked."""
CALIBRATED = 20
"""Runs of each."""
MACHINES = 20
"""So many are calibrated; the suites of a setting take turns on them."""
POINTS = 0.02
"""What the worse task lost of its answers."""
TRAININGS = ((0.0023, 0.1, 1838), (0.0034, 0.2, 1838), (0.0023, 0.1, 500), (0.0034, 0.2, 500))
"""Standard deviation of a seed's score, share of its answers that is its own, items."""

PACKAGES = ("pytest-benchmark", "pyperf", "asv", "asv-runner")

Seconds = npt.NDArray[np.float64]
Slower = Callable[[Seconds, Seconds], bool]
"""Whether a line, shape (runs, values), got slower."""


class Source(Protocol):
    """Where runs come from. The first line may have lost."""

    def sides(
        self, lines: int, runs: int, values: int, whole: int, loss: float
    ) -> tuple[Seconds, Seconds]:
        """Baseline and current, shape (lines, runs, values)."""
        ...

    def pairs(self, count: int, loss: float) -> Seconds:
        """Runs of one line made in turn, shape (count, 2)."""
        ...

    def noise(self) -> Noise | None:
        """What `calibrate` would have found here; None if that was not measured."""
        ...


class Calibrated(Noise):
    """A noise model that works out a drift once: it is asked by many suites."""

    _drifts: dict[Line, Part | None] = PrivateAttr(default_factory=dict)

    def drift(self, line: Line, setup: str) -> Part | None:
        """As the shipped one says."""
        if line not in self._drifts:
            self._drifts[line] = super().drift(line, setup)
        return self._drifts[line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """A machine whose runs, steps and sessions vary as much as it is told."""

    draw: np.random.Generator
    spread: float
    outliers: float = 0.0
    drift: float = 0.0
    within: float = WITHIN
    calibrated: list[Noise] = field(default_factory=list)
    """By machine; made when first asked for."""

    def sides(
        self, lines: int, runs: int, values: int, whole: int, loss: float
    ) -> tuple[Seconds, Seconds]:
        """Two sessions."""
        was, now = (self._session(lines, runs, values) for _ in range(2))
        now[0] *= 1 + loss
        return was, now

    def pairs(self, count: int, loss: float) -> Seconds:
        """One session; the two runs of a pair share what the machine does meanwhile."""
        moment = self.draw.normal(0, self.drift, (count, 1))
        found = self._steps((count, 2), moment, STEPS).mean(axis=-1)
        found[:, 1] *= 1 + loss
        return found

    def noise(self) -> Noise:
        """Sessions of the same lines on other days."""
        if len(self.calibrated) < MACHINES:
            self.calibrated.append(self._calibrate())
            return self.calibrated[-1]
        return self.calibrated[int(self.draw.integers(MACHINES))]

    def _calibrate(self) -> Noise:
        days = [self._session(LINES, CALIBRATED, STEPS).mean(axis=-1) for _ in range(SESSIONS)]
        sessions = (
            Session(
                started=str(number),
                commit="c0ffee",
                lines=tuple(
                    Values(line=line, setup=HOW, values=tuple(runs))
                    for line, runs in zip(NAMED, day.tolist(), strict=True)
                ),
            )
            for number, day in enumerate(days)
        )
        return Calibrated(machine="here", sessions=tuple(sessions))

    def _session(self, lines: int, runs: int, values: int) -> Seconds:
        today = self.draw.normal(0, self.drift / math.sqrt(2))
        return self._steps((lines, runs), today, values)

    def _steps(self, shape: tuple[int, int], common: float | Seconds, values: int) -> Seconds:
        cost = common + self.draw.normal(0, self.spread, shape)
        is_outlier = self.draw.random(shape) < self.outliers
        cost = cost + is_outlier * np.log1p(self.draw.uniform(0.05, 0.25, shape))
        steps = cost[..., None] + self.draw.normal(0, self.within, (*shape, values))
        return np.asarray(np.exp(steps))


class Bank(BaseModel):
    """Runs of one code against itself, made in turn on one machine: A B, B A."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    metric: str
    better: Better
    machine: str
    pairs: tuple[tuple[float, float], ...] = Field(min_length=2)


def read_bank(path: Path) -> Bank:
    """A bank that `tests.benchmarks.gate_bank` wrote."""
    return Bank.model_validate(json.loads(path.read_bytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Pairs drawn from a bank, again and again; a baseline is of the same session here."""

    draw: np.random.Generator
    bank: Bank

    def sides(
        self, lines: int, runs: int, values: int, whole: int, loss: float
    ) -> tuple[Seconds, Seconds]:
        """One value a run: a bank knows no steps."""
        found = self._drawn((lines, whole))
        found[0, :, 1] *= 1 + loss
        return found[..., :1], found[..., 1:]

    def pairs(self, count: int, loss: float) -> Seconds:
        """Whole pairs."""
        found = self._drawn((1, count))[0]
        found[:, 1] *= 1 + loss
        return found

    def noise(self) -> None:
        """Nothing is known of other days."""
        return

    def _drawn(self, shape: tuple[int, int]) -> Seconds:
        found = np.asarray(self.bank.pairs)[self.draw.integers(len(self.bank.pairs), size=shape)]
        # Both are the same code: the mean of the few pairs there are must not pass for a change.
        found = self.draw.permuted(found, axis=-1)
        return 1 / found if self.bank.better == "higher" else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """A rule that decides line by line, and has no word for what it cannot tell."""

    name: str
    runs: int
    """Processes a side."""
    values: int
    """Of each process."""
    whole: int
    """Runs a side where each has one value."""
    slower: Slower
    needs: str = ""
    """The optional package whose code decides."""

    @property
    def sample(self) -> str:
        """What a side consists of."""
        return f"{self.runs} x {self.values}"

    def words(self, source: Source, loss: float) -> Iterator[str]:
        """A word a line, as far as they are wanted."""
        was, now = source.sides(LINES, self.runs, self.values, self.whole, loss)
        for before, after in zip(was, now, strict=True):
            yield "REGRESSED" if self.slower(before, after) else "PASS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """`check` or `ab`."""

    name: str
    sample: str
    verdicts: Callable[[Source, float], list[Verdict]]
    needs: str = ""

    def words(self, source: Source, loss: float) -> Iterator[str]:
        """A word a line."""
        for each in self.verdicts(source, loss):
            yield each.word


Rule = Theirs | Ours


def torchbench(was: Seconds, now: Seconds) -> bool:
    """`abs(delta) > 0.07`, of which the slower half.

    userbenchmark/torch-nightly/regression_detector.py of pytorch/benchmark at 061e0ec5.
    """
    delta = (np.median(now) - np.median(was)) / np.median(was)
    return bool(delta > 0.07)


def pytest_benchmark(was: Seconds, now: Seconds) -> bool:
    """`--benchmark-compare-fail=mean:5%`."""
    check = parse_compare_fail("mean:5%")
    return check.fails({"mean": float(now.mean())}, {"mean": float(was.mean())}) is not None


def pyperf(min_speed: float | None) -> Slower:
    """`pyperf compare_to`, with `--min-speed` if it is given."""

    @dataclass(frozen=True, slots=True)
    class Side:
        values: list[float]

        def get_values(self) -> list[float]:
            return self.values

        def mean(self) -> float:
            return math.fsum(self.values) / len(self.values)

    def slower(was: Seconds, now: Seconds) -> bool:
        from pyperf._compare import CompareData, CompareResult

        # What is not slower by so much is no alarm whatever the test says, and it takes its time.
        if not now.mean() > was.mean() * (1 + (min_speed or 0) / 100):
            return False
        before, after = (CompareData("", Side(side.ravel().tolist())) for side in (was, now))
        return bool(CompareResult(before, after, min_speed=min_speed).significant)

    return slower


def asv(factor: float) -> Slower:
    """`asv continuous --factor`, with its statistics."""

    def slower(was: Seconds, now: Seconds) -> bool:
        from asv.commands.compare import _is_result_better
        from asv_runner.statistics import compute_stats

        if not np.median(was) < np.median(now) / factor:
            return False
        samples = [side.ravel().tolist() for side in (was, now)]
        (before, spread), (after, spread_now) = (compute_stats(each, 1) for each in samples)
        known = (spread, samples[0]), (spread_now, samples[1])
        return bool(_is_result_better(before, after, *known, factor))

    return slower


def ab(source: Source, loss: float) -> list[Verdict]:
    """A few pairs of every line, then fresh ones where they are asked for."""

    def more(line: Line, count: int) -> list[tuple[float, float]]:
        pairs = source.pairs(count, loss if line == NAMED[0] else 0.0)
        return [(a, b) for a, b in pairs.tolist()]

    def found(line: Line, pairs: Sequence[tuple[float, float]]) -> Evidence:
        return evidence(line, pairs, "lower")

    first = {line: found(line, more(line, FIRST_PAIRS)) for line in NAMED}
    return in_rounds(
        first, lambda asked: {line: more(line, count) for line, count in asked.items()}, found
    )


def check(source: Source, loss: float, noise: Noise | None = None) -> list[Verdict]:
    """As many runs as `--runs` has by default, then as many as are asked for, all made anew."""
    found = _checked(source, loss, FEWEST_RUNS, FEWEST_RUNS, noise)
    more = max((each.more_runs or 0 for each in found), default=0)
    if not more:
        return found
    runs = min(FEWEST_RUNS + more, MOST_PAIRS)
    of_base = runs if any(each.anew for each in found) else FEWEST_RUNS
    return _checked(source, loss, of_base, runs, noise)


def calibrated_check(source: Source, loss: float) -> list[Verdict]:
    """The same where `calibrate` was run before."""
    return check(source, loss, source.noise())


def _checked(
    source: Source, loss: float, of_base: int, runs: int, noise: Noise | None
) -> list[Verdict]:
    was, now = source.sides(LINES, runs, STEPS, runs, loss)
    return judge(_measured(was[:, :of_base]), _measured(now), noise)


def _measured(seconds: Seconds) -> Baseline:
    rates = 1 / seconds.mean(axis=-1)
    return baseline(*(timed(runs, line) for line, runs in zip(NAMED, rates.tolist(), strict=True)))


NAMED = [SPEED.model_copy(update={"task": str(number)}) for number in range(LINES)]

AB = Ours(name="ours: ab", sample=f"{FIRST_PAIRS} pairs, then as asked", verdicts=ab)

RULES: tuple[Rule, ...] = (
    Theirs(name="torchbench 7 %", runs=1, values=STEPS, whole=1, slower=torchbench),
    Theirs(name="torchbench 7 %", runs=10, values=STEPS, whole=10, slower=torchbench),
    Theirs(name="pytest-benchmark mean:5%", runs=1, values=STEPS, whole=1, slower=pytest_benchmark),
    Theirs(
        name="pytest-benchmark mean:5%", runs=10, values=STEPS, whole=10, slower=pytest_benchmark
    ),
    Theirs(
        name="pyperf compare_to", runs=20, values=3, whole=20, slower=pyperf(None), needs="pyperf"
    ),
    Theirs(
        name="pyperf compare_to", runs=5, values=STEPS, whole=5, slower=pyperf(None), needs="pyperf"
    ),
    Theirs(
        name="pyperf compare_to --min-speed 5",
        runs=20,
        values=3,
        whole=20,
        slower=pyperf(5),
        needs="pyperf",
    ),
    Theirs(name="asv continuous -f 1.1", runs=2, values=5, whole=10, slower=asv(1.1), needs="asv"),
    Theirs(
        name="asv continuous -f 1.05", runs=2, values=5, whole=10, slower=asv(1.05), needs="asv"
    ),
    Ours(name="ours: check", sample="5 runs, then as asked", verdicts=check),
    Ours(name="ours: check, calibrated", sample="5 runs, then as asked", verdicts=calibrated_check),
    AB,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What became of one setting's suites."""

    suites: int
    alarms: int
    """Suites in which nothing changed and a line regressed."""
    words: Counter[str]
    """Verdicts on what did lose."""

    def share(self, word: str) -> float:
        """How often that was the verdict."""
        return self.words[word] / self.suites


def tally(rule: Rule, source: Source, suites: int) -> Tally:
    """Every suite twice: as it was, and with a loss."""
    alarms, words = 0, Counter[str]()
    for _ in range(suites):
        alarms += any(word == "REGRESSED" for word in rule.words(source, 0.0))
        words[next(rule.words(source, LOSS))] += 1
    return Tally(suites=suites, alarms=alarms, words=words)


def is_there(rule: Rule) -> bool:
    """Whether the code that decides is installed."""
    return not rule.needs or bool(installed(rule.needs))


def installed(package: str) -> str:
    """Its version; empty if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def simulated_rows(suites: int) -> Iterator[str]:
    """The table of simulated suites: a row a drift and a rule."""
    yield "| sessions differ by | rule | a side | false alarms | seen | undecided | passed |"
    yield "|---:|---|---|---:|---:|---:|---:|"
    with ProcessPoolExecutor() as pool:
        yield from pool.map(
            simulated_row, *zip(*product(DRIFTS, range(len(RULES))), strict=True), repeat(suites)
        )


def simulated_row(drift: float, number: int, suites: int) -> str:
    """One rule over all settings."""
    rule = RULES[number]
    head = f"| {drift:.0%} | {rule.name} | {rule.sample} |"
    if not is_there(rule):
        return f"{head} not installed | | | |"
    tallies = []
    for spread, outliers in SETTINGS:
        draw = np.random.default_rng(0)
        source = Simulated(draw=draw, spread=spread, outliers=outliers, drift=drift)
        tallies.append(tally(rule, source, suites))
    return f"{head} {' | '.join(shares(tallies))} |"


def bank_rows(bank: Bank, suites: int) -> Iterator[str]:
    """The table of suites drawn from a bank."""
    yield "| rule | runs a side | false alarms | seen | undecided | passed |"
    yield "|---|---|---:|---:|---:|---:|"
    for rule in RULES:
        head = f"| {rule.name} | {rule.whole if isinstance(rule, Theirs) else rule.sample} |"
        if not is_there(rule):
            yield f"{head} not installed | | | |"
            continue
        source = Drawn(draw=np.random.default_rng(0), bank=bank)
        yield f"{head} {' | '.join(shares([tally(rule, source, suites)]))} |"


def shares(tallies: Sequence[Tally]) -> list[str]:
    """Means over the settings; behind them the worst, where there are several."""
    alarms = [each.alarms / each.suites for each in tallies]
    seen, undecided, passed = (
        [each.share(word) for each in tallies] for word in ("REGRESSED", "INCONCLUSIVE", "PASS")
    )
    return [
        _shown(alarms, max(alarms)),
        _shown(seen, min(seen)),
        _shown(undecided, max(undecided)),
        _shown(passed, max(passed)),
    ]


def _shown(found: Sequence[float], worst: float) -> str:
    mean = f"{100 * sum(found) / len(found):.1f} %"
    return mean if len(found) == 1 else f"{mean} ({100 * worst:.1f} %)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Both sides of a suite of tasks: answers by task, shape (seeds, items)."""

    was: list[Items]
    now: list[Items]
    trained: Callable[[int], list[Items]]
    """So many seeds of what is now."""
    saved: Callable[[int], list[Items]]
    """And of what was."""

    def drops(self) -> list[float]:
        """How far the mean of the seeds fell, task by task."""
        return [
            float(before.mean() - after.mean())
            for before, after in zip(self.was, self.now, strict=True)
        ]


def fixed_drop(scored: Scored) -> list[str]:
    """More than one point."""
    return ["REGRESSED" if drop > 0.01 else "PASS" for drop in scored.drops()]


def two_proportions(scored: Scored) -> list[str]:
    """A two-sided z test at 95 % as if the two sides had answered different questions."""
    words = []
    for before, after, drop in zip(scored.was, scored.now, scored.drops(), strict=True):
        rates = np.array([before.mean(), after.mean()])
        error = math.sqrt(float((rates * (1 - rates)).sum()) / before.shape[1])
        words.append("REGRESSED" if drop > norm.ppf(0.975) * error else "PASS")
    return words


def paired(scored: Scored) -> list[str]:
    """`check`."""
    return [each.word for each in _paired(scored.was, scored.now)]


def paired_as_asked(scored: Scored) -> list[str]:
    """`check`, and again with as many seeds as it asks for."""
    found = _paired(scored.was, scored.now)
    more = max((each.more_runs or 0 for each in found), default=0)
    if more:
        seeds = SEEDS + min(more, MOST_SEEDS)
        anew = any(each.anew for each in found)
        was = scored.saved(max(BASELINE_SEEDS, seeds)) if anew else scored.was
        found = _paired(was, scored.trained(seeds))
    return [each.word for each in found]


def _paired(was: list[Items], now: list[Items]) -> list[Verdict]:
    sides = (
        baseline(
            *(
                answered(found, PLUG_IN.model_copy(update={"task": str(number)}))
                for number, found in enumerate(side)
            )
        )
        for side in (was, now)
    )
    return judge(*sides)


ACCURACY_RULES: dict[str, Callable[[Scored], list[str]]] = {
    "drop of more than 1 point": fixed_drop,
    "two proportions, unpaired": two_proportions,
    "ours: check": paired,
    "ours: check, seeds as asked": paired_as_asked,
}


def score(draw: np.random.Generator, seed_sd: float, own: float, items: int, loss: float) -> Scored:
    """Both sides of one suite; the first task may have got harder."""
    eases = [draw.normal(0, 1, items) for _ in range(TASKS)]
    # So many steps of ease are worth the loss.
    less = loss * math.hypot(1, own) / float(norm.pdf(norm.ppf(RATE)))

    def side(seeds: int, harder: float) -> list[Items]:
        return [
            answers(
                draw,
                seeds=seeds,
                items=items,
                seed_sd=seed_sd,
                ease=ease - (0.0 if number else harder),
                own=own,
            )
            for number, ease in enumerate(eases)
        ]

    return Scored(
        was=side(BASELINE_SEEDS, 0.0),
        now=side(SEEDS, less),
        trained=lambda seeds: side(seeds, less),
        saved=lambda seeds: side(seeds, 0.0),
    )


def accuracy_rows(suites: int) -> Iterator[str]:
    """The table of accuracies: the same answers under every rule."""
    yield "| items | seeds differ by | rule | false alarms | seen | undecided | passed |"
    yield "|---:|---:|---|---:|---:|---:|---:|"
    with ProcessPoolExecutor() as pool:
        for rows in pool.map(accuracy_setting, *zip(*TRAININGS, strict=True), repeat(suites)):
            yield from rows


def accuracy_setting(seed_sd: float, own: float, items: int, suites: int) -> list[str]:
    """All rules, one setting."""
    draw = np.random.default_rng(0)
    alarms, words = Counter[str](), {name: Counter[str]() for name in ACCURACY_RULES}
    for _ in range(suites):
        same, worse = (score(draw, seed_sd, own, items, loss) for loss in (0.0, POINTS))
        for name, rule in ACCURACY_RULES.items():
            alarms[name] += "REGRESSED" in rule(same)
            words[name][rule(worse)[0]] += 1
    return [
        f"| {items:,} | {100 * seed_sd:.2f} points | {name} | {' | '.join(shares([each]))} |"
        for name in ACCURACY_RULES
        for each in [Tally(suites=suites, alarms=alarms[name], words=words[name])]
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=int, default=1000)
    parser.add_argument("--bank", type=Path, help="judge runs drawn from this file as well")
    given = parser.parse_args()
    known = (f"{name} {installed(name) or 'not installed'}" for name in PACKAGES)
    _print(["", f"{given.suites} suites a setting; {', '.join(known)}.", ""])
    _print(simulated_rows(given.suites))
    _print(["", f"Two points less, {BASELINE_SEEDS} seeds before and {SEEDS} after.", ""])
    _print(accuracy_rows(given.suites))
    if given.bank:
        bank = read_bank(given.bank)
        what = f"{bank.stage}, {bank.metric}, {len(bank.pairs)} pairs on {bank.machine}"
        _print(["", f"Drawn from a bank: {what}.", ""])
        _print(bank_rows(bank, given.suites))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
