"""The front of a plane: which rows no other row beats."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from reports.figures.labels import apart, place_labels
from reports.figures.marks import draw_plane, ends
from reports.figures.plane import MOST_NUMBERED, Mark, Plane, front, numbered
from reports.figures.rows import Named
from reports.figures.scales import Scale
from reports.statistics.intervals import Estimate


def plane(across: str = "higher", up: str = "higher") -> Plane:
    """Two measures, and which way each is better."""
    return Plane(
        across=Scale(text="across", better=across),
        up=Scale(text="up", better=up),
        wanted=(across, up),
    )


def at(x: float, y: float, label: str = "1", *, is_reference: bool = False) -> Mark:
    """A mark without a spread."""
    estimates = [Estimate(mean=value, half_width=None, n=1) for value in (x, y)]
    named = Named(label, f"row {label}")
    return Mark(named=named, across=estimates[0], up=estimates[1], is_reference=is_reference)


def test_the_front_has_the_rows_nobody_beats():
    """A row that is worse in both is out; rows that trade one for the other are in, in order."""
    marks = [at(3, 1, "a"), at(1, 3, "b"), at(2, 2, "c"), at(1, 1, "d"), at(2, 1.5, "e")]
    assert [mark.named.label for mark in front(plane(), marks)] == ["b", "c", "a"]


def test_better_may_be_lower():
    """Less memory and less perplexity: the front is at the other corner."""
    marks = [at(3, 1, "a"), at(1, 3, "b"), at(2, 2, "c"), at(3, 3, "d")]
    found = front(plane("lower", "lower"), marks)
    assert [mark.named.label for mark in found] == ["a", "c", "b"]


def test_equal_rows_are_both_on_the_front():
    """None of two equal rows beats the other."""
    assert len(front(plane(), [at(1, 1, "a"), at(1, 1, "b")])) == 2


def test_a_reference_is_on_no_front_and_beats_nobody():
    """Full fine-tuning stands for comparison."""
    marks = [at(1, 1, "1"), at(5, 5, "A", is_reference=True)]
    assert [mark.named.label for mark in front(plane(), marks)] == ["1"]


PLACES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(PLACES, st.sampled_from(["higher", "lower"]), st.sampled_from(["higher", "lower"]))
def test_every_row_off_the_front_is_beaten_by_one_on_it(places, across, up):
    """And no row on the front is beaten by any."""
    signs = np.array([1 if way == "higher" else -1 for way in (across, up)])
    marks = [at(x, y, str(number)) for number, (x, y) in enumerate(places)]
    best = front(plane(across, up), marks)
    worth = {mark.named.label: signs * mark.place for mark in marks}

    def beats(one: Mark, other: Mark) -> bool:
        a, b = worth[one.named.label], worth[other.named.label]
        return bool((a >= b).all() and (a > b).any())

    for mark in marks:
        assert (mark in best) is not any(beats(other, mark) for other in best)


def test_of_very_many_rows_only_the_front_is_numbered():
    """The others are drawn without a number, and the key does not list them."""
    marks = [at(x, -x if x < 3 else -40 - x, str(x)) for x in range(MOST_NUMBERED + 10)]
    best = front(plane(), marks)
    assert numbered(plane(), marks) == tuple(mark for mark in marks if mark in best)
    assert numbered(plane(), marks[:MOST_NUMBERED]) == tuple(marks[:MOST_NUMBERED])


@pytest.mark.parametrize(
    ("ways", "corner"),
    [
        (("lower", "higher"), "↖ better"),
        (("higher", "higher"), "better ↗"),
        (("lower", "lower"), "↙ better"),
        (("higher", "lower"), "better ↘"),
    ],
)
def test_the_better_corner_is_named(ways, corner):
    """In words, in the corner where both measures are best."""
    axes = Figure().add_subplot()
    draw_plane(axes, plane(*ways), [at(1, 1), at(2, 2)])
    (text,) = (text for text in axes.texts if "better" in text.get_text())
    assert text.get_text() == corner
    x, y = text.get_position()
    assert (x > 0.5, y > 0.5) == tuple(way == "higher" for way in ways)


def test_the_front_is_drawn_as_steps():
    """Right after a row of the front, what can be had is the next row's."""
    axes = Figure().add_subplot()
    draw_plane(axes, plane(), [at(1, 3, "a"), at(3, 1, "b")])
    lines = [list(zip(*line.get_data(), strict=True)) for line in axes.lines]
    assert [(1, 3), (1, 1), (3, 1)] in lines


def test_seeds_are_small_hollow_points():
    """One a seed, beside the mark of their means."""
    axes = Figure().add_subplot()
    estimate = Estimate(mean=2.0, half_width=1.0, n=3)
    seeds = ((1.0, 1.5), (2.0, 2.0), (3.0, 2.5))
    mark = Mark(named=Named("1", "row"), across=estimate, up=estimate, seeds=seeds)
    draw_plane(axes, plane(), [mark, at(5, 5, "2")])
    small = [
        line for line in axes.lines if line.get_markersize() < 4 and len(line.get_xdata()) == 3
    ]
    assert [list(zip(*line.get_data(), strict=True)) for line in small] == [list(seeds)]
    assert small[0].get_fillstyle() == "none"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(1, 10))
def test_labels_at_line_ends_are_apart_and_in_order(places, gap):
    """Every two are at least a gap from each other, and none has overtaken another."""
    moved = apart(places, gap)
    order = np.argsort(places, kind="stable")
    for one, other in pairwise(order):
        assert moved[other] - moved[one] >= gap - 1e-6


def test_places_that_are_apart_already_stay():
    """Nothing moves without need."""
    assert apart([30.0, 1.0, 12.0], 5.0) == [30.0, 1.0, 12.0]


def test_numbers_of_marks_at_one_place_do_not_cover_each_other():
    """Eight rows with the same result: eight numbers around it, each readable."""
    axes = Figure().add_subplot()
    axes.set(xlim=(0, 2), ylim=(0, 2))
    place_labels(axes, [((1.0, 1.0), str(number)) for number in range(1, 9)])
    places = [text.get_position() for text in axes.texts]
    gaps = [
        max(abs(a - c), abs(b - d))
        for (a, b), (c, d) in pairwise(sorted(places))
        if (a, b) != (c, d)
    ]
    assert len(set(places)) == 8
    assert min(gaps) > 4


def test_one_endless_interval_does_not_hide_the_rows():
    """Of two seeds the interval may be twelve times as wide as all rows are apart."""
    wide = Estimate(mean=2.0, half_width=100.0, n=2)
    low, high = ends([1.0, 2.0, 3.0], [wide], by_factors=False)
    assert low < 1.0
    assert high > 3.0
    assert high - low < 8


def test_an_axis_by_factors_has_positive_ends():
    """An interval that reaches below zero is cut, not an error."""
    low, high = ends([30.0, 60.0], [Estimate(mean=30.0, half_width=50.0, n=2)], by_factors=True)
    assert 0 < low < 30
    assert high > 60


def test_a_huge_perplexity_is_drawn():
    """A diverged emulator's score has an end of the axis too."""
    low, high = ends([1.0, 1.7e308], [], by_factors=True)
    assert np.isfinite([low, high]).all()
