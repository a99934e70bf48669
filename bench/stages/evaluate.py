"""Stage `evaluate`: one setting of one model on one task."""

from __future__ import annotations

import torch
from torch import nn

from bench.stages.loading import (
    cut_as_planned,
    load_emulated,
    load_foundation,
    load_tuned,
    sent_adapter,
)
from bench.stages.training import finetuned_blocks, tuning_of
from bench.stages.work import StageResult, Work, write_rows
from bench.suite import Evaluate
from bench.tasks.task import prepare
from offsite.models import Foundation
from offsite.sandwich import plug_in
from offsite.training import autocast


def run(work: Work) -> StageResult:
    """Put together the model that the setting names, and score it."""
    params = work.stage.params
    with work.memory.phase("load"):
        foundation = load_emulated(work) if "emulator" in work.stage.inputs else None
        foundation = foundation or load_foundation(work)
        model = _with_tuned(work, foundation)
    settings = Evaluate(**params.get("evaluate", {}))
    task = prepare(params["task"], work.stage.locations["data"], foundation)
    precision = "fp32" if params["dtype"] == "float32" else "bf16"
    with work.memory.phase("evaluate"), autocast(torch.device(work.device), precision):
        scored = task.evaluate(
            model.eval(), batch_size=settings.batch_size, examples=settings.examples
        )
    return StageResult(
        metrics=scored.metrics,
        files={"items.jsonl": write_rows(work.scratch / "items.jsonl", scored.items)},
        facts=scored.facts,
    )


def _with_tuned(work: Work, foundation: Foundation) -> nn.Module:
    """The model of the setting: as loaded, with tuned blocks, or with tuned blocks plugged in."""
    params, model = work.stage.params, foundation.model
    if "tuned" not in work.stage.inputs:
        return model
    tuning, state = tuning_of(params, model), load_tuned(work)
    if params["setting"] == "plug_in":
        return plug_in(cut_as_planned(work, model), tuning, state)
    if params["setting"] == "full_finetuned":
        trained_with = work.input_record("tuned").params
        blocks = finetuned_blocks(model, trained_with)
    else:
        blocks = sent_adapter(work, model)
    tuning.load(tuning.attach(model, blocks), state)
    return model
