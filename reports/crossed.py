"""Evaluations of different weights that scored every item the same: how a crossed cache shows.

Whoever writes a record knows no other one, so the flag in it is a pair of facts, `scores_digest`
and `weights_digest`. Here those of all evaluations are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from reports.results import PlannedStage, StageRun
from reports.tables.cells import one_line
from reports.tables.observed_cells import SETTING_NAMES

IDENTITY = "identity"
"""The compression that keeps the whole middle: its emulator is the full model."""


class Scored(NamedTuple):
    """An evaluation and the digest of the weights it scored."""

    stage: PlannedStage
    weights: str


def crossed_scores(runs: Iterable[StageRun]) -> Iterator[str]:
    """One warning for all evaluations that share their scores and should not."""
    by_scores: dict[str, list[Scored]] = defaultdict(list)
    for run in runs:
        for record in run.records:
            scores, weights = map(record.facts.get, ("scores_digest", "weights_digest"))
            if isinstance(scores, str) and isinstance(weights, str):
                by_scores[scores].append(Scored(run.planned, weights))
    for found in by_scores.values():
        crossed = [one for one in found if any(_are_crossed(one, other) for other in found)]
        if crossed:
            names = "; ".join(dict.fromkeys(_name(each.stage) for each in crossed))
            yield (
                "Crossed scores: these evaluations have different weights and, bit for bit, the "
                f"same score of every item: {names}. Either some took the others' results from a "
                "cache, or what differs in the weights never reaches a score. Trust none of them "
                "before that is known."
            )


def _are_crossed(one: Scored, other: Scored) -> bool:
    return one.weights != other.weights and _model(one.stage) != _model(other.stage)


def _model(stage: PlannedStage) -> tuple[object, ...]:
    """What stands for the model that was scored: the same where settings are so by definition.

    With the identity as its emulator the full model stands on both sides.
    """
    labels = stage.labels
    is_control = set(labels.compression.split("+")) == {IDENTITY}
    if labels.setting == "full_zero_shot" or (is_control and not labels.tuning):
        return labels.model, labels.task
    if is_control:
        return labels.model, labels.task, labels.layout, labels.tuning, labels.seed
    return (stage.digest,)


def _name(stage: PlannedStage) -> str:
    labels = stage.labels
    what = f"{SETTING_NAMES.get(labels.setting, labels.setting)} of {labels.model} on {labels.task}"
    emulator = f"{labels.layout} {labels.compression} {labels.tuning}"
    seed = "" if labels.seed is None else f"seed {labels.seed}"
    return one_line(f"{what} {emulator} {seed} ({stage.digest[:12]})")
