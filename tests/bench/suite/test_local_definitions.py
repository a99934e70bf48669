"""A definition in a suite's own file: its content is what counts, and it runs no code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.suite.local_definitions import read_definition
from bench.suite.task_files import resolve
from bench.suite.yaml_reader import read_text

COLOURS = """\
task: colours
output_type: multiple_choice
validation_split: validation
doc_to_text: "{{question}}"
doc_to_choice: [red, blue]
doc_to_target: label
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a definition, and rows."""
    (tmp_path / "colours.yaml").write_text(COLOURS)
    (tmp_path / "rows.jsonl").write_text('{"question": "Blood is", "label": 0}\n')
    return tmp_path


def test_a_definition_is_what_its_file_says_wherever_it_lies(folder):
    """Neither its place nor its comments enter the task."""
    entry = "{task: lm_eval, id: FILE, data: {validation: rows.jsonl}}"
    (folder / "sub").mkdir()
    (folder / "sub" / "other.yml").write_text("# A comment.\n" + COLOURS)
    found = [
        resolve("own", read_text(entry.replace("FILE", file), f"{folder}/suite.yaml"), folder)[0]
        for file in ("colours.yaml", "sub/other.yml")
    ]
    assert found[0].parameters.id == found[1].parameters.id
    assert json.loads(found[0].parameters.id)["doc_to_choice"] == ["red", "blue"]


def test_what_is_included_comes_along(folder):
    """And the file's own keys win."""
    (folder / "sub").mkdir()
    (folder / "sub" / "more.yaml").write_text("include: ../colours.yaml\ntask: more\n")
    content = json.loads(read_definition(folder / "sub" / "more.yaml"))
    assert content["task"] == "more"
    assert content["doc_to_target"] == "label"
    assert "include" not in content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("doc_to_text: !function code.run\n", r"own\.yaml:1:14: the tag !function; tags are not"),
        ("output_type: multiple_choice\n", r"own\.yaml: task: missing; give the task's name"),
        ("include: own.yaml\ntask: own\n", r"own\.yaml:1:10: include: a circle"),
        ("include: none.yaml\ntask: own\n", r"none\.yaml: no such file"),
        ("include: [a, b]\ntask: own\n", r"own\.yaml:1:10: include: it must be the path of one"),
        ("- task\n", r"own\.yaml:1:1: it must be a mapping"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(tmp_path, text, message):
    """One line, when the suite is read."""
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(SuiteError, match=message) as caught:
        read_definition(tmp_path / "own.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused_where_it_is_named(folder):
    """As data files are."""
    entry = "task: lm_eval\nid: colour.yaml\ndata: {validation: rows.jsonl}\n"
    with pytest.raises(SuiteError, match=r"suite\.yaml:2:5: tasks\.own\.id: no such file: 'colour"):
        resolve("own", read_text(entry, f"{folder}/suite.yaml"), folder)
