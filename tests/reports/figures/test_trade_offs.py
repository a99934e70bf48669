"""Pictures of a trade-off: privacy against quality, cost against quality, size against quality."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.figures.compressions import compression_sketches, differing_amount
from reports.figures.costs import cost_sketches
from reports.figures.frontier import frontier_sketches
from reports.figures.picture import Picture
from reports.figures.positions import position_sketches
from tests.reports.figures.drawn_store import fill_drawn, read
from tests.reports.figures.words import words
from tests.reports.synthetic_store import (
    SyntheticStore,
    accuracy,
    disclosed,
    fill,
    fill_compressions,
    training,
)


def score(store: SyntheticStore, setting: str, value: float, **labels: object) -> None:
    """One evaluation of `m` on `t`."""
    digest = store.plan("evaluate", model="m", task="t", setting=setting, **labels)
    store.save(store.record(digest, "evaluate", accuracy("acc", value, 0.01)))


def row(compression: str) -> dict[str, object]:
    """The labels of a row's stages."""
    return {"layout": "1-1-1", "compression": compression, "tuning": "full", "seed": 0}


def comparison_of(store: SyntheticStore):
    """The first model and task of a store."""
    found, _ = read(store)
    return found.tasks[0]


def texts(picture: Picture) -> list[str]:
    """What is written in a picture."""
    return [word.text for word in words(picture.svg)]


def test_the_frontier_has_good_plug_ins_of_poor_emulators(tmp_path: Path):
    """A row is off the frontier if another has the better plug-in and the worse emulator."""
    store = SyntheticStore(tmp_path)
    for name, emulator, plug_in in (("best", 0.4, 0.8), ("leaks", 0.6, 0.7), ("safe", 0.3, 0.6)):
        score(store, "emulator_finetuned", emulator, **row(name))
        score(store, "plug_in", plug_in, **row(name))
    (sketch,) = frontier_sketches(comparison_of(store))
    picture = sketch()
    reading = picture.description.partition("by their means: ")[2]
    assert reading == "1-1-1, best, full; 1-1-1, safe, full."
    assert "↖ better" in texts(picture)


def test_the_frontier_names_the_whole_model_before_and_after(tmp_path: Path):
    """Two level lines, with their names beside their ends."""
    (sketch, *_) = frontier_sketches(comparison_of_fill(tmp_path))
    shown = " ".join(texts(sketch()))
    assert "full zero-shot" in shown
    assert "full fine-tuned" in shown


def comparison_of_fill(folder: Path):
    """The language task of the small store."""
    store = SyntheticStore(folder)
    fill(store)
    return comparison_of(store)


def test_a_lower_perplexity_of_the_emulator_is_the_worse_end(tmp_path: Path):
    """The better corner is at the bottom right: a poor emulator and a good plug-in."""
    (sketch,) = frontier_sketches(comparison_of_fill(tmp_path))
    assert "better ↘" in texts(sketch())


def test_without_tuned_emulators_the_frontier_takes_them_as_sent(tmp_path: Path):
    """Where nobody scored the emulators after tuning, their zero-shot score stands across."""
    store = SyntheticStore(tmp_path)
    for name, emulator, plug_in in (("a", 0.4, 0.8), ("b", 0.3, 0.6)):
        digest = {key: value for key, value in row(name).items() if key not in ("tuning", "seed")}
        score(store, "emulator_zero_shot", emulator, **digest)
        score(store, "plug_in", plug_in, **row(name))
    (sketch,) = frontier_sketches(comparison_of(store))
    assert "emulator zero-shot, acc, % ↑" in texts(sketch())


def test_rows_scored_on_other_items_are_not_compared(tmp_path: Path):
    """A row that was cut to fewer examples has no place beside the others."""
    store = SyntheticStore(tmp_path)
    for name, examples in (("a", None), ("b", None), ("cut", 20)):
        for setting in ("emulator_finetuned", "plug_in"):
            digest = store.plan("evaluate", model="m", task="t", setting=setting, **row(name))
            params = {"evaluate": {"examples": examples}} if examples else {}
            scored = accuracy("acc", 0.5, 0.1)
            store.save(store.record(digest, "evaluate", scored, params=params))
    (sketch,) = frontier_sketches(comparison_of(store))
    assert "of 2 rows" in sketch().description
    assert not any("cut" in text for text in texts(sketch()))


def test_costs_have_full_fine_tuning_beside_the_rows(tmp_path: Path):
    """A diamond with its letter in the key; it is on no front."""
    (sketch,) = cost_sketches(comparison_of_fill(tmp_path))
    picture = sketch()
    assert {"A", "full fine-tuning, full", "1", "2", "3"} <= set(texts(picture))
    assert "full fine-tuning" not in picture.description.partition("both, by their means")[2]
    assert {"peak memory, MiB ↓", "tuning throughput, tokens/s ↑"} <= set(texts(picture))


def test_a_cost_that_was_not_measured_has_no_panel(tmp_path: Path):
    """Memory without a value leaves the panel of throughput."""
    store = SyntheticStore(tmp_path)
    for name, speed in (("a", 100.0), ("b", 200.0)):
        digest = store.plan("tune", model="m", task="t", setting="emulator_finetuned", **row(name))
        (rate, *_) = training("throughput_samples", speed, 0.0, 1)
        store.save(store.record(digest, "tune", rate))
        score(store, "plug_in", speed / 1000, **row(name))
    (sketch,) = cost_sketches(comparison_of(store))
    picture = sketch()
    assert "tuning throughput, samples/s ↑" in texts(picture)
    assert "memory" not in picture.description
    assert picture.description.endswith("by their means: 1-1-1, b, full.")


def test_costs_of_two_machines_are_not_mixed(tmp_path: Path):
    """Only rows of the first one's machine are drawn; one such row is no picture."""
    store = SyntheticStore(tmp_path)
    for name, machine in (("a", store.machine), ("b", "elsewhere")):
        digest = store.plan("tune", model="m", task="t", setting="emulator_finetuned", **row(name))
        cost = training("throughput_samples", 100.0, 50.0, 1)
        store.save(store.record(digest, "tune", *cost, machine=machine))
        score(store, "plug_in", 0.5, **row(name))
    assert not list(cost_sketches(comparison_of(store)))


def test_compressions_stand_at_their_effective_size(tmp_path: Path):
    """Six disclosed compressions: a panel a setting, under the table of the same rows."""
    store = SyntheticStore(tmp_path)
    fill_compressions(store)
    (sketch,) = compression_sketches(comparison_of(store))
    picture = sketch()
    assert texts(picture).count("effective bytes, MiB ↓") == 3
    assert picture.table == "owner-lm-topics-compressions-full-2+2"
    assert picture.description.endswith("The best plug-in, by its mean, is 2-8-2, identity, full.")


def test_without_sizes_compressions_stand_at_the_number_they_differ_in(tmp_path: Path):
    """`keep` goes across where no emulator was disclosed."""
    store = SyntheticStore(tmp_path)
    for keep in (2, 4, 8):
        score(store, "plug_in", keep / 10, **row(f"layer_drop(keep={keep})"))
    (sketch,) = compression_sketches(comparison_of(store))
    picture = sketch()
    assert "keep" in texts(picture)
    assert picture.table == ""


def test_compressions_that_differ_in_kind_need_their_sizes(tmp_path: Path):
    """Nothing can go across: no picture."""
    store = SyntheticStore(tmp_path)
    for name in ("layer_drop(keep=2)", "quantize(bits=4)", "magnitude_prune"):
        score(store, "plug_in", 0.5, **row(name))
    assert not list(compression_sketches(comparison_of(store)))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["a(k=1, r=0.5)", "a(k=2, r=0.5)"], ("k", [1.0, 2.0])),
        (["a(k=1, r=0.5)", "a(k=2, r=0.25)"], ("", [])),
        (["a(k=1)", "b(k=2)"], ("", [])),
        (["a(k=1e-4)", "a(k=0.5)"], ("k", [0.0001, 0.5])),
        (["a(k=1-2)", "a(k=2)"], ("", [])),
        (["a", "a"], ("", [])),
    ],
)
def test_the_number_in_which_compressions_differ(labels, expected):
    """Exactly one number, and nothing else."""
    assert differing_amount(labels) == expected


def test_adapter_blocks_are_compared_with_all_else_alike(tmp_path: Path):
    """Two choices of adapter blocks with one compression and tuning, and what each trains."""
    store = SyntheticStore(tmp_path)
    blocks = [("2-8-2", "layer_drop(keep=8)", "full"), ("1-8-1", "layer_drop(keep=8)", "full")]
    fill_drawn(store, [*blocks, ("2-4-2", "layer_drop(keep=4)", "full")])
    (sketch,) = position_sketches(comparison_of(store))
    picture = sketch()
    assert {"2+2", "1+1", "500,000 trained"} <= set(texts(picture))
    assert "layer_drop(keep=4)" not in picture.description
    assert picture.description.endswith("The best plug-in, by its mean, has 2+2.")


def test_a_failed_row_leaves_the_others(tmp_path: Path):
    """What has no number has no mark, and the numbers of the others stay theirs."""
    store = SyntheticStore(tmp_path)
    for name in ("a", "failed", "c"):
        for setting in ("emulator_finetuned", "plug_in"):
            if name == "failed":
                digest = store.plan("evaluate", model="m", task="t", setting=setting, **row(name))
                failed = store.record(digest, "evaluate", outcome="timeout", reason="an hour")
                store.save_attempt(failed)
            else:
                score(store, setting, 0.5, **row(name))
    (sketch,) = frontier_sketches(comparison_of(store))
    shown = texts(sketch())
    assert {"1-1-1, a, full", "1-1-1, c, full"} <= set(shown)
    assert "3" in shown
    assert "2" not in shown


def test_sizes_without_a_score_do_not_count(tmp_path: Path):
    """Three disclosed emulators of which one was scored are no comparison."""
    store = SyntheticStore(tmp_path)
    for name in ("a", "b", "c"):
        labels = {"model": "m", "layout": "1-1-1", "compression": name}
        digest = store.plan("disclose", **labels)
        store.save(store.record(digest, "disclose", *disclosed(0.5, 1.0, 1.0)))
        store.plan("evaluate", task="t", setting="plug_in", tuning="full", seed=0, **labels)
    score(store, "plug_in", 0.5, **row("a"))
    assert not list(compression_sketches(comparison_of(store)))
