"""`offsite-bench compare` as a user types it: forms of a side, output, exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import call
from bench.store import Store
from tests.bench.command import environment
from tests.reports.revisions import FIRST, SECOND, Revision, write_revision

WRONG = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `results` (two commits, a profile) and another store beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    for name in ("results", "other"):
        Store.create(tmp_path / name)
    write_revision(tmp_path / "results", Revision())
    second = Revision(
        name="second", commit=SECOND, wrong=WRONG, started="2026-02-01T00:00:00Z", suite="later"
    )
    write_revision(tmp_path / "results", second)
    smoke = Revision(name="smoke", profile="smoke", seeds=(0,), started="2025-01-01T00:00:00Z")
    write_revision(tmp_path / "results", smoke)
    write_revision(tmp_path / "other", Revision(name="other", speed=0.5))
    return tmp_path


@pytest.mark.parametrize(
    ("sides", "differences", "only"),
    [
        (["pair", "later"], 7, 0),
        (["pair", "pair.smoke"], 7, 5),
        (["pair", "other"], 7, 0),
        (["./results", "other"], 7, 0),
        (["results:pair", "other:pair"], 7, 0),
        ([f"@{FIRST[:7]}", f"@{SECOND[:4]}"], 7, 0),
        ([f"results@{FIRST}", f"later@{SECOND}"], 7, 0),
        (["pair", "later", "other"], 14, 0),
    ],
)
def test_every_form_of_a_side(folder, capsys, sides, differences, only):
    """Stores, suites, profiles and commits, with exact counts; JSON is all there is on stdout."""
    assert call(["compare", *sides, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [side["given"] for side in shown["sides"]] == sides
    assert len(shown["differences"]) == differences
    assert len(shown["only"]) == only
    assert (folder / shown["report"] / "report.html").exists()


def test_the_known_difference_is_printed(folder, capsys):
    """A table on the terminal, and the folder of the report on the last line."""
    assert call(["compare", "pair", "later"]) == 0
    shown = capsys.readouterr()
    assert "Differences in quality, owner-lm on choices: acc (higher is better)" in shown.out
    assert "-5.0" in shown.out
    assert "Leaderboard of choices" in shown.out
    assert shown.out.endswith("report: results/reports/compare/pair-vs-later\n")
    assert shown.err == ""


def test_only_the_formats_asked_for_are_written(folder, capsys):
    """As `report` does."""
    assert call(["compare", "pair", "other", "--format", "markdown,csv"]) == 0
    written = folder / "results/reports/compare/pair-vs-other"
    assert {path.suffix for path in written.rglob("*") if path.is_file()} == {".md", ".csv"}
    text = (written / "report.md").read_text()
    assert "| full fine-tuning | – | – | full | throughput, tokens/s ↑ |" in text  # noqa: RUF001
    assert "0.500" in text


def test_older_results_are_left_out_with_a_warning(folder, capsys):
    """A whole store with several results of one label shows the newest and says so."""
    assert call(["compare", "./results", "other", "--json"]) == 0
    shown = capsys.readouterr()
    assert "warning: A: 38 older results bear the labels of newer ones" in shown.err
    assert json.loads(shown.out)["sides"][0]["commits"] == [SECOND]


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["pair"], 2, "given 1 to compare, takes 2"),
        (["pair", "pair"], 2, "'pair' is 'pair' again"),
        (["pair", "results:pair"], 2, "is 'pair' again"),
        (["pair", "pear"], 2, "Suites there: later, pair, pair.smoke; write STORE"),
        (["pair", "3f2a9c1"], 2, "For a commit write @3f2a9c1."),
        (["pair", "@cccc"], 2, "@cccc begins no commit that made results; there: aaaaaaaaaaaa, "),
        (["pair", "results:pear"], 2, "no suite 'pear' in results; there: later, pair"),
        (["pair", "missing:pair"], 3, "no results in missing"),
        (["pair", "later", "--results", "missing"], 3, "'pair' is no store"),
        (["@aaaa", "@bbbb", "--results", "missing"], 3, "no results in missing"),
        (["pair", "other", "--format", "pdf"], 2, "html"),
    ],
)
def test_errors_are_one_line_that_says_what_would_work(folder, capsys, arguments, status, hint):
    """2 for what cannot be meant, 3 where there is nothing to show; nothing is written."""
    assert call(["compare", *arguments]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert hint in shown.err
    assert not (folder / "results/reports/compare").exists()


def test_a_name_of_a_store_and_a_suite_is_refused(folder, capsys):
    """Nobody can know which is meant; the line says how to write either."""
    Store.create(folder / "pair")
    assert call(["compare", "pair", "later"]) == 2
    assert "write ./pair or results:pair" in capsys.readouterr().err
    write_revision(folder / "pair", Revision())
    assert call(["compare", "./pair", "results:pair", "--json"]) == 0


def test_a_side_without_results_is_exit_3(folder, capsys):
    """A suite that was only planned has nothing to compare."""
    Store.create(folder / "empty")
    write_revision(folder / "empty", Revision())
    for record in (folder / "empty/records").rglob("*.json"):
        record.unlink()
    assert call(["compare", "pair", "empty"]) == 3
    assert "no results of 'empty'" in capsys.readouterr().err


def test_the_step_summary_has_the_comparison(folder, capsys, monkeypatch):
    """Where GitHub asks for it."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert call(["compare", "pair", "later", "--format", "csv", "--json"]) == 0
    text = (folder / "summary.md").read_text()
    assert "## Differences in quality, owner-lm on choices" in text
    assert text.count("# Offsite-Tuning: A: pair, B: later") == 1


def test_help_has_the_forms(capsys):
    """A user need not guess how to name a side."""
    assert call(["compare", "--help"]) == 0
    shown = capsys.readouterr().out
    for form in (
        "STORE ",
        "SUITE[.PROFILE] ",
        "STORE:SUITE[.PROFILE] ",
        "@COMMIT ",
        "SUITE@COMMIT",
    ):
        assert f"\n  {form}" in shown


def test_it_needs_no_torch(folder):
    """Results copied to a laptop are compared there."""
    code = (
        "import sys\nfrom bench.cli import call\n"
        "assert call(['compare', 'pair', 'other', '--json']) == 0\n"
        "print(*[m for m in ('torch', 'transformers', 'datasets') if m in sys.modules], "
        "file=sys.stderr, end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stderr == ""
