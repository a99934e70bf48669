"""Image folders as a task's data: found, and refused at their place in the suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from bench.errors import SuiteError
from bench.suite.task_files import Task, resolve
from bench.suite.yaml_reader import read_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of one image, and a file beside them."""
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("L", (2, 2)).save(tmp_path / split / "cat" / "1.png")
    (tmp_path / "one.npz").write_bytes(b"")
    return tmp_path


def task(folder: Path, data: str, kind: str = "image_classification") -> Task:
    """The task with these data."""
    path = folder / "task.yaml"
    path.write_text(f"task: {kind}\ndata: {{{data}}}\n")
    return resolve("own", read_file(path, str(path)), folder)[0]


def test_a_split_may_be_a_folder(folder):
    """Relative to the suite; a slash at its end is not part of its name."""
    own = task(folder, "train: train/, test: test")
    assert own.files == {split: folder / split for split in ("train", "test")}


def test_a_task_of_text_takes_no_folder(folder):
    """There is no file of that name."""
    with pytest.raises(SuiteError, match="no such file: 'train'"):
        task(folder, "train: train, test: test", "perplexity")


def test_what_is_no_image_is_refused_with_its_path(folder):
    """Before anything is loaded."""
    (folder / "test" / "cat" / "2.png").write_text("no pixels")
    path = re.escape(str(folder / "test" / "cat" / "2.png"))
    with pytest.raises(SuiteError, match=rf"2:28: tasks\.own\.data\.test: {path} is no image$"):
        task(folder, "train: train, test: test")


def test_folders_and_files_are_not_mixed(folder):
    """Labels by name and labels by number would be taken for each other."""
    with pytest.raises(SuiteError, match=r"tasks\.own\.data: image folders beside files"):
        task(folder, "train: train, test: one.npz")
