"""From a suite's `tasks` entry, or a file of suites/tasks, to a checked task.

An entry names a kind or another task file, and overrides that file's fields; `data` merges, but
files replace data of another origin and the other way round.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

import bench
from bench.datasets_hub import KEYS, HubData
from bench.suite import local_definitions
from bench.suite.checking import check, locate, refuse
from bench.suite.closed import Closed, closed_model
from bench.suite.overlay import merge
from bench.suite.wording import one_line, shown, unknown
from bench.suite.yaml_reader import Node, read_file
from bench.tasks import image_folders
from bench.tasks.builtin import BUILTIN
from bench.tasks.data import scored_split
from bench.tasks.kinds import KINDS, LmEval

SUITES = Path(bench.__file__).parent.parent / "suites"
"""Beside the package, in a checkout as in an installation."""

SPLITS = ("train", "validation", "test")

ORIGINS = ("builtin", "hub")
"""Keys of `data` that say where it comes from; without one, its splits are files."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a suite, its data found."""

    name: str
    kind: str
    parameters: Any
    """An instance of the dataclass that `bench.tasks.kinds.KINDS` names."""
    files: Mapping[str, Path]
    """Split to absolute path; empty if the data are built in, on the hub, or drawn."""
    builtin: str | None
    hub: HubData | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether its samples are drawn at random: it has no data, and nothing is scored."""
        return KINDS[self.kind].is_drawn

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are."""
        if self.is_drawn:
            return ("train",)
        return SPLITS if self.builtin else tuple(self.hub.splits if self.hub else self.files)

    @property
    def scored(self) -> str:
        """The split that is scored."""
        return scored_split(self.splits)

    @property
    def read_to_score(self) -> tuple[str, ...]:
        """The splits that a score rests on: few-shot examples may come from any."""
        return self.splits if getattr(self.parameters, "fewshot", 0) else (self.scored,)

    @property
    def can_select(self) -> bool:
        """Whether a split is left to choose a checkpoint on when one is scored."""
        return {"validation", "test"} <= set(self.splits)


class TaskEntry(BaseModel):
    """A task: a kind or a task file's name, and its fields, which depend on the kind."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    task: str


def task_files() -> dict[str, Path]:
    """The tasks that come along, by name."""
    folder = SUITES / "tasks"
    paths = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def read_task_file(name: str) -> Node:
    """The tree of one of `task_files`."""
    path = task_files()[name]
    return read_file(path, str(path))


def resolve(name: str, entry: Node, folder: Path) -> tuple[Task, Node]:
    """The task that `entry` describes, and the tree with what it takes from task files.

    Args:
        name: what the suite calls it.
        entry: its mapping.
        folder: what paths given by `--set` are relative to.

    Raises:
        SuiteError: one line, at the value that is wrong.
    """
    above = ("tasks", name)
    kind, whole = follow(entry, above)
    fields = _without_task(whole)
    checked = check(fields_of(kind), fields, above)
    parameters = KINDS[kind].parameters(**dict(checked))
    if isinstance(parameters, LmEval) and parameters.id.endswith(local_definitions.SUFFIXES):
        file = _file(kind, locate(fields, ("id",)).node, (*above, "id"), folder)
        parameters = replace(parameters, id=local_definitions.read_definition(file))
    if KINDS[kind].is_drawn:
        return Task(name, kind, parameters, {}, None), whole
    files, builtin, hub = _data(kind, fields, above, folder)
    return Task(name, kind, parameters, files, builtin, hub), whole


def follow(entry: Node, above: tuple[str, ...]) -> tuple[str, Node]:
    """Lay the entry over the task file it names, that over the next, until one names a kind.

    Returns the kind and the whole tree; `above` is the entry's path, for errors.
    """
    known = task_files()
    seen: list[str] = []
    node, kind = entry, check(TaskEntry, entry, above).task
    while kind not in KINDS:
        named = locate(node, ("task",)).node.place
        if kind not in known:
            refuse(named, (*above, "task"), unknown_task(kind, [*KINDS, *known]))
        if kind in seen:
            circle = " -> ".join([*seen, kind])
            refuse(named, (*above, "task"), f"a circle: {circle}; one of them must name a kind")
        seen.append(kind)
        base = read_task_file(kind)
        kind = check(TaskEntry, base, above).task
        node = merge(_without_other_data(base, node), _without_task(node))
    return kind, node


def unknown_task(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is no task: lm-eval may have one of that name."""
    given = one_line(shown(name))
    hint = f"A task of lm-eval is {{task: lm_eval, id: {given}, data: ...}} under 'tasks'."
    return f"{unknown('task', name, known)} {hint}"


def _without_other_data(base: Node, over: Node) -> Node:
    """The base, but for data of another origin than those laid over it."""
    assert isinstance(base.value, dict)
    origins = [_origin(node) for node in (base, over)]
    if None in origins or origins[0] == origins[1]:
        return base
    return replace(base, value={key: each for key, each in base.value.items() if key != "data"})


def _origin(node: Node) -> str | None:
    """Where the data come from: `builtin`, `hub` or `files`; None if there are none."""
    assert isinstance(node.value, dict)
    data = node.value.get("data")
    if data is None or not isinstance(data.value, dict):
        return None
    return next((key for key in ORIGINS if key in data.value), "files")


def _without_task(node: Node) -> Node:
    assert isinstance(node.value, dict)
    return replace(node, value={key: each for key, each in node.value.items() if key != "task"})


@cache
def fields_of(kind: str) -> type[Closed]:
    """The class that checks what a task of this kind says."""
    return closed_model(KINDS[kind].parameters)


def _data(
    kind: str, fields: Node, above: tuple[str, ...], folder: Path
) -> tuple[dict[str, Path], str | None, HubData | None]:
    """The data's files, or the name of a built-in data set, or what to take from the hub."""
    above = (*above, "data")
    data = locate(fields, ("data",)).node
    given = data.value if data is not fields and isinstance(data.value, dict) else {}
    _check_keys(data, given, above)
    if "builtin" in given:
        return {}, _builtin(data, above), None
    hub = _hub(given, above) if "hub" in given else None
    what = "SPLIT OF THE HUB" if hub else "FILE"
    others = "" if hub else ", or 'hub: ORG/NAME', or 'builtin: NAME'"
    for group in KINDS[kind].splits:
        if not set(group) & set(given):
            refuse(data.place, above, f"missing; add '{group[0]}: {what}'{others}")
    if hub:
        return {}, None, hub
    files = {split: _file(kind, node, (*above, split), folder) for split, node in given.items()}
    if len({path.is_dir() for path in files.values()}) > 1:
        # A folder's labels are its classes by name, a file's are numbers of its own.
        refuse(data.place, above, "image folders beside files; give all splits as one or the other")
    return files, None, None


def _check_keys(data: Node, given: Mapping[str, Node], above: tuple[str, ...]) -> None:
    """Refuse what `data` cannot say, or not together."""
    known = ("builtin", *(KEYS if "hub" in given else ("hub",)), *SPLITS)
    if {"hub", "builtin"} <= given.keys():
        message = "'hub' beside 'builtin'; give one or the other"
        refuse(data.keys["hub"], (*above, "hub"), message)
    for key in given:
        if key in KEYS and key not in known:
            message = f"'{key}' belongs beside 'hub: ORG/NAME', which is not there"
            refuse(data.keys[key], (*above, key), message)
        if key not in known:
            refuse(data.keys[key], (*above, key), unknown("split", key, known))


def _hub(given: Mapping[str, Node], above: tuple[str, ...]) -> HubData:
    said = {key: str(node.value) for key, node in given.items()}
    if not _HUB_NAME.fullmatch(said["hub"]):
        message = f"'{shown(said['hub'])}' is no data set of the hub; give ORG/NAME"
        refuse(given["hub"].place, (*above, "hub"), message)
    for key, value in said.items():
        if not value:
            refuse(given[key].place, (*above, key), "it is empty; leave it out")
    splits = {split: said[split] for split in SPLITS if split in said}
    return HubData(
        repository=said["hub"],
        config=said.get("config"),
        revision=said.get("revision"),
        splits=splits,
    )


def _builtin(data: Node, above: tuple[str, ...]) -> str:
    assert isinstance(data.value, dict)
    name = str(data.value["builtin"].value)
    if name not in BUILTIN:
        place = data.value["builtin"].place
        refuse(place, (*above, "builtin"), unknown("built-in data set", name, BUILTIN))
    for key in data.value:
        if key != "builtin":
            refuse(data.keys[key], (*above, key), "a file beside 'builtin'; give one or the other")
    return name


def _file(kind: str, node: Node, path: tuple[str, ...], folder: Path) -> Path:
    written_in = Path(node.place.origin).parent if node.place.line else folder
    file = os.path.abspath(written_in / os.path.expanduser(str(node.value)))
    is_folder = KINDS[kind].takes_folders and os.path.isdir(file)
    if not is_folder and not os.path.isfile(file):
        given = f"no such file: '{shown(str(node.value))}'"
        refuse(node.place, path, f"{given}; it is relative to {one_line(str(written_in))}")
    fault = image_folders.fault(Path(file)) if is_folder else ""
    if fault:
        refuse(node.place, path, one_line(fault))
    return Path(file)
