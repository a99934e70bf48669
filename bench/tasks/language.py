"""Multiple choice by log-likelihood, through lm-eval; tuned on the same definition.

lm-eval owns the templates, the scoring and the metrics. The training text is what it scores:
the context and the right choice, joined as it joins them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks import data
from bench.tasks.kinds import MultipleChoice
from bench.tasks.sequences import IGNORED, mean_loss, pad
from bench.tasks.task import Evaluation, Example, subset
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

NAME = "multiple_choice"
METRICS = ("acc", "acc_norm")
SELECTION_BATCH = 16


def prepare(parameters: MultipleChoice, foundation: Foundation) -> MultipleChoiceTask:
    """The task for one model's tokenizer."""
    if foundation.tokenizer is None:
        raise SuiteError("task kind 'multiple_choice' needs a model with a tokenizer")
    return MultipleChoiceTask(parameters, foundation)


class MultipleChoiceTask:
    """See the module's docstring."""

    def __init__(self, parameters: MultipleChoice, foundation: Foundation) -> None:
        assert foundation.tokenizer is not None
        self.parameters = parameters
        self.tokenizer = foundation.tokenizer

    def training_examples(self) -> list[Example]:
        """Context and right choice of each train row; only the choice has labels."""
        return self._examples("train")

    def collate(self, examples: list[Example]) -> Batch:
        """Padded to the longest of the batch."""
        return pad(examples, self.tokenizer.pad_token_id)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the tokens of the right choices, in nats."""
        return mean_loss(model, batch)

    def selection_loss(self, model: nn.Module) -> float:
        """Mean loss of right choices in the validation split."""
        device = next(model.parameters()).device
        total = count = 0.0
        examples = self._examples("validation")
        for start in range(0, len(examples), SELECTION_BATCH):
            batch = self.collate(examples[start : start + SELECTION_BATCH]).to(device)
            tokens = int((batch.inputs["labels"][:, 1:] != IGNORED).sum())
            with torch.inference_mode():
                total += float(mean_loss(model, batch)) * tokens
            count += tokens
        return total / count

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """lm-eval's acc and acc_norm; the items hold each choice's log-likelihood."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        rows = data.rows(self.parameters.data, "test")
        chosen = [rows[i] for i in subset(len(rows), examples)]
        task = self._lm_eval_task(chosen)
        for row in chosen:
            _target(task, row)
        lm = HFLM(
            pretrained=model,
            tokenizer=self.tokenizer,
            batch_size=batch_size,
            max_length=self.parameters.length,
        )
        results = lm_eval.evaluate(lm, {NAME: task}, log_samples=True, bootstrap_iters=2)
        items = [_item(sample) for sample in results["samples"][NAME]]
        if not all(math.isfinite(value) for item in items for value in item["loglikelihoods"]):
            raise NonFiniteLoss("the model's log-likelihoods are not finite")
        return Evaluation(
            [_metric(name, results["results"][NAME], len(chosen)) for name in METRICS],
            items,
        )

    def _examples(self, split: str) -> list[Example]:
        rows = data.rows(self.parameters.data, split)
        task = self._lm_eval_task(rows)
        examples = []
        for row in rows:
            choice = task.doc_to_choice(row)[_target(task, row)]
            context = task.doc_to_text(row)
            example = self._tokens(context, task.config.target_delimiter + choice)
            if example is not None:
                examples.append(example)
        return examples

    def _tokens(self, context: str, target: str) -> Example | None:
        """Tokens of context + target; None if no token of the target is left to learn."""
        # As lm-eval does: with the tokenizer's own start token, if it has one, and as one text,
        # since the join may merge characters into one token.
        start = self.tokenizer(context)["input_ids"]
        whole = self.tokenizer(context + target)["input_ids"]
        # Too long a text loses the start of its context, never its answer.
        cut = max(0, len(whole) - self.parameters.length)
        labels = [IGNORED] * len(start) + whole[len(start) :]
        ids, labels = whole[cut:], labels[cut:]
        # The first position has nothing before it that could predict it.
        is_usable = any(label != IGNORED for label in labels[1:])
        return {"input_ids": ids, "labels": labels} if is_usable else None

    def _lm_eval_task(self, rows: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - untyped library
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask

        # It says at length what a local task does not have.
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        config = {
            "task": NAME,
            "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": self.parameters.doc_to_text,
            "doc_to_choice": self.parameters.doc_to_choice,
            "doc_to_target": self.parameters.doc_to_target,
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": True}
                for name in METRICS
            ],
        }
        try:
            return ConfigurableTask(config=config)
        except IndexError:
            # It looks at the first row when it is made.
            label = rows[0].get(self.parameters.doc_to_target)
            raise SuiteError(_no_choice(label, rows[0], "the row's")) from None


def _target(task: Any, row: dict[str, Any]) -> int:  # noqa: ANN401 - untyped library
    """Position of the right choice. Some hub sets hide the labels of their test split as -1."""
    count, target = len(task.doc_to_choice(row)), task.doc_to_target(row)
    if not (isinstance(target, int) and 0 <= target < count):
        raise SuiteError(_no_choice(target, row, str(count)))
    return target


def _no_choice(label: object, row: dict[str, Any], count: str) -> str:
    return f"label {label!r} of {str(row)[:60]!r} is none of {count} choices, counted from 0"


def _metric(name: str, results: Mapping[str, Any], count: int) -> Metric:
    return Metric(
        metric=name,
        value=float(results[f"{name},none"]),
        unit="fraction",
        better="higher",
        stderr=float(results[f"{name}_stderr,none"]),
        n=count,
        phase="evaluate",
    )


def _item(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "doc": sample["doc_hash"],
        "target": sample["target"],
        "loglikelihoods": [float(response[0]) for response in sample["filtered_resps"]],
        **{name: float(sample[name]) for name in METRICS},
    }
