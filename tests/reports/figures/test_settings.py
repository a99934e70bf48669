"""The settings of every row: few rows stand side by side, many lie one under the other."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.comparison import Treatment, compared
from reports.figures.settings import MOST_ROWS, drawn, row_name, settings_sketches
from reports.results import frame, read_plan, read_stages
from tests.reports.figures.words import size_of
from tests.reports.synthetic_store import SyntheticStore, accuracy, fill_row, perplexity

SHAPES = {"defs", "path", "use", "text", "clipPath", "rect"}
LONG = "layer_drop(keep=4)+distill(corpus=pydoc_topics, learning_rate=0.001, steps=200)"


def comparison_of(store: SyntheticStore):
    """The one model and task of a store."""
    runs = read_stages(store.root, read_plan(store.save_plan()))
    (comparison,) = compared(frame(runs)).tasks
    return comparison


@pytest.mark.parametrize(("rows", "lying"), [(5, False), (6, True), (12, True), (25, True)])
def test_many_rows_lie_one_under_the_other(tmp_path: Path, rows: int, lying: bool):
    """From six rows on a picture grows down, not sideways, with room for every name."""
    store = SyntheticStore(tmp_path)
    for row in range(rows):
        fill_row(store, "2-4-2", f"{LONG}+quantize(bits={row})", 0.5)
    (sketch,) = settings_sketches(comparison_of(store))
    width, height = size_of(sketch().svg)
    assert (height > width) is (lying and rows > 9)
    assert (width < 650) is lying
    if lying:
        assert height >= 60 * rows


def test_a_very_long_list_is_no_picture(tmp_path: Path):
    """The table has it already."""
    store = SyntheticStore(tmp_path)
    for row in range(MOST_ROWS + 1):
        fill_row(store, "2-4-2", f"layer_drop(keep={row})", 0.5)
    assert not list(settings_sketches(comparison_of(store)))


@pytest.mark.parametrize(("rows", "lying"), [(3, False), (6, True)])
@pytest.mark.parametrize(("metric", "scale"), [("acc", "linear"), ("perplexity", "log")])
def test_a_lying_picture_has_the_values_across(
    tmp_path: Path, rows: int, lying: bool, metric: str, scale: str
):
    """Names, order, scale and values change sides together; the first row stays first."""
    store = SyntheticStore(tmp_path)
    for row in range(rows):
        labels = {"model": "m", "task": "t", "layout": "1-1-1", "compression": f"c{row}"}
        digest = store.plan("evaluate", setting="plug_in", tuning="full", seed=0, **labels)
        scored = accuracy("acc", 0.5, 0.1) if metric == "acc" else perplexity(50.0 + row)[0]
        store.save(store.record(digest, "evaluate", scored))
    (axes,) = drawn(comparison_of(store), metric).axes
    names, values = (axes.yaxis, axes.xaxis) if lying else (axes.xaxis, axes.yaxis)
    assert [text.get_text()[-2:] for text in names.get_ticklabels()] == ["ll"] * rows
    assert values.get_scale() == scale
    assert names.get_scale() == "linear"
    assert metric in values.get_label_text()
    assert bool(names.get_inverted()) is lying
    (marks,) = (line for line in axes.lines if line.get_marker() == "o")
    data = marks.get_xdata() if lying else marks.get_ydata()
    assert list(data) == [50.0 + row * (metric != "acc") for row in range(rows)]


def test_seeds_are_points_beside_the_mark_of_their_mean(tmp_path: Path):
    """Three seeds are three small hollow points and one filled mark."""
    store = SyntheticStore(tmp_path)
    labels = {"model": "m", "task": "t", "layout": "1-1-1", "compression": "c", "tuning": "full"}
    for seed, value in enumerate((0.4, 0.5, 0.6)):
        digest = store.plan("evaluate", setting="plug_in", seed=seed, **labels)
        store.save(store.record(digest, "evaluate", accuracy("acc", value, 0.1)))
    (axes,) = drawn(comparison_of(store), "acc").axes
    seeds, mean = (line for line in axes.lines if line.get_marker() == "o")
    assert list(seeds.get_ydata()) == [40.0, 50.0, 60.0]
    assert seeds.get_fillstyle() == "none"
    assert list(mean.get_ydata()) == [50.0]
    assert mean.get_fillstyle() == "full"


def test_a_name_breaks_after_its_commas():
    """Layout and tuning share a line down the side; along the bottom each has its own."""
    treatment = Treatment("2-4-2", LONG, "full")
    assert row_name(treatment, lying=True).splitlines() == [
        "layer_drop(keep=4)+",
        "distill(corpus=pydoc_topics,",
        "learning_rate=0.001, steps=200)",
        "2-4-2, full",
    ]
    along = row_name(treatment, lying=False).splitlines()
    assert (along[0], along[-1]) == ("2-4-2", "full")
    assert max(map(len, along)) <= 28


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        '"><image href="//x.y"/>',
        "$x^2$ and $",
        "keep=0.123456789, #101112",
        "模型 🙂",
    ],
)
def test_a_name_is_shown_as_it_is(tmp_path: Path, name: str):
    """Free text is only text: no element of its own, no mathematics, not a decimal less."""
    store = SyntheticStore(tmp_path)
    fill_row(store, "2-4-2", name, 0.5)
    (sketch,) = settings_sketches(comparison_of(store))
    tree = ElementTree.fromstring(sketch().svg)
    assert {e.tag.rpartition("}")[2] for e in tree.iter()} <= {"svg", "style", "g", *SHAPES}
    shown = "".join(e.text or "" for e in tree.iter() if e.tag.endswith("}text"))
    assert name.replace(" ", "") in shown.replace(" ", "")
