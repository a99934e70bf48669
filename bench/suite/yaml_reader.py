"""Read YAML 1.2 into values that know where they stand; anything else is one line of error.

Only PyYAML's event stream is used. Its constructors guess (`no` is False, 1:30 is 90, the last
of two equal keys wins, 2e-5 is text), run code for tags, and let a small file fill the memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from bench.errors import SuiteError
from bench.suite.wording import one_line, shown
from bench.suite.yaml_scalars import Scalar, resolve

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_ALIASES = 20
MAX_VALUES = 20_000
"""Counted with every alias written out. The largest published suite has a few hundred."""

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it, else the same in Python (about 20 times slower)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a position in a file or, without a line, a `--set`."""

    origin: str
    line: int = 0
    column: int = 0
    """Both count from 1."""

    def __str__(self) -> str:
        name = one_line(self.origin)
        return f"{name}:{self.line}:{self.column}" if self.line else name


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place."""

    value: Scalar | dict[str, Node] | list[Node]
    place: Place
    text: str = ""
    """A scalar as it was written: 2e-5, not 2e-05."""
    keys: dict[str, Place] = field(default_factory=dict)
    """Of a mapping: where each key stands."""

    def plain(self) -> object:
        """The value without places; lists are tuples, so that it cannot change."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return tuple(node.plain() for node in self.value)
        return self.value


def read_file(path: Path, origin: str) -> Node:
    """Read one file; `origin` is what errors call it.

    Raises:
        SuiteError: one line, `origin:line:column: what was given, what would work`.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, False for names no file can have
        raise SuiteError(f"{one_line(origin)}: no such file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SuiteError(f"{one_line(origin)}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        _refuse(Place(origin, 1, 1), "the file is larger than 1 MiB; a suite is a few KiB")
    return read_text(_decoded(content, origin), origin)


def read_text(text: str, origin: str) -> Node:
    """Read one YAML document."""
    return _read(text, lambda line, column: Place(origin, line, column))


def read_argument(text: str, origin: str) -> Node:
    """Read one value from the command line; every place in it is the argument itself."""
    if not text.strip():
        return Node(None, Place(origin))
    return _read(text, lambda _line, _column: Place(origin))


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Node
    anchor: str | None
    values_before: int
    key: str | None = None
    """Of a mapping: the key whose value comes next."""


class _Builder:
    """Builds the tree event by event, without recursion, and counts as it goes."""

    def __init__(self, place: Callable[[int, int], Place]) -> None:
        self.root: Node | None = None
        self._place = place
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        """Finished values by anchor, with how many values each holds."""
        self._aliases = 0
        self._values = 0

    def add(self, event: Event) -> None:
        """Take the next event, or refuse it."""
        mark = event.start_mark
        assert mark is not None  # None only in events made by hand
        place = self._place(mark.line + 1, mark.column + 1)
        if isinstance(event, DocumentStartEvent):
            self._start_document(event, place)
        elif isinstance(event, AliasEvent):
            self._alias(str(event.anchor), place)
        elif isinstance(event, ScalarEvent):
            _refuse_tag(event.tag, place)
            self._scalar(event, place)
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            _refuse_tag(event.tag, place)
            self._start(event, place)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            self._end()

    def _start_document(self, event: DocumentStartEvent, place: Place) -> None:
        if self.root is not None:
            _refuse(place, "a second document starts here; keep one document in a file")
        if event.version or event.tags:
            _refuse(place, "a %YAML or %TAG directive; leave it out, YAML 1.2 is read")

    def _alias(self, anchor: str, place: Place) -> None:
        name = shown(anchor)
        if self._expects_key():
            _refuse(place, f"the alias *{name} as a key; write the key itself")
        if anchor not in self._anchors:
            _refuse(place, f"the alias *{name} has no finished anchor &{name} before it")
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            _refuse(place, f"more than {MAX_ALIASES} aliases; write the values out")
        node, values = self._anchors[anchor]
        self._put(node, values, place)

    def _scalar(self, event: ScalarEvent, place: Place) -> None:
        # An unquoted scalar has style '' in the C loader and None in the Python one.
        is_plain = not event.style
        if is_plain and event.value == "<<":
            _refuse(place, "a merge key '<<'; write the keys out, or use a profile")
        value = _resolved(event.value, place) if is_plain else event.value
        if isinstance(value, str) and (odd := _CONTROL.search(value)):
            _refuse(place, f"the text holds the control character {odd.group()!a}; leave it out")
        if self._expects_key():
            self._key(value, event.value, place)
            return
        node = Node(value, place, event.value)
        self._remember(event.anchor, node, 1)
        self._put(node, 1, place)

    def _key(self, key: Scalar, text: str, place: Place) -> None:
        if not isinstance(key, str):
            _refuse(place, f'the key {shown(text)} is not text; quote it: "{shown(text)}"')
        mapping = self._open[-1]
        if key in mapping.node.keys:
            first = mapping.node.keys[key]
            line = f", first on line {first.line}" if first.line else ""
            _refuse(place, f"the key '{shown(key)}' is given twice{line}; keep one of them")
        mapping.node.keys[key] = place
        mapping.key = key

    def _start(self, event: MappingStartEvent | SequenceStartEvent, place: Place) -> None:
        if self._expects_key():
            _refuse(place, "a list or mapping as a key; use text")
        if len(self._open) == MAX_DEPTH:
            _refuse(place, f"nested more than {MAX_DEPTH} deep; a suite needs about 8")
        node = Node({} if isinstance(event, MappingStartEvent) else [], place)
        values_before = self._values
        self._put(node, 1, place)
        self._open.append(_Open(node, event.anchor, values_before))

    def _end(self) -> None:
        done = self._open.pop()
        self._remember(done.anchor, done.node, self._values - done.values_before)

    def _put(self, node: Node, values: int, place: Place) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            _refuse(place, f"more than {MAX_VALUES} values, aliases written out; make it smaller")
        if not self._open:
            self.root = node
            return
        into = self._open[-1]
        if isinstance(into.node.value, list):
            into.node.value.append(node)
        elif isinstance(into.node.value, dict) and into.key is not None:
            into.node.value[into.key] = node
            into.key = None

    def _remember(self, anchor: str | None, node: Node, values: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, values)

    def _expects_key(self) -> bool:
        return (
            bool(self._open)
            and isinstance(self._open[-1].node.value, dict)
            and self._open[-1].key is None
        )


def _read(text: str, place: Callable[[int, int], Place]) -> Node:
    if odd := _CONTROL.search(text):
        before = text[: odd.start()]
        line, column = before.count("\n") + 1, odd.start() - before.rfind("\n")
        _refuse(place(line, column), f"the control character {odd.group()!a}; remove it")
    builder = _Builder(place)
    for event in _events(text, place):
        builder.add(event)
    if builder.root is None:
        _refuse(place(1, 1), "the file is empty; start with 'schema: 1'")
    return builder.root


_CONTROL = re.compile(
    # Tab and line ends are text. NEL, LS and PS would end lines in YAML 1.1 and not in 1.2.
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]|\r(?!\n)"
)


def _events(text: str, place: Callable[[int, int], Place]) -> Iterator[Event]:
    try:
        yield from yaml.parse(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = place(mark.line + 1, mark.column + 1) if mark else place(1, 1)
        _refuse(where, _syntax(error, text, mark.line if mark else 0))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # The Python scanner lets chr() fail on escapes such as "\UFFFFFFFF".
        _refuse(place(1, 1), f"not YAML: {shown(str(error))}; check quotes and escapes")


def _syntax(error: yaml.MarkedYAMLError, text: str, line: int) -> str:
    problem = one_line(error.problem or "cannot be read")
    lines = text.splitlines()
    indent = re.match(r"\s*", lines[line]) if line < len(lines) else None
    if indent and "\t" in indent.group():
        return "not YAML: a tab in the indentation; indent with spaces"
    remedies = (remedy for part, remedy in _REMEDIES if part in problem)
    remedy = next(remedies, "check indentation, quotes and brackets here and just before")
    return f"not YAML: {problem}; {remedy}"


_REMEDIES = (
    ("mapping values are not allowed", "quote text that holds ': ', or start a new line"),
    ("could not find expected ':'", "write 'key: value'"),
    ("cannot start any token", "quote text that starts with this character"),
    ("expected ',' or", "close the bracket, or put a comma"),
    ("end of stream", "close the quote or bracket"),
    ("escape", "in double quotes write \\\\ for a backslash"),
)


def _decoded(content: bytes, origin: str) -> str:
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        byte = f"byte 0x{content[error.start]:02x} (offset {error.start})"
        _refuse(Place(origin, line, column), f"{byte} is not UTF-8; save the file as UTF-8")


def _resolved(text: str, place: Place) -> Scalar:
    try:
        return resolve(text)
    except ValueError as error:
        _refuse(place, f"{shown(text)} {error}")


def _refuse_tag(tag: str | None, place: Place) -> None:
    if tag is not None:
        _refuse(place, f"the tag {shown(tag)}; tags are not read, leave it out")


def _refuse(place: Place, sentence: str) -> NoReturn:
    raise SuiteError(f"{place}: {sentence}")
