"""Look up what planning needs to know: digests of models and data, versions, the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.datasets_hub import identity
from bench.environment import minor, this_machine
from bench.errors import SuiteError
from bench.sources import Source, resolve
from bench.suite import Suite, Task
from bench.tasks.data import DataIdentity, DrawnData, local_data


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the suite that a digest depends on."""

    sources: Mapping[str, Source]
    """By the suite's model name."""
    data: Mapping[str, DataIdentity]
    """Task name to what stands for its splits: hashes, or the hub's commit, maybe pending."""
    environment: Mapping[str, str]
    """Minor versions and the device type."""
    gpu: str = ""
    """The kind of GPU that stages compute on; empty where they compute on a CPU."""


def look_up(suite: Suite, *, online: bool) -> World:
    """Resolve the models and hash the data that the cases of `suite` use.

    Args:
        suite: the checked suite.
        online: ask the hub for commits that the local cache does not know.

    Raises:
        SuiteError: a model that is none, data the hub does not give, or one model or task under
            two names, at its position in the suite.
    """
    cases = suite.cases()
    sources = {}
    for name in dict.fromkeys(case.model for case in cases):
        spec = suite.models[name]
        try:
            sources[name] = resolve(
                spec.source, suite.folder, revision=spec.revision, online=online
            )
        except SuiteError as error:
            raise SuiteError(f"{suite.where('models', name, 'source')}: {error}") from None
    _refuse_twins(
        suite, "models", {n: (s.digest, suite.models[n].dtype) for n, s in sources.items()}
    )
    scored = dict.fromkeys(case.task for case in cases)
    corpora = (step.corpus for case in cases for step in case.compression)
    looked_at = dict.fromkeys(name for name in corpora if name)
    tasks = {name: suite.tasks[name] for name in scored | looked_at}
    data = {name: _data(task, suite, online=online) for name, task in tasks.items()}
    # A corpus may well be one of the tasks; that changes no name in a table.
    for names in (scored, looked_at):
        # Random samples are told apart by how they are trained on: planning knows.
        real = [name for name in names if not tasks[name].is_drawn]
        _refuse_twins(suite, "tasks", {name: _content(tasks[name], data[name]) for name in real})
    return World(sources=sources, data=data, environment=environment(), gpu=_gpu())


def _data(task: Task, suite: Suite, *, online: bool) -> DataIdentity:
    if task.is_drawn:
        return DrawnData()
    if task.hub is None:
        return local_data(task.files, task.builtin)
    try:
        return identity(task.hub, online=online)
    except SuiteError as error:
        raise SuiteError(f"{suite.where('tasks', task.name, 'data')}: {error}") from None


def _content(task: Task, data: DataIdentity) -> tuple[object, ...]:
    """All that a stage knows of a task, which is not its name."""
    return task.kind, replace(task.parameters, data={}), data.of(*task.splits)


def _refuse_twins(suite: Suite, section: str, contents: Mapping[str, object]) -> None:
    """Refuse equal content under two names: its stages are one, and reports show the first."""
    seen: list[tuple[str, object]] = []
    for name, content in contents.items():
        first = next((other for other, same in seen if same == content), None)
        if first is not None:
            raise SuiteError(
                f"{suite.where(section, name)}: {section}.{name}: it is {first!r} again, under "
                "another name: equal content and settings; leave one out"
            )
        seen.append((name, content))


def _gpu() -> str:
    machine = this_machine()
    return machine.gpus[0].name if machine.device == "cuda" else ""


def environment() -> dict[str, str]:
    """What of the installation is part of a digest."""
    return {
        "device": this_machine().device,
        "lm-eval": minor("lm-eval"),
        "peft": minor("peft"),
        "timm": minor("timm"),
        "torch": minor("torch"),
        "transformers": minor("transformers"),
    }
