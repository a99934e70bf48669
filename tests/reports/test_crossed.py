"""Evaluations that share their scores and should not, and those that may."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.crossed import crossed_scores
from reports.render.html import render_html
from reports.render.markdown import render_markdown
from reports.report import Report, build_report
from reports.results import read_plan, read_stages
from tests.reports.synthetic_store import SyntheticStore, fill, perplexity

FULL = {"setting": "full_zero_shot"}
DROPPED = {"layout": "2-4-2", "compression": "layer_drop(keep=4)"}
CONTROL = {"layout": "2-8-2", "compression": "identity"}
TUNED = {"tuning": "full", "seed": 0}


def evaluated(store: SyntheticStore, scores: str, weights: str, **labels: object) -> str:
    """One more evaluation, with its two digests."""
    whole = {"model": "lm", "task": "topics", **labels}
    digest = store.plan("evaluate", **whole)
    facts = {"scores_digest": scores, "weights_digest": weights}
    store.save(store.record(digest, "evaluate", *perplexity(40.0), facts=facts))
    return digest


def warnings(store: SyntheticStore) -> list[str]:
    """What a report of the store warns of."""
    return list(crossed_scores(read_stages(store.root, read_plan(store.save_plan()))))


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty one."""
    return SyntheticStore(tmp_path)


def test_equal_scores_of_different_weights_are_named(store):
    """Both stages, by name and by digest; a third with scores of its own is not."""
    full = evaluated(store, "s", "one", **FULL)
    emulator = evaluated(store, "s", "two", setting="emulator_zero_shot", **DROPPED)
    other = evaluated(store, "t", "three", setting="plug_in", **DROPPED, **TUNED)
    (warning,) = warnings(store)
    assert f"full zero-shot of lm on topics ({full[:12]})" in warning
    assert "emulator zero-shot of lm on topics 2-4-2 layer_drop(keep=4)" in warning
    assert emulator[:12] in warning
    assert other[:12] not in warning


def test_models_and_tasks_are_compared_with_each_other(store):
    """A cache that is not keyed by model crosses models too."""
    evaluated(store, "s", "one", **FULL)
    evaluated(store, "s", "two", model="another", **FULL)
    assert len(warnings(store)) == 1


def test_equal_scores_of_equal_weights_are_no_wonder(store):
    """A compression that changed nothing, or the same model under two names."""
    evaluated(store, "s", "one", **FULL)
    evaluated(store, "s", "one", setting="emulator_zero_shot", **DROPPED)
    assert warnings(store) == []


def test_the_identity_control_may_equal_the_full_model(store):
    """It is the full model, saved as an emulator; tuned, it is its own plug-in."""
    evaluated(store, "s", "one", **FULL)
    evaluated(store, "s", "two", setting="emulator_zero_shot", **CONTROL)
    evaluated(store, "t", "three", setting="emulator_finetuned", **CONTROL, **TUNED)
    evaluated(store, "t", "four", setting="plug_in", **CONTROL, **TUNED)
    assert warnings(store) == []


@pytest.mark.parametrize(
    "other",
    [
        {"setting": "emulator_zero_shot", **DROPPED},
        {"setting": "plug_in", **CONTROL, "tuning": "full", "seed": 1},
        {"setting": "plug_in", **CONTROL, "tuning": "lora(rank=4)", "seed": 0},
        {"setting": "emulator_zero_shot", **CONTROL},
        {"setting": "full_finetuned", **TUNED},
    ],
)
def test_the_control_may_equal_nothing_else(store, other):
    """Its exception is no hiding place: another seed, tuning or compression is another model."""
    evaluated(store, "s", "one", setting="emulator_finetuned", **CONTROL, **TUNED)
    evaluated(store, "s", "two", **other)
    assert len(warnings(store)) == 1


def test_a_distilled_identity_is_no_control(store):
    """Its weights were trained."""
    distilled = {"layout": "2-8-2", "compression": "identity+distill(corpus=c, steps=2)"}
    evaluated(store, "s", "one", **FULL)
    evaluated(store, "s", "two", setting="emulator_zero_shot", **distilled)
    assert len(warnings(store)) == 1


def test_records_of_older_versions_say_nothing(tmp_path):
    """They have neither digest."""
    store = SyntheticStore(tmp_path)
    fill(store)
    assert warnings(store) == []


@pytest.fixture
def report(store: SyntheticStore) -> Report:
    """With one such pair."""
    evaluated(store, "s", "one", **FULL)
    evaluated(store, "s", "two", setting="emulator_zero_shot", **DROPPED)
    return build_report(store.root, read_plan(store.save_plan()))


def test_the_warning_stands_before_every_number(report):
    """In the page and in Markdown."""
    for text in (render_html(report), render_markdown(report, {})):
        place = text.index("Crossed scores: these evaluations have different weights")
        assert place < text.index("40.00")


def test_a_report_without_one_has_no_room_for_it(tmp_path):
    """No empty box, no heading."""
    store = SyntheticStore(tmp_path)
    report = build_report(tmp_path, read_plan(fill(store)))
    assert report.warnings == ()
    assert 'class="warnings"' not in render_html(report)
    assert "Warning" not in render_markdown(report, {})


def test_names_in_a_warning_are_no_markup(store):
    """They are a suite's free text."""
    evaluated(store, "s", "one", **FULL, task="<script>alert(1)</script>")
    evaluated(store, "s", "two", **FULL, model="[x](http://y.example)")
    report = build_report(store.root, read_plan(store.save_plan()))
    assert "<script>alert" not in render_html(report)
    markdown = render_markdown(report, {})
    assert "<script>" not in markdown.replace("\\<", "")
    assert r"\[x\](http:\//y.example)" in markdown
