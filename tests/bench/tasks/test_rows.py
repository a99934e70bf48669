"""Rows of files: JSONL and Parquet give the same, and say which file and row is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest

from bench.errors import SuiteError
from bench.tasks import rows
from bench.tasks.task import prepare
from offsite.models import load_model
from tests.bench.command import ROOT

ROWS = [
    {"question": "Rain is", "choices": ["wet", "dry"], "label": 0, "more": {"source": ["us"]}},
    {"question": "Sand is", "choices": ["wet", "dry", "blue"], "label": 1, "more": {"source": []}},
]


def parquet(folder: Path, found: list[dict[str, object]]) -> str:
    """A file of the rows, as pandas writes it."""
    path = folder / "rows.parquet"
    pandas.DataFrame(found).to_parquet(path)
    return str(path)


def test_parquet_gives_the_rows_that_json_gives(tmp_path):
    """Lists are lists and mappings are mappings, with Python's own values."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = {"train": str(tmp_path / "rows.jsonl"), "test": parquet(tmp_path, ROWS)}
    assert rows.read(data, "test") == rows.read(data, "train") == ROWS
    assert type(rows.read(data, "test")[0]["label"]) is int


def test_a_bad_row_of_parquet_is_named(tmp_path):
    """File and row, counted from 1 as in JSONL."""
    found = [ROWS[0], {**ROWS[1], "label": 3}]
    data = dict.fromkeys(("train", "test"), parquet(tmp_path, found))
    foundation = load_model(ROOT / "suites" / "models" / "tiny-lm")
    task = prepare({"kind": "multiple_choice"}, data, foundation)
    with pytest.raises(SuiteError, match=r"rows\.parquet:2: label 3 is none of 3 choices"):
        task.training_examples()


def test_what_is_no_parquet_is_refused(tmp_path):
    """One line with the file."""
    (tmp_path / "rows.parquet").write_text('{"question": "q"}\n')
    with pytest.raises(SuiteError, match=r"^\S*rows\.parquet: not Parquet \([^\n]*\)$"):
        rows.read({"test": str(tmp_path / "rows.parquet")}, "test")


def test_parquet_without_rows_is_refused(tmp_path):
    """As an empty JSONL file is."""
    with pytest.raises(SuiteError, match=r"rows\.parquet has no rows"):
        rows.read({"test": parquet(tmp_path, [])}, "test")
