"""Check a YAML tree against a class: an instance of it, or one line that names the place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bench.errors import SuiteError
from bench.suite.closed import Fault
from bench.suite.wording import missing, shown, unknown
from bench.suite.yaml_reader import Node, Place
from bench.suite.yaml_scalars import Scalar

Keys = tuple[str | int, ...]
"""Keys and list indices from the top of a suite to one of its values."""


C = TypeVar("C", bound=BaseModel)


def check(model: type[C], node: Node, above: Keys = ()) -> C:
    """The instance of `model` that `node` describes; `above` is the path to it, for errors.

    Raises:
        SuiteError: one line, for the first thing that is wrong.
    """
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        _complain(node, above, error)


def refuse_at(root: Node, path: Keys, sentence: str) -> NoReturn:
    """Raise the one line for something wrong with the value at `path`."""
    found = locate(root, path)
    refuse(found.node.place, found.path, sentence)


def refuse(place: Place, path: Keys, sentence: str) -> NoReturn:
    """Raise the one line for something wrong at `path`."""
    dotted = shown(".".join(map(str, path)))
    raise SuiteError(f"{place}: {dotted}: {sentence}" if path else f"{place}: {sentence}")


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a path, or of as much of it as is there."""

    path: Keys
    node: Node
    key: Place | None
    """Where the last key of the path stands; None in lists."""
    missing: bool
    """The path goes on where the file does not."""


def locate(root: Node, path: Sequence[str | int]) -> Found:
    """Follow `path` as far as the file goes.

    Index 0 of something that is not a list is the thing itself: see `bench.suite.closed.Listed`.
    """
    found = Found((), root, None, False)
    for step in path:
        value = found.node.value
        if step == 0 and not isinstance(value, list):
            continue
        following = _child(value, step)
        if following is None:
            return Found(found.path, found.node, found.key, True)
        key = found.node.keys.get(str(step))
        found = Found((*found.path, step), following, key, False)
    return found


def _child(value: Scalar | dict[str, Node] | list[Node], step: str | int) -> Node | None:
    if isinstance(value, dict):
        return value.get(str(step))
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _complain(root: Node, above: Keys, error: ValidationError) -> NoReturn:
    path, detail = _innermost(error)
    cause = (detail.get("ctx") or {}).get("error")
    on_key = path[-1:] == ("[key]",) or (isinstance(cause, Fault) and cause.on_key)
    path = tuple(step for step in path if step != "[key]")
    found = locate(root, path)
    place = found.key if on_key and found.key else found.node.place
    sentence = str(cause) if isinstance(cause, Fault) else _sentence(detail, found, on_key)
    named = (*found.path, *path[-1:]) if found.missing else found.path
    refuse(place, (*above, *named), sentence)


def _innermost(error: ValidationError) -> tuple[Keys, ErrorDetails]:
    """The first error and its path, through checks that were made within checks."""
    path: Keys = ()
    while True:
        detail = error.errors(include_url=False)[0]
        path += detail["loc"]
        cause = (detail.get("ctx") or {}).get("error")
        if not isinstance(cause, ValidationError):
            return path + (cause.path if isinstance(cause, Fault) else ()), detail
        error = cause


def _sentence(detail: ErrorDetails, found: Found, on_key: bool) -> str:
    context: Mapping[str, Any] = detail.get("ctx") or {}
    given = f"'{shown(str(detail['input']))}'" if on_key else _given(found.node)
    match detail["type"]:
        case "missing":
            return missing(str(detail["loc"][-1]), found.node.keys)
        case "literal_error":
            return _unknown_value(found.node, list(_quoted(context["expected"])))
        case kind if kind in _EXPECTED:
            numbers = {name: _short(value) for name, value in context.items()}
            return f"got {given}; it must be {_EXPECTED[kind].format(**numbers)}"
    return f"got {given}; {detail['msg']}"


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text (quote it if it looks like a number)",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list with something in it",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}


def _unknown_value(node: Node, known: list[str]) -> str:
    if isinstance(node.value, str):
        return unknown("value", node.value, known)
    return f"got {_given(node)}; it must be one of {', '.join(known)}"


def _short(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _quoted(expected: str) -> Iterator[str]:
    """The values in pydantic's "'adamw', 'sgd' or 'lion'"."""
    return (word.strip("'") for word in re.split(r", | or ", expected))


def _given(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list" if node.value else "an empty list"
    if node.value is None:
        return "nothing"
    return f"'{shown(node.value)}'" if isinstance(node.value, str) else shown(node.text)
