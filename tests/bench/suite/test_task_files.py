"""Task files: where their data come from, and what a suite lays over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.datasets_hub import HubData
from bench.errors import SuiteError
from bench.suite.task_files import Task, read_task_file, resolve, task_files
from bench.suite.yaml_reader import read_file

HUB = "hub: org/name, train: train, test: validation"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of rows."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    return tmp_path


def task(folder: Path, text: str) -> Task:
    """The task an entry of a suite's `tasks` describes."""
    path = folder / "task.yaml"
    path.write_text(text)
    return resolve("own", read_file(path, str(path)), folder)[0]


def test_hub_data_name_repository_config_revision_and_splits(folder):
    """Everything but the splits may be left out; slices are the hub library's own."""
    own = task(folder, f"task: perplexity\ndata: {{{HUB}}}\n")
    assert own.hub == HubData(
        repository="org/name", splits={"train": "train", "test": "validation"}
    )
    assert (own.files, own.builtin) == ({}, None)
    more = 'config: small, revision: v1, validation: "train[90%:]"'
    own = task(folder, f"task: image_classification\nimage: img\ndata: {{{HUB}, {more}}}\n")
    assert (own.hub.config, own.hub.revision) == ("small", "v1")
    assert own.hub.splits["validation"] == "train[90%:]"
    assert own.parameters.image == "img"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("hub: org/name, train: train", r"2:7: .*data: missing; add 'test: SPLIT OF THE HUB'$"),
        ("hub: 'a b', train: x, test: y", r"2:13: .*data\.hub: 'a b' is no data set of the hub"),
        ("hub: org/name/x, train: x, test: y", r"is no data set of the hub; give ORG/NAME"),
        (f"{HUB}, confg: x", r"unknown split 'confg'. Did you mean 'config'\?"),
        ("config: x, train: rows.jsonl, test: rows.jsonl", r"2:8: .*'config' belongs beside 'hub:"),
        (f"{HUB}, config: ''", r"data\.config: it is empty; leave it out"),
        (
            f"builtin: pydoc_topics, {HUB}",
            r"2:31: .*'hub' beside 'builtin'; give one or the other$",
        ),
        ("builtin: pydoc_topics, config: x", r"2:31: .*'config' belongs beside 'hub:"),
        ("train: rows.jsonl", "missing; add 'test: FILE', or 'hub: ORG/NAME', or 'builtin: NAME'"),
    ],
)
def test_bad_data_are_refused_at_their_place(folder, data, message):
    """Before anything is loaded or asked for."""
    with pytest.raises(SuiteError, match=message):
        task(folder, f"task: perplexity\ndata: {{{data}}}\n")


def test_files_replace_hub_data_whole(folder):
    """A task file's hub splits are no files, and a suite's files are no hub splits."""
    own = task(folder, "task: piqa\ndata: {train: rows.jsonl, validation: rows.jsonl}\n")
    assert own.hub is None
    assert own.files == dict.fromkeys(("train", "validation"), folder / "rows.jsonl")
    assert (own.parameters.id, own.parameters.length) == ("piqa", 1024)


def test_hub_data_replace_files_and_built_in_data(folder):
    """The other way round."""
    for name in ("topic_continuation", "pydoc_topics"):
        own = task(folder, f"task: {name}\ndata: {{{HUB}}}\n")
        assert own.hub is not None
        assert (own.files, own.builtin) == ({}, None)


def test_another_copy_of_a_data_set_is_one_line(folder):
    """Config and splits stay."""
    hub = task(folder, "task: arc_easy\ndata: {hub: my/mirror}\n").hub
    assert (hub.repository, hub.config, len(hub.splits)) == ("my/mirror", "ARC-Easy", 3)


@pytest.mark.parametrize(
    ("data", "splits", "can_select"),
    [
        ("test: rows.jsonl", ("test",), False),
        ("validation: rows.jsonl", ("validation",), False),
        ("train: rows.jsonl, validation: rows.jsonl", ("train", "validation"), False),
        ("validation: rows.jsonl, test: rows.jsonl", ("validation", "test"), True),
        ("hub: o/n, train: t, validation: v", ("train", "validation"), False),
        ("hub: o/n, train: t, validation: v, test: w", ("train", "validation", "test"), True),
    ],
)
def test_a_registered_task_scores_test_or_else_validation(folder, data, splits, can_select):
    """Only with both is one left to choose a checkpoint on."""
    own = task(folder, f"task: lm_eval\nid: some\ndata: {{{data}}}\n")
    assert own.splits == splits
    assert own.can_select == can_select
    assert own.scored == ("test" if "test" in splits else "validation")


def test_a_registered_task_needs_something_to_score_and_a_name(folder):
    """Its own name is not in its `task` key, which names the kind."""
    with pytest.raises(SuiteError, match="missing; add 'test: FILE'"):
        task(folder, "task: lm_eval\nid: some\ndata: {train: rows.jsonl}\n")
    with pytest.raises(SuiteError, match=r"tasks\.own\.id: missing"):
        task(folder, "task: lm_eval\ndata: {test: rows.jsonl}\n")


@pytest.mark.parametrize("name", task_files())
def test_every_task_file_resolves_and_says_what_it_is(name):
    """Its data are there or on the hub, and its first comment is its summary."""
    own, _ = resolve(name, read_task_file(name), Path("/"))
    assert own.builtin or own.files or own.hub
    first = task_files()[name].read_text().splitlines()[0]
    assert first.startswith("# ")
    assert {"train", "test"} <= set(own.splits) or own.kind == "lm_eval"
