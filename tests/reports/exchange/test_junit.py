"""JUnit XML of a suite: every stage is a test case, whatever became of it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.exchange.junit import junit
from reports.exchange.shown import Shown
from reports.results import Labels, PlannedStage, StageRun
from tests.reports.exchange.left import fill_failures, fill_left, shown
from tests.reports.synthetic_store import SyntheticStore


@pytest.fixture
def root(tmp_path: Path) -> ElementTree.Element:
    """A suite with results, a failure, what was skipped for it, and what never ran."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    fill_failures(store)
    return ElementTree.fromstring(junit(shown(tmp_path, store)))


def test_every_stage_is_a_case(root: ElementTree.Element):
    """Named by its kind and labels; no two alike; counted."""
    names = [case.get("name") for case in root.iter("testcase")]
    assert names[:2] == ["finetune[m full t seed 0]", "evaluate[m full t seed 0 full_finetuned]"]
    assert len(names) == len(set(names)) == 8
    for level in (root, root.find("testsuite")):
        assert level is not None
        assert (level.get("tests"), level.get("failures"), level.get("skipped")) == ("8", "1", "2")


def test_failures_have_their_reason(root: ElementTree.Element):
    """One line, printable, under the outcome's name."""
    (failure,) = root.iter("failure")
    assert failure.get("type") == "oom_host"
    assert failure.get("message") == "oom_host: killed: 9.1 \ufffd[31mGiB <of> 8 & more"


def test_what_did_not_run_is_skipped(root: ElementTree.Element):
    """For want of its input, or of anybody to start it; that is no failure of its own."""
    assert [each.get("message") for each in root.iter("skipped")] == [
        "skipped: its input tune was oom_host",
        "not run",
    ]


def test_seconds_are_those_of_all_runs(root: ElementTree.Element):
    """1.25 a record: three of the fine-tuning, one of each evaluation and of what failed."""
    seconds = [float(case.get("time", "nan")) for case in root.iter("testcase")]
    assert seconds == [3.75, 1.25, 1.25, 1.25, 1.25, 1.25, 1.25, 0.0]
    assert float(root.get("time", "nan")) == sum(seconds)


def test_seconds_of_two_machines_are_not_added(tmp_path: Path):
    """This one's, or the first one's."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    fill_left(SyntheticStore(tmp_path, machine="elsewhere"))
    for machine in (None, "elsewhere"):
        found = ElementTree.fromstring(junit(shown(tmp_path, store, machine)))
        assert next(found.iter("testcase")).get("time") == "3.750"


def test_a_stage_that_lacks_runs_is_no_pass(tmp_path: Path):
    """Two of three are fewer than the suite asks for, whatever another machine has."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    next((tmp_path / "records").glob("*/*.2.json")).unlink()
    fill_left(SyntheticStore(tmp_path, machine="zzz-elsewhere"))
    found = ElementTree.fromstring(junit(shown(tmp_path, store)))
    assert [each.get("message") for each in found.iter("skipped")] == ["2 of 3 runs"]


def test_a_run_that_failed_among_others_fails(tmp_path: Path):
    """How many there are, and why not all."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    (path,) = (tmp_path / "records").glob("*/*.2.json")
    digest = path.name.partition(".")[0]
    failed = {"outcome": "oom_host", "reason": "too large", "repeat": 2}
    store.save_attempt(store.record(digest, "finetune", **failed))
    path.unlink()
    found = ElementTree.fromstring(junit(shown(tmp_path, store)))
    said = [each.get("message") for each in found.iter("failure")]
    assert said == ["2 of 3 runs; oom_host: too large"]


def test_nothing_at_all_is_nothing_to_show():
    """A plan that nobody ran."""
    run = StageRun(
        suite="s", planned=PlannedStage(digest="d", kind="tune", labels=Labels()), records=()
    )
    assert junit(Shown(suite="s", runs=[run], machine=None)) == ""
