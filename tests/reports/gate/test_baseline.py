"""Baseline files: what is written is read back, and what cannot be compared with is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from reports.errors import ReportError
from reports.flat import flat
from reports.gate.baseline import Baseline, gather, read_baseline
from reports.gate.noise import Noise, Session, Values
from reports.record import Metric
from reports.results import read_plan, read_stages
from tests.reports.gate.measured import HOW, answered, baseline, timed
from tests.reports.gate.measured import MEMORY as MEMORY_LINE
from tests.reports.gate.measured import SPEED as SPEED_LINE
from tests.reports.statistics.simulated import answers
from tests.reports.synthetic_store import SyntheticStore, accuracy, fill


@pytest.fixture
def saved() -> Baseline:
    """One speed and one accuracy."""
    given = answers(np.random.default_rng(0), seeds=3, items=500, seed_sd=0.01)
    return baseline(timed([1.0, 1.1, 0.9]), answered(given))


def test_a_baseline_is_read_back(saved: Baseline, tmp_path: Path):
    """Every run with its items; a file for git, with a line for each line of it."""
    path = tmp_path / "b.json"
    path.write_bytes(saved.to_bytes())
    assert read_baseline(path) == saved
    text = path.read_text()
    assert len(text) < 2000
    assert sum('"line"' in each for each in text.splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 3}, "baseline schema 3; this version reads 2"),
        ({"schema": 1}, "baseline schema 1; this version reads 2: remove it and make it again"),
        ({"schema": None}, "baseline schema None"),
        ({"measured": [{"line": 3}]}, "measured.0.line"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_foreign_baseline_is_refused(
    saved: Baseline, tmp_path: Path, change: dict[str, object], says: str
):
    """A newer schema, missing and unknown fields: one line with the file and what is wrong."""
    content = {**json.loads(saved.to_bytes()), **change}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match=says) as error:
        read_baseline(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", "null", '"x"', "[" * 100_000])
def test_no_baseline_at_all_is_refused(tmp_path: Path, text: str):
    """Half a file and other JSON."""
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(ReportError):
        read_baseline(path)


def test_an_absent_file_says_what_writes_one(tmp_path: Path):
    """Newcomers have none."""
    with pytest.raises(ReportError, match="baseline save"):
        read_baseline(tmp_path / "none.json")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(saved: Baseline, tmp_path: Path, constant: str):
    """Nothing is worse than NaN, and nothing is better."""
    path = tmp_path / "b.json"
    path.write_text(saved.to_bytes().decode().replace("1.1", constant))
    with pytest.raises(ReportError, match="is no number"):
        read_baseline(path)


def test_a_seed_that_is_there_twice_is_refused(saved: Baseline, tmp_path: Path):
    """Copied runs would make any spread as small as one likes."""
    content = json.loads(saved.to_bytes())
    content["measured"][1]["runs"] *= 2
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ReportError, match="twice"):
        read_baseline(path)


def forged(saved: Baseline, tmp_path: Path, line: int, change: dict[str, object]) -> Path:
    """The file with something of the first run of a line replaced."""
    content = json.loads(saved.to_bytes())
    run = content["measured"][line]["runs"][0]
    items = change.pop("items", None)
    run |= change
    if isinstance(items, dict):
        run["items"] |= items
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "items",
    [
        {"values": "A"},
        {"values": ""},
        {"count": 400},
        {"count": 504},
        {"count": 10**12},
        {"count": 0},
        {"count": -5},
        {"encoding": "float32"},
        {"weights": "AAAA"},
    ],
)
def test_items_that_do_not_make_the_value_are_refused(
    saved: Baseline, tmp_path: Path, items: dict[str, object]
):
    """Nobody measured them: a line, no traceback."""
    with pytest.raises(ReportError, match="items do not make") as error:
        read_baseline(forged(saved, tmp_path, 1, {"items": items}))
    assert "\n" not in str(error.value)


def test_a_value_that_its_items_do_not_make_is_refused(saved: Baseline, tmp_path: Path):
    """A baseline made worse by hand."""
    with pytest.raises(ReportError, match=r"do not make 0\.1"):
        read_baseline(forged(saved, tmp_path, 1, {"value": 0.1}))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_has_no_ratio_is_refused(saved: Baseline, tmp_path: Path, value: float):
    """A speed of nothing would make any speed a gain."""
    with pytest.raises(ReportError, match="is not above 0"):
        read_baseline(forged(saved, tmp_path, 0, {"value": value}))


def test_lines_without_runs_and_lines_that_are_there_twice_are_refused(
    saved: Baseline, tmp_path: Path
):
    """Neither is what a suite leaves; nor is nothing."""
    path = tmp_path / "b.json"
    whole = json.loads(saved.to_bytes())
    empty = [{**whole["measured"][0], "runs": []}]
    for measured, says in (
        (empty, "no run"),
        (whole["measured"] * 2, "twice"),
        ([], "nothing was measured"),
    ):
        path.write_text(json.dumps({**whole, "measured": measured}))
        with pytest.raises(ReportError, match=says):
            read_baseline(path)


def test_gathered_from_a_store(tmp_path: Path):
    """The main metric of every evaluation, speed and memory of every training; no more."""
    plan = read_plan(fill(SyntheticStore(tmp_path)))
    found = gather(read_stages(tmp_path, plan), suite="s", profile=None, machine="m")
    stages = {(each.line.stage, each.line.metric) for each in found.measured}
    assert ("evaluate", "perplexity") in stages
    assert ("evaluate", "top1") in stages
    assert ("tune", "throughput_tokens_real") in stages
    assert ("finetune", "peak_memory_process") in stages
    assert not any(stage in ("emulator", "disclose") for stage, _ in stages)
    plug_in = next(each for each in found.measured if each.line.setting == "plug_in")
    assert [run.seed for run in plug_in.runs] == [0, 1, 2]


def test_what_failed_is_named(tmp_path: Path):
    """A case that has no record is missing from the baseline, with its reason."""
    plan = read_plan(fill(SyntheticStore(tmp_path)))
    found = gather(read_stages(tmp_path, plan), suite="s", profile=None, machine="m")
    assert any("oom_host" in each.text for each in found.missing)


def test_some_runs_that_failed_are_missing(tmp_path: Path):
    """Three of five are not what was asked for."""
    plan = read_plan(fill(SyntheticStore(tmp_path)))
    runs = read_stages(tmp_path, plan)
    found = gather(runs, suite="s", profile=None, machine="m", repeats=5)
    places = {each.place.stage for each in found.missing if "of 5 runs" in each.why}
    assert places == {"tune", "finetune"}


def test_why_some_runs_failed_is_told(tmp_path: Path):
    """Not only that they did."""
    store = SyntheticStore(tmp_path)
    digest = store.plan("finetune", model="m", task="t", tuning="full", seed=3)
    store.save(store.record(digest, "finetune", SPEED))
    failed = {"outcome": "oom_host", "reason": "too large", "repeat": 1}
    store.save_attempt(store.record(digest, "finetune", **failed))
    runs = read_stages(tmp_path, read_plan(store.save_plan()), (0, 1))
    found = gather(runs, suite="s", profile=None, machine="m", repeats=2)
    assert [each.why for each in found.missing] == ["1 of 2 runs; oom_host: too large"]


def test_how_a_model_was_trained_is_how_its_score_was_measured(tmp_path: Path):
    """The emulator and the tuning that an evaluation goes on from; of seeds nothing."""
    made = []
    for steps, keep, seed in ((4, 2, 0), (4, 2, 1), (5, 2, 0), (4, 3, 0)):
        store = SyntheticStore(tmp_path / f"{steps}{keep}{seed}")
        row = {"model": "m", "layout": "2-4-2", "compression": "c", "task": "t"}
        emulator = store.plan("emulator", **row)
        tuned = store.plan("tune", tuning="full", seed=seed, **row)
        scored = store.plan("evaluate", setting="plug_in", tuning="full", seed=seed, **row)
        params = {"compression": [{"keep": keep}]}
        store.save(store.record(emulator, "emulator", params=params, inputs={"model": "m1"}))
        params = {"train": {"max_steps": steps}, "seed": seed}
        inputs = {"emulator": emulator, "data": "d1"}
        store.save(store.record(tuned, "tune", params=params, inputs=inputs))
        inputs = {"tuned": tuned, "emulator": emulator, "data": "d2"}
        given = {"params": {"evaluate": {"examples": 9}}, "inputs": inputs}
        store.save(store.record(scored, "evaluate", accuracy("acc", 0.5, 0.1), **given))
        runs = read_stages(store.root, read_plan(store.save_plan()))
        (found,) = gather(runs, suite="s", profile=None, machine="m").measured
        made.append(found)
    first = dict(flat(made[0].setup))
    assert first["tuned.train.max_steps"] == 4
    assert first["tuned.emulator.model"] == "m1"
    assert (first["data"], first["tuned.data"]) == ("d2", "d1")
    assert made[1].measured_how == made[0].measured_how
    assert len({each.measured_how for each in made}) == 3


def test_a_baseline_holds_what_is_known_of_the_noise_of_its_lines(saved: Baseline, tmp_path: Path):
    """Nothing of others, or of lines that were measured otherwise."""
    sessions = [
        Session(
            started=str(day),
            commit="c",
            lines=(
                Values(line=SPEED_LINE, setup=HOW, values=(1.0, 1.1)),
                Values(line=SPEED_LINE, setup="another batch size", values=(2.0, 2.1)),
                Values(line=MEMORY_LINE, setup=HOW, values=(3.0, 3.1)),
            ),
        )
        for day in range(3)
    ]
    path = tmp_path / "b.json"
    path.write_bytes(saved.with_noise(Noise(machine="m", sessions=tuple(sessions))).to_bytes())
    known = read_baseline(path).noise
    assert known is not None
    assert known.drift(SPEED_LINE, HOW) is not None
    assert [len(each.lines) for each in known.sessions] == [1, 1, 1]
    assert saved.with_noise(Noise(machine="m")).noise is None
    assert read_baseline(path).of_scores().noise is None


def test_nothing_at_all_is_all_missing(tmp_path: Path):
    """Code that cannot run anything is judged, not refused."""
    store = SyntheticStore(tmp_path)
    store.plan("finetune", model="m", task="t", tuning="full", seed=3)
    runs = read_stages(tmp_path, read_plan(store.save_plan()))
    found = gather(runs, suite="s", profile=None, machine="m")
    assert found.measured == ()
    assert [each.text for each in found.missing] == ["m full t finetune seed 3: not run"]


SPEED = Metric(metric="throughput_samples", value=9.0, unit="samples/s", better="higher")
MEMORY = Metric(metric="peak_memory_process", value=9.0, unit="bytes", better="lower")
CLOCK = {"memory": {"phases": {"train": {"gpu_state": {"clock": {"median": 1740, "lowest": 9}}}}}}
CANARY = {"canary": {"before": {"seconds": 0.25}, "after": {"seconds": 0.75}}}


def trained(root: Path, facts: Mapping[str, object]) -> Baseline:
    """One training that left these facts: its memory and its speed."""
    store = SyntheticStore(root)
    digest = store.plan("finetune", model="m", task="t", tuning="full", seed=0)
    store.save(store.record(digest, "finetune", MEMORY, SPEED, facts=facts))
    runs = read_stages(root, read_plan(store.save_plan()))
    return gather(runs, suite="s", profile=None, machine="m")


def test_a_speed_keeps_the_clock_and_the_canary(tmp_path: Path):
    """The median while it trained, the canary's mean; and both are read back."""
    found = trained(tmp_path, {**CLOCK, **CANARY})
    runs = {each.line.metric: each.runs[0] for each in found.measured}
    assert runs["throughput_samples"].clock == 1740
    assert runs["throughput_samples"].canary == 0.5
    path = tmp_path / "b.json"
    path.write_bytes(found.to_bytes())
    assert read_baseline(path) == found


def test_a_memory_keeps_neither(tmp_path: Path):
    """They explain nothing of it, and are there once already."""
    (run,) = (
        each.runs[0]
        for each in trained(tmp_path, {**CLOCK, **CANARY}).measured
        if each.line.metric == "peak_memory_process"
    )
    assert (run.clock, run.canary) == (None, None)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"memory": {"phases": {"train": {"gpu_state": {"missing": {"clock": "not supported"}}}}}},
        {"memory": {"phases": {"train": {"gpu_state": {"clock": {"median": 0}}}}}},
        {"memory": {"phases": {"train": {"sampling": {"reason": "no sampler was started"}}}}},
        {"memory": None, "canary": {"before": {"seconds": 0.25}}},
        {"memory": [1], "canary": {"before": {"seconds": "?"}, "after": {"seconds": 1.0}}},
    ],
)
def test_what_was_not_recorded_is_absent(tmp_path: Path, facts: dict[str, object]):
    """No clock, no canary, half of one: a file without them, as older versions wrote it."""
    found = trained(tmp_path, facts)
    assert all(run.clock is run.canary is None for each in found.measured for run in each.runs)
    assert b"clock" not in found.to_bytes()
    assert b"canary" not in found.to_bytes()


@pytest.mark.parametrize("field", ["clock", "canary"])
@pytest.mark.parametrize("value", ["0", "-1", "1e999"])
def test_a_clock_that_has_no_logarithm_is_refused(
    saved: Baseline, tmp_path: Path, field: str, value: str
):
    """Cycles of such a clock are none."""
    path = tmp_path / "b.json"
    text = saved.to_bytes().decode()
    path.write_text(text.replace('"value": 1.1', f'"{field}": {value}, "value": 1.1'))
    with pytest.raises(ReportError, match=rf"runs.1.{field}: Input should be") as error:
        read_baseline(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["code", "python", "packages", "commit"])
def test_several_codes_are_no_baseline(tmp_path: Path, change: str):
    """What two states of the code or its packages measured is the work of neither."""
    store = SyntheticStore(tmp_path)
    metric = Metric(metric="acc", value=0.5, unit="fraction", better="higher")
    for seed, what in enumerate(("a", "b")):
        digest = store.plan("evaluate", model="m", task="t", setting="plug_in", seed=seed)
        record = store.record(digest, "evaluate", metric)
        # Old records know their commit alone; where the code is known the commit is only a name.
        known = {} if change == "commit" else {"code": "c"}
        store.save(record.model_copy(update={"environment": {**known, change: what}}))
    runs = read_stages(tmp_path, read_plan(store.save_plan()))
    with pytest.raises(ReportError, match="2 states of the code"):
        gather(runs, suite="s", profile=None, machine="m")


def test_commits_with_the_same_code_are_one(tmp_path: Path):
    """A change of a document measures nothing else."""
    store = SyntheticStore(tmp_path)
    metric = Metric(metric="acc", value=0.5, unit="fraction", better="higher")
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        digest = store.plan("evaluate", model="m", task="t", setting="plug_in", seed=seed)
        record = store.record(digest, "evaluate", metric)
        environment = {"commit": commit, "code": "c"}
        store.save(record.model_copy(update={"environment": environment}))
    runs = read_stages(tmp_path, read_plan(store.save_plan()))
    assert gather(runs, suite="s", profile=None, machine="m").commit == "b" * 40


def test_scores_alone(saved: Baseline):
    """What is a machine's own is left out, and nothing else."""
    stages = {each.line.stage for each in saved.measured}
    assert {"evaluate"} < stages
    kept = saved.of_scores()
    assert kept.measured == tuple(m for m in saved.measured if m.line.metric == "acc")
    assert kept.commit == saved.commit
