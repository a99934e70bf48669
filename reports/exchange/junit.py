"""JUnit XML of a suite: one test case a stage, for the test page of a CI system.

It says what ran and how long, and judges no number: that is what `check --junit` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.exchange.shown import Shown
from reports.junit import Case, junit_xml
from reports.record import Record
from reports.results import NOT_RUN, StageRun, quality_machine


def junit(shown: Shown) -> str:
    """Failed stages fail, and those that are missing are skipped, each with its reason."""
    if not any(run.found for run in shown.runs):
        return ""
    return junit_xml(shown.suite, [_case(run, shown.machine) for run in shown.runs])


def _case(run: StageRun, machine: str | None) -> Case:
    own = _own(run.found, machine)
    name, seconds = _name(run), sum(map(_took, own))
    asked, failed = len(run.planned.asked), run.attempt
    have = len(run.records and own)
    some = f"{have} of {asked} runs"
    if failed is None:
        if have >= asked:
            return Case(name=name, seconds=seconds)
        why = some if have else NOT_RUN
        return Case(name=name, seconds=seconds, outcome="skipped", message=why)
    why = f"{some}; {run.failure}" if have else run.failure
    if failed.outcome == "skipped":
        return Case(name=name, seconds=seconds, outcome="skipped", message=why)
    return Case(name=name, seconds=seconds, outcome="failure", message=why, type=failed.outcome)


def _name(run: StageRun) -> str:
    """The stage and its labels; no two stages of a suite share them all."""
    labels = run.planned.labels.model_dump(exclude={"case"}, exclude_defaults=True)
    numbered = ("seed", "checkpoint")
    words = [f"{key} {each}" if key in numbered else each for key, each in labels.items()]
    return f"{run.planned.kind}[{' '.join(words)}]"


def _own(records: Sequence[Record], machine: str | None) -> list[Record]:
    """All runs on one machine: this one if it has any, else the first."""
    own = quality_machine(records, machine)
    return [record for record in records if record.machine == own]


def _took(record: Record) -> float:
    seconds = record.observed.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0
