"""Change a suite before it is checked: a profile laid over it, then each `--set`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.errors import SuiteError
from bench.suite.checking import Keys, refuse
from bench.suite.wording import shown, unknown
from bench.suite.yaml_reader import Node, Place, read_argument


def merge(base: Node, over: Node) -> Node:
    """Mappings merge, key by key; anything else is replaced. Every value keeps its place."""
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = {
        key: merge(base.value[key], node) if key in base.value else node
        for key, node in over.value.items()
    }
    return replace(base, value=base.value | merged, keys=base.keys | over.keys)


def with_profile(root: Node, profile: str) -> Node:
    """Lay one of the suite's own `profiles` over it."""
    profiles = _child(root, "profiles")
    known = list(profiles.value) if profiles and isinstance(profiles.value, dict) else []
    chosen = _child(profiles, profile)
    if profiles is None or not known:
        refuse(root.place, (), f"no profile '{shown(profile)}': the suite has no profiles")
    if chosen is None:
        refuse(profiles.place, (), unknown("profile", profile, known))
    if not isinstance(chosen.value, dict):
        refuse(chosen.place, ("profiles", profile), "it must be a mapping (key: value)")
    if "profiles" in chosen.value:
        refuse(
            chosen.keys["profiles"],
            ("profiles", profile, "profiles"),
            "a profile within a profile; put it beside the others",
        )
    return merge(root, chosen)


def with_setting(root: Node, setting: str) -> Node:
    """Apply one `a.b.0=value`: keys and list indices, then one YAML value."""
    origin = f"--set {shown(setting)}"
    path, equals, text = setting.partition("=")
    steps = path.split(".")
    if not equals or not all(steps):
        raise SuiteError(f"{origin}: write key=value, as in train.epochs=3")
    if steps[0] == "profiles":
        raise SuiteError(f"{origin}: profiles are merged before this; set the key itself")
    return _replaced(root, steps, (), read_argument(text, origin))


def _replaced(node: Node, steps: Sequence[str], above: Keys, value: Node) -> Node:
    """`node` with `value` at the end of `steps`; mappings on the way are made where needed."""
    if not steps:
        return value
    if isinstance(node.value, list):
        index = _index(steps[0], len(node.value), above, value.place)
        inner = _replaced(node.value[index], steps[1:], (*above, index), value)
        return replace(node, value=[*node.value[:index], inner, *node.value[index + 1 :]])
    if not isinstance(node.value, dict):
        refuse(value.place, above, f"this is not a mapping, so it has no '{shown(steps[0])}'")
    key, rest = _key(node.value, steps)
    old = node.value.get(key, Node({}, value.place))
    inner = _replaced(old, rest, (*above, key), value)
    place = node.keys.get(key, value.place)
    return replace(node, value=node.value | {key: inner}, keys=node.keys | {key: place})


def _index(step: str, length: int, above: Keys, place: Place) -> int:
    index = int(step) if step.isascii() and step.isdigit() and len(step) < 6 else length
    if index >= length:
        refuse(place, above, f"'{shown(step)}' is no index of this list; it has 0 to {length - 1}")
    return index


def _key(mapping: dict[str, Node], steps: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The next key and the steps after it. Keys such as `opt-1.3b` hold dots: longest first."""
    for end in range(len(steps), 0, -1):
        key = ".".join(steps[:end])
        if key in mapping:
            return key, steps[end:]
    return steps[0], steps[1:]


def _child(node: Node | None, key: str) -> Node | None:
    return node.value.get(key) if node and isinstance(node.value, dict) else None
