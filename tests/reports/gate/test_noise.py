"""What a machine differs from itself by: within a session, in turn, and between sessions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from reports.errors import ReportError
from reports.gate.noise import Noise, Session, Values, read_noise
from tests.reports.gate.measured import HOW, MEMORY, SPEED


def noise(*sessions: list[float]) -> Noise:
    """Sessions of one line."""
    found = Noise(machine="here")
    for number, values in enumerate(sessions):
        lines = (Values(line=SPEED, setup=HOW, values=tuple(values)),)
        found = found.with_sessions([Session(started=str(number), commit="c", lines=lines)])
    return found


def test_drift_is_what_sessions_vary_by():
    """Of sessions with means that vary by 5 % and runs by 1 %, twice the variance of the means."""
    draw = np.random.default_rng(0)
    found = noise(
        *(list(np.exp(draw.normal(0, 0.05) + draw.normal(0, 0.01, 20))) for _ in range(200))
    ).drift(SPEED, HOW)
    assert found is not None
    assert math.sqrt(found.variance / 2) == pytest.approx(0.05, rel=0.15)
    assert found.freedom == 199


def test_runs_that_could_explain_it_take_nothing_off():
    """Three sessions that are apart by less than their runs are: that is no proof of no drift."""
    found = noise([0.8, 1.2], [0.81, 1.21], [0.8, 1.22]).drift(SPEED, HOW)
    assert found is not None
    means = [(math.log(a) + math.log(b)) / 2 for a, b in [(0.8, 1.2), (0.81, 1.21), (0.8, 1.22)]]
    assert found.variance == pytest.approx(2 * float(np.var(means, ddof=1)))
    assert found.variance > 0


def test_two_sessions_do_not_tell_a_drift():
    """Nor does a line that was never run."""
    assert noise([1.0, 1.1], [1.2, 1.3]).drift(SPEED, HOW) is None
    assert noise(*[[1.0, 1.1]] * 5).drift(MEMORY, HOW) is None


def test_offset_is_what_the_second_place_costs():
    """The later of two runs in turn is always 3 % slower: so much is no regression."""
    pairs = [[1.0, 1.03], [1.03, 1.0]] * 10
    flat = [value * (1 + 0.001 * (i % 3)) for i, value in enumerate(v for p in pairs for v in p)]
    assert noise(flat).offset(SPEED, HOW) == pytest.approx(math.log(1.03), abs=0.004)


def test_chance_is_no_offset():
    """What could be chance does not widen the margin."""
    draw = np.random.default_rng(1)
    assert noise(list(np.exp(draw.normal(0, 0.02, 60)))).offset(SPEED, HOW) == 0.0
    assert Noise(machine="here").offset(SPEED, HOW) == 0.0


def test_read_back(tmp_path: Path):
    """A file of sessions; no file is a machine nobody measured."""
    found, path = noise([1.0, 1.1, 0.9]), tmp_path / "n.json"
    assert read_noise(path, "here") == Noise(machine="here")
    path.write_bytes(found.to_bytes())
    assert read_noise(path, "here") == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a noise model"),
        ("{}", "schema None; this version reads 2"),
        ('{"schema": 1}', "schema 1; this version reads 2: remove it and make it again"),
        ('{"schema": 2, "machine": 3}', "machine: "),
    ],
)
def test_what_is_no_noise_model_is_refused(tmp_path: Path, text: str, says: str):
    """In one line."""
    path = tmp_path / "n.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=says) as error:
        read_noise(path, "here")
    assert "\n" not in str(error.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(ReportError, match="directory"):
        read_noise(path, "here")


def test_a_value_of_nothing_is_refused(tmp_path: Path):
    """It has no logarithm."""
    path = tmp_path / "n.json"
    path.write_text(noise([1.0, 1.1]).to_bytes().decode().replace("1.1", "0.0"))
    with pytest.raises(ReportError, match="greater than 0"):
        read_noise(path, "here")


def test_nothing_is_known_of_a_line_that_was_measured_otherwise():
    """Of another batch size neither the drift nor the offset."""
    draw = np.random.default_rng(2)
    turns = np.array([0, 0.1, 0.1, 0] * 5)
    found = noise(*(list(np.exp(draw.normal(turns, 0.02))) for _ in range(4)))
    assert found.drift(SPEED, HOW) is not None
    assert found.offset(SPEED, HOW) > 0
    assert (found.drift(SPEED, "another"), found.offset(SPEED, "another")) == (None, 0.0)
    assert (found.count(SPEED, "another"), found.within(SPEED, "another")) == (0, None)


def test_sessions_of_one_day_are_one():
    """Minutes later nothing has drifted yet."""
    lines = [
        (Values(line=SPEED, setup=HOW, values=(mean, mean * 1.001)),)
        for mean in (1.0, 1.1, 1.0, 1.2)
    ]
    times = ("2026-01-01T10:00", "2026-01-01T10:05", "2026-01-02T10:00", "2026-01-03T10:00")
    found = Noise(machine="here")
    for started, line in zip(times, lines, strict=True):
        found = found.with_sessions([Session(started=started, commit="c", lines=line)])
    drift = found.drift(SPEED, HOW)
    assert drift is not None
    assert drift.freedom == 2
    first_two = Noise(machine="here", sessions=found.sessions[:3])
    assert first_two.drift(SPEED, HOW) is None
