"""Look up what planning needs to know: digests of models and data, versions, the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.environment import minor, this_machine
from bench.errors import SuiteError
from bench.sources import Source, resolve
from bench.suite import Suite
from bench.tasks.data import data_hash


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the suite that a digest depends on."""

    sources: Mapping[str, Source]
    """By the suite's model name."""
    data: Mapping[str, str]
    """Task name to the hash of its data."""
    environment: Mapping[str, str]
    """Minor versions and the device type."""


def look_up(suite: Suite, *, online: bool) -> World:
    """Resolve the models and hash the data that the cases of `suite` use.

    Args:
        suite: the checked suite.
        online: ask the hub for commits that the local cache does not know.

    Raises:
        SuiteError: a model that is none, at its position in the suite.
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
    tasks = {case.task: suite.tasks[case.task] for case in cases}
    return World(
        sources=sources,
        data={name: data_hash(task.files, task.builtin) for name, task in tasks.items()},
        environment=environment(),
    )


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
