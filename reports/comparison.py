"""Find, in the tidy table, all that belongs to one model on one task.

This is where rows become the paper's question: the same model, the same task, five settings.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from reports.budget import Budget
from reports.items import scores_by_item
from reports.record import ORACLE, TRAININGS
from reports.results import NOT_RUN, Entry
from reports.statistics.intervals import Better, Estimate, Run, Scores, gain
from reports.statistics.ties import Rank, ranks

if TYPE_CHECKING:
    import pandas as pd

QUALITY = ("top1", "acc", "exact_match", "perplexity", "word_perplexity", "acc_norm", "top5")
"""Metrics of a setting, the one to show first coming first."""
THROUGHPUTS = ("throughput_tokens_real", "throughput_samples")
MEMORIES = ("peak_memory_allocated", "peak_memory_process")
CHOSEN_ON_SCORED = "paper"
"""The rule by which a training chose its checkpoint on the split that is scored."""
ANY_CHECKPOINT = "any checkpoint"
"""Where plug-ins stand that are no results: of checkpoints that were not chosen."""


NO_SCORES = Scores(values={})


class Treatment(NamedTuple):
    """One row of a settings table. Without a layout it is tuning the whole model."""

    layout: str
    compression: str
    tuning: str


class Failure(NamedTuple):
    """Why a number is missing."""

    seed: int | None
    word: str
    """The stage's outcome, or `not run`."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One metric in one place: what was measured, by seed, and what was not."""

    values: Mapping[int | None, float]
    """Mean over repeats; the key is None where no seed enters the stage."""
    runs: Mapping[Run, float] = field(default_factory=dict)
    """Every run's own value."""
    failures: tuple[Failure, ...] = ()
    """One for every seed that has no value."""
    unmeasured: str = ""
    """Why the stage ran but could not measure this."""
    grades: tuple[str, ...] = ()
    """Grades other than exact, with their reasons."""
    machines: frozenset[str] = frozenset()
    unit: str = ""
    better: Better = "higher"
    items: int | None = None
    """Scored items of one evaluation."""
    stderr: float | None = None
    """Largest standard error over those items."""
    examples: int | None = None
    """To how many items the evaluation was cut; None if it scored the whole split."""
    scored: frozenset[tuple[int | None, int | None]] = frozenset()
    """`examples` and `items` of every value: more than one where they are not alike."""
    scores: Scores = NO_SCORES
    """The values again, by item where every seed scored the same ones."""
    stages: tuple[str, ...] = ()
    """Digests of the stages whose records hold the values, or say why there are none."""
    lost: tuple[str, ...] = ()
    """Why runs failed of stages that other runs have values of."""
    is_chosen_on_scored: bool = False
    """Whether a checkpoint it is of was chosen on the very split that is scored."""

    @property
    def numbers(self) -> list[float]:
        """The values, in the order the seeds were planned."""
        return list(self.values.values())

    @property
    def is_one_seed(self) -> bool:
        """Whether a seed enters, and only one was run."""
        return len(self.values) == 1 and None not in self.values

    @property
    def mean(self) -> float:
        """The mean over seeds, where there is any value."""
        return fmean(self.values.values())

    @cached_property
    def estimate(self) -> Estimate:
        """Mean and interval, over items too where they are known; only where there is any value."""
        return self.scores.spread.estimate

    def is_comparable(self, other: Observed) -> bool:
        """Whether every value of both was scored on the same items."""
        return len(self.scored | other.scored) <= 1


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One model on one task. Without slots: what many tables ask for is worked out once."""

    model: str
    task: str
    """Empty where all that is asked for belongs to no task."""
    metrics: tuple[str, ...]
    """Quality metrics that have a value, the one to show first; empty if nothing was scored."""
    treatments: tuple[Treatment, ...]
    """In plan order, tuning the whole model first."""
    entries: Mapping[tuple[str, Treatment], Sequence[Entry]]
    """By setting or, for what is not an evaluation, by stage kind; ANY_CHECKPOINT apart."""
    seeds: int = 0
    """The most that were planned for any row."""
    items: Mapping[str, int] = field(default_factory=dict)
    """How many items most evaluations scored, by metric."""
    _seen: dict[tuple[object, ...], Observed] = field(
        default_factory=dict, compare=False, repr=False
    )
    """What was observed before."""
    _settings: dict[tuple[str, Treatment, str], Observed] = field(
        default_factory=dict, compare=False, repr=False
    )
    """The same by setting: asked tens of thousands of times, its sources are worked out once."""
    _gaps: dict[tuple[str, ...], Estimate | None] = field(
        default_factory=dict, compare=False, repr=False
    )
    _ranked: dict[tuple[frozenset[Treatment], str], Mapping[Treatment, Rank]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @cached_property
    def reference(self) -> Treatment | None:
        """Full fine-tuning: tuning `full` if it was planned, else the first that was."""
        whole = [t for t in self.treatments if not t.layout and t.tuning]
        return next((t for t in whole if t.tuning == "full"), next(iter(whole), None))

    @property
    def sandwiches(self) -> tuple[Treatment, ...]:
        """The rows with an emulator."""
        return tuple(t for t in self.treatments if t.layout)

    @property
    def emulators(self) -> tuple[Treatment, ...]:
        """The emulators whose disclosure was asked for, in plan order."""
        return tuple(treatment for role, treatment in self.entries if role == "disclose")

    @cached_property
    def sources(self) -> frozenset[str]:
        """Digests of what was loaded as this model."""
        found = (entry.source for entries in self.entries.values() for entry in entries)
        return frozenset(filter(None, found))

    def data(self, *stages: str) -> frozenset[str]:
        """Identities of the task's data that these kinds of stages took."""
        found = (entry for entries in self.entries.values() for entry in entries)
        return frozenset(entry.data for entry in found if entry.data and entry.stage in stages)

    @cached_property
    def throughput(self) -> str:
        """The speed to show: real tokens where there are tokens, else samples."""
        return self._first_told(THROUGHPUTS)

    @cached_property
    def memory(self) -> str:
        """The memory to show: the GPU's where training ran on one, else the process's."""
        return self._first_told(MEMORIES)

    def _first_told(self, choices: tuple[str, ...]) -> str:
        """The first metric somebody measured, else the first that says why it was not."""
        found = [e for entries in self.entries.values() for e in entries if e.metric in choices]
        measured = {e.metric for e in found if e.value is not None}
        told = measured or {e.metric for e in found}
        return next((metric for metric in choices if metric in told), choices[0])

    def has(self, *roles: str) -> bool:
        """Whether any of these settings or stage kinds was asked for."""
        return any(role in roles for role, _ in self.entries)

    def setting(self, setting: str, treatment: Treatment, metric: str) -> Observed:
        """A quality metric of one of the five settings, seen from one row."""
        asked = (setting, treatment, metric)
        if asked not in self._settings:
            sources = self._sources(setting, treatment)
            self._settings[asked] = self._observe(sources, metric, ("", "evaluate"))
        return self._settings[asked]

    @cached_property
    def peers(self) -> tuple[str, ...]:
        """Other training loops that were run too."""
        roles = (role.partition("@")[2] for role, _ in self.entries)
        return tuple(dict.fromkeys(filter(None, roles)))

    def training(
        self, metric: str, treatment: Treatment, phase: str = "train", peer: str = ""
    ) -> Observed:
        """A metric of the training stage itself, by our loop or a peer's: speed, memory, size."""
        by = f"@{peer}" if peer else ""
        emulator = Treatment(treatment.layout, treatment.compression, "")
        sources = [(f"tune{by}", treatment), ("emulator", emulator)]
        if not treatment.layout:
            sources = [(f"finetune{by}", treatment)]
        return self._observe(sources, metric, ("", phase))

    def train_seconds(self, treatment: Treatment) -> Observed:
        """How long all steps of a training took, on the machine whose speed is shown."""
        role = "tune" if treatment.layout else "finetune"
        entries = list(self.entries.get((role, treatment), ()))
        emulator = Treatment(treatment.layout, treatment.compression, "")
        upstream = list(self.entries.get(("emulator", emulator), ())) if treatment.layout else []
        timed = [
            e._replace(value=e.train_seconds, unit="s", better="lower", grade="", reason="")
            for e in entries
            if e.metric == "step_time_median"
        ]
        return _observed(entries, upstream, timed)

    def build_seconds(self, treatment: Treatment) -> Observed:
        """How long it took to build the emulator of a row."""
        emulator = Treatment(treatment.layout, treatment.compression, "")
        return self._observe([("emulator", emulator)], "build_seconds")

    def budgets(self, rows: Iterable[Treatment]) -> Mapping[Budget, tuple[Treatment, ...]]:
        """The rows by what their trainings were given."""
        found: dict[Budget, dict[Treatment, None]] = defaultdict(dict)
        for row in rows:
            for entry in self.entries.get(("tune" if row.layout else "finetune", row), ()):
                if entry.outcome == "ok" and entry.budget is not None:
                    found[entry.budget][row] = None
        return {budget: tuple(rows) for budget, rows in found.items()}

    def disclosed(self, metric: str, treatment: Treatment) -> Observed:
        """What the owner gave away with an emulator."""
        emulator = Treatment(treatment.layout, treatment.compression, "")
        sources = [("disclose", emulator), ("emulator", emulator)]
        return self._observe(sources, metric)

    def selections(self) -> Mapping[str, tuple[Treatment, ...]]:
        """The rows by what their checkpoint was chosen on; the empty text where there was one."""
        found: dict[str, dict[Treatment, None]] = defaultdict(dict)
        for (role, treatment), entries in self.entries.items():
            if role in TRAININGS:
                for entry in entries:
                    if entry.outcome == "ok":
                        found[entry.selection][treatment] = None
        return {rule: tuple(rows) for rule, rows in found.items()}

    def chosen(self, treatment: Treatment) -> Mapping[int | None, Entry]:
        """By seed, the training whose checkpoint was plugged in; it knows the step."""
        return {entry.seed: entry for entry in self.entries.get(("tune", treatment), ())}

    def best_checkpoints(self, treatment: Treatment, metric: str) -> Mapping[int | None, Entry]:
        """By seed, the best plug-in of all checkpoints, if all of them could be scored."""
        entries = self.entries.get((ANY_CHECKPOINT, treatment), ())
        incomplete = {entry.seed for entry in entries if entry.outcome != "ok"}
        sign = 1 if self.better(metric) == "higher" else -1
        best: dict[int | None, tuple[float, Entry]] = {}
        for entry in entries:
            if entry.metric == ORACLE + metric and entry.value is not None:
                score = sign * entry.value
                if entry.seed not in best or score > best[entry.seed][0]:
                    best[entry.seed] = (score, entry)
        return {seed: entry for seed, (_, entry) in best.items() if seed not in incomplete}

    def gap(self, treatment: Treatment, metric: str) -> Estimate | None:
        """How much better a plug-in is than the emulator it was tuned with; None without both."""
        asked = (*treatment, metric)
        if asked not in self._gaps:
            plug_in = self.setting("plug_in", treatment, metric)
            emulator = self.setting("emulator_finetuned", treatment, metric)
            self._gaps[asked] = gain(plug_in.scores, emulator.scores, plug_in.better)
        return self._gaps[asked]

    def ranks(self, rows: Iterable[Treatment], metric: str) -> Mapping[Treatment, Rank]:
        """How the plug-ins of some rows stand to each other; empty where that has no meaning."""
        known = [row for row in rows if row.layout and self.setting("plug_in", row, metric).values]
        asked = (frozenset(known), metric)
        if asked not in self._ranked:
            observed = [self.setting("plug_in", row, metric) for row in known]
            is_alike = all(each.is_comparable(observed[0]) for each in observed)
            scores = [each.scores for each in observed] if is_alike and len(known) > 1 else []
            found = ranks(scores, self.better(metric))
            self._ranked[asked] = dict(zip(known, found, strict=False))
        return self._ranked[asked]

    def oracle(self, treatment: Treatment, metric: str) -> Observed:
        """The score of `best_checkpoints`."""
        best = list(self.best_checkpoints(treatment, metric).values())
        entries = self.entries.get((ANY_CHECKPOINT, treatment), ())
        failed = [entry for entry in entries if entry.outcome != "ok"]
        upstream = list(self.entries.get(("tune", treatment), ()))
        return _observed([*best, *failed], upstream, best)

    def experimental(self, treatment: Treatment) -> str:
        """Why the compression of a row is experimental; empty if it is not."""
        emulator = Treatment(treatment.layout, treatment.compression, "")
        found = self.entries.get(("emulator", emulator), ())
        return next((entry.experimental for entry in found if entry.experimental), "")

    def chance(self, metric: str) -> float | None:
        """What a model that knows nothing scores, as any record says."""
        entries = (entry for found in self.entries.values() for entry in found)
        return next(
            (e.chance for e in entries if e.metric == metric and e.chance is not None), None
        )

    def better(self, metric: str) -> Better:
        """Which way a metric points, as its records say."""
        entries = (entry for found in self.entries.values() for entry in found)
        points = next((entry.better for entry in entries if entry.metric == metric), "")
        if not points:
            return usually_better(metric)
        return "lower" if points == "lower" else "higher"

    def _sources(self, setting: str, treatment: Treatment) -> list[tuple[str, Treatment]]:
        """Where a setting's number is, then the stages it was made from, nearest first."""
        emulator = Treatment(treatment.layout, treatment.compression, "")
        whole = self.reference if treatment.layout else treatment
        if setting == "full_zero_shot":
            return [(setting, Treatment("", "", ""))]
        if setting == "emulator_zero_shot":
            return [(setting, emulator), ("emulator", emulator)]
        if setting == "full_finetuned":
            return [(setting, whole), ("finetune", whole)] if whole else []
        return [(setting, treatment), ("tune", treatment), ("emulator", emulator)]

    def _observe(
        self,
        sources: Sequence[tuple[str, Treatment]],
        metric: str,
        phases: tuple[str, ...] | None = None,
    ) -> Observed:
        """What the first source says of a metric, and the others of why it does not."""
        asked = (*sources, metric, phases)
        if asked not in self._seen:
            found = [self.entries.get(source, ()) for source in sources]
            entries = list(found[0]) if found else []
            upstream = [entry for source in found[1:] for entry in source]
            matching = [
                entry
                for entry in entries
                if entry.metric == metric and (phases is None or entry.phase in phases)
            ]
            self._seen[asked] = _observed(entries, upstream, matching)
        return self._seen[asked]


def usually_better(metric: str) -> Better:
    """Which way a metric points that nobody measured.

    >>> [usually_better(each) for each in ("acc_norm", "perplexity", "throughput_samples")]
    ['higher', 'lower', 'higher']
    """
    is_rate = metric in QUALITY and not metric.endswith("perplexity")
    return "higher" if is_rate or metric.startswith(("throughput", "mfu")) else "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The tidy table, read once for all tables and figures of a report."""

    tasks: tuple[Comparison, ...]
    """Every (model, task), in the table's order."""
    models: tuple[Comparison, ...]
    """Every model, with what belongs to it and to no task."""


def compared(table: Sequence[Entry] | pd.DataFrame) -> Compared:
    """Put the rows of the tidy table together that are to be compared."""
    by_pair: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in table if isinstance(table, Sequence) else _entries(table):
        by_pair[entry.model, entry.task].append(entry)
    tasks = tuple(
        _comparison(model, task, [*by_pair.get((model, ""), ()), *entries])
        for (model, task), entries in by_pair.items()
        if model and task
    )
    names = dict.fromkeys(model for model, _ in by_pair if model)
    models = tuple(_comparison(name, "", by_pair.get((name, ""), [])) for name in names)
    return Compared(tasks=tasks, models=models)


def _entries(frame: pd.DataFrame) -> list[Entry]:
    columns = frame[list(Entry._fields)]
    plain = columns.astype(object).where(columns.notna(), None)
    return [Entry(*values) for values in plain.itertuples(index=False, name=None)]


def _comparison(model: str, task: str, entries: list[Entry]) -> Comparison:
    placed: dict[tuple[str, Treatment], list[Entry]] = defaultdict(list)
    for e in entries:
        role = e.setting if e.stage == "evaluate" else e.stage
        role += f"@{e.peer}" if e.peer else ""
        role = role if e.checkpoint is None else ANY_CHECKPOINT
        placed[role, Treatment(e.layout, e.compression, e.tuning)].append(e)
    scored = {e.metric for e in entries if e.stage == "evaluate" and e.value is not None}
    return Comparison(
        model=model,
        task=task,
        metrics=tuple(metric for metric in QUALITY if metric in scored),
        treatments=_treatments([e for e in entries if e.task]),
        entries=dict(placed),
        seeds=max((len({e.seed for e in found}) for found in placed.values()), default=0),
        items=_usual_items(entries),
    )


def _usual_items(entries: list[Entry]) -> dict[str, int]:
    """How many items most evaluations scored; of equally many the larger number."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for e in entries:
        if e.stage == "evaluate" and e.n is not None:
            counts[e.metric][e.n] += 1
    return {metric: max(found, key=lambda n: (found[n], n)) for metric, found in counts.items()}


def _treatments(entries: list[Entry]) -> tuple[Treatment, ...]:
    found = list(dict.fromkeys(Treatment(e.layout, e.compression, e.tuning) for e in entries))
    # The zero-shot evaluations belong to every row of their emulator or model; they are a row
    # of their own only where nothing was tuned.
    tuned = {(t.layout, t.compression) for t in found if t.tuning}
    rows = [t for t in found if t.tuning or (t.layout, t.compression) not in tuned]
    if any(t.layout for t in rows):
        rows = [t for t in rows if t.layout or t.tuning]
    return tuple(sorted(rows, key=lambda t: bool(t.layout)))


def _observed(entries: list[Entry], upstream: list[Entry], matching: list[Entry]) -> Observed:
    measured = [e for e in matching if e.value is not None]
    by_seed: dict[int | None, list[float]] = defaultdict(list)
    for e in matching:
        if e.value is not None:
            by_seed[e.seed].append(e.value)
    means = {seed: fmean(values) for seed, values in by_seed.items()}
    return Observed(
        values=means,
        scores=_scores(measured, means),
        stages=tuple(dict.fromkeys(e.digest for e in measured or (*entries, *upstream))),
        runs={(e.seed, e.repeat): e.value for e in matching if e.value is not None},
        failures=_failures(entries, upstream, set(by_seed)),
        unmeasured=next((e.reason for e in matching if e.value is None), ""),
        grades=tuple(dict.fromkeys(_grade(e) for e in measured if e.grade not in ("", "exact"))),
        machines=frozenset(e.machine for e in measured),
        unit=next((e.unit for e in measured), ""),
        better="lower" if any(e.better == "lower" for e in measured) else "higher",
        items=next((e.n for e in measured), None),
        stderr=max((e.stderr for e in measured if e.stderr is not None), default=None),
        examples=next((e.examples for e in measured if e.examples is not None), None),
        scored=frozenset((e.examples, e.n) for e in measured),
        lost=tuple(dict.fromkeys(e.lost for e in measured if e.lost)),
        is_chosen_on_scored=any(e.selection == CHOSEN_ON_SCORED for e in upstream),
    )


def _scores(measured: list[Entry], means: Mapping[int | None, float]) -> Scores:
    """Of several repeats the first stands for all."""
    found = {e.seed: e.items for e in reversed(measured) if e.items is not None}
    return scores_by_item(measured[0].metric if measured else "", means, found)


def _grade(entry: Entry) -> str:
    return f"{entry.grade} ({entry.reason})" if entry.reason else entry.grade


def _failures(
    entries: list[Entry], upstream: list[Entry], have: set[int | None]
) -> tuple[Failure, ...]:
    """Why each seed without a value has none: its own failure, else that of what it needed.

    A stage that was skipped or not run only shows that another failed: the other comes first.
    """
    failed = [e for e in (*entries, *upstream) if e.outcome != "ok"]
    failed.sort(key=lambda e: (e.outcome == NOT_RUN, e.outcome == "skipped"))
    ran = {e.seed for e in entries if e.outcome == "ok"}
    planned = dict.fromkeys(e.seed for e in (*entries, *upstream) if e.seed is not None)
    seeds = [seed for seed in planned or (None,) if seed not in have | ran]
    return tuple(_failure(seed, failed) for seed in seeds)


def _failure(seed: int | None, failed: list[Entry]) -> Failure:
    for e in failed:
        if seed is None or e.seed in (None, seed):
            return Failure(seed, e.outcome, e.reason)
    return Failure(seed, NOT_RUN, "")
