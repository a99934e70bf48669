"""What docs/gate.md and the project's own CI tell people to type is what the program takes."""

from __future__ import annotations

import configparser
import functools
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from bench.cli import app, call
from bench.suite import load_suite
from reports.gate.rules import ACCURACY, MEMORY, PERPLEXITY, SPEED
from tests.bench.command import ROOT

PAGE = (ROOT / "docs" / "gate.md").read_text()
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"
PROGRAM = "offsite-bench"


def blocks(language: str) -> list[str]:
    """The page's code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


WORKFLOWS = [yaml.safe_load(block) for block in blocks("yaml")]


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All steps of all jobs."""
    return (step for job in workflow["jobs"].values() for step in job["steps"])


def commands() -> Iterator[str]:
    """Every command line of the program: shell blocks, steps of workflows, tox, inline code."""
    scripts = blocks("bash")
    scripts += [step.get("run", "") for workflow in WORKFLOWS for step in steps(workflow)]
    scripts += [" ".join(found.split()) for found in re.findall(rf"`({PROGRAM} [^`]+)`", PAGE)]
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    scripts += [tox["testenv:gate"]["commands"].replace("\\\n", " ")]
    lines = (line.strip() for script in scripts for line in script.splitlines())
    return (line for line in lines if line.startswith(PROGRAM))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """The program with verbs that do nothing: what it makes of a command line."""
    found: dict[str, Any] = {}

    def idle(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def kept(**values: Any) -> None:
            found.update(values)

        return kept

    for program in (app, *(group.typer_instance for group in app.registered_groups)):
        for info in program.registered_commands:
            name = info.name or info.callback.__name__
            monkeypatch.setattr(info, "name", name)
            monkeypatch.setattr(info, "callback", idle(info.callback))

    def values_of(line: str) -> dict[str, Any]:
        status = call(shlex.split(line)[1:])
        if status:
            raise ValueError(f"exit status {status}: {line}")
        return found

    return values_of


def test_there_is_something_to_check():
    """Both workflows are there, and every verb of the gate is shown."""
    assert {workflow["name"] for workflow in WORKFLOWS} == {"gate", "gpu-gate"}
    verbs = {line.split()[1] for line in commands()}
    assert verbs >= {"baseline", "check", "calibrate", "ab"}


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_is_one_the_program_takes(read: Callable[..., Any], line: str):
    """Verbs and options exist, and so do suite, profile and what is set."""
    asked = read(line)
    if asked.get("suite"):
        suite = load_suite(asked["suite"], profile=asked["profile"], sets=asked["sets"] or ())
        assert suite.cases()


@pytest.mark.parametrize("options", ["--turns 3 --baseline b.json", "--runs two", "--runs 2"])
def test_a_command_it_does_not_take_would_be_noticed(read: Callable[..., Any], options: str):
    """An option it does not have, one of the wrong kind, one that is missing."""
    with pytest.raises(ValueError, match="exit status 2"):
        read(f"{PROGRAM} check quickstart {options}")


@pytest.mark.parametrize("workflow", [*WORKFLOWS, yaml.safe_load(WORKFLOW.read_text())])
def test_workflows_have_what_a_workflow_needs(workflow: dict[str, Any]):
    """A trigger, no right to write, and for each job a machine and a limit."""
    # YAML 1.1 reads `on` as true.
    assert workflow[True]
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"]
    assert all(("uses" in step) != ("run" in step) for step in steps(workflow))


def test_what_is_uploaded_was_written():
    """Files that upload steps name are files that commands write."""
    jobs = [job for workflow in WORKFLOWS for job in workflow["jobs"].values()]
    for job in jobs:
        script = "\n".join(step.get("run", "") for step in job["steps"])
        uploads = [s for s in job["steps"] if s.get("uses", "").startswith("actions/upload-")]
        paths = [path for step in uploads for path in step["with"]["path"].split()]
        assert paths
        assert all(path in script for path in paths)


def test_margins_and_limits_are_those_of_the_program():
    """The table of the page, row by row."""
    rules = {
        "accuracy": ACCURACY,
        "perplexity": PERPLEXITY,
        "throughput": SPEED,
        "peak memory": MEMORY,
    }
    for name, rule in rules.items():
        unit = "%" if rule.is_ratio else "points"
        row = [f"{100 * size:g} {unit}" for size in (rule.margin, rule.limit)]
        compared = "no" if rule.is_machine_bound else "yes"
        assert f"| {name} | {' | '.join(row)} | {compared} |" in PAGE
