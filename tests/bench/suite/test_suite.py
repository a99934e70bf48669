"""What a valid suite means: its cases, tasks, models, overrides, profiles and `--set`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError
from bench.suite import Suite, Train, builtin_suites, json_schema, load_suite, task_files
from bench.suite import suite as suite_module
from bench.suite.steps import label

HEAD = """\
schema: 1
name: demo
models:
  tiny: {source: random:conf}
  opt-1.3b: {source: facebook/opt-1.3b, dtype: bfloat16}
"""
MATRIX = """\
matrix:
  model: [tiny, opt-1.3b]
  adapter_blocks: [2+2, 0+1]
  compression: [{method: layer_drop, keep: 8}, [{method: layer_drop, keep: 4}, {method: identity}]]
  tuning: [{method: full}, {method: lora, rank: 4, alpha: 32}]
  task: pydoc_topics
  seed: [0, 1, 2]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model's config and some rows."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.json").write_text("{}")
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("")
    return tmp_path


def load(folder: Path, text: str, **options: Any) -> Suite:
    """The suite that `text` describes."""
    file = folder / "s.yaml"
    file.write_text(text)
    return load_suite(str(file), **options)


def test_cases_are_the_product_of_the_axes_in_the_order_of_the_file(folder: Path):
    """The last axis changes fastest, and every combination comes once."""
    cases = load(folder, HEAD + MATRIX).cases()
    assert len(cases) == len(set(cases)) == 2 * 2 * 2 * 2 * 1 * 3
    assert [case.seed for case in cases[:4]] == [0, 1, 2, 0]
    assert [case.tuning.label for case in cases[:4]] == ["full", "full", "full", "lora(rank=4)"]
    assert (cases[0].model, cases[-1].model) == ("tiny", "opt-1.3b")
    assert str(cases[0].adapter_blocks) == "2+2"


def test_a_label_is_the_method_and_what_differs_from_its_defaults(folder: Path):
    """`alpha: 32` is the default, so it is not named; compositions are joined by +."""
    cases = load(folder, HEAD + MATRIX).cases()
    assert {label(case.compression) for case in cases} == {
        "layer_drop(keep=8)",
        "layer_drop(keep=4)+identity",
    }
    assert {case.tuning.label for case in cases} == {"full", "lora(rank=4)"}
    suite = load(folder, HEAD + MATRIX, sets=["matrix.tuning={method: lora, alpha: 16}"])
    assert suite.cases()[0].tuning.label == "lora(alpha=16)"


def test_single_values_stand_for_lists(folder: Path):
    """Every axis, and the matrix itself."""
    one = "matrix: {model: tiny, adapter_blocks: 1+1, compression: identity, tuning: full, "
    one += "task: pydoc_topics, seed: 7, exclude: {seed: 8}}\n"
    (case,) = load(folder, HEAD + one).cases()
    assert (case.seed, case.tuning.label, label(case.compression)) == (7, "full", "identity")


def test_excluded_cases_are_gone(folder: Path):
    """All axes named must match; a list within one axis means any of them."""
    exclude = "  exclude:\n    - {compression: {method: identity}, tuning: lora}\n"
    exclude += "    - {model: opt-1.3b, seed: [1, 2]}\n"
    cases = load(folder, HEAD + MATRIX + exclude).cases()
    assert not [c for c in cases if c.tuning.method == "lora" and len(c.compression) == 2]
    assert {c.seed for c in cases if c.model == "opt-1.3b"} == {0}
    assert {c.seed for c in cases if c.model == "tiny"} == {0, 1, 2}
    assert len(cases) == 2 * 2 * 1 * 3 + 2 * 1 * 1 * 3 + 2 * 2 * 1 + 2 * 1 * 1


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("{compression: {method: layer_drop}}", None),
        ("{compression: {method: layer_drop, keep: 8}}", ["layer_drop(keep=4)+identity"]),
        ("{compression: {keep: 4}}", ["layer_drop(keep=8)"]),
        ("{compression: identity}", ["layer_drop(keep=8)"]),
        ("{compression: [[layer_drop]]}", ["layer_drop(keep=4)+identity"]),
        ("{compression: [[layer_drop, identity]]}", ["layer_drop(keep=8)"]),
        ("{compression: [[identity, layer_drop]]}", "both"),
        ("{compression: [identity, {keep: 8}]}", None),
        ("{adapter_blocks: 2+2, compression: {keep: 5}}", "both"),
    ],
)
def test_a_compression_pattern_matches_any_step_and_a_list_within_all(
    folder: Path, pattern: str, left: Any
):
    """`{keep: 4}` is any composition with such a step; `[[layer_drop]]` is that step alone."""
    text = HEAD + MATRIX + f"  exclude: [{pattern}]\n"
    if left is None:
        with pytest.raises(SuiteError, match="every case is excluded"):
            load(folder, text)
        return
    both = ["layer_drop(keep=8)", "layer_drop(keep=4)+identity"]
    labels = list(dict.fromkeys(label(case.compression) for case in load(folder, text).cases()))
    assert labels == (both if left == "both" else left)


def test_an_include_is_its_own_product_after_the_exclusions(folder: Path):
    """Axes it leaves out come from the matrix; excluding does not touch it."""
    more = "  exclude: {seed: [0, 1, 2]}\n  include: [{model: tiny, seed: [1, 9], task: own}]\n"
    tasks = "tasks: {own: {task: pydoc_topics}}\n"
    cases = load(folder, HEAD + tasks + MATRIX + more).cases()
    assert {(case.model, case.task, case.seed) for case in cases} == {
        ("tiny", "own", 1),
        ("tiny", "own", 9),
    }
    assert len(cases) == 2 * 2 * 2 * 2


def test_cases_that_two_matrices_share_come_once(folder: Path):
    """The first mention decides the order."""
    one = "{model: tiny, adapter_blocks: 1+1, compression: identity, tuning: full, "
    one += "task: pydoc_topics, seed: "
    text = f"{HEAD}matrix:\n  - {one}[3, 1]}}\n  - {one}[1, 2]}}\n"
    assert [case.seed for case in load(folder, text).cases()] == [3, 1, 2]


def test_a_case_knows_where_each_of_its_values_was_given(folder: Path):
    """So that a plan can point at the value that does not fit its model."""
    suite = load(folder, HEAD + MATRIX)
    last = suite.cases()[-1]
    file = suite.origin
    assert suite.where(*last.path("adapter_blocks")) == f"{file}:8:25"
    assert suite.where(*last.path("compression")) == f"{file}:9:48"
    assert suite.where(*last.path("task")) == f"{file}:11:9"
    assert suite.where("models", "opt-1.3b", "dtype") == f"{file}:5:48"
    assert suite.where("models", "opt-1.3b", "revision") == f"{file}:5:13"


OVERRIDES = """\
train: {learning_rate: 1e-3, epochs: 5}
overrides:
  - {when: {task: pydoc_topics, setting: full_finetuned}, train: {learning_rate: 2e-5}}
  - {when: {tuning: {method: lora}}, train: {epochs: 3}, evaluate: {batch_size: 2}}
  - {when: {setting: [full_finetuned, plug_in], seed: 1}, train: {learning_rate: 7e-5}}
  - {when: {compression: {method: layer_drop}}, evaluate: {examples: 50}}
"""


def test_overrides_change_what_they_name_where_they_match_and_the_later_wins(folder: Path):
    """What an override leaves out keeps its value, also if that value is not the default."""
    suite = load(folder, HEAD + MATRIX + OVERRIDES)
    full, second, *_ = suite.cases()
    lora = suite.cases()[3]
    assert suite.train_for(full, "emulator_finetuned") == suite.train
    assert suite.train_for(full, "full_finetuned") == Train(learning_rate=2e-5, epochs=5)
    assert suite.train_for(second, "full_finetuned").learning_rate == 7e-5
    assert suite.train_for(lora, "emulator_finetuned") == Train(learning_rate=1e-3, epochs=3)
    assert suite.evaluate_for(lora, "plug_in").batch_size == 2
    assert suite.evaluate_for(full, "plug_in").batch_size == 16


def test_an_override_never_splits_a_stage_that_cases_share(folder: Path):
    """Full zero-shot has no compression, so an override for one compression leaves it alone."""
    suite = load(folder, HEAD + MATRIX + OVERRIDES)
    full, lora = suite.cases()[0], suite.cases()[3]
    assert suite.evaluate_for(full, "emulator_zero_shot").examples == 50
    assert suite.evaluate_for(full, "full_zero_shot").examples is None
    assert suite.evaluate_for(lora, "emulator_zero_shot").batch_size == 16
    as_reference = replace(full, tuning=lora.tuning)
    assert suite.train_for(as_reference, "full_finetuned").epochs == 3


def test_a_profile_merges_mappings_and_replaces_the_rest(folder: Path):
    """Deeply: what the profile does not name stays."""
    profiles = "train: {epochs: 5, learning_rate: 1e-3}\nprofiles:\n  smoke:\n"
    profiles += "    matrix: {seed: [0], model: tiny}\n    train: {max_steps: 20}\n"
    suite = load(folder, HEAD + MATRIX + profiles, profile="smoke")
    assert suite.train == Train(epochs=5, learning_rate=1e-3, max_steps=20)
    assert {(case.model, case.seed) for case in suite.cases()} == {("tiny", 0)}
    assert suite.profile == "smoke"
    assert load(folder, HEAD + MATRIX + profiles).train.max_steps is None


def test_a_wrong_value_in_a_profile_is_reported_where_it_stands(folder: Path):
    """Merging keeps places; a profile that is not chosen has its keys checked."""
    text = HEAD + MATRIX + "profiles:\n  smoke: {train: {epochs: 0}}\n  other: {trian: 1}\n"
    with pytest.raises(SuiteError, match=r"s\.yaml:14:27: train\.epochs: got 0; it must be"):
        load(folder, text, profile="smoke")
    with pytest.raises(SuiteError, match=r"s\.yaml:15:11: profiles\.other\.trian: unknown key"):
        load(folder, text)
    with pytest.raises(SuiteError, match=r"s\.yaml:14:3: unknown profile 'smke'. Did you mean"):
        load(folder, text, profile="smke")
    with pytest.raises(SuiteError, match=r"s\.yaml:1:1: no profile 'x': the suite has no prof"):
        load(folder, HEAD + MATRIX, profile="x")
    nested = HEAD + MATRIX + "profiles: {a: {profiles: {b: {}}}}\n"
    with pytest.raises(SuiteError, match=r"s\.yaml:13:16: profiles\.a\.profiles: a profile wit"):
        load(folder, nested, profile="a")


def test_set_changes_one_value_after_the_profile(folder: Path):
    """Keys, list indices, new mappings, keys with dots; later ones win."""
    text = HEAD + MATRIX + "profiles: {smoke: {train: {epochs: 9}}}\n"
    sets = [
        "train.epochs=2",
        "train.epochs=3",
        "evaluate.examples=50",
        "models.opt-1.3b.dtype=float16",
        "matrix.compression.1=identity",
        "matrix.seed=[5]",
        "train.max_steps=",
    ]
    suite = load(folder, text, profile="smoke", sets=sets)
    assert suite.train == Train(epochs=3)
    assert suite.evaluate.examples == 50
    assert suite.models["opt-1.3b"].dtype == "float16"
    assert {label(c.compression) for c in suite.cases()} == {"layer_drop(keep=8)", "identity"}
    assert {case.seed for case in suite.cases()} == {5}


def test_set_takes_the_longest_key_that_is_there(folder: Path):
    """Model names hold dots, and one may begin like another."""
    text = (HEAD + MATRIX).replace("models:\n", "models:\n  opt-1: {source: a/b}\n")
    suite = load(folder, text, sets=["models.opt-1.3b.dtype=float16", "models.opt-1.source=c/d"])
    assert (suite.models["opt-1.3b"].dtype, suite.models["opt-1"].source) == ("float16", "c/d")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("train.epohs=3", "train.epohs: unknown key 'epohs'. Did you mean 'epochs'?"),
        ("train.epochs=three", "train.epochs: got 'three'; it must be a number"),
        ("train.epochs=no", "no is read differently"),
        ("train.epochs=[1", "not YAML: "),
        ("train.epochs=a\nb: c", "not YAML: "),
        ("train.epochs", "write key=value, as in train.epochs=3"),
        ("=3", "write key=value"),
        ("train..epochs=3", "write key=value"),
        ("matrix.seed.3=1", "matrix.seed: '3' is no index of this list; it has 0 to 2"),
        ("matrix.seed.x=1", "matrix.seed: 'x' is no index"),
        ("matrix.seed.0.x=1", "matrix.seed.0: this is not a mapping, so it has no 'x'"),
        ("matrix.seed.1=0", "matrix.seed.1: the seed 0 is given twice"),
        ("models.tiny.source=./gone", "models.tiny.source: no such folder"),
        ("matrix.task=gone", "matrix.task: unknown task 'gone'"),
        ("profiles.a.train.epochs=3", "profiles are merged before this"),
        ("train=", "train: got nothing; it must be a mapping"),
    ],
)
def test_a_wrong_set_is_named_in_its_error(folder: Path, setting: str, expected: str):
    """One line that starts with the argument as it was typed."""
    with pytest.raises(SuiteError) as caught:
        load(folder, HEAD + MATRIX, sets=[setting])
    shown = setting.replace("\n", "\\n")
    assert str(caught.value).startswith(f"--set {shown}: {expected}")
    assert "\n" not in str(caught.value)


def test_local_models_are_found_relative_to_the_suite(folder: Path, monkeypatch: Any):
    """Wherever the command runs; hub ids and timm names stay as they are."""
    monkeypatch.chdir("/")
    sources = "{a: {source: conf}, b: {source: ./conf, dtype: bfloat16}, "
    sources += "c: {source: random:conf/config.json}, "
    sources += "d: {source: timm:vit_tiny_patch16_224}, e: {source: gpt2}, f: {source: a/b}}"
    text = f"schema: 1\nname: x\nmodels: {sources}\n" + MATRIX.replace("tiny, opt-1.3b", "a")
    found = {name: spec.source for name, spec in load(folder, text).models.items()}
    conf = str(folder / "conf")
    assert found == {
        "a": conf,
        "b": conf,
        "c": f"random:{conf}",
        "d": "timm:vit_tiny_patch16_224",
        "e": "gpt2",
        "f": "a/b",
    }


def test_a_task_of_the_suite_has_its_files_and_parameters(folder: Path):
    """Paths are relative to the file they are written in."""
    tasks = "tasks: {own: {task: perplexity, block: 64, data: {train: rows/a.jsonl, "
    tasks += "test: ./rows/a.jsonl}}}\n"
    suite = load(folder, HEAD + tasks + MATRIX.replace("pydoc_topics", "own"))
    task = suite.tasks["own"]
    rows = folder / "rows" / "a.jsonl"
    assert (task.kind, task.parameters.block, task.builtin) == ("perplexity", 64, None)
    assert task.files == {"train": rows, "test": rows}


@pytest.fixture
def own_task_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suites folder of this test's own, with its tasks in it."""
    tasks = folder / "suites" / "tasks"
    tasks.mkdir(parents=True)
    monkeypatch.setattr(task_files, "SUITES", folder / "suites")
    monkeypatch.setattr(suite_module, "SUITES", folder / "suites")
    rows = "data: {train: ../../rows/a.jsonl, test: ../../rows/a.jsonl}"
    (tasks / "base.yaml").write_text(f"task: perplexity\nblock: 64\ntext: body\n{rows}\n")
    (tasks / "over.yaml").write_text("task: base\nblock: 32\n")
    (tasks / "one.yaml").write_text("task: two\n")
    (tasks / "two.yaml").write_text("task: one\n")
    (tasks / "bad.yaml").write_text("task: perplexity\nblok: 3\n")
    return tasks


def test_a_task_file_may_build_on_another_and_a_suite_on_both(folder: Path, own_task_files: Path):
    """Nearer fields win, `data` merges, and each path is relative to its own file."""
    tasks = "tasks: {over: {task: over, text: line, data: {validation: rows/a.jsonl}}}\n"
    suite = load(folder, HEAD + tasks + MATRIX.replace("pydoc_topics", "[over, base]"))
    rows = folder / "rows" / "a.jsonl"
    over, base = suite.tasks["over"], suite.tasks["base"]
    assert (over.parameters.text, over.parameters.block) == ("line", 32)
    assert over.files == dict.fromkeys(("train", "test", "validation"), rows)
    assert (base.parameters.text, base.parameters.block) == ("body", 64)
    assert suite.where("tasks", "over", "block") == f"{own_task_files / 'over.yaml'}:2:8"


def test_errors_in_task_files_are_reported_in_them(folder: Path, own_task_files: Path):
    """A circle, a misspelt key, an unknown name: at the file and line that hold them."""
    for name, expected in [
        ("one", r"two\.yaml:1:7: tasks\.one\.task: a circle: one -> two -> one"),
        ("bad", r"bad\.yaml:2:1: tasks\.bad\.blok: unknown key 'blok'. Did you mean 'block'"),
        ("ovr", r"s\.yaml:11:9: matrix\.task: unknown task 'ovr'. Did you mean 'over'"),
    ]:
        with pytest.raises(SuiteError, match=expected):
            load(folder, HEAD + MATRIX.replace("pydoc_topics", name))


def test_built_in_data_are_known_by_name(folder: Path):
    """The name is checked, and files beside it are refused."""
    text = HEAD + MATRIX.replace("pydoc_topics", "own")
    tasks = "tasks: {own: {task: perplexity, data: {builtin: NAME}}}\n"
    suite = load(folder, tasks.replace("NAME", "pydoc_topics") + text)
    assert (suite.tasks["own"].builtin, suite.tasks["own"].files) == ("pydoc_topics", {})
    with pytest.raises(SuiteError, match=r":1:49: .*unknown built-in data set 'pydoc_topic'"):
        load(folder, tasks.replace("NAME", "pydoc_topic") + text)
    with pytest.raises(SuiteError, match=r":1:63: .*a file beside 'builtin'"):
        load(folder, tasks.replace("NAME", "pydoc_topics, train: x") + text)


def test_references_are_methods_or_full_mappings(folder: Path):
    """A bare name is the method with its defaults; without any it is full fine-tuning."""
    assert [step.label for step in load(folder, HEAD + MATRIX).references] == ["full"]
    text = HEAD + MATRIX + "references: [full, lora, {method: lora, rank: 4}]\n"
    labels = [step.label for step in load(folder, text).references]
    assert labels == ["full", "lora", "lora(rank=4)"]


@pytest.mark.parametrize("name", builtin_suites())
def test_every_suite_that_comes_along_is_valid(name: str):
    """Each with each of its profiles."""
    suite = load_suite(name)
    assert suite.cases()
    for profile in json.loads(json.dumps(suite.root.plain())).get("profiles", {}):
        assert load_suite(name, profile=profile).profile == profile


def test_a_built_in_suite_is_found_by_its_path_without_suffix(
    folder: Path, own_task_files: Path, monkeypatch: pytest.MonkeyPatch
):
    """Folders of tasks, data and models hold no suites; a misspelt name gets a suggestion."""
    paper = folder / "suites" / "paper"
    paper.mkdir()
    text = (HEAD + MATRIX).replace("random:conf", "random:../../conf")
    (paper / "table1.yaml").write_text(text.replace("pydoc_topics", "base"))
    assert builtin_suites() == ["paper/table1"]
    assert load_suite("paper/table1").folder == paper
    with pytest.raises(SuiteError, match=r"unknown suite 'paper/tabel1'. Did you mean 'paper/tab"):
        load_suite("paper/tabel1")
    monkeypatch.chdir(paper)
    assert load_suite("table1.yaml").origin == "table1.yaml"
    assert load_suite("./table1.yaml").cases()


@pytest.mark.parametrize("name", ["gone.yaml", "./gone.yml", "a/gone.txt", "gone", "", "/", "a\0b"])
def test_a_suite_that_is_not_there_is_one_line(name: str):
    """Whether the name looks like a path or like a built-in suite."""
    with pytest.raises(SuiteError, match=r"^[^\n]+(no such file|path of a \.yaml file\.)$"):
        load_suite(name)


def schema_objects(schema: Any) -> list[dict[str, Any]]:
    """Every part of a JSON Schema that describes an object with properties."""
    inner = schema.values() if isinstance(schema, dict) else schema
    found = [schema] if isinstance(schema, dict) and "properties" in schema else []
    if isinstance(schema, dict | list):
        found += [each for part in inner for each in schema_objects(part)]
    return found


def test_the_json_schema_is_closed_complete_and_documented():
    """Every object is closed, every reference leads somewhere, docstrings are descriptions."""
    schema = json_schema()
    objects = schema_objects(schema)
    assert all(each["additionalProperties"] is False for each in objects)
    text = json.dumps(schema)
    references = {part.split('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}
    assert references <= set(schema["$defs"])
    assert {"composition", "tuning", "task", "compression_pattern"} <= references
    (crash,) = [e for e in schema["$defs"]["composition"]["anyOf"] if e.get("title") == "crash"]
    assert crash["required"] == ["method", "keep", "corpus"]
    assert crash["properties"]["keep"]["minimum"] == 1
    assert "blocks that are stored" in crash["properties"]["keep"]["description"]
    assert "corpus" in schema["$defs"]["distillation"]["required"]
    assert schema["properties"]["schema"] == {"const": 1} | {
        "description": "Version of this format.",
        "title": "Schema",
    }
    assert "Hugging Face Trainer" in text
    assert "$ref-later" not in text


def test_reading_suites_never_imports_torch():
    """Checking a suite, its cases and its schema takes no heavy library."""
    code = "import sys, bench.suite as s; s.json_schema(); s.builtin_suites(); "
    code += "print(sorted({'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_one_model_under_two_names_is_refused(folder: Path):
    """Its stages are the same, so that the second name would be missing from reports."""
    twins = "{lm: {source: conf}, other: {source: conf, dtype: bfloat16}, lm2: {source: ./conf}}"
    text = f"schema: 1\nname: x\nmodels: {twins}\n" + MATRIX.replace("tiny, opt-1.3b", "lm")
    with pytest.raises(SuiteError, match=r"s\.yaml:3:\d+: models\.lm2: 'lm2' is 'lm' again"):
        load(folder, text)
    load(folder, text.replace("./conf}", "./conf, dtype: float16}"))


def test_a_misspelt_published_configuration_says_what_was_meant(folder: Path):
    """And where a folder of that name was looked for."""
    with pytest.raises(SuiteError, match=r"Did you mean 'facebook/opt-1\.3b'\?") as raised:
        load(folder, HEAD + MATRIX, sets=["models.tiny.source=random:facebook/opt-13b"])
    assert "no such folder: 'facebook/opt-13b', relative to /" in str(raised.value)


def test_an_unknown_task_may_be_one_of_lm_eval(folder: Path):
    """In the matrix or as a base: the message says how to name it."""
    entry = re.escape("{task: lm_eval, id: logiqa, data: ...}")
    with pytest.raises(SuiteError, match=f"unknown task 'logiqa'.*{entry}"):
        load(folder, HEAD + MATRIX.replace("pydoc_topics", "logiqa"))
    tasks = "tasks: {own: {task: logiqa}}\n"
    with pytest.raises(SuiteError, match=f"unknown task 'logiqa'.*{entry}"):
        load(folder, HEAD + tasks + MATRIX.replace("pydoc_topics", "own"))


def test_a_misspelt_corpus_is_called_a_corpus(folder: Path):
    """The suite's own tasks come first: a corpus is mostly one of them."""
    tasks = "tasks: {pile: {task: perplexity, data: {builtin: pydoc_topics}}}\n"
    step = "{method: layer_drop, keep: 2, distill: {corpus: pyle, steps: 1}}"
    text = re.sub(r"compression: .*", f"compression: {step}", HEAD + tasks + MATRIX)
    expected = r"unknown corpus 'pyle'\. Did you mean 'pile'\? Tasks of this suite: pile; that come"
    with pytest.raises(SuiteError, match=expected):
        load(folder, text)
