"""Verdicts as a table, as JSON, JUnit XML and annotations: all say the same."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from reports.gate.evidence import Verdict
from reports.gate.output import as_values, junit, ordered, summary, verdict_table, workflow_commands
from reports.render.markdown import markdown_table
from tests.reports.gate.measured import MEMORY, PLUG_IN, SPEED

VERDICTS = [
    Verdict(line=SPEED, word="PASS", sentence="no loss of 5.0 %", loss=0.001, detectable=0.02),
    Verdict(line=PLUG_IN, word="REGRESSED", sentence="worse by 3.0 points", loss=0.03),
    Verdict(line=MEMORY, word="INCONCLUSIVE", sentence="one run", more_runs=4),
]


def test_the_worst_comes_first():
    """A reader sees what to look at before anything else."""
    assert [each.word for each in ordered(VERDICTS)] == ["REGRESSED", "INCONCLUSIVE", "PASS"]
    assert summary(VERDICTS) == "1 REGRESSED, 1 INCONCLUSIVE, 1 PASS"


def test_table_has_losses_in_their_own_units():
    """Points of an accuracy, per cent of a speed, a dash where nothing is known."""
    text = markdown_table(verdict_table(VERDICTS, "s"))
    assert "3.0 points" in text
    assert "0.1 %" in text
    assert text.count("\n") == 4


def test_json_has_one_object_a_line():
    """With the labels, the verdict and the numbers."""
    values = json.loads(json.dumps(as_values(VERDICTS)))
    assert [value["verdict"] for value in values] == ["REGRESSED", "INCONCLUSIVE", "PASS"]
    assert values[0]["setting"] == "plug_in"
    assert values[1]["more_runs"] == 4


def test_junit_fails_what_regressed_and_skips_what_is_open():
    """As a CI shows it."""
    root = ElementTree.fromstring(junit(VERDICTS, "s"))
    suite = root[0]
    assert suite.attrib == {
        "name": "s",
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["skipped"], []]


def test_annotations_name_what_did_not_pass():
    """One command a line; nothing in it can end it or start another."""
    hostile = Verdict(line=SPEED, word="REGRESSED", sentence="100 %\n::error::x,y")
    lines = list(workflow_commands([*VERDICTS, hostile]))
    assert len(lines) == 3
    assert lines[1].startswith("::error title=REGRESSED%3A throughput_samples::")
    assert "100 %25 ::error::x,y" in lines[1]
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("text", ["<&>\"'", "]]>", "\x00\x1b[31m", "模型"])
def test_junit_is_xml_whatever_is_said(text: str):
    """Reasons come from failures and may hold anything."""
    verdict = Verdict(line=SPEED, word="MISSING", sentence=text)
    assert ElementTree.fromstring(junit([verdict], text))[0][0][0].tag == "failure"
