"""JUnit XML, the format that every CI system shows test results from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from reports.tables.cells import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test case; its texts may hold anything."""

    name: str
    outcome: Literal["passed", "failure", "skipped"] = "passed"
    message: str = ""
    type: str = ""
    """Of a failure."""
    seconds: float | None = None
    """None where time has no meaning."""


def junit_xml(suite: str, cases: Sequence[Case]) -> str:
    """One suite with its cases in the order given."""
    outcomes = Counter(each.outcome for each in cases)
    seconds = [each.seconds for each in cases if each.seconds is not None]
    counts = {
        "tests": str(len(cases)),
        "failures": str(outcomes["failure"]),
        "errors": "0",
        "skipped": str(outcomes["skipped"]),
        **_time(sum(seconds) if seconds else None),
    }
    suite = one_line(suite)
    root = ElementTree.Element("testsuites", counts)
    tests = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts})
    for each in cases:
        named = {"classname": suite, "name": one_line(each.name), **_time(each.seconds)}
        case = ElementTree.SubElement(tests, "testcase", named)
        told = {"message": one_line(each.message)}
        if each.outcome == "failure":
            ElementTree.SubElement(case, "failure", {**told, "type": each.type})
        elif each.outcome == "skipped":
            ElementTree.SubElement(case, "skipped", told)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _time(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"time": f"{seconds:.3f}"}
