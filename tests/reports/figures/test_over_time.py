"""Pictures over time: losses by step, memory by phase."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from reports.figures.curves import MOST_LINES, POINTS, curve_sketches, in_stretches
from reports.figures.memory import memory_sketches
from reports.figures.picture import Picture
from tests.reports.figures.drawn_store import (
    fill_drawn,
    json_lines,
    many_rows,
    read,
    samples,
    save_blob,
)
from tests.reports.figures.words import words
from tests.reports.synthetic_store import SyntheticStore, perplexity

ROW = {"model": "m", "task": "t", "layout": "1-1-1", "compression": "c", "tuning": "full"}


def pictures(store: SyntheticStore, sketches) -> list[Picture]:
    """What is drawn of a store's first model and task."""
    found, kept = read(store)
    return [sketch() for sketch in sketches(found.tasks[0], kept)]


def texts(picture: Picture) -> list[str]:
    """What is written in a picture."""
    return [word.text for word in words(picture.svg)]


def tuned(
    store: SyntheticStore, content: bytes, name: str = "steps.jsonl", **facts: object
) -> None:
    """One tuning of one row with a file of this content."""
    digest = store.plan("tune", setting="emulator_finetuned", seed=0, **ROW)
    blobs = {name: save_blob(store, content)}
    store.save(store.record(digest, "tune", blobs=blobs))
    digest = store.plan("evaluate", setting="plug_in", seed=0, **ROW)
    store.save(store.record(digest, "evaluate", *perplexity(40.0)))


def test_losses_are_a_line_a_row(tmp_path: Path):
    """Full fine-tuning by letter and rows by number, at the end of their lines and in the key."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(3))
    (picture,) = pictures(store, curve_sketches)
    shown = texts(picture)
    assert [shown.count(label) for label in ("A", "1", "2", "3")] == [2, 2, 2, 2]
    assert {"training loss", "training perplexity", "one seed", "selection slice"} <= set(shown)
    assert "The lowest loss at the end has full fine-tuning, full." in picture.description


def test_a_loss_of_choices_is_no_perplexity(tmp_path: Path):
    """Only where the metric is a perplexity is there an axis of them."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(3), metric="acc")
    (picture,) = pictures(store, curve_sketches)
    assert "training perplexity" not in texts(picture)


def test_smoothing_is_named(tmp_path: Path):
    """A training of more steps than a line has points is drawn in means, and the axis says so."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(1), steps=POINTS * 3)
    (picture,) = pictures(store, curve_sketches)
    assert "training loss, mean of 3 steps" in texts(picture)
    assert "Every point is the mean of 3 steps." in picture.description


def test_means_of_stretches_are_means_of_their_steps():
    """No loss is left out, and the last stretch may be shorter."""
    losses = np.arange(10.0)
    at, means = in_stretches(losses, 4)
    assert at.tolist() == [2.5, 6.5, 9.5]
    assert means.tolist() == [1.5, 5.5, 8.5]


def test_of_many_rows_the_first_are_drawn(tmp_path: Path):
    """And the description says how many are not."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(MOST_LINES + 4), seeds=1)
    (picture,) = pictures(store, curve_sketches)
    assert "5 more rows are not drawn or kept no losses." in picture.description


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{not json\n",
        b'{"step": 1, "loss": null}\n{"step": 2, "loss": null}\n',
        b'{"step": 1, "loss": 2.0}\n{"step": 2}\n',
        b"[1, 2]\n3\n",
        b'{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n',
        b"\xff\xfe\n",
        b'{"loss": 1' + b"0" * 400 + b', "phase": "train", "t": Infinity, "rss": 1}\n' * 2,
    ],
)
def test_a_file_that_says_no_losses_is_no_picture(tmp_path: Path, content: bytes):
    """Damaged, empty, of a peer that gives no loss a step: nothing is drawn and nothing fails."""
    store = SyntheticStore(tmp_path)
    tuned(store, content)
    assert pictures(store, curve_sketches) == []
    tuned(store, content, name="memory.jsonl")
    assert pictures(store, memory_sketches) == []


def test_a_hostile_name_of_a_file_reads_nothing(tmp_path: Path):
    """A record cannot name a file outside the store's blobs."""
    store = SyntheticStore(tmp_path / "store")
    (tmp_path / "store" / "blobs").mkdir(parents=True)
    (tmp_path / "steps.jsonl").write_bytes(json_lines([{"loss": 2.0}, {"loss": 1.0}]))
    digest = store.plan("tune", setting="emulator_finetuned", seed=0, **ROW)
    blobs = {"steps.jsonl": "../steps.jsonl"}
    store.save(store.record(digest, "tune", blobs=blobs))
    _, kept = read(store)
    assert kept.rows(digest, "steps.jsonl") == []


def test_files_of_the_machine_reported_are_preferred(tmp_path: Path):
    """Of two machines' records of a stage, the report's own is read."""
    store = SyntheticStore(tmp_path, machine="zz")
    digest = store.plan("tune", setting="emulator_finetuned", seed=0, **ROW)
    for machine, loss in (("aa", 1.0), ("zz", 2.0)):
        blobs = {"steps.jsonl": save_blob(store, json_lines([{"loss": loss}]))}
        store.save(store.record(digest, "tune", blobs=blobs, machine=machine))
    _, kept = read(store)
    assert kept.rows(digest, "steps.jsonl") == [{"loss": 2.0}]


def test_memory_has_the_phases_of_every_stage(tmp_path: Path):
    """Load, build, train and evaluate, one after the other, and the peak in words."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(2))
    (picture,) = pictures(store, memory_sketches)
    shown = texts(picture)
    assert {"load", "build", "train", "evaluate", "process", "MiB"} <= set(shown)
    assert "fine-tuning: train" in shown
    assert shown.count("tuning: train") == 2
    assert "full fine-tuning, full: highest 1,000 MiB, fine-tuning, train" in picture.description
    assert "2-8-2, layer_drop(keep=8), full: highest 980 MiB" in picture.description


def test_memory_of_the_gpu_is_a_line_of_its_own(tmp_path: Path):
    """Where the sampler saw the process on the GPU."""
    store = SyntheticStore(tmp_path)
    rows = [{**row, "gpu_process": 5 * 2**30} for row in samples({"train": (5.0, 100.0)})]
    tuned(store, json_lines(rows), name="memory.jsonl")
    (picture,) = pictures(store, memory_sketches)
    assert "process on the GPU" in texts(picture)
    assert "highest 5,120 MiB" in picture.description


def test_no_peak_is_lost_in_a_long_line(tmp_path: Path):
    """Of many samples the highest of every stretch is drawn."""
    store = SyntheticStore(tmp_path)
    rows = [
        {"phase": "train", "t": i / 10, "rss": (900 if i == 777 else 100) * 2**20}
        for i in range(1000)
    ]
    tuned(store, json_lines(rows), name="memory.jsonl")
    (picture,) = pictures(store, memory_sketches)
    assert "highest 900 MiB" in picture.description


def test_unknown_phases_and_points_are_left_out(tmp_path: Path):
    """What this version does not know is not drawn, and does not stop the rest."""
    store = SyntheticStore(tmp_path)
    rows = [
        *samples({"train": (5.0, 100.0), "rest": (5.0, 700.0)}),
        {"phase": "train", "t": "late", "rss": 2**40},
        {"phase": ["train"]},
        {"phase": "train", "t": math.inf, "rss": 2**40},
        {"phase": "train", "t": 5.0, "rss": None},
    ]
    tuned(store, json_lines(rows), name="memory.jsonl")
    (picture,) = pictures(store, memory_sketches)
    assert "highest 100 MiB" in picture.description


def test_one_step_is_no_curve(tmp_path: Path):
    """A line needs two points."""
    store = SyntheticStore(tmp_path)
    tuned(store, json_lines([{"step": 1, "loss": 2.0}]))
    assert pictures(store, curve_sketches) == []
