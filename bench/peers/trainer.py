"""A plain Hugging Face Trainer: its defaults, its data loader, its callbacks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.tasks.task import Example, Task
from offsite.training import Batch, Recipe


def train(
    model: nn.Module,
    task: Task,
    examples: list[Example],
    recipe: Recipe,
    *,
    batch_size: int,
    seed: int,
    on_step: Callable[[int, Batch], None],
) -> float:
    """Train `model` in place for `recipe.steps` steps; returns their mean loss.

    A model of transformers computes its own loss, as it does for a Trainer's user; for others
    the task does.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    loaded: list[Batch] = []

    def collate(chosen: list[Example]) -> dict[str, Tensor]:
        loaded.append(task.collate(chosen))
        return arguments_of(loaded[-1])

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
            on_step(state.global_step, loaded.pop(0))

    class OwnLoss(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], **_: Any) -> Tensor:  # noqa: ANN401
            return task.loss(model, Batch(inputs, batch_size))

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=recipe.steps,
            per_device_train_batch_size=batch_size,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            lr_scheduler_type=recipe.schedule,
            warmup_steps=recipe.warmup_steps,
            max_grad_norm=recipe.grad_clip or 0.0,
            bf16=recipe.precision == "bf16",
            gradient_checkpointing=recipe.gradient_checkpointing,
            seed=seed,
            use_cpu=next(model.parameters()).device.type == "cpu",
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = (Trainer if is_text(examples) else OwnLoss)(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=collate,
            callbacks=[Steps()],
        )
        return float(trainer.train().training_loss)


def is_text(examples: list[Example]) -> bool:
    """Whether the samples are token sequences."""
    return "input_ids" in examples[0]


def arguments_of(batch: Batch) -> dict[str, Tensor]:
    """A batch as a library's own collator makes it: always a mask, no index of what is scored."""
    if "input_ids" not in batch.inputs:
        return batch.inputs
    ids = batch.inputs["input_ids"]
    mask = batch.inputs.get("attention_mask")
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids) if mask is None else mask,
        "labels": batch.inputs["labels"],
    }
