"""Verbs, exit statuses and one-line errors, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import call
from tests.bench.command import ROOT, environment, offsite_bench
from tests.bench.worlds import SUITE

HEAVY = ("torch", "transformers", "timm", "peft", "lm_eval", "datasets")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite file over the shipped language model."""
    path = tmp_path / "small.yaml"
    path.write_text(SUITE.replace("org/lm", str(ROOT / "suites/models/tiny-lm")))
    return path


def test_help_names_every_verb(capsys):
    """What the contract lists is what the program offers."""
    assert call(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb in ("run", "plan", "status", "report", "fit", "export", "list", "schema", "doctor"):
        assert f"  {verb} " in shown


BAD = {
    "a misspelt key": ("learning_rate:", "learning_rat:", ":13:9: ", "learning_rate"),
    "an unknown method": ("method: lora", "method: lorra", ":10:37: ", "lora"),
    "a wrong type": ("max_steps: 60", "max_steps: many", ":13:43: ", "whole number"),
    "a duplicate key": ("name: small", "name: small\nname: again", ":3:1: ", "name"),
    "a layout that does not fit": ("2+2", "6+6", ":8:19: ", "at most 11"),
    "a missing model": ("tiny-lm}", "tiny-ml}", ":3:23: ", "no such folder"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_suites_are_one_line_with_the_place(suite, capsys, what, tmp_path):
    """File, line, column, what was given and what would work; exit 2; nothing is started."""
    old, new, place, hint = BAD[what]
    suite.write_text(suite.read_text().replace(old, new, 1))
    assert call(["run", str(suite), "--results", str(tmp_path / "r")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"offsite-bench: {suite}{place}")
    assert hint in shown.err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["run", "quickstar"], "Did you mean 'quickstart'"),
        (["plan", "quickstart", "--profile", "smok"], "'smoke'"),
        (["plan", "quickstart", "--set", "train.max_stepz=3"], "max_steps"),
        (["plan", "quickstart", "-k", "lora and"], "not an expression"),
        (["plan", "missing.yaml"], "missing.yaml"),
        (["report", "quickstart", "--format", "pdf"], "html"),
    ],
)
def test_bad_arguments_are_one_line(arguments, hint, capsys, tmp_path, monkeypatch):
    """What was given and what would work; exit 2."""
    monkeypatch.chdir(tmp_path)
    assert call(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert hint in shown.err


@pytest.mark.parametrize("verb", ["status quickstart", "report quickstart", "export"])
def test_nothing_to_show_is_exit_3(verb, capsys, tmp_path, monkeypatch):
    """Without a store there is nothing yet, and the line says what makes results."""
    monkeypatch.chdir(tmp_path)
    assert call(verb.split()) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == ("offsite-bench: no results in results; `offsite-bench run` makes them\n")


def test_usage_errors_exit_2(capsys):
    """An unknown option and a missing argument are the user's to mend."""
    assert call(["run"]) == 2
    assert call(["plan", "quickstart", "--frobnicate"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_plan_lists_cases_and_stages_and_starts_nothing(suite, capsys, tmp_path):
    """`plan` and `run --dry-run` say the same and leave no folder behind."""
    results = str(tmp_path / "r")
    assert call(["plan", str(suite), "--results", results]) == 0
    planned = capsys.readouterr().out
    assert "12 cases" in planned
    assert "to do: 2 disclose, 2 emulator, 30 evaluate, 3 finetune, 12 tune; reused: 0" in planned
    assert call(["run", str(suite), "--dry-run", "--results", results]) == 0
    assert capsys.readouterr().out == planned
    assert not (tmp_path / "r").exists()


def test_json_is_all_there_is_on_stdout(suite, capsys):
    """Every verb's `--json` parses."""
    assert call(["plan", str(suite), "--json", "-k", "lora and s0"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [case["seed"] for case in planned["cases"]] == [0, 0]
    for arguments in (
        ["list", "compressions", "--json"],
        ["schema", "--json"],
        ["doctor", "--json"],
    ):
        assert call(arguments) == 0
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("what", ["models", "compressions", "tunings", "tasks", "suites"])
def test_list_gives_one_line_each(what, capsys):
    """A name and what it is."""
    assert call(["list", what]) == 0
    for line in capsys.readouterr().out.splitlines():
        name, _, summary = line.partition("  ")
        assert name
        assert summary.strip()


def test_doctor_says_what_cannot_be_measured(capsys):
    """Each source has a grade or the reason it has none."""
    assert call(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "host memory" in shown
    assert "GPU memory (NVML)" in shown


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plan", "quickstart"], ["list", "models"], ["schema"], ["doctor"]],
    ids=lambda a: a[0],
)
def test_light_verbs_import_nothing_heavy(arguments, tmp_path):
    """They answer at once because they load no framework."""
    code = (
        "import sys\nfrom bench.cli import call\n"
        f"assert call({arguments}) == 0\n"
        f"print(*[m for m in {HEAVY} if m in sys.modules], file=sys.stderr, end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.stderr == ""


def test_a_closed_pipe_is_no_traceback(tmp_path):
    """`offsite-bench plan ... | head -1` ends quietly."""
    command = (
        f"'{sys.executable}' -c 'from bench.cli import main; main()' plan quickstart | head -1"
    )
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.stderr == ""


def test_built_in_suites_are_found_from_any_folder(tmp_path):
    """The working folder plays no part."""
    assert offsite_bench("plan", "quickstart", "-k", "vit", cwd=tmp_path).returncode == 0
