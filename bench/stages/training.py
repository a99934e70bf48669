"""Stages `tune` and `finetune`: the same training, on adapter blocks or on the whole model."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from bench.measure.canary import canary
from bench.measure.memory_cap import memory_cap
from bench.measure.throughput import Stopwatch, steady_from
from bench.peers import PEERS
from bench.stages.cost import ceiling_metrics, energy_metric, flops_metric, mfu_metric
from bench.stages.loading import load_emulated, load_foundation, save_tuned, sent_adapter
from bench.stages.work import StageResult, Work, write_rows
from bench.suite import Train
from bench.tasks.kinds import KINDS
from bench.tasks.task import (
    Example,
    Task,
    batches,
    examples_of,
    hold_out,
    loss_on,
    prepare,
    steps_for,
    whole_batches,
)
from offsite.activation_cache import ActivationCache
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """All that a training loop gets."""

    model: nn.Module
    task: Task
    loss_of: Callable[[nn.Module, Batch], Tensor]
    """The task's, or one that starts from kept activations; ours alone."""
    examples: list[Example]
    recipe: Recipe
    batch_size: int
    seed: int
    rates: Mapping[nn.Parameter, float]
    """Of what has a learning rate of its own."""


def _train(work: Work, foundation: Foundation, blocks: Mapping[str, nn.Module]) -> StageResult:
    params = work.stage.params
    settings = settings_of(params)
    task = prepare(params["task"], work.stage.locations["data"], foundation, work.store.tokens)
    tuning = tuning_of(params, foundation.model)
    # Modules a tuning adds are drawn from the seed, as dropout is.
    torch.manual_seed(params["seed"])
    trained = tuning.attach(foundation.model, blocks)
    keep_masters(trained)
    examples = examples_of(task)
    is_drawn = KINDS[params["task"]["kind"]].is_drawn
    if is_drawn:
        examples = whole_batches(examples, settings.batch_size)
    examples, selection = _split_off(task, examples, settings)
    job = _Job(
        model=foundation.model,
        task=task,
        loss_of=ActivationCache(foundation.model, task.loss)
        if settings.cache_activations
        else task.loss,
        examples=examples,
        recipe=recipe_of(settings, len(examples)),
        batch_size=settings.batch_size,
        seed=params["seed"],
        rates=_rates(settings, trained),
    )
    run = _Run(
        watch=Stopwatch(job.recipe.steps, _synchronizer(work)),
        score=lambda: _selection_loss(task, foundation.model, selection, settings.precision),
        state=lambda: tuning.state(trained),
        checkpoints=checkpoint_steps(job.recipe.steps, settings.checkpoints),
        folder=work.scratch if params.get("keep_checkpoints") else None,
    )
    before = canary(work.device)
    losses = _run_loop(work, job, run)
    after = canary(work.device)
    count = sum(parameter.numel() for parameter in trainable(trained).values())
    metrics = [
        *run.watch.metrics(),
        Metric(metric="trainable_parameters", value=count, unit="1", better="lower"),
        energy_metric(work.memory.energy("train"), run.watch.windows),
    ]
    files = {"steps.jsonl": write_rows(work.scratch / "steps.jsonl", run.watch.rows(losses))}
    # What came out of random samples is of no use to anybody.
    if not is_drawn:
        state = run.best_state or tuning.state(trained)
        files["tuned.safetensors"] = save_tuned(work.scratch / "tuned.safetensors", state)
    files |= {path.name: path for path in run.kept}
    if "peer" not in params and settings.memory_cap is None:
        metrics += _costs(work, job, run.watch)
    return StageResult(
        metrics=metrics,
        files=files,
        facts={
            "examples": len(examples),
            "steps": job.recipe.steps,
            "mean_loss": fmean(losses),
            "chosen_step": run.best_step or job.recipe.steps,
            "selection": _described(settings, task, selection),
            "dropped": task.dropped,
            "selection_loss": run.scores,
            "cached_bytes": getattr(job.loss_of, "bytes", 0),
            "timing": run.watch.facts(),
            "canary": {"before": asdict(before), "after": asdict(after)},
        },
    )


def _run_loop(work: Work, job: _Job, run: _Run) -> list[float]:
    """Train with our loop, or with a peer's; the loss of each step (a peer's: their mean)."""
    peer, settings = work.stage.params.get("peer"), settings_of(work.stage.params)
    with work.memory.phase("train"), memory_cap(settings.memory_cap, work.device):
        run.watch.start()
        if peer is not None:
            module, _, name = PEERS[peer].function.partition(":")
            mean: float = getattr(importlib.import_module(module), name)(
                job.model,
                job.task,
                job.examples,
                job.recipe,
                batch_size=job.batch_size,
                seed=job.seed,
                on_step=run.on_step,
            )
            return [mean]
        return train(
            job.model,
            batches(
                job.task,
                job.examples,
                batch_size=job.batch_size,
                seed=job.seed,
                group_by_length=settings.group_by_length,
            ),
            job.recipe,
            loss_of=job.loss_of,
            on_step=run.on_step,
            rates=job.rates,
        )


def _costs(work: Work, job: _Job, watch: Stopwatch) -> list[Metric]:
    """Operations of a step, and how near it came to what the machine can do."""
    chosen = tuple(range(min(job.batch_size, len(job.examples))))
    batch = replace(job.task.collate([job.examples[i] for i in chosen]), examples=chosen)
    batch = batch.to(torch.device(work.device))
    if isinstance(job.loss_of, ActivationCache):
        # The steps of later epochs are counted, which find their activations.
        job.loss_of(job.model, batch)
    flops = flops_metric(job.model, batch, job.recipe, job.loss_of)
    metrics = [flops]
    if KINDS[work.stage.params["task"]["kind"]].is_drawn:
        metrics += ceiling_metrics(job.model, batch, job.recipe, watch.synchronize)
    measured = next((m.value for m in metrics if m.metric == "matmul_rate"), None)
    steady, _ = steady_from(watch.windows)
    assert flops.value is not None
    windows = watch.windows[steady:]
    return [*metrics, mfu_metric(flops.value, windows, job.recipe.precision, measured)]


def _synchronizer(work: Work) -> Callable[[], None]:
    return torch.cuda.synchronize if work.device == "cuda" else lambda: None


def _split_off(
    task: Task, examples: list[Example], settings: Train
) -> tuple[list[Example], list[Example]]:
    """What is trained on, and the selection slice; none where there is one checkpoint."""
    if settings.checkpoints == 1:
        return examples, []
    if settings.selection == "held_out":
        return hold_out(examples)
    return examples, examples_of(task, settings.chosen_on(task.scored))


def _described(settings: Train, task: Task, selection: list[Example]) -> dict[str, Any]:
    """What the checkpoint was chosen on; empty where there was one."""
    if not selection:
        return {}
    split = settings.chosen_on(task.scored)
    return {"rule": settings.selection, "split": split, "examples": len(selection)}


def _selection_loss(
    task: Task, model: nn.Module, selection: list[Example], precision: str
) -> float:
    """The score of a checkpoint, without dropout, in the precision it is trained in."""
    model.eval()
    with autocast(next(model.parameters()).device, precision):
        loss = loss_on(task, model, selection)
    model.train()
    if not math.isfinite(loss):
        raise NonFiniteLoss(f"the loss on the selection slice is not finite: {loss}")
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
        compile=settings.compile,
        gradient_checkpointing=settings.gradient_checkpointing,
        cuda_graph=settings.cuda_graph,
    )


def checkpoint_steps(steps: int, checkpoints: int) -> list[int]:
    """`checkpoints` evenly spaced steps, the last one always among them.

    >>> checkpoint_steps(60, 3)
    [20, 40, 60]
    """
    return sorted({max(1, round(steps * (i + 1) / checkpoints)) for i in range(checkpoints)})


def checkpoint_name(step: int) -> str:
    """The blob of what was tuned until a step."""
    return f"step-{step}.safetensors"


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
    folder: Path | None = None
    """Where every checkpoint is written; None where only the best is of use."""
    kept: list[Path] = field(default_factory=list)

    def on_step(self, step: int, batch: Batch) -> None:
        """Called after every optimizer step."""
        self.watch.on_step(step, batch)
        # Of one checkpoint, the last, nothing is kept here: its copy would be in the peak.
        if step not in self.checkpoints or (len(self.checkpoints) == 1 and not self.folder):
            return
        with self.watch.paused():
            if self.folder:
                self.kept.append(save_tuned(self.folder / checkpoint_name(step), self.state()))
            if self._is_best(step):
                self.best_step, self.best_state = step, self.state()

    def _is_best(self, step: int) -> bool:
        """Whether this checkpoint has the lowest loss on the selection slice so far."""
        score = self.score()
        is_best = all(score < earlier for earlier in self.scores.values())
        self.scores[str(step)] = score
        return is_best
