"""Stage `evaluate`: one setting of one model on one task."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from bench.stages.loading import (
    cut_as_planned,
    load_emulated,
    load_foundation,
    load_tuned,
    sent_adapter,
)
from bench.stages.training import checkpoint_name, finetuned_blocks, tuning_of
from bench.stages.work import StageResult, Work, write_rows
from bench.suite import Evaluate
from bench.tasks.item_scores import with_items
from bench.tasks.task import prepare
from offsite.models import Foundation
from offsite.sandwich import plug_in
from offsite.training import autocast
from reports.record import ORACLE, Metric, canonical


def run(work: Work) -> StageResult:
    """Put together the model that the setting names, and score it.

    A record cannot know the others, so what flags a crossed cache is the pair of its facts
    `scores_digest` and `weights_digest`: a report compares them with those of other evaluations.
    """
    params, step = work.stage.params, _step(work)
    with work.memory.phase("load"):
        foundation = load_emulated(work) if "emulator" in work.stage.inputs else None
        foundation = foundation or load_foundation(work)
        model = _with_tuned(work, foundation, step)
    settings = Evaluate(**params.get("evaluate", {}))
    task = prepare(params["task"], work.stage.locations["data"], foundation, work.store.tokens)
    precision = "fp32" if params["dtype"] == "float32" else "bf16"
    with work.memory.phase("evaluate"), autocast(torch.device(work.device), precision):
        scored = task.evaluate(
            model.eval(), batch_size=settings.batch_size, examples=settings.examples
        )
    metrics = with_items(scored.metrics, scored.items)
    return StageResult(
        metrics=metrics if step is None else [_diagnostic(metric) for metric in metrics],
        files={"items.jsonl": write_rows(work.scratch / "items.jsonl", scored.items)},
        facts={
            **scored.facts,
            "scores_digest": scored.scores_digest,
            "weights_digest": weights_digest(model),
            **({} if step is None else {"step": step}),
        },
    )


def weights_digest(model: nn.Module) -> str:
    """The sha256 of a model's tensors, in the order of their names: one pass over its memory."""
    state, digest = model.state_dict(), hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].cpu().contiguous()
        digest.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _step(work: Work) -> int | None:
    """After which step the checkpoint was taken that the stage names; None is the chosen one."""
    checkpoint = work.stage.params.get("checkpoint")
    if checkpoint is None:
        return None
    steps = sorted(map(int, work.input_record("tuned").facts["selection_loss"]))
    # A run of few steps has fewer than it was asked for: then the last one again.
    step: int = steps[min(checkpoint, len(steps)) - 1]
    return step


def _diagnostic(metric: Metric) -> Metric:
    """The same number under a name that no result has."""
    return metric.model_copy(update={"metric": ORACLE + metric.metric})


def _with_tuned(work: Work, foundation: Foundation, step: int | None) -> nn.Module:
    """The model of the setting: as loaded, with tuned blocks, or with tuned blocks plugged in."""
    params, model = work.stage.params, foundation.model
    if "tuned" not in work.stage.inputs:
        return model
    tuning = tuning_of(params, model)
    state = load_tuned(work) if step is None else load_tuned(work, checkpoint_name(step))
    if params["setting"] == "plug_in":
        return plug_in(cut_as_planned(work, model), tuning, state)
    if params["setting"] == "full_finetuned":
        trained_with = work.input_record("tuned").params
        blocks = finetuned_blocks(model, trained_with)
    else:
        blocks = sent_adapter(work, model)
    tuning.load(tuning.attach(model, blocks), state)
    return model
