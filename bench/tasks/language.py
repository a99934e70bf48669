"""Multiple choice by log-likelihood, through lm-eval; tuned on the same definition.

lm-eval owns the templates, the scoring and the metrics. The training text is what it scores:
the request it makes for the right choice.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks import rows
from bench.tasks.data import scored_split
from bench.tasks.kinds import MultipleChoice
from bench.tasks.sequences import mean_loss, pad
from bench.tasks.task import Evaluation, Example, subset
from offsite.head_loss import IGNORED
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

METRICS = ("acc", "acc_norm", "exact_match")
"""Those of lm-eval's metrics that are means over items."""
SELECTION_BATCH = 16

Row = dict[str, Any]
Define = Callable[[list[Row]], Any]
"""Makes lm-eval's task whose `test` split is some rows."""


def prepare(parameters: MultipleChoice, foundation: Foundation) -> ChoiceTask:
    """The task of a suite's own templates, for one model's tokenizer."""

    def define(found: list[Row]) -> Any:  # noqa: ANN401 - untyped library
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask

        config = {
            "task": "multiple_choice",
            "custom_dataset": lambda **_: {"test": Dataset.from_list(found)},
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": parameters.doc_to_text,
            "doc_to_choice": parameters.doc_to_choice,
            "doc_to_target": parameters.doc_to_target,
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": True}
                for name in ("acc", "acc_norm")
            ],
        }
        return ConfigurableTask(config=config)

    return ChoiceTask("multiple_choice", define, parameters.data, parameters.length, foundation)


class ChoiceTask:
    """See the module's docstring."""

    def __init__(
        self,
        name: str,
        define: Define,
        data: Mapping[str, str],
        length: int,
        foundation: Foundation,
    ) -> None:
        if foundation.tokenizer is None:
            raise SuiteError(f"task {name!r} needs a model with a tokenizer")
        # It says at length what a local task does not have.
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self.name = name
        self.define = define
        self.data = data
        self.length = length
        self.tokenizer = foundation.tokenizer
        self.dropped = 0
        self.scored = scored_split(data)

    def training_examples(self) -> list[Example]:
        """Context and right choice of each train row; only the choice has labels."""
        examples = list(self._examples("train"))
        kept = [example for example in examples if example is not None]
        self.dropped = len(examples) - len(kept)
        return kept

    def collate(self, examples: list[Example]) -> Batch:
        """Padded to the longest of the batch."""
        return pad(examples, self.tokenizer.pad_token_id)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the tokens of the right choices, in nats."""
        return mean_loss(model, batch)

    def selection_loss(self, model: nn.Module) -> float:
        """Mean loss of right choices in the validation split."""
        if self.scored == "validation":
            raise SuiteError(
                f"task {self.name!r} scores its validation split, so none is left to choose a "
                "checkpoint on; use train.checkpoints: 1"
            )
        device = next(model.parameters()).device
        total = count = 0.0
        examples = [example for example in self._examples("validation") if example is not None]
        if not examples:
            raise SuiteError("no right choice of the validation split fits the task's length")
        for start in range(0, len(examples), SELECTION_BATCH):
            batch = self.collate(examples[start : start + SELECTION_BATCH]).to(device)
            tokens = int((batch.inputs["labels"][:, 1:] != IGNORED).sum())
            with torch.inference_mode():
                total += float(mean_loss(model, batch)) * tokens
            count += tokens
        return total / count

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """lm-eval's own metrics; the items hold each choice's log-likelihood."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        task, places = self._task(self.scored, examples)
        shares = []
        for place, (asked, right) in zip(places, self._requests(task, places), strict=True):
            self._check_length(asked, place)
            shares.append(len(right) / len(asked))
        lm = HFLM(
            pretrained=model,
            tokenizer=self.tokenizer,
            batch_size=batch_size,
            max_length=self.length,
        )
        done = lm_eval.evaluate(lm, {self.name: task}, log_samples=True, bootstrap_iters=2)
        results, samples = done["results"][self.name], done["samples"][self.name]
        names = [name for name in METRICS if name in task.aggregation()]
        items = [_item(sample, names) for sample in samples]
        if not all(math.isfinite(value) for item in items for value in item["loglikelihoods"]):
            raise NonFiniteLoss("the model's log-likelihoods are not finite")
        guess = sum(shares) / len(shares)
        return Evaluation(
            [_metric(name, results, len(items), guess) for name in names],
            items,
            {"definition": {"id": self.name, "version": str(task.VERSION)}},
        )

    def _examples(self, split: str) -> Iterator[Example | None]:
        task, places = self._task(split)
        for asked, right in self._requests(task, places):
            yield self._tokens(*asked[right[0]])

    def _task(self, split: str, examples: int | None = None) -> tuple[Any, list[str]]:
        """lm-eval's task over a split, or a subset of it, and where to find each document."""
        found = rows.read(self.data, split)
        positions = subset(len(found), examples)
        chosen = [found[i] for i in positions]
        places = [rows.place(self.data, split, i) for i in positions]
        _same_fields(chosen, places)
        task = self._defined(chosen, places)
        if len(task.eval_docs) != len(chosen):
            # The definition chose among the rows, so a document's row is not known.
            places = [self.data[split]] * len(task.eval_docs)
        return task, places

    def _defined(self, found: list[Row], places: list[str]) -> Any:  # noqa: ANN401
        """lm-eval's task over these rows.

        Raises:
            SuiteError: the first row that the definition cannot read. It may be any code, so any
                error of it is about a row.
        """

        def fails(count: int) -> bool:
            try:
                self.define(found[:count])
            except Exception:  # whatever the definition's own code raises
                return True
            return False

        try:
            return self.define(found)
        except Exception as error:
            bad = bisect_left(range(1, len(found)), True, key=fails)
            raise SuiteError(f"{places[bad]}: {_unreadable(error)}") from error

    def _requests(
        self,
        task: Any,  # noqa: ANN401 - untyped library
        places: Iterable[str],
    ) -> Iterator[tuple[list[tuple[str, str]], list[int]]]:
        """Context and continuation of each choice as lm-eval scores them, and the right ones."""
        for doc, place in zip(task.eval_docs, places, strict=True):
            try:
                choices = _choices(task.doc_to_choice(doc))
                right = _right(task, doc, choices)
                context = task.fewshot_context(
                    doc, num_fewshot=0, gen_prefix=task.doc_to_prefix(doc)
                )
                asked = [request.args for request in task.construct_requests(doc, context)]
            except SuiteError as error:
                raise SuiteError(f"{place}: {error}") from None
            except Exception as error:  # whatever the definition's own code raises
                raise SuiteError(f"{place}: {_unreadable(error)}") from error
            yield asked[: len(choices)], right

    def _check_length(self, asked: list[tuple[str, str]], place: str) -> None:
        """Refuse a choice that lm-eval cannot score, as it would, but say which."""
        for context, target in asked:
            # Hardly any text has more tokens than bytes.
            if len(target.encode()) < self.length:
                continue
            start, whole = self._encode(context, target)
            if len(whole) - len(start) > self.length:
                raise SuiteError(
                    f"{place}: a choice of {len(whole) - len(start)} tokens, more than the task's "
                    f"length of {self.length}"
                )

    def _encode(self, context: str, target: str) -> tuple[list[int], list[int]]:
        """Tokens of the context, and of both."""
        # As lm-eval does: with the tokenizer's own start token, if it has one; spaces that end
        # the context belong to the target; and as one text, since the join may merge characters
        # into one token.
        start: list[int] = self.tokenizer(context.rstrip(), verbose=False)["input_ids"]
        whole: list[int] = self.tokenizer(context + target, verbose=False)["input_ids"]
        return start, whole

    def _tokens(self, context: str, target: str) -> Example | None:
        """Tokens of context + target; None if the target does not fit, or none of it is learnt."""
        start, whole = self._encode(context, target)
        # Too long a text loses the start of its context, never its answer.
        cut = max(0, len(whole) - self.length)
        labels = [IGNORED] * len(start) + whole[len(start) :]
        ids, labels = whole[cut:], labels[cut:]
        # The first position has nothing before it that could predict it.
        is_usable = cut <= len(start) and any(label != IGNORED for label in labels[1:])
        return {"input_ids": ids, "labels": labels} if is_usable else None


def _same_fields(found: list[Row], places: list[str]) -> None:
    """Refuse a row without a field that others have: a template would print None for it."""
    known = set().union(*found)
    for row, place in zip(found, places, strict=True):
        missing = sorted(known - row.keys())
        if missing:
            raise SuiteError(f"{place}: no field {missing[0]!r}, which other rows have")


def _choices(choices: object) -> list[str]:
    """The choices, each a text with something in it."""
    if not isinstance(choices, list) or not choices:
        raise SuiteError(f"expected a list of choices, got {str(choices)[:60]!r}")
    for choice in choices:
        if not isinstance(choice, str) or not choice.strip():
            raise SuiteError(f"the choice {choice!r} is no text")
    return choices


def _right(task: Any, doc: Row, choices: list[str]) -> list[int]:  # noqa: ANN401 - untyped library
    """Positions of the right choices. Some hub sets hide the labels of their test split as -1."""
    # Where contexts are what is chosen from, their text is the label (winogrande).
    target = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(target, str) and target in choices:
        target = choices.index(target)
    right = target if isinstance(target, list) else [target]
    for label in right:
        if not (isinstance(label, int) and 0 <= label < len(choices)):
            raise SuiteError(f"label {label!r} is none of {len(choices)} choices, counted from 0")
    if not right:
        raise SuiteError("no choice is right")
    return right


def _unreadable(error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [""])[0]
    sentence = f"the task cannot read it ({type(error).__name__}: {reason})"
    if not isinstance(error, IndexError):
        return sentence
    return f"{sentence}; is its label one of its choices, counted from 0, and none empty?"


def _metric(name: str, results: Mapping[str, Any], count: int, guess: float) -> Metric:
    """One of lm-eval's metrics. Greedy decoding that knows nothing matches no answer exactly."""
    key = next(key for key in results if key.startswith(f"{name},"))
    stderr = results[key.replace(",", "_stderr,", 1)]
    return Metric(
        metric=name,
        value=float(results[key]),
        unit="fraction",
        better="higher",
        # "N/A" for a single item.
        stderr=None if isinstance(stderr, str) else float(stderr),
        n=count,
        chance=0.0 if name == "exact_match" else guess,
        phase="evaluate",
    )


def _item(sample: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {
        "doc": sample["doc_hash"],
        "target": sample["target"],
        "loglikelihoods": [float(response[0]) for response in sample["filtered_resps"]],
        **{name: float(sample[name]) for name in names},
    }
