"""Every stage behind a number: its files, its reason, and a command that reaches just it."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

import pytest

from bench.selection import parse
from reports.provenance import Place, Provenance, Source, provenance
from reports.results import (
    Labels,
    PlanFile,
    PlannedStage,
    StageRun,
    read_plan,
    read_stages,
)
from tests.reports.large_store import fill_large
from tests.reports.synthetic_store import FAILURE, SyntheticStore, accuracy, fill


def found(root: Path, plan: Path) -> Provenance:
    """The provenance of a plan's stages."""
    read = read_plan(plan)
    return provenance(root, read, read_stages(root, read))


def place_of(known: Provenance, title: str) -> Place:
    """The place with this title."""
    (place,) = (place for place in known.places if place.title == title)
    return place


def source_of(known: Provenance, title: str, seed: str = "") -> Source:
    """The stage of one seed at the place with this title."""
    (source,) = (source for source in place_of(known, title).sources if source.seed == seed)
    return source


def chosen(command: str, names: list[str]) -> list[str]:
    """The cases that a command selects."""
    words = shlex.split(command)
    return [name for name in names if parse(words[words.index("-k") + 1])(name)]


def test_seeds_share_a_place(tmp_path: Path):
    """Three seeds of one plug-in are one place; tuning and both its evaluations are three."""
    known = found(tmp_path, fill(SyntheticStore(tmp_path)))
    row = "tiny-lm, pydoc_topics, 2-4-2 layer_drop(keep=4), full"
    places = [place for place in known.places if place.title.endswith(f": {row}")]
    assert [place.title.partition(":")[0] for place in places] == [
        "tune",
        "emulator fine-tuned",
        "plug-in",
    ]
    assert [[source.seed for source in place.sources] for place in places] == [["0", "1", "2"]] * 3
    assert len({place.anchor for place in known.places}) == len(known.places)


def test_places_of_a_number_come_once_each(tmp_path: Path):
    """Six stages of two places lead to two; a stage of another report leads nowhere."""
    store = SyntheticStore(tmp_path)
    known = found(tmp_path, fill(store))
    digests = [place.sources for place in known.places]
    assert sum(map(len, digests)) == len(store.stages)
    tuned = [str(stage["digest"]) for stage in store.stages if stage["kind"] == "tune"][:3]
    assert len(known.places_of([*tuned, *tuned, "another"])) == 1
    assert known.places_of(["another"]) == ()


def test_files_of_a_stage_are_found(tmp_path: Path):
    """Record, logs oldest first, and per-item data; memory over time is named by the record."""
    store = SyntheticStore(tmp_path)
    digest = store.plan("evaluate", model="m", task="t", setting="full_zero_shot")
    blobs = {"items.jsonl": "a" * 64, "memory.jsonl": "b" * 64, "../x.jsonl": "../../etc"}
    path = store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1), blobs=blobs))
    for age, name in ((1, "newer"), (2, "older")):
        log = tmp_path / "attempts" / digest / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        os.utime(log, (1000 - age, 1000 - age))
    source = source_of(found(tmp_path, store.save_plan()), "full zero-shot: m, t")
    folder = tmp_path / "reports" / "suite"
    folder.mkdir(parents=True)
    (record,) = source.records
    assert (folder / record.address).resolve() == path.resolve()
    assert [Path(link.address).stem for link in source.logs] == ["older", "newer"]
    assert [link.name for link in source.logs] == ["log 1", "log 2"]
    assert [(link.name, link.address) for link in source.data] == [
        ("items.jsonl", f"../../blobs/aa/{'a' * 64}")
    ]
    assert (source.outcome, source.seconds, source.items) == ("ok", "1.2", "100")


def test_no_text_leads_out_of_the_store(tmp_path: Path):
    """A machine or a digest that looks like a path is a name, and no folder is looked into."""
    store = SyntheticStore(tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}.log"
    outside.touch()
    labels = Labels(model="m", task="t", setting="full_zero_shot")
    record = store.record("../../..", "evaluate", machine="a/../../b c")
    run = StageRun(
        suite="s",
        planned=PlannedStage(digest=record.digest, kind="evaluate", labels=labels),
        records=(record,),
    )
    (tmp_path / "attempts").mkdir()
    known = provenance(tmp_path, PlanFile(schema=1, suite="s", stages=()), [run])
    source = source_of(known, "full zero-shot: m, t")
    assert [link.address for link in source.files] == [
        "../../records/../..%2F..%2F...a%2F..%2F..%2Fb%20c.0.json"
    ]


def test_a_failed_stage_shows_its_tries(tmp_path: Path):
    """The outcome, its reason and the file of the attempt; no log was kept."""
    known = found(tmp_path, fill(SyntheticStore(tmp_path)))
    title = "tune: tiny-lm, pydoc_topics, 2-2-2 layer_drop(keep=2), full"
    source = source_of(known, title, seed="1")
    assert (source.outcome, source.reason) == ("oom_host", FAILURE)
    assert [Path(link.address).name for link in source.records] == ["1.json"]
    assert source.logs == ()


def test_a_stage_that_never_ran_says_so(tmp_path: Path):
    """No record, no log, but the command that would make them."""
    store = SyntheticStore(tmp_path)
    store.plan("evaluate", model="m", task="t", setting="full_zero_shot", case="m/2+2/c/full/t/s0")
    known = found(tmp_path, store.save_plan())
    source = source_of(known, "full zero-shot: m, t")
    assert source.outcome == "not run"
    assert source.records == ()
    command = place_of(known, "full zero-shot: m, t").command
    assert command == "offsite-bench run synthetic -k m/2+2/c/full/t/s0"


def test_a_command_selects_the_cases_of_its_place(tmp_path: Path):
    """All seeds of a row and no other row; of what cases share, the first that needs it."""
    store = SyntheticStore(tmp_path, suite="paper/a b", profile="smoke")
    plan = fill_large(store, models=1, tasks=1, compressions=2, tunings=1, seeds=12)
    names = case_names(store)
    known = found(tmp_path, plan)
    whole = [f"model-0/2+2/layer_drop(keep=2)/full/task_0/s{seed}" for seed in range(12)]
    command = place_of(known, "plug-in: model-0, task_0, 2-2-2 layer_drop(keep=2), full").command
    assert shlex.split(command)[:5] == ["offsite-bench", "run", "paper/a b", "--profile", "smoke"]
    assert len(shlex.split(command)) == 7
    assert chosen(command, names) == whole
    assert chosen(place_of(known, "finetune: model-0, task_0, full").command, names) == whole
    assert chosen(place_of(known, "full zero-shot: model-0, task_0").command, names) == whole[:1]
    emulator = place_of(known, "emulator: model-0, 2-4-2 layer_drop(keep=4)").command
    assert chosen(emulator, names) == ["model-0/2+2/layer_drop(keep=4)/full/task_0/s0"]


def case_names(store: SyntheticStore) -> list[str]:
    """The names of all cases of a store's plan."""
    names = dict.fromkeys(stage["labels"].get("case") for stage in store.stages)
    return [name for name in names if name]


def test_a_part_of_another_name_is_no_other_case(tmp_path: Path):
    """`lm` is in `tiny-lm` and s1 in s10: what merely holds the name is kept out."""
    store = SyntheticStore(tmp_path)
    for model, seed in (("lm", 1), ("tiny-lm", 1), ("lm", 10), ("tiny-lm", 10)):
        labels = {"model": model, "task": "t", "tuning": "full", "seed": seed}
        case = f"{model}/2+2/c/full/t/s{seed}"
        store.plan(
            "evaluate", setting="plug_in", layout="2-4-2", compression="c", case=case, **labels
        )
    store.plan("evaluate", setting="full_zero_shot", model="lm", task="t")
    known = found(tmp_path, store.save_plan())
    names = case_names(store)
    both = place_of(known, "plug-in: lm, t, 2-4-2 c, full").command
    assert chosen(both, names) == [names[0], names[2]]
    assert chosen(place_of(known, "full zero-shot: lm, t").command, names) == [names[0]]


@pytest.mark.parametrize("case", ["m/2+2/distill(corpus=a, steps=2)/full/t/s0", "a and (b"])
def test_a_name_of_several_words_is_quoted(tmp_path: Path, case: str):
    """A compression with a comma in it is still one word for `-k`."""
    store = SyntheticStore(tmp_path)
    store.plan("evaluate", model="m", task="t", setting="plug_in", seed=0, case=case)
    command = place_of(found(tmp_path, store.save_plan()), "plug-in: m, t").command
    assert chosen(command, [case, "other"]) == [case]


def test_a_name_that_cannot_be_quoted_leaves_the_whole_suite(tmp_path: Path):
    """`-k` has no way to write an apostrophe: nothing is chosen rather than something else."""
    store = SyntheticStore(tmp_path)
    store.plan("evaluate", model="m", task="t", setting="plug_in", case="it's")
    command = place_of(found(tmp_path, store.save_plan()), "plug-in: m, t").command
    assert command == "offsite-bench run synthetic"


def test_one_stage_is_done_again_from_its_plan(tmp_path: Path):
    """The exact command names the plan as the store does: by the hash of its bytes."""
    plan = fill(SyntheticStore(tmp_path))
    name = hashlib.sha256(plan.read_bytes()).hexdigest()
    assert found(tmp_path, plan).rerun == f"python -m bench.worker RESULTS {name} STAGE"
