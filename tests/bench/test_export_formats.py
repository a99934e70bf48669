"""`export` in the formats of other tools: on stdout, of a suite, or one line why not."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.cli import call
from bench.cli.results import Export
from bench.store import Store
from reports.exchange import FORMATS
from tests.bench.made_up import write_made_up


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A suite with perplexities, peaks and a failure, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return str(write_made_up(tmp_path))


def test_every_format_can_be_asked_for():
    """None is written that the command line does not know."""
    assert set(FORMATS) <= {each.value for each in Export}


def test_bencher(suite: str, capsys: pytest.CaptureFixture[str]):
    """Nothing but JSON is on stdout."""
    assert call(["export", suite, "--format", "bencher"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lm text full_zero_shot evaluate"] == {"perplexity": {"value": 44.0}}


def test_github_benchmark(suite: str, capsys: pytest.CaptureFixture[str]):
    """--json changes nothing: it is JSON already."""
    assert call(["export", suite, "--format", "github-benchmark"]) == 0
    plain = capsys.readouterr().out
    assert call(["export", suite, "--format", "github-benchmark", "--json"]) == 0
    assert capsys.readouterr().out == plain
    assert {"name", "unit", "value", "extra"} <= set(json.loads(plain)[0])


def test_junit(suite: str, capsys: pytest.CaptureFixture[str]):
    """A failure in it is what it shows, and no failure to show it."""
    assert call(["export", suite, "--format", "junit"]) == 0
    root = ElementTree.fromstring(capsys.readouterr().out)
    assert root.get("failures") == "1"
    (failure,) = root.iter("failure")
    assert failure.get("message") == "oom_host: 9.1 GiB of 8 GiB"


def test_a_part_of_the_suite(suite: str, capsys: pytest.CaptureFixture[str]):
    """-k counts."""
    assert call(["export", suite, "--format", "junit", "-k", "keep=4 and lora and s1"]) == 0
    root = ElementTree.fromstring(capsys.readouterr().out)
    assert 0 < int(root.get("tests", "0")) < 15


def test_what_was_not_measured_is_not_an_empty_file(suite: str, capsys: pytest.CaptureFixture[str]):
    """Exit 3: these made-up trainings have no times."""
    assert call(["export", suite, "--format", "pytest-benchmark"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "nothing of 'small'" in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("name", FORMATS)
def test_no_result_is_exit_3(suite: str, capsys: pytest.CaptureFixture[str], name: str):
    """A suite that was only planned."""
    Store.create(Path("empty"))
    assert call(["export", suite, "--format", name, "--results", "empty"]) == 3
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_store_is_refused(suite: str, capsys: pytest.CaptureFixture[str], name: str):
    """One line that says what is missing."""
    assert call(["export", "--format", name]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"offsite-bench: --format {name} shows one suite, not a whole store; give a SUITE\n"
    )


@pytest.mark.parametrize("name", ["junit", "parquet"])
def test_two_formats_are_refused(suite: str, capsys: pytest.CaptureFixture[str], name: str):
    """What is no JSON is not printed where JSON is asked for."""
    assert call(["export", suite, "--format", name, "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"offsite-bench: --json beside --format {name}, which is no JSON; give one\n"
    )
