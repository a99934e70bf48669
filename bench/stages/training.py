"""Stages `tune` and `finetune`: the same training, on adapter blocks or on the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.measure.throughput import Stopwatch
from bench.stages.loading import load_emulated, load_foundation, save_tuned, sent_adapter
from bench.stages.work import StageResult, Work, write_rows
from bench.suite import Train
from bench.tasks.task import Task, batches, examples_of, prepare, steps_for
from offsite.heads import renew_head
from offsite.models import Foundation
from offsite.sandwich import all_blocks
from offsite.training import Batch, NonFiniteLoss, Recipe, autocast, train
from offsite.tuning import Tuning, keep_masters, trainable, tuning_from
from reports.record import Metric


def tune(work: Work) -> StageResult:
    """The data owner's step: tune the adapter blocks. The original middle is not at hand."""
    with work.memory.phase("load"):
        emulated = load_emulated(work)
    return _train(work, emulated, sent_adapter(work, emulated.model))


def finetune(work: Work) -> StageResult:
    """What tuning is compared with: train all blocks of the full model."""
    with work.memory.phase("load"):
        foundation = load_foundation(work)
    return _train(work, foundation, finetuned_blocks(foundation.model, work.stage.params))


def finetuned_blocks(model: nn.Module, params: Mapping[str, Any]) -> Mapping[str, nn.Module]:
    """The named modules full fine-tuning trains: the blocks, or with `train_all` everything."""
    return {"model": model} if settings_of(params).train_all else all_blocks(model)


def tuning_of(params: Mapping[str, Any], model: nn.Module) -> Tuning:
    """The tuning of a stage; a task with classes of its own gives `model` a new classifier."""
    classes = params["task"].get("classes")
    if classes is not None:
        renew_head(model, classes)
    return replace(tuning_from(params["tuning"]), head=classes is not None)


def _rates(settings: Train, trained: Mapping[str, nn.Module]) -> dict[nn.Parameter, float]:
    """The learning rate of a new classifier, if it has one of its own."""
    if settings.head_learning_rate is None or "head" not in trained:
        return {}
    return dict.fromkeys(trained["head"].parameters(), settings.head_learning_rate)


def settings_of(params: Mapping[str, Any]) -> Train:
    """The training settings of a stage, defaults filled in."""
    return Train(**params.get("train", {}))


def _train(work: Work, foundation: Foundation, blocks: Mapping[str, nn.Module]) -> StageResult:
    params = work.stage.params
    settings = settings_of(params)
    task = prepare(params["task"], work.stage.locations["data"], foundation)
    tuning = tuning_of(params, foundation.model)
    # Modules a tuning adds are drawn from the seed, as dropout is.
    torch.manual_seed(params["seed"])
    trained = tuning.attach(foundation.model, blocks)
    keep_masters(trained)
    examples = examples_of(task)
    recipe = recipe_of(settings, len(examples))
    synchronize = torch.cuda.synchronize if work.device == "cuda" else lambda: None
    run = _Run(
        watch=Stopwatch(recipe.steps, synchronize),
        score=lambda: _selection_loss(task, foundation.model, settings.precision),
        state=lambda: tuning.state(trained),
        checkpoints=checkpoint_steps(recipe.steps, settings.checkpoints),
    )
    with work.memory.phase("train"):
        run.watch.start()
        losses = train(
            foundation.model,
            batches(task, examples, batch_size=settings.batch_size, seed=params["seed"]),
            recipe,
            loss_of=task.loss,
            on_step=run.on_step,
            rates=_rates(settings, trained),
        )
    count = sum(parameter.numel() for parameter in trainable(trained).values())
    rows = ({"step": step, "loss": loss} for step, loss in enumerate(losses, start=1))
    return StageResult(
        metrics=[
            *run.watch.metrics(),
            Metric(metric="trainable_parameters", value=count, unit="1", better="lower"),
        ],
        files={
            "tuned.safetensors": save_tuned(work.scratch / "tuned.safetensors", run.best_state),
            "losses.jsonl": write_rows(work.scratch / "losses.jsonl", rows),
        },
        facts={
            "examples": len(examples),
            "steps": recipe.steps,
            "chosen_step": run.best_step,
            "dropped": task.dropped,
            "selection_loss": run.scores,
            "timing": run.watch.facts(),
        },
    )


def _selection_loss(task: Task, model: nn.Module, precision: str) -> float:
    """The score of a checkpoint, without dropout, in the precision it is trained in."""
    model.eval()
    with autocast(next(model.parameters()).device, precision):
        loss = task.selection_loss(model)
    model.train()
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"selection loss is {loss}")
    return loss


def recipe_of(settings: Train, examples: int) -> Recipe:
    """A suite's training settings for a training set of `examples`."""
    return Recipe(
        learning_rate=settings.learning_rate,
        steps=steps_for(
            examples,
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
        ),
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        warmup_steps=settings.warmup_steps,
        grad_clip=settings.grad_clip,
        precision=settings.precision,
    )


def checkpoint_steps(steps: int, checkpoints: int) -> list[int]:
    """`checkpoints` evenly spaced steps, the last one always among them.

    >>> checkpoint_steps(60, 3)
    [20, 40, 60]
    """
    return sorted({max(1, round(steps * (i + 1) / checkpoints)) for i in range(checkpoints)})


@dataclass(slots=True)
class _Run:
    """Follows a run: times its steps, and keeps the best of its checkpoints."""

    watch: Stopwatch
    score: Callable[[], float]
    state: Callable[[], dict[str, Tensor]]
    checkpoints: list[int]
    scores: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def on_step(self, step: int, batch: Batch) -> None:
        """Called after every optimizer step."""
        self.watch.on_step(step, batch)
        if step not in self.checkpoints:
            return
        with self.watch.paused():
            if self._is_best(step):
                self.best_step, self.best_state = step, self.state()

    def _is_best(self, step: int) -> bool:
        """Whether this checkpoint has the lowest loss on the selection slice so far."""
        if len(self.checkpoints) == 1:
            return True
        score = self.score()
        is_best = all(score < earlier for earlier in self.scores.values())
        self.scores[str(step)] = score
        return is_best
