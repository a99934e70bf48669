"""From a suite's name or path to a checked `Suite`: YAML, profile, `--set`, then every field.

Whatever can be known to be wrong without loading a model is refused here, in one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bench.errors import SuiteError
from bench.suite.checking import Keys, check, locate, refuse_at
from bench.suite.expansion import CasePoint, points, size
from bench.suite.overlay import with_profile, with_setting
from bench.suite.steps import Step
from bench.suite.suite_file import (
    AXES,
    Evaluate,
    Include,
    Matrix,
    ModelSpec,
    Override,
    Pattern,
    Peer,
    SuiteFile,
    Train,
)
from bench.suite.task_files import SUITES, Task, resolve, task_files, unknown_task
from bench.suite.wording import MOST_KNOWN, one_line, shown, unknown
from bench.suite.yaml_reader import Node, read_file
from offsite.published import published
from reports.record import Setting

MAX_CASES = 100_000
MAX_COMPARISONS = 1_000_000
"""Of a case with a pattern: a few seconds."""
NOT_SUITES = ("tasks", "data", "models")
"""Folders of suites/ that hold other things."""
Section = Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A checked suite: names exist, files are there, methods have their parameters."""

    name: str
    models: dict[str, ModelSpec]
    """By the suite's name for them; local sources are absolute."""
    tasks: dict[str, Task]
    """Those of the suite and those the matrix names, by name."""
    matrix: tuple[Matrix, ...]
    settings: tuple[Setting, ...]
    references: tuple[Step, ...]
    peers: tuple[Peer, ...]
    repeats: int
    train: Train
    evaluate: Evaluate
    overrides: tuple[Override, ...]
    origin: str
    """Path of the file, as given."""
    folder: Path
    profile: str | None
    root: Node = field(repr=False, compare=False)
    """The tree the suite was read from, for `where`."""

    def where(self, *path: str | int) -> str:
        """`file:line:column` of the value at `path`, or of the nearest thing above it."""
        return str(locate(self.root, path).node.place)

    def cases(self) -> list[CasePoint]:
        """Every case once, in the order of the file."""
        found = (point for index, each in enumerate(self.matrix) for point in points(each, index))
        return list(dict.fromkeys(found))

    def train_for(self, point: CasePoint, setting: Setting) -> Train:
        """How to train `point` in `setting`. For `full_finetuned`, its tuning is the reference."""
        result = self.train
        for _, override in self._matching(point, setting):
            result = result.model_copy(update=_given(override.train))
        return result

    def evaluate_for(self, point: CasePoint, setting: Setting) -> Evaluate:
        """How to score `point` in `setting`."""
        result = self.evaluate
        for _, override in self._matching(point, setting):
            result = result.model_copy(update=_given(override.evaluate))
        return result

    def deciding(self, point: CasePoint, setting: Setting, section: Section, key: str) -> Keys:
        """The path of the value that decides how `point` is trained or scored in `setting`."""
        path: Keys = (section, key)
        for index, override in self._matching(point, setting):
            if key in getattr(override, section).model_fields_set:
                path = ("overrides", index, section, key)
        return path

    def _matching(self, point: CasePoint, setting: Setting) -> Iterator[tuple[int, Override]]:
        """The overrides that apply, with their places in the list; later ones win."""
        axes = {axis: getattr(point, axis) for axis in _SETTING_AXES[setting]}
        axes["setting"] = setting
        for index, override in enumerate(self.overrides):
            if override.when.matches(axes):
                yield index, override


_SETTING_AXES: dict[Setting, tuple[str, ...]] = {
    "full_zero_shot": ("model", "task"),
    "emulator_zero_shot": ("model", "adapter_blocks", "compression", "task"),
    "full_finetuned": ("model", "tuning", "task", "seed"),
    "emulator_finetuned": AXES,
    "plug_in": AXES,
}
"""What a setting depends on. An override that names another axis leaves it alone: else one stage
would have to run in several ways for the cases that share it."""


def _given(values: Train | Evaluate) -> dict[str, Any]:
    return {name: getattr(values, name) for name in values.model_fields_set}


def load_suite(name_or_path: str, *, profile: str | None = None, sets: Sequence[str] = ()) -> Suite:
    """Read and check a suite.

    Args:
        name_or_path: a built-in suite (`quickstart`, `paper/table1`) or a file.
        profile: one of the suite's `profiles`.
        sets: `key.key=value`, applied in order after the profile.

    Raises:
        SuiteError: one line, `file:line:column: what was given, what would work`.
    """
    origin = _find(name_or_path)
    folder = Path(os.path.abspath(origin)).parent
    root = read_file(Path(origin), origin)
    if profile is not None:
        root = with_profile(root, profile)
    for setting in sets:
        root = with_setting(root, setting)
    file = check(SuiteFile, root)
    models = {name: _local(name, spec, root, folder) for name, spec in file.models.items()}
    _refuse_twins(models, root)
    tasks, root = _tasks(file, root, folder)
    suite = Suite(
        name=file.name,
        models=models,
        tasks=tasks,
        matrix=file.matrix,
        settings=file.settings,
        references=file.references,
        peers=file.peers,
        repeats=file.repeats,
        train=file.train,
        evaluate=file.evaluate,
        overrides=file.overrides,
        origin=origin,
        folder=folder,
        profile=profile,
        root=root,
    )
    _refuse_odd_sizes(suite)
    return suite


def builtin_suites() -> list[str]:
    """Names of the suites that come along."""
    names = (path.relative_to(SUITES).with_suffix("") for path in SUITES.rglob("*.yaml"))
    return sorted(name.as_posix() for name in names if name.parts[0] not in NOT_SUITES)


def _find(name_or_path: str) -> str:
    is_path = name_or_path.endswith((".yaml", ".yml")) or os.path.isfile(name_or_path)
    if is_path or (os.sep in name_or_path and Path(name_or_path).suffix):
        return name_or_path
    known = builtin_suites()
    if name_or_path not in known:
        sentence = unknown("suite", name_or_path, known)
        raise SuiteError(f"{sentence.rstrip('.')}; or give the path of a .yaml file.")
    return str(SUITES / f"{name_or_path}.yaml")


def _local(name: str, spec: ModelSpec, root: Node, folder: Path) -> ModelSpec:
    """The model with its source made absolute if it is a folder; refuse what cannot be one."""
    path = ("models", name, "source")
    prefix, source = "", spec.source
    if source.startswith("random:"):
        prefix, source = "random:", source.removeprefix("random:")
    local = os.path.abspath(folder / os.path.expanduser(source))
    is_local = bool(prefix) or source.startswith((".", "/", "~")) or os.path.isdir(local)
    if not is_local:
        if not _HUB_SOURCE.fullmatch(source):
            refuse_at(root, path, f"'{shown(source)}' is no folder and no hub id; {_SOURCES}")
        return spec
    if prefix and os.path.basename(local) == "config.json":
        local = os.path.dirname(local)
    if prefix and source in published() and not os.path.exists(local):
        return spec
    if not os.path.isdir(local):
        refuse_at(root, path, _no_folder(prefix, source, folder))
    if not os.path.isfile(os.path.join(local, "config.json")):
        given = f"a folder that is not a model: '{shown(source)}' has no config.json"
        refuse_at(root, path, f"{given}; {_SOURCES}")
    return spec.model_copy(update={"source": prefix + local})


def _no_folder(prefix: str, source: str, folder: Path) -> str:
    where = f"no such folder: '{shown(source)}', relative to {one_line(str(folder))}"
    if prefix and _HUB_SOURCE.fullmatch(source):
        return f"{where}; {unknown('configuration', source, published())}"
    return f"{where}; {_SOURCES}"


def _refuse_twins(models: Mapping[str, ModelSpec], root: Node) -> None:
    """Refuse one model under two names: its results would stand under the first alone."""
    seen: dict[ModelSpec, str] = {}
    for name, spec in models.items():
        first = seen.setdefault(spec, name)
        if first != name:
            sentence = (
                f"'{shown(name)}' is '{shown(first)}' again: equal source, dtype and revision; "
                "leave one out"
            )
            refuse_at(root, ("models", name), sentence)


_HUB_SOURCE = re.compile(r"(timm:)?[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_SOURCES = "give org/name, a model's folder, timm:NAME, random:FOLDER or random:ORG/NAME"


def _tasks(file: SuiteFile, root: Node, folder: Path) -> tuple[dict[str, Task], Node]:
    """Every task of the suite, and the tree with what they took from task files."""
    wanted = _check_names(file, root)
    entries = locate(root, ("tasks",)).node if file.tasks else Node({}, root.place)
    assert isinstance(root.value, dict)
    assert isinstance(entries.value, dict)
    nodes = entries.value | wanted
    resolved = {name: resolve(name, node, folder) for name, node in nodes.items()}
    trees = {name: tree for name, (_, tree) in resolved.items()}
    whole = replace(root, value=root.value | {"tasks": replace(entries, value=trees)})
    return {name: task for name, (task, _) in resolved.items()}, whole


def _check_names(file: SuiteFile, root: Node) -> dict[str, Node]:
    """Refuse unknown models and tasks; return entries for the task files that are named."""
    tasks = [*file.tasks, *task_files()]
    known = {"model": list(file.models), "task": tasks, "corpus": tasks}
    entries: dict[str, Node] = {}
    for path, axis, name in _names(file):
        if name not in known[axis]:
            refuse_at(root, path, _unknown(axis, name, file))
        is_run = path[0] == "matrix" and "exclude" not in path
        if axis != "model" and is_run and name not in file.tasks:
            place = locate(root, path).node.place
            entries[name] = Node({"task": Node(name, place)}, place)
    return entries


def _unknown(axis: str, name: str, file: SuiteFile) -> str:
    """What to say of a name that stands for nothing."""
    if axis == "model":
        return unknown(axis, name, file.models)
    if axis == "task":
        return unknown_task(name, [*file.tasks, *task_files()])
    # What is scored comes along; what is only looked at is mostly the suite's own.
    known = [shown(each) for each in (*islice(file.tasks, MOST_KNOWN), *task_files())]
    near = get_close_matches(shown(name), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    own = ", ".join(map(shown, islice(file.tasks, MOST_KNOWN))) or "none"
    files = ", ".join(task_files())
    listed = f"Tasks of this suite: {own}; that come along: {files}."
    return f"unknown corpus '{shown(name)}'.{hint} {listed}"


def _names(file: SuiteFile) -> Iterator[tuple[Keys, str, str]]:
    """Every mention of a model or task, also as a corpus, with its path."""
    places: list[tuple[Keys, Matrix | Include | Pattern]] = []
    for i, matrix in enumerate(file.matrix):
        places.append((("matrix", i), matrix))
        places += [(("matrix", i, "include", j), each) for j, each in enumerate(matrix.include)]
        places += [(("matrix", i, "exclude", j), each) for j, each in enumerate(matrix.exclude)]
    places += [(("overrides", i, "when"), each.when) for i, each in enumerate(file.overrides)]
    for above, holder in places:
        for axis in ("model", "task"):
            for index, name in enumerate(getattr(holder, axis) or ()):
                yield (*above, axis, index), axis, name
        if not isinstance(holder, Pattern):
            for index, steps in enumerate(holder.compression or ()):
                corpora = (step.corpus for step in steps if step.corpus is not None)
                yield from (((*above, "compression", index), "corpus", name) for name in corpora)


def _refuse_odd_sizes(suite: Suite) -> None:
    count = sum(map(size, suite.matrix))
    if count > MAX_CASES:
        refuse_at(suite.root, ("matrix",), f"{count} cases; a suite has at most {MAX_CASES}")
    patterns = len(suite.overrides) + sum(len(matrix.exclude) for matrix in suite.matrix)
    if count * patterns > MAX_COMPARISONS:
        given = f"{count} cases with {patterns} exclude and override patterns"
        refuse_at(suite.root, ("matrix",), f"{given}; their product is at most {MAX_COMPARISONS}")
    if not suite.cases():
        refuse_at(suite.root, ("matrix",), "every case is excluded; leave one in")
