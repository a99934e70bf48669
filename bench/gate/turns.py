"""Base and candidate run in turn, so that what the machine does meanwhile is done to both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from random import Random

from bench.errors import NothingToShow
from bench.executors.local import LocalExecutor
from bench.gate.arms import Arm
from bench.plan import run_name
from bench.store import Store
from reports.gate.baseline import Baseline, Measured, gather, made_in, measured
from reports.gate.evidence import Evidence, Verdict, changes, evidence_of, setup_of, unforeseen
from reports.gate.lines import Line
from reports.gate.noise import Noise
from reports.gate.rules import MOST_PAIRS
from reports.gate.staged import FIRST_PAIRS, evidence, in_rounds
from reports.record import TRAININGS, Record, read_record
from reports.results import PlanFile, PlannedStage, StageRun, read_plan, read_stages

Said = Callable[[str], None]
"""Told what happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """An arm whose suite has run once."""

    arm: Arm
    store: Store
    plan_name: str
    plan: PlanFile
    executor: LocalExecutor
    runs: tuple[StageRun, ...]
    """What the suite's run left."""
    made: Mapping[str, Record]
    """By stage one record of it: what else a stage was made with."""

    def run(self, stage: PlannedStage, repeat: int) -> Mapping[Line, Measured]:
        """Run a stage once more: its lines with that run; nothing where it failed."""
        log = self.store.log_path(stage.digest)
        name = run_name(stage.digest, repeat)
        if self.executor.run(self.store.root, self.plan_name, name, log) != 0:
            return {}
        # The arm's own code names the machine.
        folder = self.store.root / "records" / stage.digest[:2]
        (path,) = folder.glob(f"{stage.digest}.*.{repeat}.json")
        return measured(stage, read_record(path), self.made)

    def measured(self) -> Baseline:
        """What the suite left."""
        machines = sorted({record.machine for run in self.runs for record in run.records})
        return gather(
            self.runs,
            suite=self.plan.suite,
            profile=self.plan.profile,
            machine=next(iter(machines), ""),
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """A stage that both sides have: base's, then candidate's."""

    stages: tuple[PlannedStage, PlannedStage]


def compare_arms(
    arms: Sequence[Arm], noise: Noise, said: Said, most: int = MOST_PAIRS
) -> list[Verdict]:
    """Quality from the suites as they ran; speed and memory from pairs in rounds.

    Of a line that does not pass at once at most so many fresh pairs are made.
    """
    with ExitStack() as stack:
        base, candidate = (_side(arm, stack) for arm in arms)
        sides = base.measured(), candidate.measured()
        quality = [each for each in evidence_of(*sides) if each.line.stage not in TRAININGS]
        pairing = _Pairing((base, candidate), noise, said)
        shared = list(_shared(base.plan, candidate.plan))
        pairs = pairing.made({each: FIRST_PAIRS for each in shared})
        unlike = {line: verdict for line, found in pairs.items() if (verdict := _unlike(found[0]))}
        first = {
            line: pairing.evidence(line, found)
            for line, found in pairs.items()
            if line not in unlike
        }
        found = in_rounds(
            first,
            lambda asked: pairing.made(pairing.by_stage(asked)),
            pairing.evidence,
            quality,
            most=most,
        )
    told = map(pairing.or_lost, [*found, *unlike.values(), *_without_pairs(sides, pairs)])
    failed = _failed(sides)
    return [_or_missing(each, failed.get(each.line.place)) for each in told]


Pair = tuple[Measured, Measured]
"""A run of base and one of candidate."""


class _Pairing:
    """Makes pairs of runs and keeps count of them."""

    def __init__(self, sides: tuple[Side, Side], noise: Noise, said: Said) -> None:
        self.sides, self.noise, self.said = sides, noise, said
        self.repeat = 0
        self.lines: dict[Shared, set[Line]] = defaultdict(set)
        self.failed: Counter[tuple[Shared, str]] = Counter()
        self.count: Counter[Shared] = Counter()

    def by_stage(self, asked: Mapping[Line, int]) -> dict[Shared, int]:
        """How many pairs of each stage give its lines as many as are asked for."""
        counts = {
            shared: max((asked.get(line, 0) for line in lines), default=0)
            for shared, lines in self.lines.items()
        }
        self.said(f"{sum(count > 0 for count in counts.values())} of {len(counts)} stages again")
        return {shared: count for shared, count in counts.items() if count}

    def or_lost(self, verdict: Verdict) -> Verdict:
        """The verdict, unless runs of its stage failed: what is left of them proves nothing."""
        for (shared, name), count in self.failed.items():
            if verdict.line in self.lines[shared]:
                said = f"{count} of {self.count[shared]} runs of the {name} failed"
                return Verdict(line=verdict.line, word="MISSING", sentence=said)
        return verdict

    def made(self, counts: Mapping[Shared, int]) -> Mapping[Line, list[Pair]]:
        """So many pairs of each stage; one of which a run failed is left out."""
        pairs: dict[Line, list[Pair]] = defaultdict(list)
        for turn, is_turned in enumerate(orders(max(counts.values(), default=0))):
            self.repeat += 1
            for shared in [each for each, count in counts.items() if turn < count]:
                base, candidate = self._pair(shared, is_turned=is_turned)
                self.lines[shared].update(base, candidate)
                # In their order: a set's is another in every process.
                for line in filter(candidate.__contains__, base):
                    pairs[line].append((base[line], candidate[line]))
            self.said(f"pair {turn + 1} of {max(counts.values())}")
        return pairs

    def evidence(self, line: Line, pairs: Sequence[Pair]) -> Evidence:
        """What the pairs say of a line."""
        runs = [(base.runs[0], candidate.runs[0]) for base, candidate in pairs]
        clocks = [
            (base.clock, candidate.clock)
            for base, candidate in runs
            if base.clock is not None and candidate.clock is not None
        ]
        return evidence(
            line,
            [(base.value, candidate.value) for base, candidate in runs],
            pairs[0][0].better,
            self.noise.offset(line, pairs[0][0].measured_how),
            clocks if len(clocks) == len(runs) else (),
        )

    def _pair(
        self, shared: Shared, *, is_turned: bool
    ) -> tuple[Mapping[Line, Measured], Mapping[Line, Measured]]:
        """Base and candidate, whichever ran first."""
        found: dict[int, Mapping[Line, Measured]] = {}
        for side in (1, 0) if is_turned else (0, 1):
            found[side] = self.sides[side].run(shared.stages[side], self.repeat)
            if not found[side]:
                self.failed[shared, self.sides[side].arm.name] += 1
        self.count[shared] += 1
        return found[0], found[1]


def orders(pairs: int) -> list[bool]:
    """Of so many pairs, in which the second side runs first: every other one, A B B A or B A A B.

    So a drift cancels. Which of the two it is is drawn (always alike): what a machine does every
    few seconds would otherwise fall on the same side again and again.
    """
    draw = Random(0)
    first = [draw.random() < 0.5 for _ in range(0, pairs, 2)]
    return [turned for each in first for turned in (each, not each)][:pairs]


def _side(arm: Arm, stack: ExitStack) -> Side:
    store = Store.open(arm.store)
    newest = next(iter(store.plans()), None)
    if newest is None:
        raise NothingToShow(f"{arm.name} ({arm.commit[:12]}) left no plan in {arm.store}")
    plan = read_plan(newest)
    runs = tuple(read_stages(store.root, plan))
    return Side(
        arm=arm,
        store=store,
        plan_name=newest.stem,
        plan=plan,
        runs=runs,
        made=made_in(runs),
        executor=stack.enter_context(LocalExecutor(arm.python)),
    )


def _shared(base: PlanFile, candidate: PlanFile) -> Iterator[Shared]:
    """Timed stages with the same labels on both sides; of other seeds the first stands for all."""
    ours = {each.row: each for each in reversed(candidate.stages) if each.kind in TRAININGS}
    seen = set()
    for stage in base.stages:
        if stage.row in ours and stage.row not in seen:
            seen.add(stage.row)
            yield Shared((stage, ours[stage.row]))


def _unlike(pair: Pair) -> Verdict | None:
    """That the two did not do the same, as far as both sides know what they did."""
    before, after = map(setup_of, pair)
    both = before.keys() & after.keys()
    changed = changes(*({name: each[name] for name in both} for each in (before, after)))
    if not changed:
        return None
    said = f"measured otherwise: {changed}; compare suites that ask for the same"
    return Verdict(line=pair[0].line, word="INCONCLUSIVE", sentence=said)


def _without_pairs(sides: Sequence[Baseline], pairs: Container[Line]) -> Iterator[Verdict]:
    """Timed lines that could not be run in turn, and what the base does not have."""
    for each in sides[0].measured:
        if each.line.stage in TRAININGS and each.line not in pairs:
            said = "no two runs in turn went through, or the candidate has no such stage"
            yield Verdict(line=each.line, word="MISSING", sentence=said)
    for verdict in unforeseen(*sides):
        if verdict.line not in pairs:
            # What the candidate lost has its reason.
            new = verdict.word == "INCONCLUSIVE"
            yield replace(verdict, sentence="not in the base") if new else verdict


def _failed(sides: Sequence[Baseline]) -> dict[Line, str]:
    """What failed when the suite ran on either side, and why."""
    named = zip(("base", "candidate"), sides, strict=True)
    return {each.place: f"{name}: {each.why}" for name, side in named for each in side.missing}


def _or_missing(verdict: Verdict, why: str | None) -> Verdict:
    """The verdict, unless its stage failed: what is left of it proves nothing."""
    return Verdict(line=verdict.line, word="MISSING", sentence=why) if why else verdict
