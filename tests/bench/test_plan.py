"""Planning: which stages, shared how, under which digests."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.plan import Plan, plan, read_plan
from bench.selection import parse
from bench.sources import Source
from bench.suite.task_files import SPLITS as SPLIT_NAMES
from bench.tasks.data import DrawnData, LocalData
from bench.world import World
from tests.bench.worlds import LANGUAGE_SOURCE, SUITE, suite_of, world

GOLDEN = Path(__file__).parent.parent / "data" / "golden_digests.json"


def planned(folder: Path, text: str = SUITE, **options: object) -> Plan:
    """The plan of a suite's text in a world where everything is known."""
    return plan(suite_of(folder, text, **options), world())


def digests(made: Plan, **labels: object) -> set[str]:
    """Digests of the stages with these labels."""
    return {
        s.digest
        for s in made.stages
        if all(getattr(s.labels, name) == value for name, value in labels.items())
    }


def test_stages_are_shared_by_all_cases_that_need_them(tmp_path):
    """Two emulators and one zero-shot for twelve cases; fine-tuning once a seed."""
    made = planned(tmp_path)
    assert len(made.cases) == 12
    kinds = Counter(s.kind for s in made.stages)
    # 1 full zero-shot, 2 emulator zero-shot, 3 fine-tuned, 12 emulator-tuned, 12 plug-in.
    assert kinds == {"emulator": 2, "disclose": 2, "finetune": 3, "tune": 12, "evaluate": 30}


def test_every_stage_comes_after_what_it_needs(tmp_path):
    """The list can be run from front to back."""
    seen: set[str] = set()
    for stage in planned(tmp_path).stages:
        assert set(stage.needs) <= seen
        seen.add(stage.digest)


def test_the_tune_stage_never_gets_the_original_model(tmp_path):
    """It is the data owner's step: its inputs are the emulator and the data alone."""
    for stage in planned(tmp_path).stages:
        if stage.kind == "tune":
            assert stage.inputs.keys() == {"emulator", "data"}
            assert "model" not in stage.locations


def test_golden_digests(tmp_path):
    """A digest changes only when somebody means it: results of earlier versions stay reusable.

    If a change to digests is meant, raise the stage kind's version in bench/stages and write
    the new values here.
    """
    made = planned(tmp_path)
    found = {
        "cases": [case["name"] for case in made.cases],
        "stages": [[s.kind, s.labels.setting, s.digest] for s in made.stages],
    }
    assert found == json.loads(GOLDEN.read_text())


CHANGES = {
    "learning_rate: 1.0e-3": "learning_rate: 2.0e-3",
    "max_steps: 60": "max_steps: 61",
    "block: 128": "block: 64",
    "rank: 4": "rank: 5",
    "keep: 4": "keep: 5",
    "2+2": "1+2",
    "{source: org/lm}": "{source: org/lm, dtype: bfloat16}",
}


@pytest.mark.parametrize("old", CHANGES)
def test_whatever_can_change_a_result_changes_its_digest(tmp_path, old):
    """Each field of the suite that matters leads to stages the other plan does not have."""
    before = planned(tmp_path)
    changed = SUITE.replace(old, CHANGES[old], 1)
    if "dtype" in changed:
        changed = changed.replace("max_steps: 60", "max_steps: 60, precision: bf16")
    assert digests(planned(tmp_path, changed)) != digests(before)


@pytest.mark.parametrize(
    ("package", "version"), [("torch", "2.14"), ("transformers", "5.24"), ("device", "cuda")]
)
def test_versions_and_device_change_every_digest(tmp_path, package, version):
    """Nothing made with another minor version or device is reused as this one's."""
    suite = suite_of(tmp_path)
    other = plan(suite, world(**{package: version}))
    assert not digests(other) & digests(plan(suite, world()))


def test_names_and_defaults_change_no_digest(tmp_path):
    """Renaming the suite or writing a default out reuses everything."""
    renamed = SUITE.replace("name: small", "name: other")
    spelt = renamed.replace("max_steps: 60", "max_steps: 60, batch_size: 8, schedule: linear")
    assert digests(planned(tmp_path, spelt)) == digests(planned(tmp_path))


def test_a_seed_moves_training_alone(tmp_path):
    """Another seed shares emulators, what they disclose, and zero-shot scores."""
    first = planned(tmp_path, SUITE.replace("seed: [0, 1, 2]", "seed: 0"))
    second = planned(tmp_path, SUITE.replace("seed: [0, 1, 2]", "seed: 1"))
    shared = digests(first) & digests(second)
    kinds = Counter(s.kind for s in first.stages if s.digest in shared)
    assert kinds == {"emulator": 2, "disclose": 2, "evaluate": 3}


def test_an_override_reaches_the_stages_it_names(tmp_path):
    """Another learning rate for one tuning leaves the other tuning's stages as they are."""
    text = SUITE + "overrides: [{when: {tuning: {method: lora}}, train: {learning_rate: 0.5}}]\n"
    before, after = planned(tmp_path), planned(tmp_path, text)
    assert digests(before, tuning="full") == digests(after, tuning="full")
    assert not digests(before, tuning="lora(rank=4)") & digests(after, tuning="lora(rank=4)")


def test_settings_leave_out_what_is_not_asked_for(tmp_path):
    """Without full fine-tuning nothing is fine-tuned."""
    made = planned(tmp_path, SUITE + "settings: [emulator_finetuned, plug_in]\n")
    assert {s.kind for s in made.stages} == {"emulator", "disclose", "tune", "evaluate"}
    assert {s.labels.setting for s in made.stages if s.kind == "evaluate"} == {
        "emulator_finetuned",
        "plug_in",
    }


def test_without_an_emulator_nothing_is_disclosed(tmp_path):
    """A suite of the full model alone builds no emulator."""
    made = planned(tmp_path, SUITE + "settings: [full_zero_shot, full_finetuned]\n")
    assert {s.kind for s in made.stages} == {"finetune", "evaluate"}


DISTILLED = "{method: layer_drop, keep: 4, distill: {corpus: text, steps: 20}}"


def test_a_distilled_compression_is_one_more_step(tmp_path):
    """Its label is the canonical one, and the emulator's digest covers the corpus's content."""
    text = SUITE.replace("{method: layer_drop, keep: 4}", DISTILLED)
    made = planned(tmp_path, text)
    label = "layer_drop(keep=4)+distill(corpus=text,steps=20)"
    assert made.cases[0]["name"] == f"lm/2+2/{label}/full/text/s0".replace(",", ", ")
    (stage,) = [
        s for s in made.stages if s.kind == "emulator" and "distill" in s.labels.compression
    ]
    assert stage.labels.layout == "2-4-2"
    assert stage.inputs["corpus.1"] == world().data["text"].of("train")
    assert stage.params["compression"][1] == {
        "method": "distill",
        "corpus": {"kind": "perplexity", "block": 128},
        "steps": 20,
    }


def test_what_a_corpus_is_called_changes_no_digest(tmp_path):
    """Emulators are shared between suites that name the same text differently."""
    calibrated = SUITE.replace("{method: layer_drop, keep: 4}", DISTILLED)
    renamed = calibrated.replace("text: {task", "book: {task").replace("task: text", "task: book")
    renamed = renamed.replace("corpus: text", "corpus: book")
    books = replace(world(), data={"book": world().data["text"]})
    other = plan(suite_of(tmp_path, renamed), books)
    assert {s.digest for s in other.stages} == digests(planned(tmp_path, calibrated))


def test_an_unknown_corpus_is_refused_with_the_known_tasks(tmp_path):
    """Before any model loads, at its place."""
    text = SUITE.replace("{method: layer_drop, keep: 4}", DISTILLED.replace("text", "texd"))
    with pytest.raises(SuiteError, match=r"small.yaml:9:17: .*unknown corpus 'texd'.*'text'"):
        planned(tmp_path, text)


def test_a_corpus_of_another_kind_of_model_is_refused(tmp_path):
    """A language model cannot be calibrated on images."""
    text = SUITE.replace("{method: layer_drop, keep: 4}", DISTILLED.replace("text", "pixels"))
    text = text.replace("matrix:", "  pixels: {task: digits_pair_sum}\nmatrix:")
    everything = replace(world(), data={**world().data, "pixels": LocalData({}, "1")})
    with pytest.raises(
        SuiteError, match=r"task 'pixels'.*needs a vision model; 'lm' is a language"
    ):
        plan(suite_of(tmp_path, text), everything)


@pytest.mark.parametrize("later", ["{method: quantize}", "{method: magnitude_prune, ratio: 0.5}"])
def test_nothing_that_changes_weights_follows_quantize(tmp_path, later):
    """They are packed by then; blocks may still be dropped."""
    packed = "[{method: quantize}, {method: layer_drop, keep: 4}]"
    planned(tmp_path, SUITE.replace("{method: layer_drop, keep: 4}", packed))
    text = SUITE.replace("{method: layer_drop, keep: 4}", f"[{{method: quantize}}, {later}]")
    with pytest.raises(SuiteError, match=r"small.yaml:9:\d+: .*cannot follow quantize"):
        planned(tmp_path, text)


def test_training_settings_where_nothing_is_trained_are_refused(tmp_path):
    """They would change nothing, and their author thinks they did."""
    override = "overrides: [{when: {setting: plug_in}, train: {learning_rate: 1.0}}]\n"
    with pytest.raises(SuiteError, match=r"nothing is trained in plug_in; name full_finetuned or"):
        planned(tmp_path, SUITE + override)


def test_float16_cannot_be_trained_with_on_a_cpu(tmp_path):
    """Its operations are not there, or mix types: said before the first stage runs."""
    text = SUITE.replace("{source: org/lm}", "{source: org/lm, dtype: float16}")
    text = text.replace("max_steps: 60", "max_steps: 60, precision: bf16")
    with pytest.raises(SuiteError, match="held in float16, which a CPU cannot train with"):
        planned(tmp_path, text)
    assert plan(suite_of(tmp_path, text), world(device="cuda")).stages


def test_scattered_adapter_blocks_are_named_by_their_positions(tmp_path):
    """CRaSh's trainable blocks lie between those the emulator stands in for."""
    made = planned(tmp_path, SUITE.replace("2+2", '"0,3,8,11"'))
    assert made.cases[0]["name"].startswith("lm/0,3,8,11/layer_drop(keep=4)/")
    assert {s.labels.layout for s in made.stages if s.kind == "tune"} == {
        "0,3,8,11-4",
        "0,3,8,11-2",
    }
    with pytest.raises(SuiteError, match=r"0,3,8,12 do not fit a model of 12 blocks; .* 0 to 11"):
        planned(tmp_path, SUITE.replace("2+2", '"0,3,8,12"'))


def test_a_plan_reads_back_as_it_was_written(tmp_path):
    """A worker sees exactly what the planner saw, and equal plans are equal bytes."""
    made = planned(tmp_path)
    assert read_plan(made.to_bytes()) == made
    assert planned(tmp_path).to_bytes() == made.to_bytes()


def test_layouts_that_do_not_fit_are_refused_at_their_place(tmp_path):
    """One line with file, line and column; nothing was loaded to find out."""
    suite = suite_of(tmp_path)
    refusals = [
        (4, "8:19: 'lm': adapter blocks 2+2 leave no middle in a model of 4 blocks"),
        (7, "9:17: layer_drop(keep=4) on 'lm': cannot keep 4 of the 3 middle blocks"),
    ]
    for depth, message in refusals:
        with pytest.raises(SuiteError) as caught:
            plan(suite, world(replace(LANGUAGE_SOURCE, depth=depth)))
        assert str(caught.value).startswith(f"{tmp_path}/small.yaml:{message}; ")
        assert "\n" not in str(caught.value)


def test_a_task_of_another_kind_of_model_is_refused(tmp_path):
    """Text for a vision model is a mistake of the suite, not a crash of a stage."""
    with pytest.raises(SuiteError, match="needs a language model; 'lm' is a vision model"):
        plan(suite_of(tmp_path), world(replace(LANGUAGE_SOURCE, kind="vision")))


def test_weights_that_cannot_be_computed_with_are_refused(tmp_path):
    """bfloat16 weights under fp32 would fail in the first step."""
    text = SUITE.replace("{source: org/lm}", "{source: org/lm, dtype: bfloat16}")
    with pytest.raises(SuiteError, match="use precision: bf16, or dtype: float32"):
        planned(tmp_path, text)


def test_a_model_only_the_hub_knows_is_pending(tmp_path):
    """Its depth cannot be checked yet; the plan says so instead of guessing."""
    unknown = replace(LANGUAGE_SOURCE, digest="pending:org/lm", depth=None, kind=None)
    assert plan(suite_of(tmp_path), world(unknown)).pending == ["lm"]


def test_settings_that_do_not_act_change_no_digest(tmp_path):
    """train_all is for full fine-tuning alone, and epochs give way to max_steps."""
    before = planned(tmp_path)
    changed = SUITE.replace("max_steps: 60", "max_steps: 60, epochs: 7, train_all: true")
    after = planned(tmp_path, changed)
    for setting in ("emulator_finetuned", "plug_in"):
        assert digests(before, setting=setting) == digests(after, setting=setting)
    assert not digests(before, setting="full_finetuned") & digests(after, setting="full_finetuned")


SPLITS = LocalData({split: digit * 64 for split, digit in zip(SPLIT_NAMES, "123", strict=True)})


def with_splits(folder: Path, text: str, *splits: str) -> Plan:
    """The plan of a suite whose task has these splits, each of a hash of its own."""
    for split in splits:
        (folder / f"{split}.jsonl").write_text('{"text": "a"}\n')
    given = ", ".join(f"{split}: {split}.jsonl" for split in splits)
    suite = suite_of(folder, text.replace("{builtin: pydoc_topics}", f"{{{given}}}"))
    return plan(suite, replace(world(), data={"text": SPLITS}))


def chosen(train: str, rest: str = "") -> str:
    """The suite with more settings of training."""
    return SUITE.replace("max_steps: 60", f"max_steps: 60, {train}") + rest


@pytest.mark.parametrize(
    ("train", "splits"),
    [
        ("checkpoints: 1", ("train",)),
        ("checkpoints: 1, selection: validation", ("train",)),
        ("checkpoints: 3", ("train",)),
        ("checkpoints: 3, selection: validation", ("train", "validation")),
        ("checkpoints: 3, selection: paper", ("train", "test")),
    ],
)
def test_training_reads_the_split_its_checkpoint_is_chosen_on(tmp_path, train, splits):
    """Of no other is its digest: more rows to score leave a held-out choice as it is."""
    made = with_splits(tmp_path, chosen(train), *SPLIT_NAMES)
    for stage in made.stages:
        if stage.kind in ("tune", "finetune"):
            assert stage.inputs["data"] == SPLITS.of(*splits)


def test_how_one_checkpoint_is_chosen_changes_no_digest(tmp_path):
    """There is nothing to choose; with several, each way is a stage of its own."""
    assert digests(planned(tmp_path, chosen("selection: paper"))) == digests(planned(tmp_path))
    ways = [f"checkpoints: 2, selection: {way}" for way in ("held_out", "validation", "paper")]
    tuned = [digests(planned(tmp_path, chosen(way)), setting="plug_in") for way in ways]
    assert not tuned[0] & tuned[1]
    assert not tuned[1] & tuned[2]
    assert tuned[0] == digests(planned(tmp_path, chosen("checkpoints: 2")), setting="plug_in")


def test_a_task_without_validation_has_a_slice_of_train_to_choose_on(tmp_path):
    """The default fits every task that has rows."""
    assert with_splits(tmp_path, chosen("checkpoints: 2"), "train", "test").stages


def test_a_validation_split_that_is_not_there_is_refused(tmp_path):
    """In one line, at the key that asks for it."""
    with pytest.raises(SuiteError) as caught:
        with_splits(tmp_path, chosen("checkpoints: 2, selection: validation"), "train", "test")
    assert str(caught.value) == (
        f"{tmp_path}/small.yaml:13:74: train.selection: validation chooses on the validation "
        "split, and 'text' has none; use held_out, a slice of train"
    )


def test_a_validation_split_that_is_scored_is_refused(tmp_path):
    """An override asks for it here, so that is the place; `paper` says it on purpose."""
    rows = (tmp_path / "piqa.jsonl").absolute()
    rows.write_text('{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}\n')
    text = chosen("checkpoints: 2").replace(
        "{task: perplexity, data: {builtin: pydoc_topics}, block: 128}",
        f"{{task: lm_eval, id: piqa, data: {{train: {rows}, validation: {rows}}}}}",
    )
    override = "overrides: [{when: {setting: plug_in}, evaluate: {batch_size: 2}}, {when: "
    override += "{task: text}, train: {selection: validation}}]\n"
    data = LocalData({"train": "1" * 64, "validation": "2" * 64})
    with pytest.raises(SuiteError, match=r"yaml:14:\d+: .* 'text' scores that split; use held_out"):
        plan(suite_of(tmp_path, text + override), replace(world(), data={"text": data}))
    on_purpose = text + override.replace("selection: validation", "selection: paper")
    assert plan(suite_of(tmp_path, on_purpose), replace(world(), data={"text": data})).stages


ORACLE = chosen("checkpoints: 3", "evaluate: {oracle: true}\n")


def test_an_oracle_plugs_in_every_checkpoint_beside_the_chosen_one(tmp_path):
    """Three more evaluations of each tuning, which keeps them; nothing else is another stage."""
    made, plain = planned(tmp_path, ORACLE), planned(tmp_path, chosen("checkpoints: 3"))
    diagnostic = [s for s in made.stages if s.labels.checkpoint is not None]
    assert len(diagnostic) == 3 * len(made.cases)
    assert len(made.stages) == len(plain.stages) + len(diagnostic)
    by_tuning = Counter(s.inputs["tuned"] for s in diagnostic)
    assert set(by_tuning.values()) == {3}
    for stage in diagnostic:
        assert (stage.kind, stage.params["setting"]) == ("evaluate", "plug_in")
        assert stage.params["checkpoint"] == stage.labels.checkpoint
    kept = {s.digest for s in made.stages if s.params.get("keep_checkpoints")}
    assert kept == set(by_tuning)
    for setting in ("full_zero_shot", "emulator_zero_shot", "full_finetuned"):
        assert digests(made, setting=setting) == digests(plain, setting=setting)


def test_a_case_is_shown_by_the_checkpoint_that_was_chosen(tmp_path):
    """What nobody could choose is no result of it."""
    made = planned(tmp_path, ORACLE)
    results = {digest for case in made.cases for digest in case["settings"].values()}
    shown = [stage for stage in made.stages if stage.digest in results]
    assert {stage.labels.checkpoint for stage in shown} == {None}
    assert not any("checkpoint" in stage.params for stage in shown)
    assert not any("oracle" in stage.params.get("evaluate", {}) for stage in made.stages)


@pytest.mark.parametrize("other", ["compile", "gradient_checkpointing", "cache_activations"])
def test_what_cannot_be_recorded_with_a_step_is_refused(tmp_path, other):
    """Before any stage runs, at the key that asks for it."""
    text = chosen(f"cuda_graph: true, {other}: true").replace("2+2", "0+2")
    with pytest.raises(SuiteError, match=f"train.cuda_graph: a step with train.{other} cannot"):
        planned(tmp_path, text)


def test_a_recorded_step_is_a_setting_of_our_loop_on_a_gpu_alone(tmp_path):
    """Where it does nothing it is in no digest: not on a CPU, not of another loop."""
    text = chosen("cuda_graph: true") + "peers: [trainer]\n"
    on_cpu = plan(suite_of(tmp_path, text), world())
    assert not any("cuda_graph" in stage.params.get("train", {}) for stage in on_cpu.stages)
    on_gpu = plan(suite_of(tmp_path, text), world(device="cuda"))
    trained = [stage for stage in on_gpu.stages if stage.kind in ("tune", "finetune")]
    assert {"cuda_graph" in s.params["train"] for s in trained if s.labels.peer} == {False}
    assert {"cuda_graph" in s.params["train"] for s in trained if not s.labels.peer} == {True}


def test_another_kind_of_gpu_draws_other_weights(tmp_path):
    """So its stages over a random model are others; those over a model that is read are not."""

    def gpu(name: str, source: Source) -> set[str]:
        there = replace(world(source, device="cuda"), gpu=name)
        return {stage.digest for stage in plan(suite_of(tmp_path), there).stages}

    drawn = replace(LANGUAGE_SOURCE, location="random:org/lm")
    assert gpu("A", LANGUAGE_SOURCE) == gpu("B", LANGUAGE_SOURCE)
    assert gpu("A", drawn) == gpu("A", drawn)
    assert not gpu("A", drawn) & gpu("B", drawn)


def test_an_oracle_of_one_checkpoint_is_refused(tmp_path):
    """It would only repeat the result."""
    with pytest.raises(SuiteError) as caught:
        planned(tmp_path, SUITE + "evaluate: {oracle: true}\n")
    assert str(caught.value) == (
        f"{tmp_path}/small.yaml:14:20: evaluate.oracle compares checkpoints, and "
        "lm/2+2/layer_drop(keep=4)/full/text/s0 has one; give train.checkpoints above 1, or "
        "oracle: false"
    )


def test_without_a_plug_in_there_is_no_oracle(tmp_path):
    """Nothing is kept for what is not run."""
    made = planned(tmp_path, ORACLE + "settings: [emulator_finetuned]\n")
    assert not any(stage.params.get("keep_checkpoints") for stage in made.stages)


def test_trusted_remote_code_is_another_stage(tmp_path):
    """Code that comes with a model can change every number that rests on it."""
    suite = suite_of(tmp_path)
    trusted = plan(suite, world(), trust_remote_code=True)
    assert not digests(plan(suite, world())) & digests(trusted)


def test_only_versions_and_device_make_a_plan_the_same_elsewhere(tmp_path):
    """Results of other settings are never shown as these."""
    here = planned(tmp_path)
    assert plan(suite_of(tmp_path), world(torch="9.9")).is_same_elsewhere(here)
    other = SUITE.replace("learning_rate: 1.0e-3", "learning_rate: 2.0e-3")
    assert not planned(tmp_path, other).is_same_elsewhere(here)


def test_selection_by_expression(tmp_path):
    """`-k` keeps matching cases; one that keeps none is an error."""
    suite = suite_of(tmp_path)
    made = plan(suite, world(), select=parse("keep=4 and not (lora or s2)"))
    assert [case["name"] for case in made.cases] == [
        f"lm/2+2/layer_drop(keep=4)/full/text/s{seed}" for seed in (0, 1)
    ]
    with pytest.raises(SuiteError, match="no case is selected"):
        plan(suite, world(), select=parse("nothing"))


@pytest.mark.parametrize("expression", ["and", "a or", "(a", "", "a b"])
def test_expressions_that_are_none_are_refused(expression):
    """The message shows one that works."""
    with pytest.raises(SuiteError, match="not an expression"):
        parse(expression)


DRAWN = """\
schema: 1
name: cost
models: {lm: {source: org/lm}}
tasks:
  tokens: {task: synthetic_tokens, length: 64}
matrix:
  {model: lm, adapter_blocks: 2+2, compression: {method: layer_drop, keep: 4},
   tuning: [{method: full}, {method: lora, rank: 4}], task: tokens, seed: 0}
settings: [full_finetuned, emulator_finetuned]
references: [{method: full}, {method: lora, rank: 4}]
peers: [trainer, authors]
repeats: 5
train: {max_steps: 8}
"""


def drawn_world(**source: object) -> World:
    """A world with a model and nothing to score."""
    return replace(
        world(replace(LANGUAGE_SOURCE, **source)),  # type: ignore[arg-type]
        data={"tokens": DrawnData()},
    )


def test_random_samples_are_trained_on_and_not_scored(tmp_path):
    """One emulator, and each of four rows by three loops; no evaluation and no disclosure."""
    made = plan(suite_of(tmp_path, DRAWN), drawn_world(has_tokenizer=False))
    kinds = Counter((s.kind, s.labels.peer) for s in made.stages)
    loops = ("", "trainer", "authors")
    expected = {(kind, loop): 2 for kind in ("tune", "finetune") for loop in loops}
    assert kinds == {("emulator", ""): 1, **expected}
    assert {s.repeats for s in made.stages if s.kind != "emulator"} == {5}
    ours = {s.digest for s in made.stages if s.labels.peer == ""}
    settings = [digest for case in made.cases for digest in case["settings"].values()]
    assert set(settings) <= ours, "a case is shown by our own loop"


def test_how_often_and_beside_whom_changes_no_digest_of_ours(tmp_path):
    """Peers and repeats are added to a store, not laid beside it."""
    alone = DRAWN.replace("peers: [trainer, authors]\nrepeats: 5\n", "")
    digests = {
        text: [
            s.digest
            for s in plan(suite_of(tmp_path, text), drawn_world()).stages
            if not s.labels.peer
        ]
        for text in (DRAWN, alone)
    }
    assert digests[DRAWN] == digests[alone]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("settings: [full_finetuned, emulator_finetuned]\n", "", "drawn at random"),
        ("keep: 4}", "keep: 4, distill: {corpus: tokens, steps: 2}}", "no train split to look at"),
    ],
)
def test_what_random_samples_cannot_say_is_refused(tmp_path, old, new, message):
    """A score of random tokens would be a number without a meaning."""
    with pytest.raises(SuiteError, match=message):
        plan(suite_of(tmp_path, DRAWN.replace(old, new)), drawn_world())


def test_nothing_is_chosen_on_random_samples(tmp_path):
    """Their loss says nothing of a checkpoint."""
    text = DRAWN.replace("max_steps: 8", "max_steps: 8, checkpoints: 2")
    with pytest.raises(SuiteError, match=r"yaml:13:36: train.checkpoints: 2 .*use checkpoints: 1"):
        plan(suite_of(tmp_path, text), drawn_world())


def test_a_plan_with_repeats_is_read_back_whole(tmp_path):
    """The worker reads what the runner wrote."""
    made = plan(suite_of(tmp_path, DRAWN), drawn_world())
    assert read_plan(made.to_bytes()) == made


TWINS = DRAWN.replace("task: tokens", "task: [tokens, more]").replace(
    "length: 64}", "length: 64}\n  more: {task: synthetic_tokens, length: 64}"
)


def test_random_samples_may_differ_in_how_they_are_trained_on_alone(tmp_path):
    """The same length at another batch is another row; at the same batch it is refused."""
    two = replace(drawn_world(), data={"tokens": DrawnData(), "more": DrawnData()})
    larger = "overrides: [{when: {task: more}, train: {batch_size: 4}}]\n"
    made = plan(suite_of(tmp_path, TWINS + larger), two)
    assert {s.labels.task for s in made.stages if s.kind == "tune"} == {"tokens", "more"}
    with pytest.raises(SuiteError, match="'more' is 'tokens' again"):
        plan(suite_of(tmp_path, TWINS), two)


@pytest.mark.parametrize(("fewshot", "moves"), [(0, False), (2, True)])
def test_examples_in_a_prompt_are_part_of_what_is_scored(tmp_path, fewshot, moves):
    """Other rows to tune on leave a zero-shot score as it is; few-shot examples come from them."""
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("{}\n")
    task = (
        f"{{task: lm_eval, id: piqa, fewshot: {fewshot}, "
        "data: {train: train.jsonl, validation: validation.jsonl}}"
    )
    text = SUITE.replace("{task: perplexity, data: {builtin: pydoc_topics}, block: 128}", task)
    suite = suite_of(tmp_path, text)

    def zero_shot(train: str) -> set[str]:
        data = LocalData({"train": train * 64, "validation": "2" * 64})
        made = plan(suite, replace(world(), data={"text": data}))
        return digests(made, setting="full_zero_shot")

    assert (zero_shot("1") != zero_shot("3")) == moves


def test_a_block_longer_than_the_model_can_read_is_refused(tmp_path):
    """Learned positions end where they end; that is known before anything loads."""
    short = replace(world(), sources={"lm": replace(LANGUAGE_SOURCE, positions=100)})
    with pytest.raises(SuiteError, match=r"has blocks of 128 tokens.*give block: 100 or less"):
        plan(suite_of(tmp_path), short)
    long = replace(world(), sources={"lm": replace(LANGUAGE_SOURCE, positions=128)})
    assert plan(suite_of(tmp_path), long).stages
