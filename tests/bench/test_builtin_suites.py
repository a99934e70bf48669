"""Every suite that comes along: it plans with no network, says what the paper did, and runs."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import bench.executors.local as local
from bench.cli import call
from bench.plan import Plan, plan
from bench.sources import Source
from bench.suite import Suite, builtin_suites, load_suite
from bench.tasks.data import LocalData
from bench.world import World
from offsite.compression import methods
from offsite.tuning_methods import METHODS as TUNINGS
from reports.published import Place, place, published_numbers
from reports.record import read_record
from tests.bench.command import ROOT, environment
from tests.bench.worlds import ENVIRONMENT

SUITES = builtin_suites()
PAPER = [name for name in SUITES if name.startswith("paper/")]
SMOKE = [name for name in SUITES if "/" in name]
STAND_INS = ROOT / "suites" / "models" / "stand-ins"
DEPTHS = {
    "bloom-7b1": 30,
    "clip-vit-g": 40,
    "eva-giant": 40,
    "gpt2-xl": 48,
    "gpt2-xl-narrow": 48,
    "opt-1.3b": 24,
    "opt-6.7b": 32,
    "qwen2.5-0.5b": 24,
    "tiny-lm": 12,
    "tiny-vit": 10,
}
"""Blocks of the models that built-in suites name."""
LAYOUTS = {
    "paper/table1": {("gpt2-xl", "2-16-2"), ("opt-1.3b", "2-8-2")},
    "paper/table2": {("opt-6.7b", "2-18-2"), ("bloom-7b1", "2-12-2")},
    "paper/table3": {("eva-giant", "4-22-4"), ("clip-vit-g", "4-16-4")},
    "paper/table5": {("gpt2-xl", "2-16-2"), ("opt-1.3b", "2-8-2")},
    "paper/figure3": {
        ("opt-1.3b", f"{a}-{24 - a - b}-{b}")
        for a, b in [
            *((n, 0) for n in (2, 4, 6, 8)),
            *((0, n) for n in (2, 4, 6, 8)),
            *((n, n) for n in (1, 2, 3, 4)),
        ]
    },
    "paper/figure4": {("opt-1.3b", f"2-{keep}-2") for keep in range(2, 21, 2)},
}
LAYERS = {
    ("gpt2-xl", 16): [2, 5, 8, 11, 13, 16, 19, 22, 25, 28, 31, 34, 36, 39, 42, 45],
    ("opt-1.3b", 8): [2, 5, 7, 10, 13, 16, 18, 21],
    ("opt-6.7b", 18): [2, 4, 5, 7, 8, 10, 12, 13, 15, 16, 18, 19, 21, 23, 24, 26, 27, 29],
    ("bloom-7b1", 12): [2, 4, 7, 9, 11, 13, 16, 18, 20, 22, 25, 27],
    ("eva-giant", 22): [
        *(4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26, 28, 29, 31, 32, 34, 35)
    ],
    ("clip-vit-g", 16): [4, 6, 8, 10, 12, 14, 16, 18, 21, 23, 25, 27, 29, 31, 33, 35],
}
"""The blocks that the authors' code keeps."""


def profiles_of(name: str) -> list[str | None]:
    """The suite as it is, and each of its profiles."""
    written = load_suite(name).root.value
    assert isinstance(written, dict)
    profiles = written["profiles"].value if "profiles" in written else {}
    assert isinstance(profiles, dict)
    return [None, *profiles]


def known_world(suite: Suite) -> World:
    """A world that knows the models' depths and commits, as if the hub had been asked."""
    vision = {"tiny-vit", "eva-giant", "clip-vit-g"}
    sources = {
        name: Source(
            location=spec.source,
            digest=f"commit:{spec.source}@c0ffee",
            revision="c0ffee",
            depth=DEPTHS[name],
            kind="vision" if name in vision else "language",
        )
        for name, spec in suite.models.items()
    }
    return World(
        sources=sources,
        data={name: LocalData({}, name) for name in suite.tasks},
        environment=ENVIRONMENT,
    )


def planned(name: str, profile: str | None) -> Plan:
    """The plan of a suite, with everything about its models known."""
    suite = load_suite(name, profile=profile)
    return plan(suite, known_world(suite))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has neither network nor anything from the hub."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.mark.parametrize("name", SUITES)
def test_every_profile_plans_with_no_network(name, no_network, capsys, tmp_path):
    """`plan` says what would run, whatever it would have to ask the hub for later."""
    for profile in profiles_of(name):
        chosen = ["--profile", profile] if profile else []
        assert call(["plan", name, *chosen, "--results", str(tmp_path / "r"), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["cases"]
        assert shown["stages"]


@pytest.mark.parametrize("name", PAPER)
def test_a_suite_of_the_paper_has_its_layouts(name):
    """In every profile but the smoke test, and nothing else in it."""
    assert profiles_of(name) == [None, "paper", "fair", "smoke"]
    for profile in (None, "paper", "fair"):
        stages = planned(name, profile).stages
        found = {(s.labels.model, s.labels.layout) for s in stages if s.labels.layout}
        assert found == LAYOUTS[name], profile


@pytest.mark.parametrize(("name", "table"), [(f"paper/table{n}", str(n)) for n in (1, 2, 3)])
def test_what_the_paper_published_is_planned(name, table):
    """Each published number finds its row, but for RACE, which is another task here."""
    numbers = [number for number in published_numbers().values() if number.table == table]
    published = {n.place._replace(metric="") for n in numbers if n.place.task != "race"}
    stages = planned(name, "paper").stages
    ours: set[Place] = {
        place(
            model=s.labels.model,
            layout=s.labels.layout,
            compression=s.labels.compression,
            tuning=s.labels.tuning,
            setting=s.labels.setting,
            task=s.labels.task,
            metric="",
        )
        for s in stages
        if s.kind == "evaluate"
    }
    assert published <= ours


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_protocol_is_one_seed(name):
    """Its own."""
    suite = load_suite(name, profile="paper")
    assert {case.seed for case in suite.cases()} == {42}


@pytest.mark.parametrize("name", PAPER)
def test_fair_is_three_seeds_and_one_budget(name):
    """What is compared on a task has as many steps of the same size, and the same choice."""
    suite = load_suite(name, profile="fair")
    cases = suite.cases()
    assert len({case.seed for case in cases}) == 3
    budgets: dict[str, set[tuple[object, ...]]] = {}
    for case in cases:
        for setting in ("full_finetuned", "emulator_finetuned"):
            train = suite.train_for(case, setting)
            budget = train.model_dump(exclude={"learning_rate", "head_learning_rate"})
            budgets.setdefault(case.task, set()).add(tuple(budget.items()))
    assert all(len(each) == 1 for each in budgets.values())


@pytest.mark.parametrize("name", PAPER)
def test_fair_chooses_on_a_slice_of_train(name):
    """A checkpoint is chosen on rows that are neither tuned on nor scored."""
    suite = load_suite(name, profile="fair")
    for case in suite.cases():
        chosen_among = suite.train_for(case, "emulator_finetuned").checkpoints
        hub = suite.tasks[case.task].hub
        assert hub is not None
        if chosen_among > 1:
            assert suite.train_for(case, "emulator_finetuned").selection == "validation"
            # The whole train split of flowers is as small as its validation split.
            of = "validation" if case.task == "flowers102" else "train"
            assert hub.splits["validation"].startswith(f"{of}[")
            assert hub.splits["train"] != of


@pytest.mark.parametrize("name", PAPER)
def test_paper_chooses_on_the_reported_split_where_the_authors_did(name):
    """WikiText, PIQA, HellaSwag and images; CIFAR on the part of train that they reported."""
    suite = load_suite(name, profile="paper")
    for case in suite.cases():
        for setting in ("full_finetuned", "emulator_finetuned"):
            train = suite.train_for(case, setting)
            if case.task in ("wikitext2", "piqa", "hellaswag") or name == "paper/table3":
                expected = "validation" if case.task.startswith("cifar") else "paper"
                assert (train.checkpoints > 1, train.selection) == (True, expected)
            elif train.checkpoints > 1:
                assert train.selection == "validation"


@pytest.mark.parametrize("name", SMOKE)
def test_a_smoke_profile_needs_no_network(name):
    """Its models are folders and its data are files or built in."""
    suite = load_suite(name, profile="smoke")
    for case in suite.cases():
        assert suite.models[case.model].source.removeprefix("random:").startswith("/")
        corpora = [step.corpus for step in case.compression if step.corpus]
        assert all(suite.tasks[task].hub is None for task in (case.task, *corpora))
        assert suite.models[case.model].dtype == "float32"


def test_no_method_is_without_a_suite():
    """Each compression and each tuning stands in a suite, so that comparing it is one command."""
    cases = [case for name in SUITES for case in load_suite(name).cases()]
    compressions = {step.method for case in cases for step in case.compression}
    assert set(methods.METHODS) == compressions
    assert set(TUNINGS) == {case.tuning.method for case in cases}


@pytest.mark.parametrize("name", sorted(p.name for p in STAND_INS.iterdir() if p.is_dir()))
def test_a_stand_in_is_as_deep_as_its_model_and_small(name):
    """What a layout depends on is real; the rest is a few thousand bytes."""
    config = json.loads((STAND_INS / name / "config.json").read_text())
    fields = {**config, **config.get("model_args", {})}
    depths = [fields[key] for key in ("num_hidden_layers", "n_layer", "depth") if key in fields]
    assert depths == [DEPTHS[name]]
    assert sum(p.stat().st_size for p in (STAND_INS / name).iterdir()) < 20_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all suites: what they share is done once."""
    return tmp_path_factory.mktemp("suites") / "results"


@pytest.fixture(scope="module")
def warm_executor() -> Iterator[type[local.LocalExecutor]]:
    """The real executor, whose server serves every suite: starting it takes seconds."""
    executor = local.LocalExecutor()

    class Warm(local.LocalExecutor):
        def __enter__(self) -> local.LocalExecutor:
            return executor

        def __exit__(self, *_: object) -> None:
            return

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
        yield Warm
    executor.stop()


@pytest.fixture
def run_here(warm_executor, monkeypatch) -> Iterator[None]:
    """`run` in this process, with its signal handlers taken away again."""
    monkeypatch.setattr(local, "LocalExecutor", warm_executor)
    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in handled]
    yield
    for number, handler in zip(handled, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("name", SMOKE)
def test_a_smoke_profile_runs_to_its_report(name, store, run_here, no_network, capsys):
    """Every stage of it, through the real runner, in processes of their own.

    Stand-ins are as deep as the models they stand for, so the layer lists are the real ones.
    """
    arguments = [name, "--profile", "smoke", "--results", str(store)]
    assert call(["run", *arguments, "--json"]) == 0, capsys.readouterr().out
    shown = json.loads(capsys.readouterr().out)
    assert shown["stages"]["failed"] == shown["stages"]["skipped"] == 0
    folder = Path(shown["report"])
    assert folder.name == name.replace("/", "-") + ".smoke"
    assert (folder / "report.html").is_file()
    suite = load_suite(name, profile="smoke")
    markdown = (folder / "report.md").read_text()
    assert all(model in markdown for model in {case.model for case in suite.cases()})
    if name in LAYOUTS:
        layers = _layers(name, store, capsys)
        known = LAYERS.keys() & layers.keys()
        assert {key: layers[key] for key in known} == {key: LAYERS[key] for key in known}
        assert known or name.startswith("paper/figure")


def _layers(name: str, store: Path, capsys: pytest.CaptureFixture[str]) -> dict[object, list[int]]:
    """By model and number of blocks, which of the model's blocks the emulators keep."""
    assert call(["plan", name, "--profile", "smoke", "--results", str(store), "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    models = {s["digest"]: s["labels"]["model"] for s in stages if s["kind"] == "emulator"}
    found = {}
    for record in map(read_record, store.glob("records/*/*.json")):
        if record.digest in models and _is_uniform(record.params):
            kept = record.facts["layer_map"]
            found[models[record.digest], len(kept)] = kept
    return found


def _is_uniform(params: Mapping[str, Any]) -> bool:
    first = params["compression"][0]
    return first["method"] == "layer_drop" and set(first) == {"method", "keep"}
