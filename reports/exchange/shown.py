"""What of a suite's results other tools are shown: speed and memory of one machine, all quality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.comparison import THROUGHPUTS
from reports.errors import ReportError
from reports.gate.baseline import Measured, Run, judged
from reports.gate.lines import Line
from reports.record import TRAININGS, Metric, Record
from reports.results import PlannedStage, StageRun
from reports.statistics.intervals import Estimate, estimate

SPEED = "throughput_samples"
STEP = "step_time_median"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A suite, and what its stages left."""

    suite: str
    """With its profile."""
    runs: Sequence[StageRun]
    machine: str | None
    """Whose speed and memory are shown; None: of the one there is."""

    def records(self) -> Iterator[tuple[PlannedStage, Record]]:
        """The records that count, in the order of the plan.

        Raises:
            ReportError: it is not known which machine's.
        """
        machine = self.machine or self._only_machine()
        for run in self.runs:
            names = {record.machine for record in run.records}
            # Quality may come from any machine, but from one a stage.
            is_quality = run.planned.kind == "evaluate" and machine not in names
            own = min(names, default=None) if is_quality else machine
            yield from ((run.planned, record) for record in run.records if record.machine == own)

    def _only_machine(self) -> str | None:
        timed = (record for run in self.runs for record in run.records if record.kind in TRAININGS)
        names = sorted({record.machine for record in timed})
        if len(names) > 1:
            raise ReportError(
                f"speed and memory of several machines, none of them this one: {', '.join(names)}; "
                "--format csv shows them all"
            )
        return names[0] if names else None

    def measured(self) -> list[Measured]:
        """The main score of every evaluation; samples, seconds a step and memory of trainings."""
        found: dict[Line, list[tuple[Run, Metric]]] = {}
        for planned, record in self.records():
            for line, metric in _told(planned, record):
                assert metric.value is not None
                run = Run(
                    seed=planned.labels.seed,
                    repeat=record.repeat,
                    value=metric.value,
                    items=metric.items,
                )
                found.setdefault(line, []).append((run, metric))
        return [
            Measured(
                line=line,
                unit=runs[0][1].unit,
                better=runs[0][1].better,
                setup={},
                runs=tuple(run for run, _ in runs),
            )
            for line, runs in found.items()
        ]


def by_place(measured: Iterable[Measured]) -> dict[str, dict[str, Measured]]:
    """Metrics by what they were measured of: labels, and the setting or stage."""
    found: dict[str, dict[str, Measured]] = {}
    for each in measured:
        place = each.line.model_copy(update={"metric": ""}).name
        found.setdefault(place, {})[each.line.metric] = each
    return found


def mean_of(measured: Measured) -> Estimate:
    """The mean with its 95 % interval: over runs or, of scores, over seeds and items."""
    if measured.line.stage != "evaluate":
        return estimate([run.value for run in measured.runs])
    return measured.scores().spread.estimate


def _told(planned: PlannedStage, record: Record) -> Iterator[tuple[Line, Metric]]:
    """What is judged; of speeds not the one that is, but those that are had of every model."""
    for line, metric in judged(planned, record):
        if metric.metric not in THROUGHPUTS:
            yield line, metric
            continue
        for speed in record.metrics:
            if speed.metric in (SPEED, STEP) and speed.value is not None:
                yield line.model_copy(update={"metric": speed.metric}), speed
