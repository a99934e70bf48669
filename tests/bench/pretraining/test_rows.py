"""The shipped rows: one right choice each, and nothing but the question tells which."""

from __future__ import annotations

import json
from pathlib import Path

from bench.pretraining.__main__ import main
from bench.pretraining.rows import topic_rows
from bench.tasks.builtin import pydoc_topics

SUITES = Path(__file__).parents[3] / "suites"


def test_the_right_choice_follows_its_question_in_the_text():
    """Each row's labelled choice, and no other, is what the text goes on with."""
    texts = pydoc_topics()["validation"]
    for row in topic_rows(texts, 40):
        follows = [any(f"{row['question']} {c}" in text for text in texts) for c in row["choices"]]
        assert follows.index(True) == row["label"]
        assert sum(follows) == 1


def test_every_passage_is_right_once_and_wrong_three_times():
    """The choices alone say nothing about the label."""
    rows = topic_rows(pydoc_topics()["test"], 100)
    right = [row["choices"][row["label"]] for row in rows]
    assert len(set(right)) == 100
    assert sorted(right * 4) == sorted(choice for row in rows for choice in row["choices"])
    assert {[row["label"] for row in rows].count(label) for label in range(4)} == {25}


def test_rows_are_written_per_split(tmp_path: Path):
    """The command writes what the shipped files hold: 600, 100 and 100 rows."""
    main(["rows", "--output", str(tmp_path)])
    counts = {path.stem: len(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    assert counts == {"train": 600, "validation": 100, "test": 100}


def test_shipped_rows_share_no_question_between_splits():
    """The files in `suites/data` keep the split of the topics."""
    folder = SUITES / "data/topic_continuation"
    questions = {
        path.stem: {json.loads(line)["question"] for line in path.read_text().splitlines()}
        for path in folder.glob("*.jsonl")
    }
    assert set(questions) == {"train", "validation", "test"}
    assert sum(map(len, questions.values())) == len(set.union(*questions.values()))
