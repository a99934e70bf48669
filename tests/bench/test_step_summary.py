"""The report on a workflow run's page: appended, short enough, and never a reason to fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli import call
from bench.step_summary import LIMIT, add_to_step_summary, shortened
from bench.store import Store
from reports.report import Report, build_report
from reports.results import read_plan
from tests.bench.made_up import write_made_up
from tests.reports.revisions import Revision, write_revision
from tests.reports.synthetic_store import SyntheticStore, fill


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """A report with pictures."""
    plan = read_plan(fill(SyntheticStore(tmp_path / "r")))
    return build_report(tmp_path / "r", plan)


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file GitHub gives."""
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_it_is_appended_without_pictures(report, summary):
    """What other commands of the step wrote stays; files beside the page would not show."""
    assert report.pictures
    summary.write_text("before\n")
    assert add_to_step_summary(report) == ""
    assert add_to_step_summary(report) == ""
    text = summary.read_text()
    assert text.startswith("before\n# Offsite-Tuning: synthetic\n")
    assert text.count("# Offsite-Tuning: synthetic\n") == 2
    assert "40.90" in text
    assert ".svg" not in text
    assert "![" not in text


def test_report_writes_it(tmp_path, summary, monkeypatch, capsys):
    """As does `run`, by the same way; what is incomplete stays exit status 3."""
    monkeypatch.chdir(tmp_path)
    assert call(["report", str(write_made_up(tmp_path)), "--json"]) == 3
    assert "# Offsite-Tuning: small" in summary.read_text()


def test_nobody_asks_for_it(report, monkeypatch, tmp_path):
    """Outside GitHub nothing is written."""
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        else:
            monkeypatch.setenv("GITHUB_STEP_SUMMARY", value)
        before = sorted(tmp_path.rglob("*"))
        assert add_to_step_summary(report) == ""
        assert sorted(tmp_path.rglob("*")) == before


def test_it_is_cut_by_whole_sections(report, summary):
    """A report that is too long loses its last sections and says how many."""
    table = report.tables[0]
    note = "ä" * 1000
    many = tuple(
        replace(table, name=f"t{number}", title=f"Table {number}", notes=(note + str(number),))
        for number in range(1000)
    )
    assert add_to_step_summary(replace(report, tables=many, further=())) == ""
    text = summary.read_text()
    assert LIMIT - 4000 < len(text.encode()) <= LIMIT
    shown = text.count("\n## Table ")
    # All tables and "Where it ran".
    assert f"{1001 - shown} more sections are left out" in text.splitlines()[-1]
    assert note + str(shown - 1) in text
    assert f"Table {shown}" not in text


def test_what_was_written_before_counts(report, summary):
    """The limit is that of the whole step; where there is no room, nothing is added."""
    summary.write_text("x" * (LIMIT - 1000))
    assert add_to_step_summary(report) == ""
    assert summary.stat().st_size <= LIMIT
    assert "more sections are left out" in summary.read_text()
    summary.write_text("x" * LIMIT)
    assert add_to_step_summary(report) == ""
    assert summary.stat().st_size == LIMIT


def test_a_hash_in_a_line_is_no_section():
    """Only second-level headings are."""
    text = "# Page\n" + "a ## b\n" * 100
    assert shortened(text, 500).strip().startswith("*1 more sections")


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, capsys):
    """The verb's work is done; its exit status stays."""
    monkeypatch.chdir(tmp_path)
    for name, revision in {"a": Revision(), "b": Revision(name="second")}.items():
        Store.create(tmp_path / name)
        write_revision(tmp_path / name, revision)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no/such/folder/summary.md"))
    assert call(["compare", "a", "b"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "warning: no step summary: cannot write" in shown
