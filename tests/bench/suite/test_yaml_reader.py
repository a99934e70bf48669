"""The reader of suite files: YAML 1.2 in, values with places out, one line for anything else."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import SuiteError
from bench.suite import yaml_reader
from bench.suite.checking import locate
from bench.suite.yaml_reader import read_argument, read_file, read_text

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]
AMBIGUOUS = """
    yes Yes NO no on Off True TRUE False Null NULL 010 -007 00.5 0x1F 0o17 0b11 1_000 1_0.5
    1:30 1:30:00 190:20:30.15 2024-01-01 2024-1-1T10:00:00Z .inf -.Inf .NaN 1e999 -1e999
    1234567890123456789
"""
ONE_LINE = re.compile(r"s\.yaml:[1-9][0-9]*:[1-9][0-9]*: [^\n]+")


@pytest.fixture(params=LOADERS, ids=["python", "libyaml"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything below holds with and without libyaml."""
    monkeypatch.setattr(yaml_reader, "LOADER", request.param)


def refusal(text: str) -> str:
    """What the reader says to `text`, without the file's name."""
    with pytest.raises(SuiteError) as caught:
        read_text(text, "s.yaml")
    message = str(caught.value)
    assert ONE_LINE.fullmatch(message), message
    return message.removeprefix("s.yaml:")


def test_core_scalars_are_yaml_1_2():
    """Numbers, words and text are what YAML 1.2's core schema says, 2e-5 being a number."""
    text = """
    numbers: [0, -3, +4, 2e-5, 1.5E3, .5, 7., -0.0]
    words: [true, false, null, ~, ]
    text: [opt-1.3b, 2+2, y, "no", '1', "2024-01-01", a b, 1.2.3, "<<"]
    missing:
    block: |
      two
      lines
    """
    assert read_text(text, "s.yaml").plain() == {
        "numbers": (0, -3, 4, 2e-5, 1500.0, 0.5, 7.0, 0.0),
        "words": (True, False, None, None),
        "text": ("opt-1.3b", "2+2", "y", "no", "1", "2024-01-01", "a b", "1.2.3", "<<"),
        "missing": None,
        "block": "two\nlines\n",
    }


def test_an_integer_is_not_a_float_and_a_word_is_not_a_number():
    """Types are exact: 1 is int, 1.0 is float, true is bool."""
    values = read_text("[1, 1.0, true, 1e3]", "s.yaml").plain()
    assert isinstance(values, tuple)
    assert [type(value) for value in values] == [int, float, bool, float]


@pytest.mark.parametrize(
    "scalar",
    AMBIGUOUS.split(),
)
def test_ambiguous_scalars_are_refused_and_fine_in_quotes(scalar: str):
    """What YAML versions or people read differently has to be quoted or written otherwise."""
    message = refusal(f"a:\n  - {scalar}")
    assert message.startswith(f"2:5: {scalar} ")
    assert "quote it or " in message
    assert read_text(f"a: '{scalar}'", "s.yaml").plain() == {"a": scalar}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: the key 'a' is given twice, first on line 1"),
        ("a: {b: 1, b: 2}", "1:11: the key 'b' is given twice"),
        ("a: !!python/object/apply:os.system [x]", "1:4: the tag tag:yaml.org"),
        ("a: !!str 3", "1:4: the tag"),
        ("a: ! 3", "1:4: the tag !"),
        ("a: !x {b: 1}", "1:4: the tag !x"),
        ("!x a: 1", "1:1: the tag !x"),
        ("a: 1\n---\nb: 2", "2:1: a second document"),
        ("%YAML 1.1\n---\na: 1", "1:1: a %YAML or %TAG directive"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "1:1: a %YAML or %TAG directive"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "3:3: a merge key '<<'"),
        ("1: a", "1:1: the key 1 is not text; quote it"),
        ("null: a", "1:1: the key null is not text"),
        ("yes: a", "1:1: yes is read differently"),
        ("? [a]\n: b", "1:3: a list or mapping as a key"),
        ("? {a: 1}\n: b", "1:3: a list or mapping as a key"),
        ("a: &x b\n*x : c", "2:1: the alias *x as a key"),
        ("a: *x", "1:4: the alias *x has no finished anchor"),
        ("a: &x [*x]", "1:8: the alias *x has no finished anchor"),
        ("a:\n\t- b", "2:1: not YAML: a tab in the indentation"),
        ("a: b: c", "1:5: not YAML: mapping values are not allowed"),
        ("a: @b", "1:4: not YAML: found character"),
        ("a: 1\n b: 2", "2:3: not YAML"),
        ("", "1:1: the file is empty"),
        ("# nothing\n", "1:1: the file is empty"),
        ("ab\0c", "1:3: the control character '\\x00'"),
        ("a\nb: \x1b[31m", "2:4: the control character '\\x1b'"),
        ("a: \u2028", "1:4: the control character"),
        ("a: 1\rb: 2", "1:5: the control character '\\r'"),
        ('a: "\\0"', "1:4: the text holds the control character '\\x00'"),
        ('a: "\\e[31m"', "1:4: the text holds the control character"),
    ],
)
def test_each_hostile_or_doubtful_text_is_refused_at_its_place(text: str, expected: str):
    """The line and column are those of the thing at fault."""
    assert refusal(text).startswith(expected)


@pytest.mark.parametrize(
    "text", ["a: [1, 2", "a: 'b", 'a: "\\q"', 'a: "\\UFFFFFFFF"', "a: }", "- a\nb"]
)
def test_broken_syntax_is_one_line_with_a_remedy(text: str):
    """What is not YAML says so and where to look."""
    assert "not YAML: " in refusal(text)


def test_lone_surrogates_never_become_text():
    """An escape for half a character is refused, whichever loader reads it."""
    refusal('a: "\\uD800"')
    refusal('a: "\\uDFFF"')


def test_alias_bombs_are_refused_before_they_are_written_out():
    """Nine levels of nine aliases are 10^9 values from 300 bytes: one line, at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    started = time.perf_counter()
    assert "aliases" in refusal("\n".join(lines))
    assert time.perf_counter() - started < 1


def test_twenty_aliases_are_enough():
    """The twenty-first is refused where it stands, however small its value."""
    assert read_text("a: &a 1\nb: [" + "*a, " * 20 + "]", "s.yaml").plain()
    message = refusal("a: &a 1\nb: [" + "*a, " * 21 + "]")
    assert message.startswith("2:85: more than 20 aliases")


def test_few_aliases_of_large_values_are_refused_by_their_size():
    """Doubling needs few aliases; what counts is the size once written out."""
    large = f"a: &a [{'1, ' * 9000}]\nb: &b [*a, *a]\nc: [*b, *b]"
    assert "more than 20000 values" in refusal(large)


def test_an_honest_anchor_is_written_out():
    """A few anchors are fine, and each use is the value itself."""
    text = "a: &steps {keep: 8}\nb: [*steps, *steps]"
    assert read_text(text, "s.yaml").plain() == {"a": {"keep": 8}, "b": ({"keep": 8},) * 2}


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 50_000, "- " * 50_000])
def test_deep_nesting_is_refused(text: str):
    """Depth is capped long before any stack is."""
    assert "nested more than 32 deep" in refusal(text)


def test_very_many_values_are_refused():
    """A suite is small; a list of 300,000 numbers is not a suite."""
    assert "more than 20000 values" in refusal("a: [" + "1," * 300_000 + "]")


def test_messages_repeat_little_and_nothing_a_terminal_acts_on():
    """A user's text is cut to 60 characters and escaped."""
    message = refusal(f"'{'x' * 500}': 1\n'{'x' * 500}': 2")
    assert len(message) < 200
    assert "\\u202e" in refusal('"a\u202eb": 1\n"a\u202eb": 2')


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\nb: caf\xe9\n", "2:7: byte 0xe9 (offset 11) is not UTF-8"),
        (b"\xff\xfea\x00:\x00", "1:1: byte 0xff (offset 0) is not UTF-8"),
        ("ä: é".encode() + b"\x80", "1:5: byte 0x80 (offset 6) is not UTF-8"),
        (b"a: 1\n" * 300_000, "1:1: the file is larger than 1 MiB"),
        (b"", "1:1: the file is empty"),
        (b"a\0", "1:2: the control character"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, content: bytes, expected: str):
    """Encoding and size are checked first, and the byte at fault is named."""
    file = tmp_path / "s.yaml"
    file.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        read_file(file, "s.yaml")
    assert str(caught.value).startswith(f"s.yaml:{expected}")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path):
    """Files from Windows editors read as others do."""
    file = tmp_path / "s.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_file(file, "s.yaml").plain() == {"a": 1, "b": 2}


@pytest.mark.parametrize("path", ["none.yaml", ".", "a\0b", "x" * 5000])
def test_what_is_no_file_is_one_line(tmp_path: Path, path: str):
    """Missing files, folders and impossible names are errors of the user, not ours."""
    with pytest.raises(SuiteError, match=r"^[^\n]*: no such file$"):
        read_file(tmp_path / path, path)


def test_every_key_and_value_knows_its_place():
    """A path leads to the line and column where the value, and its key, stand."""
    text = "matrix:\n  - compression:\n      - {method: x}\n      - [a, {keep: 8}]\n"
    root = read_text(text, "s.yaml")
    found = locate(root, ("matrix", 0, "compression", 1, 1, "keep"))
    assert str(found.node.place) == "s.yaml:4:20"
    assert str(found.key) == "s.yaml:4:14"
    assert str(locate(root, ("matrix", 0)).node.place) == "s.yaml:2:5"


def test_a_path_that_is_not_there_leads_to_its_nearest_parent():
    """Something missing is reported at the mapping that lacks it."""
    found = locate(read_text("a:\n  b: {c: 1}", "s.yaml"), ("a", "b", "x", "y"))
    assert (str(found.node.place), found.path, found.missing) == ("s.yaml:2:6", ("a", "b"), True)


def test_a_value_from_the_command_line_names_its_argument():
    """There are no lines there; the argument is the place."""
    node = read_argument("[1, {a: 2e-5}]", "--set x=[1, {a: 2e-5}]")
    assert node.plain() == (1, {"a": 2e-5})
    assert str(node.place) == "--set x=[1, {a: 2e-5}]"
    assert read_argument("", "--set x=").plain() is None
    with pytest.raises(SuiteError, match=r"^--set x=no: no is read differently"):
        read_argument("no", "--set x=no")


def outcome_of(text: str) -> str:
    """What becomes of `text`: nothing to say if it is a tree, else the one line."""
    try:
        read_text(text, "s.yaml").plain()
    except SuiteError as error:
        return str(error)
    return ""


@given(st.text(max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_text_at_a_value_is_a_value_or_one_line(text: str):
    """No text makes the reader fail in any other way."""
    assert ONE_LINE.fullmatch(outcome_of(f"a: {text}") or "s.yaml:1:1: fine")


def test_random_text_is_a_value_or_one_line():
    """2,000 texts made of YAML's own characters: a tree or one line, never another exception."""
    chance = random.Random(0)
    pieces = [
        *"[]{}:,-&*!|>'\"%@`#?~<. \n\t\\",
        "a",
        "1",
        ": ",
        "- ",
        "\n  ",
        "&a ",
        "*a",
        "---\n",
        "<<: ",
    ]
    for _ in range(2000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 30)))
        assert ONE_LINE.fullmatch(outcome_of(text) or "s.yaml:1:1: fine"), text
