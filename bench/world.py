"""Look up what planning needs to know: digests of models and data, versions, the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.datasets_hub import identity
from bench.environment import minor, this_machine
from bench.errors import SuiteError
from bench.sources import Source, resolve
from bench.suite import Suite, Task
from bench.tasks.data import data_hash


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the suite that a digest depends on."""

    sources: Mapping[str, Source]
    """By the suite's model name."""
    data: Mapping[str, str]
    """Task name to the hash of its data, or to the hub's commit of it, which may be pending."""
    environment: Mapping[str, str]
    """Minor versions and the device type."""


def look_up(suite: Suite, *, online: bool) -> World:
    """Resolve the models and hash the data that the cases of `suite` use.

    Args:
        suite: the checked suite.
        online: ask the hub for commits that the local cache does not know.

    Raises:
        SuiteError: a model that is none, or data the hub does not give, at its position in the
            suite.
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
    corpora = (step.corpus for case in cases for step in case.compression)
    names = [*(case.task for case in cases), *(name for name in corpora if name)]
    tasks = {name: suite.tasks[name] for name in dict.fromkeys(names)}
    return World(
        sources=sources,
        data={name: _data(task, suite, online=online) for name, task in tasks.items()},
        environment=environment(),
    )


def _data(task: Task, suite: Suite, *, online: bool) -> str:
    if task.hub is None:
        return data_hash(task.files, task.builtin)
    try:
        return identity(task.hub, online=online)
    except SuiteError as error:
        raise SuiteError(f"{suite.where('tasks', task.name, 'data')}: {error}") from None


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
