"""Stage `emulator`: cut the model, compress its middle, save what the data owner receives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.stages.loading import cut_as_planned, load_foundation
from bench.stages.work import StageResult, Work
from bench.tasks.task import batches, examples_of, prepare
from offsite.compression.calibration import Corpus
from offsite.compression.emulator import compress, parameters_of
from offsite.compression.methods import METHODS, Parameters
from offsite.models import Foundation, save_model
from offsite.sandwich import view
from offsite.training import Batch
from reports.record import Metric


def run(work: Work) -> StageResult:
    """Build the emulator and save it with its adapter blocks as a model folder.

    One saved emulator serves tuning and every evaluation.
    """
    params = work.stage.params
    with work.memory.phase("load"):
        foundation = load_foundation(work)
    with work.memory.phase("build"):
        start = time.perf_counter()
        sandwich = cut_as_planned(work, foundation.model)
        emulator = compress(sandwich, _steps(params["compression"]), _corpora(work, foundation))
        seconds = time.perf_counter() - start
    folder = work.scratch / "model"
    save_model(replace(foundation, model=view(sandwich, emulator)), folder)
    middle = sandwich.middle_positions
    return StageResult(
        metrics=[
            Metric(metric="build_seconds", value=seconds, unit="s", better="lower", phase="build"),
        ],
        files={f"model/{path.name}": path for path in sorted(folder.iterdir())},
        facts={
            "adapter_positions": list(sandwich.sent_positions(emulator)),
            "experimental": _experimental(params["compression"]),
            "layer_map": [middle[i] for i in emulator.layer_map],
        },
    )


def _steps(described: list[dict[str, Any]]) -> list[tuple[str, Parameters]]:
    """Steps whose corpus is named by the step's place, as `_corpora` names them."""
    named = [
        {**step, "corpus": f"corpus.{index}"} if step.get("corpus") else step
        for index, step in enumerate(described)
    ]
    return [parameters_of(step) for step in named]


def _corpora(work: Work, foundation: Foundation) -> dict[str, Corpus]:
    return {
        f"corpus.{index}": corpus_of(
            step["corpus"],
            work.stage.locations[f"corpus.{index}"],
            foundation,
            work.store.tokens,
        )
        for index, step in enumerate(work.stage.params["compression"])
        if step.get("corpus")
    }


def corpus_of(
    described: dict[str, Any],
    data: dict[str, str],
    foundation: Foundation,
    tokens: Path | None = None,
) -> Corpus:
    """The training split of a task, as a compression looks at it."""
    task = prepare(described, data, foundation, tokens)
    examples = examples_of(task)

    def draw(batch_size: int, seed: int) -> Iterator[Batch]:
        return batches(task, examples, batch_size=batch_size, seed=seed)

    return Corpus(draw, task.loss, len(examples))


def _experimental(described: list[dict[str, Any]]) -> list[str]:
    """Methods whose results are not their authors', each with the reason."""
    reasons = {step["method"]: METHODS[step["method"]].experimental for step in described}
    return [f"{method}: {reason}" for method, reason in reasons.items() if reason]
