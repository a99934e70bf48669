"""JUnit XML of a suite: one test case a stage, for the test page of a CI system.

It says what ran and how long, and judges no number: that is what `check --junit` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from reports.exchange.shown import Shown
from reports.record import Record
from reports.results import NOT_RUN, StageRun
from reports.tables.cells import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    name: str
    seconds: float
    tag: Literal["", "failure", "skipped"]
    """Empty: it ran."""
    message: str = ""
    type: str = ""


def junit(shown: Shown) -> str:
    """Failed stages fail, and those that are missing are skipped, each with its reason."""
    if not any(run.found for run in shown.runs):
        return ""
    cases = [_case(run, shown.machine) for run in shown.runs]
    tags = Counter(each.tag for each in cases)
    counts = {
        "tests": str(len(cases)),
        "failures": str(tags["failure"]),
        "errors": "0",
        "skipped": str(tags["skipped"]),
        "time": f"{sum(each.seconds for each in cases):.3f}",
    }
    suite = one_line(shown.suite)
    root = ElementTree.Element("testsuites", counts)
    tests = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts})
    for each in cases:
        case = ElementTree.SubElement(
            tests,
            "testcase",
            {"classname": suite, "name": each.name, "time": f"{each.seconds:.3f}"},
        )
        if each.tag == "failure":
            told = {"message": each.message, "type": each.type}
            ElementTree.SubElement(case, "failure", told)
        elif each.tag == "skipped":
            ElementTree.SubElement(case, "skipped", {"message": each.message})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(run: StageRun, machine: str | None) -> _Case:
    name, seconds = _name(run), _seconds(run.found, machine)
    asked, failed = len(run.planned.asked), run.attempt
    if failed is None:
        have = len({record.repeat for record in run.records})
        if have >= asked:
            return _Case(name=name, seconds=seconds, tag="")
        why = f"{have} of {asked} runs" if have else NOT_RUN
        return _Case(name=name, seconds=seconds, tag="skipped", message=why)
    why = one_line(f"{failed.outcome}: {failed.reason}")
    if failed.outcome == "skipped":
        return _Case(name=name, seconds=seconds, tag="skipped", message=why)
    return _Case(name=name, seconds=seconds, tag="failure", message=why, type=failed.outcome)


def _name(run: StageRun) -> str:
    """The stage and its labels; no two stages of a suite share them all."""
    labels = run.planned.labels.model_dump(exclude={"case"}, exclude_defaults=True)
    numbered = ("seed", "checkpoint")
    words = [f"{key} {each}" if key in numbered else each for key, each in labels.items()]
    return one_line(f"{run.planned.kind}[{' '.join(words)}]")


def _seconds(records: Sequence[Record], machine: str | None) -> float:
    """Of all runs on one machine: this one if it has any."""
    names = [record.machine for record in records]
    own = machine if machine in names else next(iter(names), None)
    return sum(_took(record) for record in records if record.machine == own)


def _took(record: Record) -> float:
    seconds = record.observed.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else 0.0
