"""Rates with a fake clock: known answers, warm-up left out, pauses left out."""

from __future__ import annotations

import pytest

from bench.measure.throughput import Stopwatch, Window, steady_from
from offsite.training import Batch
from tests.fakes import FakeClock

BATCH = Batch({}, samples=4, tokens_real=30, tokens_padded=40)


def timed(step_times: list[float], batch: Batch = BATCH) -> Stopwatch:
    """A run of steps that took these seconds."""
    now, times = 100.0, [100.0]
    for seconds in step_times:
        now += seconds
        # Read when the step is queued, and once more when its window is closed.
        times += [now, now]
    watch = Stopwatch(len(step_times), clock=FakeClock(times))
    watch.start()
    for step in range(1, len(step_times) + 1):
        watch.on_step(step, batch)
    return watch


def test_rates_are_counts_over_the_seconds_of_the_same_steps():
    """Ten steps of 4 samples at 0.5 s are 8 samples/s, and each rate has its own count."""
    values = {m.metric: m.value for m in timed([0.5] * 10).metrics()}
    assert values == {
        "throughput_samples": pytest.approx(8.0),
        "throughput_tokens_real": pytest.approx(60.0),
        "throughput_tokens_padded": pytest.approx(80.0),
        "step_time_median": pytest.approx(0.5),
    }


def test_images_have_no_token_rates():
    """A rate that means nothing is absent, not 0."""
    names = {m.metric for m in timed([0.5] * 10, Batch({}, samples=4)).metrics()}
    assert names == {"throughput_samples", "step_time_median"}


def test_warm_up_is_left_out():
    """Three slow steps at the start do not lower the rate, and the facts say where it begins."""
    watch = timed([5.0, 2.0, 1.0] + [0.5] * 17)
    assert watch.metrics()[0].value == pytest.approx(8.0)
    assert watch.metrics()[0].grade == "exact"
    assert watch.facts()["steady_from_window"] == 3


def test_a_run_that_never_settles_says_so():
    """A step time that keeps falling gives a number with a doubt, not a clean one."""
    metric = timed([2.0 * 0.9**i for i in range(20)]).metrics()[0]
    assert metric.grade == "bounded"
    assert metric.reason.startswith("not steady")


def test_a_short_run_says_that_steady_state_was_not_tested():
    """Three windows cannot show a trend."""
    metric = timed([0.5] * 3).metrics()[0]
    assert metric.grade == "bounded"
    assert "only 3 windows" in metric.reason


def test_noise_around_a_level_is_steady():
    """Jitter without a trend drops the first window only."""
    windows = [Window(steps=1, seconds=1 + 0.04 * (-1) ** i) for i in range(20)]
    assert steady_from(windows) == (1, None)


def test_a_pause_is_in_no_window():
    """What happens between steps on purpose (scoring a checkpoint) costs no throughput."""
    clock = FakeClock([0.0, 1.0, 1.0, 2.0, 2.0, 50.0, 51.0, 51.0, 52.0, 52.0])
    watch = Stopwatch(4, clock=clock)
    watch.start()
    watch.on_step(1, BATCH)
    watch.on_step(2, BATCH)
    with watch.paused():
        pass
    watch.on_step(3, BATCH)
    watch.on_step(4, BATCH)
    assert [w.seconds for w in watch.windows] == [1.0, 1.0, 1.0, 1.0]


def test_every_step_is_kept():
    """What a step held, when the host had queued it, and its loss where each has one."""
    watch = timed([0.5, 0.25])
    rows = list(watch.rows([3.0, 2.0]))
    assert [row["queued"] for row in rows] == [0.5, 0.75]
    assert [row["loss"] for row in rows] == [3.0, 2.0]
    assert rows[1] == {
        "step": 2,
        "queued": 0.75,
        "loss": 2.0,
        "samples": 4,
        "tokens_real": 30,
        "tokens_padded": 40,
    }
    assert [row["loss"] for row in watch.rows([2.5])] == [None, None]


def test_a_pause_of_the_system_moves_no_median():
    """One window of twenty took ten times as long; end to end it counts."""
    watch = timed([0.5] * 10 + [5.0] + [0.5] * 9)
    assert watch.metrics()[0].value == pytest.approx(8.0)
    assert watch.facts()["end_to_end"]["throughput_samples"] == pytest.approx(80 / 14.5)


def test_the_device_is_waited_for_at_both_ends_of_a_window():
    """Queued work is charged to the window that queued it."""
    waits = []
    watch = Stopwatch(
        2, synchronize=lambda: waits.append(1), clock=FakeClock([0.0, 1.0, 1.0, 2.0, 2.0])
    )
    watch.start()
    watch.on_step(1, BATCH)
    watch.on_step(2, BATCH)
    assert len(waits) == 3
