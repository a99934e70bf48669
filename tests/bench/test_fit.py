"""`fit`: the search, what it reuses, what it calls unknown, and one search for real."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli import call
from bench.environment import this_machine
from bench.errors import BenchError
from bench.fit import asked, finding
from bench.fit.asked import read_budgets
from bench.fit.probes import OUT_OF_MEMORY, Probes, Row, Tried, rows_of
from bench.fit.search import Limit, Undetermined, find_limit, largest, limits
from bench.fit.table import Found, fit_table, told
from bench.plan import Labels, Stage, read_plan
from bench.stages.outcome import FAILED, describe
from bench.store import Store
from bench.suite import Suite, load_suite
from bench.world import World, look_up
from reports.record import Outcome
from tests.bench.command import offsite_bench

OVER = OUT_OF_MEMORY[this_machine().device]


@given(most=st.integers(1, 5000), data=st.data())
def test_the_search_finds_every_threshold_with_few_questions(most, data):
    """Whatever is known before, and never above the largest batch allowed."""
    threshold = data.draw(st.integers(0, 2 * most))
    known = data.draw(st.integers(0, min(threshold, most)))
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= threshold

    found = largest(fits, most=most, known=known)
    assert found == min(threshold, most)
    assert all(known < batch <= most for batch in tried)
    assert len(tried) == len(set(tried)) <= 2 * math.log2(max(found, 1)) + 2


def up_to(threshold: int) -> Callable[[int], str | None]:
    """A trial that runs out of memory above `threshold`."""
    return lambda batch: None if batch <= threshold else f"{batch} is too much"


def test_a_limit_names_how_the_next_batch_ran_out_of_memory():
    """That is half of the answer: a number alone could be anything below the limit."""
    assert find_limit(up_to(11), up_to(11), most=64) == Limit(batch=11, beyond="12 is too much")
    assert find_limit(up_to(0), up_to(0), most=64) == Limit(batch=0, beyond="1 is too much")


def test_the_largest_batch_allowed_has_no_next():
    """It is not said to be the limit."""
    assert find_limit(up_to(99), up_to(99), most=64) == Limit(batch=64, beyond=None)


def test_what_only_trains_a_few_steps_is_not_the_answer():
    """The search goes down to what trains the whole confirming run, and says how far."""
    limit = find_limit(up_to(11), up_to(9), most=64)
    assert limit == Limit(batch=9, beyond="10 is too much", dropped=2)


def test_a_larger_budget_begins_where_the_smaller_one_ended():
    """What trains in 8 GB is not tried again in 16."""
    tried: list[tuple[float, int, int]] = []

    def trial(budget: float, steps: int, batch: int) -> str | None:
        tried.append((budget, steps, batch))
        return up_to(int(budget))(batch)

    found = dict(limits(trial, [16, 8], most=64, steps=50))
    assert {budget: answer.batch for budget, answer in found.items()} == {8: 8, 16: 16}
    assert min(batch for budget, steps, batch in tried if budget == 16) == 16
    assert {batch for _, steps, batch in tried if steps == 50} == {8, 16}


def test_another_failure_is_not_called_too_little_memory():
    """It stands in its cell with its reason; the other budgets are still answered."""

    def trial(budget: float, steps: int, batch: int) -> str | None:
        if budget == 8:
            raise Undetermined("failed: index out of range")
        return up_to(2)(batch)

    first, second = (answer for _, answer in limits(trial, [8, 16], most=64, steps=50))
    assert isinstance(first, Undetermined)
    assert second == Limit(batch=2, beyond="3 is too much")


class Trainer:
    """Trains as many samples as the cap has GB, without training anything."""

    def __init__(self, outcome: Outcome = OVER) -> None:
        self.outcome = outcome
        self.ran: list[Stage] = []

    def run(self, results: Path, plan: str, stage: str, log: Path) -> int:
        store = Store.open(results)
        found = next(s for s in read_plan(store.read_plan(plan)).stages if s.digest == stage)
        self.ran.append(found)
        train = found.params.get("train", {})
        if train.get("batch_size", 8) <= train.get("memory_cap", math.inf):
            store.save_record(describe(found, "ok", None, {}))
            return 0
        store.save_attempt(describe(found, self.outcome, "not enough", {}))
        return FAILED

    @property
    def batches(self) -> list[int]:
        """Of every training it was asked for."""
        return [s.params["train"].get("batch_size", 8) for s in self.ran if s.kind != "emulator"]


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Four trainings: full and LoRA, of the whole model and of its emulator."""
    return load_suite("efficiency", profile="smoke")


@pytest.fixture(scope="module")
def world(suite: Suite) -> World:
    """Of this machine."""
    return look_up(suite, online=False)


@pytest.fixture
def probes(suite: Suite, world: World, tmp_path: Path) -> Probes:
    """Trials of that suite in an empty store."""
    store = Store.create(tmp_path / "r")
    return Probes(suite=suite, world=world, store=store, executor=Trainer())


def test_every_training_of_a_suite_is_a_row_with_each_length(suite, world):
    """Peers and repeats make no rows; what is too long for a model is marked."""
    rows = rows_of(suite, world, [64, 2048])
    named = {(row.labels.layout, row.labels.tuning) for row in rows}
    assert len(named) == 4
    assert len(rows) == 8
    assert [row.length for row in rows if row.is_readable] == [64] * 4


def test_overrides_of_a_suite_stay_but_for_what_is_searched(suite, world, tmp_path):
    """The batch is the one tried, also where the suite gives a task one of its own."""
    path = tmp_path / "own.yaml"
    origin = Path(suite.origin).parent / "models/stand-ins/gpt2-xl-narrow"
    path.write_text(
        f"""\
schema: 1
name: own
models: {{lm: {{source: "random:{origin}"}}}}
tasks: {{tokens: {{task: synthetic_tokens, length: 32}}}}
matrix:
  - model: lm
    adapter_blocks: 2+2
    compression: {{method: layer_drop, keep: 4}}
    tuning: {{method: full}}
    task: tokens
    seed: [0, 1]
settings: [emulator_finetuned]
overrides:
  - {{when: {{task: tokens}}, train: {{batch_size: 16, gradient_checkpointing: true}}}}
"""
    )
    own = load_suite(str(path))
    trainer = Trainer()
    probes = Probes(
        suite=own, world=look_up(own, online=False), store=Store.create(tmp_path / "r"),
        executor=trainer,
    )  # fmt: skip
    (row,) = rows_of(own, probes.world, [])
    probes.trial(row, 4.0, 3, 2)
    assert trainer.ran[-1].params["train"] == {
        "batch_size": 2,
        "gradient_checkpointing": True,
        "max_steps": 3,
        "memory_cap": 4.0,
    }


def test_a_second_search_runs_nothing(probes):
    """Neither what trained nor what ran out of memory is tried again."""
    row = rows_of(probes.suite, probes.world, [])[-1]
    first = list(limits(partial(probes.trial, row), [5.0, 9.0], most=64, steps=50))
    assert [answer.batch for _, answer in first] == [5, 9]
    assert len(probes.executor.ran) == len({stage.digest for stage in probes.executor.ran})
    ran = list(probes.executor.ran)
    second = list(limits(partial(probes.trial, row), [5.0, 9.0], most=64, steps=50))
    assert second == first
    assert probes.executor.ran == ran


def test_a_training_that_fails_otherwise_is_tried_again_and_not_known(suite, world, tmp_path):
    """Its reason is that of the attempt."""
    trainer = Trainer("failed")
    store = Store.create(tmp_path / "r")
    probes = Probes(suite=suite, world=world, store=store, executor=trainer)
    row = rows_of(suite, world, [])[0]
    for _ in range(2):
        with pytest.raises(Undetermined, match="failed: not enough"):
            probes.trial(row, 1.0, 3, 2)
    assert trainer.batches == [2, 2]


@pytest.mark.parametrize(("outcome", "status"), [(OVER, 0), ("failed", 3)])
def test_the_verb_shows_a_table_and_says_whether_it_is_whole(
    outcome, status, capsys, tmp_path, monkeypatch
):
    """A cell without an answer is exit 3; table, page and CSV are there either way."""
    monkeypatch.setattr(finding, "LocalExecutor", lambda: nullcontext(Trainer(outcome)))
    monkeypatch.setattr(finding, "stop_on_signals", lambda: None)
    monkeypatch.setattr(asked, "memory_of", lambda machine: 8 * 10**9)
    monkeypatch.chdir(tmp_path)
    assert call(["fit", "efficiency", "--profile", "smoke", "--budget", "2,6.5"]) == status
    shown = capsys.readouterr()
    cell = "6 (192)" if status == 0 else "failed: not enough"
    folder = tmp_path / "results/reports/efficiency.smoke"
    assert cell in shown.out
    assert cell in (folder / "fit.md").read_text()
    assert cell in (folder / "fit.csv").read_text()
    assert "layer_drop(keep=16) full: batch 2 x 32 in 2 GB: " in shown.err


def row_of(layout: str) -> Row:
    """A row of a table."""
    labels = Labels(model="lm", layout=layout, tuning="full", task="tokens")
    return Row(labels=labels, length=512, positions=None)


def test_a_cell_is_a_batch_with_its_tokens_or_says_what_it_is():
    """Every kind of answer, and a footnote where there is more to say."""
    full, emulated = row_of(""), row_of("2-4-2")
    answers = [
        (full, 8.0, Limit(batch=0, beyond="oom")),
        (full, 16.0, Undetermined("failed: IndexError")),
        (emulated, 8.0, Limit(batch=9, beyond="oom", dropped=2)),
        (emulated, 16.0, Limit(batch=1024, beyond=None)),
    ]
    found = [Found(row=row, budget=budget, answer=each) for row, budget, each in answers]
    table = fit_table("suite", found, ["a note"])
    shown = [[cell.text for cell in row] for row in table.rows]
    assert [row[-2:] for row in shown] == [
        ["does not fit", "not known"],
        ["9 (4,608)", "1,024 (524,288)"],
    ]
    assert [text for _, text in table.footnotes] == [
        "failed: IndexError",
        "Up to 11 trained a few steps, and ran out of memory later.",
        "More than 1,024 was not tried (--max-batch).",
    ]
    assert [each.as_dict()["tokens"] for each in found] == [0, None, 4608, 524288]


def test_a_trial_is_told_in_one_line():
    """What was trained, how, and what came of it."""
    tried = Tried(row=row_of("2-4-2"), budget=0.5, batch=3, steps=3, reason="oom", seconds=1.26)
    line = "lm OT 2-4-2 full: batch 3 x 512 in 0.5 GB: out of memory (3 steps, 1.3 s)"
    assert told(tried) == line


def test_the_budgets_are_those_the_machine_can_hold():
    """Without any given; each once, the smallest first."""
    assert read_budgets(None, 25 * 10**9) == [8, 12, 16, 24]
    assert read_budgets("12,0.5,12", 25 * 10**9) == [0.5, 12]
    with pytest.raises(BenchError, match="--budget"):
        read_budgets(None, 2 * 10**9)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--budget", "1e6"], "this machine's"),
        (["--budget", "8,many"], "positive numbers"),
        (["--budget", "nan"], "positive numbers"),
        (["--budget", "-1"], "positive numbers"),
        (["--length", "1.5"], "positive numbers"),
        (["--length", "4096"], "too long"),
    ],
)
def test_bad_requests_are_one_line(arguments, hint, capsys, tmp_path, monkeypatch):
    """What was given and what would work; exit 2; no store is made."""
    monkeypatch.chdir(tmp_path)
    assert call(["fit", "efficiency", "--profile", "smoke", "--budget", "0.5", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert hint in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_suite_of_real_tasks_is_refused(capsys, tmp_path, monkeypatch):
    """Samples of every length have no one limit."""
    monkeypatch.chdir(tmp_path)
    assert call(["fit", "quickstart", "--budget", "0.5"]) == 2
    assert "synthetic_tokens" in capsys.readouterr().err


TINY = """\
schema: 1
name: tiny
models: {{lm: {{source: "random:{folder}"}}}}
tasks: {{tokens: {{task: synthetic_tokens, length: 512}}}}
matrix:
  - model: lm
    adapter_blocks: 1+1
    compression: {{method: layer_drop, keep: 2}}
    tuning: {{method: full}}
    task: tokens
    seed: 0
settings: [emulator_finetuned]
"""
CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 128,
    "n_head": 2,
    "n_layer": 6,
    "n_positions": 512,
    "vocab_size": 512,
}


@pytest.mark.skipif(this_machine().device != "cpu", reason="budgets below what CUDA takes")
def test_a_search_for_real(tmp_path):
    """More memory trains at least as much, and the next batch is out of memory in the store."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tiny.yaml").write_text(TINY.format(folder=tmp_path / "model"))
    options = ["tiny.yaml", "--budget", "0.6,0.8", "--confirm-steps", "4", "--results", "r"]
    done = offsite_bench("fit", *options, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout)["rows"]
    # How much smaller depends on what the libraries take of the smaller one.
    assert small["batch"] <= large["batch"] > 0
    assert large["tokens"] == 512 * large["batch"]
    store = Store.open(tmp_path / "r")
    over = {
        (record.params["train"]["memory_cap"], record.params["train"].get("batch_size", 8))
        for folder in (tmp_path / "r/attempts").iterdir()
        for record in store.attempts(folder.name)
        if record.outcome == "oom_host"
    }
    assert {(0.6, small["batch"] + 1), (0.8, large["batch"] + 1)} <= over
    with (tmp_path / "r/reports/tiny/fit.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["0.8 GB"] == f"{large['batch']:,} ({large['tokens']:,})"
