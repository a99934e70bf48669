"""Bad suites: for every field of every class and table, one line at the right place."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel

from bench.errors import SuiteError
from bench.suite import load_suite
from bench.suite.suite_file import (
    Evaluate,
    Include,
    Matrix,
    ModelSpec,
    Override,
    Pattern,
    SuiteFile,
    Train,
    When,
)
from bench.tasks.kinds import KINDS
from offsite import tuning_methods
from offsite.compression import methods

Keys = tuple[str | int, ...]
ONE_LINE = re.compile(r"[^\n:]*s\.yaml:[1-9][0-9]*:[1-9][0-9]*: [^\n]+")
DATA = {"train": "rows.jsonl", "validation": "rows.jsonl", "test": "rows.jsonl"}


def hints(holder: type) -> dict[str, Any]:
    """Key to annotated type of a class of the suite file or a row of a table."""
    found = get_type_hints(holder, include_extras=True)
    if issubclass(holder, BaseModel):
        return {f.alias or name: found[name] for name, f in holder.model_fields.items()}
    return {field.name: found[field.name] for field in fields(holder)}


def required(holder: type) -> list[str]:
    """The keys that must be given."""
    if issubclass(holder, BaseModel):
        return [f.alias or n for n, f in holder.model_fields.items() if f.is_required()]
    defaults = ((f.name, f.default, f.default_factory) for f in fields(holder))
    return [name for name, default, factory in defaults if default is factory is MISSING]


def limits(hint: Any) -> Iterator[Any]:
    """The constraints anywhere in an annotated type."""
    yield from getattr(hint, "__metadata__", ())
    for inner in get_args(hint):
        yield from limits(inner)


def sample(hint: Any) -> Any:
    """A value of a table's field: its lower limit, or text that names a task."""
    bounds = [limit.ge for limit in limits(hint) if isinstance(limit, Ge)]
    is_number = {int, float} & set(get_args(hint))
    return bounds[0] if bounds else 1 if is_number else "of-perplexity"


# What defaults alone do not make valid.
CHOSEN: dict[type, dict[str, Any]] = {methods.LayerDrop: {"keep": 2}}


def filled(row: type, **first: Any) -> dict[str, Any]:
    """A mapping with every field of a table's row."""
    values = dict(first)
    for field in fields(row):
        if field.default is not MISSING:
            values[field.name] = field.default
        elif field.default_factory is MISSING:
            values[field.name] = sample(hints(row)[field.name])
    return values | CHOSEN.get(row, {})


AXES: dict[str, Any] = {
    "model": ["tiny"],
    "adapter_blocks": ["2+2", "0+1"],
    "compression": [filled(row.parameters, method=name) for name, row in methods.METHODS.items()],
    "tuning": [filled(row.parameters, method=name) for name, row in tuning_methods.METHODS.items()],
    "task": ["of-perplexity"],
    "seed": [0, 1],
}
SUITE: dict[str, Any] = {
    "schema": 1,
    "name": "demo",
    "models": {"tiny": {"source": "random:conf", "dtype": "float32", "revision": "main"}},
    "tasks": {
        f"of-{kind}": {
            "task": kind,
            **filled(row.parameters),
            **({} if row.is_drawn else {"data": DATA}),
        }
        for kind, row in KINDS.items()
    },
    "matrix": {**AXES, "include": [AXES], "exclude": [{**AXES, "seed": [1]}]},
    "settings": ["full_zero_shot", "plug_in"],
    "references": ["full"],
    "train": Train().model_dump(),
    "evaluate": Evaluate().model_dump(),
    "overrides": [
        {
            "when": {**AXES, "setting": ["emulator_finetuned"]},
            "train": Train().model_dump(),
            "evaluate": Evaluate().model_dump(),
        }
    ],
    "profiles": {"smoke": {"train": {"max_steps": 2}}},
}
SITES: list[tuple[Keys, type]] = [
    ((), SuiteFile),
    (("models", "tiny"), ModelSpec),
    (("matrix",), Matrix),
    (("matrix", "include", 0), Include),
    (("matrix", "exclude", 0), Pattern),
    (("train",), Train),
    (("evaluate",), Evaluate),
    (("overrides", 0), Override),
    (("overrides", 0, "when"), When),
    (("overrides", 0, "train"), Train),
    (("overrides", 0, "evaluate"), Evaluate),
    *((("tasks", f"of-{kind}"), row.parameters) for kind, row in KINDS.items()),
]
for i, compression in enumerate(methods.METHODS.values()):
    SITES.append((("matrix", "compression", i), compression.parameters))
for i, tuning in enumerate(tuning_methods.METHODS.values()):
    SITES.append((("matrix", "tuning", i), tuning.parameters))
# The same readers read them elsewhere: one method of each shows that they do.
for above in ("include", "exclude"):
    place = list(methods.METHODS).index("layer_drop")
    SITES.append((("matrix", above, 0, "compression", place), methods.LayerDrop))
    place = list(tuning_methods.METHODS).index("lora")
    SITES.append((("matrix", above, 0, "tuning", place), tuning_methods.Lora))

FIELDS = [(path, holder, key) for path, holder in SITES for key in hints(holder)]
NUMBERS = [
    (path, key) for path, holder, key in FIELDS if re.search("int|float", str(hints(holder)[key]))
]
REQUIRED = [
    (path, key) for path, holder in SITES if "exclude" not in path for key in required(holder)
]


@dataclass
class Written:
    """A suite as text, with the place of every key and value."""

    text: str
    keys: dict[Keys, str]
    values: dict[Keys, str]


def write(suite: Any) -> Written:
    """Write a suite in YAML's flow style, a key a line, noting where things come to stand."""
    written = Written("", {}, {})

    def place() -> str:
        before = written.text.rpartition("\n")[2]
        return f"{written.text.count(chr(10)) + 1}:{len(before) + 1}"

    def add(value: Any, path: Keys) -> None:
        written.values[path] = place()
        if isinstance(value, dict):
            written.text += "{\n"
            for key, inner in value.items():
                written.text += "  " * len(path)
                written.keys[(*path, key)] = place()
                written.text += f'"{key}": '
                add(inner, (*path, key))
                written.text += ",\n"
            written.text += "}"
        elif isinstance(value, list):
            written.text += "["
            for index, inner in enumerate(value):
                add(inner, (*path, index))
                written.text += ", "
            written.text += "]"
        else:
            written.text += json.dumps(value)

    add(suite, ())
    return written


def changed(path: Keys, change: Any) -> dict[str, Any]:
    """The suite after `change(mapping)` on the mapping at `path`."""
    suite: dict[str, Any] = json.loads(json.dumps(SUITE))  # unlike deepcopy, shares nothing
    holder: Any = suite
    for step in path:
        holder = holder[step]
    change(holder)
    return suite


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the suites name."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.json").write_text("{}")
    (tmp_path / "rows.jsonl").write_text("")
    (tmp_path / "no-model").mkdir()
    return tmp_path


def outcome(folder: Path, content: str | bytes, **options: Any) -> str:
    """The one line said about a suite, without its file name; empty if it is valid."""
    file = folder / "s.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        load_suite(str(file), **options)
    except SuiteError as error:
        message = str(error)
        assert "\n" not in message
        return message.replace(f"{file}:", "", 1)
    return ""


def refusal(folder: Path, suite: dict[str, Any], place: str, path: Keys) -> str:
    """What is said about `suite`, which must be about `path` and at `place`."""
    message = outcome(folder, write(suite).text)
    expected = f"{place}: {'.'.join(map(str, path))}: "
    assert message.startswith(expected), (message, expected)
    return message.removeprefix(expected)


def test_the_suite_that_the_other_tests_break_is_valid(folder: Path):
    """Else they would pass for the wrong reason."""
    assert outcome(folder, write(SUITE).text) == ""


@pytest.mark.parametrize(("path", "holder", "key"), FIELDS)
def test_a_misspelt_key_is_refused_with_what_was_meant(
    folder: Path, path: Keys, holder: type, key: str
):
    """Every key of every mapping: its place, and did-you-mean."""
    wrong = key + "q"
    suite = changed(path, lambda m: m.update({wrong: m.pop(key, 1)}))
    message = refusal(folder, suite, write(suite).keys[(*path, wrong)], (*path, wrong))
    assert f"unknown key '{wrong}'. Did you mean '{key}'?" in message


@pytest.mark.parametrize(("path", "holder"), SITES)
def test_an_unknown_key_is_refused_with_those_known(folder: Path, path: Keys, holder: type):
    """A key that resembles none: the list of keys."""
    suite = changed(path, lambda m: m.update({"zzz": 1}))
    message = refusal(folder, suite, write(suite).keys[(*path, "zzz")], (*path, "zzz"))
    assert message.startswith("unknown key 'zzz'. Known: ")


@pytest.mark.parametrize(("path", "holder", "key"), FIELDS)
def test_a_value_of_the_wrong_type_is_refused(folder: Path, path: Keys, holder: type, key: str):
    """Every value: its place, strictly typed."""
    is_float = float in get_args(hints(holder)[key]) or "float" in str(hints(holder)[key])
    suite = changed(path, lambda m: m.update({key: "0.5" if is_float else 31337.5}))
    message = refusal(folder, suite, write(suite).values[(*path, key)], (*path, key))
    assert " must " in message or "unknown value" in message


@pytest.mark.parametrize(("path", "key"), NUMBERS)
def test_a_truth_value_is_not_a_number(folder: Path, path: Keys, key: str):
    """`true` counts as 1 in Python; here it is refused wherever a number is due."""
    suite = changed(path, lambda m: m.update({key: True}))
    refusal(folder, suite, write(suite).values[(*path, key)], (*path, key))


def out_of_range() -> Iterator[tuple[Keys, str, Any]]:
    """For every limit of every field, the nearest value beyond it."""
    for path, holder, key in FIELDS:
        if key == "blocks":
            continue  # a list: its limits are those of what is in it
        for limit in limits(hints(holder)[key]):
            match limit:
                case Ge(ge=bound):
                    yield path, key, bound - 1
                case Gt(gt=bound) | Lt(lt=bound):
                    yield path, key, bound
                case Le(le=bound):
                    yield path, key, bound + 1


@pytest.mark.parametrize(("path", "key", "value"), list(out_of_range()))
def test_a_value_out_of_range_is_refused_with_the_limit(
    folder: Path, path: Keys, key: str, value: Any
):
    """Every limit: the first value beyond it, its place, and the limit."""
    suite = changed(path, lambda m: m.update({key: value}))
    message = refusal(folder, suite, write(suite).values[(*path, key)], (*path, key))
    assert re.match(rf"got {value}; it must be (at least|at most|greater|less)", message)


@pytest.mark.parametrize(("path", "key"), REQUIRED)
def test_a_missing_key_is_refused_at_the_mapping_that_lacks_it(folder: Path, path: Keys, key: str):
    """Every required key."""
    suite = changed(path, lambda m: m.pop(key))
    message = refusal(folder, suite, write(suite).values[path], (*path, key))
    assert message == f"missing; add '{key}: ...'."


@pytest.mark.parametrize("path", [(*path, key) for path, _, key in FIELDS])
def test_an_empty_list_is_refused_where_something_must_be_run(folder: Path, path: Keys):
    """Only what may be left out may be empty."""
    suite = changed(path[:-1], lambda m: m.update({path[-1]: []}))
    if path[-1] in ("include", "exclude", "overrides", "peers"):
        assert outcome(folder, write(suite).text) == ""
    else:
        refusal(folder, suite, write(suite).values[path], path)


MATRIX = ("matrix",)
STEP = ("matrix", "compression", 0)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("schema",), 2, "schema 2 is of another version; this one reads schema: 1"),
        (("schema",), True, "got true; it must be a whole number"),
        (("name",), "../up", "got '../up'; it must be text that matches"),
        (("name",), "x" * 101, "it must be at most 100 characters"),
        (("models",), {}, "it must be a list with something in it"),
        (("models", "tiny", "source"), "", "at least 1 character"),
        (("models", "tiny", "source"), "./gone", "no such folder: './gone', relative to /"),
        (("models", "tiny", "source"), "random:gone", "no such folder: 'gone'"),
        (("models", "tiny", "source"), "no-model", "a folder that is not a model: 'no-model' has"),
        (("models", "tiny", "source"), "./no-model", "a folder that is not a model"),
        (("models", "tiny", "source"), "a/b/c", "'a/b/c' is no folder and no hub id"),
        (("models", "tiny", "source"), "a b", "'a b' is no folder and no hub id"),
        (("models", "tiny", "dtype"), "float23", "unknown value 'float23'. Did you mean 'float32'"),
        (("matrix", "model", 0), "tyny", "unknown model 'tyny'. Did you mean 'tiny'? Known: tiny."),
        (("matrix", "task", 0), "of-perplexty", "unknown task 'of-perplexty'. Did you mean 'of-p"),
        (("matrix", "include", 0, "model", 0), "tyny", "unknown model 'tyny'"),
        (("matrix", "exclude", 0, "task", 0), "tyny", "unknown task 'tyny'"),
        (("overrides", 0, "when", "model", 0), "tyny", "unknown model 'tyny'"),
        (("overrides", 0, "when", "setting", 0), "plugin", "unknown value 'plugin'. Did you mean"),
        (("settings", 1), "plugin", "unknown value 'plugin'. Did you mean 'plug_in'?"),
        (("settings", 1), 3, "got 3; it must be one of"),
        (("references", 0), "fulll", "unknown tuning 'fulll'. Did you mean 'full'?"),
        (("matrix", "compression", 0, "method"), [1], "it must be one of angular, block_influence"),
        (("matrix", "adapter_blocks", 1), "2", "'2' is not bottom+top adapter blocks, as in 2+2"),
        (("matrix", "adapter_blocks", 1), "0+0", "0+0 leaves nothing to tune"),
        (("matrix", "adapter_blocks", 1), "-1+2", "'-1+2' is not bottom+top"),
        (("matrix", "seed", 1), 0, "the seed 0 is given twice"),
        (("matrix", "compression", 0), [], "it must be a list with something in it"),
        (("matrix", "compression", 0), ["layer_drop"], None),
        (("tasks", "of-perplexity"), 3, "got 3; it must be a mapping"),
        (("tasks", "of-perplexity", "task"), "perplexty", "unknown task 'perplexty'. Did you mean"),
        (("tasks", "of-perplexity", "data", "train"), "gone.jsonl", "no such file: 'gone.jsonl'"),
        (("tasks", "of-perplexity", "data"), {"train": "rows.jsonl"}, "missing; add 'test: FILE'"),
        (("tasks", "of-perplexity", "data"), {"builtin": "x"}, None),
        (("profiles", "smoke"), 3, "got 3; it must be a mapping"),
    ],
)
def test_each_rule_between_fields_is_checked_at_its_place(
    folder: Path, path: Keys, value: Any, expected: str | None
):
    """Names, files and folders are looked up before anything is loaded."""
    suite = changed(path[:-1], lambda m: m.__setitem__(path[-1], value))
    if expected is None:
        assert outcome(folder, write(suite).text)
    else:
        assert expected in refusal(folder, suite, write(suite).values[path], path)


def test_a_misspelt_method_or_task_key_says_what_it_was_meant_for(folder: Path):
    """These two keys decide what else is known, so they are asked for first."""
    suite = changed(STEP, lambda m: m.update({"metod": m.pop("method")}))
    assert "missing; is 'metod' meant for it? Known: " in outcome(folder, write(suite).text)
    suite = changed(("tasks", "of-perplexity"), lambda m: m.update({"tsk": m.pop("task")}))
    assert "missing; is 'tsk' meant for it?" in outcome(folder, write(suite).text)


def test_names_that_are_odd_are_refused_at_the_key(folder: Path):
    """Names become file names and table cells."""
    suite = changed(("models",), lambda m: m.update({"a b": m["tiny"]}))
    place = write(suite).keys["models", "a b"]
    assert "must be text that matches" in refusal(folder, suite, place, ("models", "a b"))


def test_a_misspelt_split_is_refused_at_its_key(folder: Path):
    """`data` has its own known names."""
    path = ("tasks", "of-perplexity", "data")
    suite = changed(path, lambda m: m.update({"tran": m.pop("train")}))
    message = refusal(folder, suite, write(suite).keys[(*path, "tran")], (*path, "tran"))
    assert "unknown split 'tran'. Did you mean 'train'?" in message


def test_the_same_bad_suite_gives_the_same_line(folder: Path):
    """With several things wrong the first one said does not change from run to run."""
    suite = changed(("train",), lambda m: m.update(epochs=0, batch_size=0, seed=1, optimizer="x"))
    assert len({outcome(folder, write(suite).text) for _ in range(5)}) == 1


def test_a_matrix_too_large_is_refused_with_its_count(folder: Path):
    """It is counted, never written out."""
    suite = changed(MATRIX, lambda m: m.update(seed=list(range(9999)), exclude=[], include=[]))
    count = 9999 * 2 * len(methods.METHODS) * len(tuning_methods.METHODS)
    many = changed(MATRIX, lambda m: m.update(suite["matrix"], model=["tiny"] * 9))
    message = refusal(folder, many, write(many).values[MATRIX], MATRIX)
    assert message == f"{count * 9} cases; a suite has at most 100000"


def test_more_patterns_than_can_be_compared_are_refused(folder: Path):
    """Every case is compared with every pattern, so their product is bounded, not the patterns."""
    axes = {"seed": list(range(110)), "exclude": [{"seed": 1}] * 99, "include": []}
    suite = changed(MATRIX, lambda m: m.update(axes))
    message = refusal(folder, suite, write(suite).values[MATRIX], MATRIX)
    assert "cases with 100 exclude and override patterns; their product is at most" in message


def test_a_matrix_that_excludes_itself_is_refused(folder: Path):
    """A run of nothing would end well without a result."""
    suite = changed(MATRIX, lambda m: m.update(exclude=[{"seed": [0, 1]}], include=[]))
    message = refusal(folder, suite, write(suite).values[MATRIX], MATRIX)
    assert message == "every case is excluded; leave one in"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xe9", "1:1: byte 0xe9 (offset 0) is not UTF-8"),
        (b"", "1:1: the file is empty"),
        (b"a: \0", "1:4: the control character"),
        (b"[" * 9999, "1:33: nested more than 32 deep"),
        (b"x" * 2_000_000, "1:1: the file is larger than 1 MiB"),
        (b"a: !!python/object:os.system 1", "1:4: the tag"),
        (b"just text", "1:1: got 'just text'; it must be a mapping"),
        (b"[schema, 1]", "1:1: got a list; it must be a mapping"),
    ],
)
def test_hostile_files_are_one_line(folder: Path, content: bytes, expected: str):
    """What the reader refuses reaches the user unchanged."""
    assert outcome(folder, content).startswith(expected)
    assert outcome(folder, content, profile="x", sets=["a.b=1"])


def test_a_thousand_mutated_suites_are_valid_or_one_line(folder: Path):
    """Bytes flipped, lines moved, hostile fragments put in: never another exception."""
    chance = random.Random(20_301)
    source = write(SUITE).text.encode()
    fragments = [
        b"*a", b"&a ", b"<<: ", b"!!int ", b"null", b"[]", b"{}", b"\0", b"\xff", b"- ", b"\n---\n",
        b"'", b'"', b"1e999", b"no", b"[[[[", b"}}}}", b"? ", b"\t", b"0x1", b"\xe2\x80\xa8", b"~",
        b'"\\uD800"', b"-1", b"1.5", b"true", b'"' + b"y" * 300 + b'"', b"%TAG ! x\n", b"#",
    ]  # fmt: skip
    valid = 0
    for _ in range(1000):
        mutant = bytearray(source)
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(mutant))
            end = start + chance.choice([0, 1, 1, 5, 20])
            new = chance.choice(
                [*fragments, bytes([chance.randrange(256)]), mutant[end : end + 30]]
            )
            mutant[start:end] = new
        message = outcome(folder, bytes(mutant))
        valid += not message
        assert not message or re.match(r"[1-9][0-9]*:[1-9][0-9]*: .", message), message
    assert 5 < valid < 900


def paths(value: Any, above: Keys = ()) -> Iterator[Keys]:
    """The path of everything in a suite."""
    inner: Any = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inner:
        yield (*above, key)
        yield from paths(each, (*above, key))


def test_a_thousand_suites_with_values_exchanged_are_valid_or_one_line(folder: Path):
    """Well-formed suites in which one or two values are something else, or gone."""
    chance = random.Random(20_302)
    everything = list(paths(SUITE))
    odd = [None, True, -1, 0, 1.5, 10**17, "", "x", "2+2", "full", "tiny", "~", "/", "a\nb", [], {},
           [[]], [{}], {"method": "full"}, {"task": "x"}, ["2+2"] * 3]  # fmt: skip
    verdicts = set()
    for _ in range(1000):
        suite = json.loads(json.dumps(SUITE))
        for path in chance.sample(everything, k=chance.randint(1, 2)):
            holder = suite
            try:
                for step in path[:-1]:
                    holder = holder[step]
                holder[path[-1]] = copy.deepcopy(chance.choice(odd))
            except (KeyError, IndexError, TypeError):
                continue  # the other value took its place away
        message = outcome(folder, json.dumps(suite))
        verdicts.add(bool(message))
        assert not message or re.match(r"1:[1-9][0-9]*: .", message), message
    assert verdicts == {True, False}
