"""Text scored by log-likelihood through lm-eval, and tuned on the same definition.

lm-eval owns the templates, the scoring and the metrics. The training text is what it scores:
the request it makes for the right choice, or for the only text there is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import stdev
from typing import Any

from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks.data import scored_split
from bench.tasks.documents import (
    FEWSHOT_SEED,
    ROWS,
    Definition,
    Document,
    Part,
    Row,
    documents,
    read,
)
from bench.tasks.kinds import MultipleChoice
from bench.tasks.sequences import mean_loss, pad, vocabulary
from bench.tasks.task import Evaluation, Example, splits_of
from bench.tasks.templates import compile_once
from bench.tasks.tokens import TokenCache
from offsite.head_loss import IGNORED
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

RATES = ("acc", "acc_norm", "exact_match")
"""Those of lm-eval's metrics that are means over items of 0 or 1."""
LOSSES = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
"""Those made from the log-likelihoods of texts."""
METRICS = (*RATES, *LOSSES)


def prepare(
    parameters: MultipleChoice, foundation: Foundation, tokens: Path | None = None
) -> ChoiceTask:
    """The task of a suite's own templates, for one model's tokenizer."""
    return ChoiceTask(
        _Templates(parameters), parameters.data, parameters.length, foundation, tokens
    )


@dataclass(frozen=True, slots=True)
class _Templates:
    """The definition that a suite's own templates make."""

    parameters: MultipleChoice
    id: str = "multiple_choice"

    def name_of(self, row: Row) -> str:
        return self.id

    def over(self, name: str, found: list[Row], *, is_scored: bool) -> Any:  # noqa: ANN401
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask

        config = {
            "task": name,
            "custom_dataset": lambda **_: {ROWS: Dataset.from_list(found)},
            "output_type": "multiple_choice",
            "test_split": ROWS,
            "num_fewshot": 0,
            "doc_to_text": self.parameters.doc_to_text,
            "doc_to_choice": self.parameters.doc_to_choice,
            "doc_to_target": self.parameters.doc_to_target,
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True}
                for metric in ("acc", "acc_norm")
            ],
        }
        return ConfigurableTask(config=config)


class ChoiceTask:
    """See the module's docstring."""

    def __init__(
        self,
        definition: Definition,
        data: Mapping[str, str],
        length: int,
        foundation: Foundation,
        tokens: Path | None,
        *,
        left_out: str = "",
    ) -> None:
        """Bind a definition to rows and a tokenizer.

        Args:
            definition: makes lm-eval's tasks.
            data: where the rows are, see `bench.tasks.rows`.
            length: the longest context and continuation, in tokens.
            foundation: the model whose tokenizer encodes them.
            tokens: where token ids are kept; None keeps none.
            left_out: what a continuation begins with where it is scored, and not where it is
                learnt.
        """
        if foundation.tokenizer is None:
            raise SuiteError(f"task {definition.id!r} needs a model with a tokenizer")
        # It says at length what a local task does not have.
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        compile_once()
        self.definition = definition
        self.data = data
        self.length = min(length, _positions(foundation.model) or length)
        self.limit = "task's length" if self.length == length else "model's positions"
        self.tokens = TokenCache(foundation.tokenizer, tokens)
        self.tokenizer = foundation.tokenizer
        self.left_out = left_out
        self.dropped = 0
        self.scored = scored_split(data)

    def check(self) -> None:
        """Read and encode every row of every split there is."""
        for split in splits_of(self.data):
            if split == self.scored:
                self._asked(read(self.definition, self.data, split, is_scored=True))
                continue
            for document, start, whole in self._right(split):
                self._check_length(document, len(whole) - len(start))

    def training_examples(self) -> list[Example]:
        """Context and right choice of each train row, or its text; what is scored has labels."""
        found = self._learnt("train")
        self.dropped = sum(not examples for examples in found)
        return [*chain.from_iterable(found)]

    def collate(self, examples: list[Example]) -> Batch:
        """Padded to the longest of the batch."""
        return pad(examples, self.tokenizer.pad_token_id)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the tokens of the right choices, in nats."""
        return mean_loss(model, batch)

    def examples(self, split: str) -> list[Example]:
        """What would be learnt of a split."""
        return [*chain.from_iterable(self._learnt(split))]

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """lm-eval's own metrics; the items hold each choice's log-likelihood."""
        import lm_eval

        from bench.tasks.scorer import SharedPrefixLM

        parts = read(self.definition, self.data, self.scored, is_scored=True, examples=examples)
        asked, sizes = self._asked(parts)
        lm = SharedPrefixLM(
            model,
            self.tokenizer,
            batch_size=batch_size,
            max_length=self.length,
            tokens=self.tokens,
        )
        for part in parts:
            part.task.set_fewshot_seed(FEWSHOT_SEED)
        # Standard errors are taken from the items: its bootstrap starts a process for every core.
        tasks = {part.name: part.task for part in parts}
        try:
            done = lm_eval.evaluate(lm, tasks, log_samples=True, bootstrap_iters=0)
        except OverflowError:
            raise NonFiniteLoss("a perplexity is too large for a number") from None
        samples = [sample for part in parts for sample in done["samples"][part.name]]
        items = [_item(*pair) for pair in zip(asked, samples, strict=True)]
        if not all(math.isfinite(value) for item in items for value in item["loglikelihoods"]):
            raise NonFiniteLoss("the model's log-likelihoods are not finite")
        aggregations = parts[0].task.aggregation()
        uniform = [-size * math.log(vocabulary(model)) for size in sizes]
        metrics = [
            _loss(name, aggregations[name], [sample[name] for sample in samples], uniform)
            if name in LOSSES
            else _rate(name, [float(sample[name]) for sample in samples], asked)
            for name in METRICS
            if name in aggregations
        ]
        return Evaluation(metrics, items, self._facts(parts[0].task, lm.refusal))

    def _facts(self, task: Any, refusal: str | None) -> dict[str, Any]:  # noqa: ANN401
        """Which definition was scored, and how."""
        facts: dict[str, Any] = {
            "definition": {"id": self.definition.id, "version": str(task.VERSION)},
            "scoring": {"contexts": "shared"},
            "length": self.length,
        }
        if refusal is not None:
            facts["scoring"] = {"contexts": "one by one", "reason": refusal}
        if task.config.num_fewshot:
            facts["fewshot"] = {"examples": task.config.num_fewshot, "seed": FEWSHOT_SEED}
        return facts

    def _asked(self, parts: list[Part]) -> tuple[list[Document], list[int]]:
        """The documents to score, and how many tokens the first continuation of each has.

        Raises:
            SuiteError: a choice that lm-eval cannot score, as it would, but saying which.
        """
        asked = [document for part in parts for document in documents(part)]
        encoded = iter(self._encode(pair for document in asked for pair in document.asked))
        sizes = []
        for document in asked:
            of_document = islice(encoded, len(document.asked))
            each = [len(whole) - len(start) for start, whole in of_document]
            self._check_length(document, max(each))
            sizes.append(each[0])
        return asked, sizes

    def _check_length(self, document: Document, size: int) -> None:
        """Refuse a choice that lm-eval cannot score, as it would, but say which."""
        # A whole text is cut into windows.
        if size > self.length and not document.is_rolling:
            raise SuiteError(
                f"{document.place}: a choice of {size} tokens, more than the {self.limit} of "
                f"{self.length}"
            )

    def _learnt(self, split: str) -> list[list[Example]]:
        """What is learnt of each document of a split; nothing if its answer does not fit."""
        return [
            self._windows(whole) if document.is_rolling else self._cut(start, whole)
            for document, start, whole in self._right(split)
        ]

    def _right(self, split: str) -> list[tuple[Document, list[int], list[int]]]:
        """The documents of a split, each with its right answer as it is tuned on."""
        parts = read(self.definition, self.data, split)
        asked = [document for part in parts for document in documents(part)]
        right = (document.asked[document.right[0]] for document in asked)
        pairs = ((context, said.removeprefix(self.left_out)) for context, said in right)
        encoded = self._encode(pairs)
        return [(document, *pair) for document, pair in zip(asked, encoded, strict=True)]

    def _encode(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Tokens of each context, and of context and continuation."""
        # As lm-eval does: with the tokenizer's own start token, if it has one; spaces that end
        # the context belong to the target; and as one text, since the join may merge characters
        # into one token.
        texts = [(context.rstrip(), context + said) for context, said in pairs]
        ids = self.tokens.encode(chain.from_iterable(texts))
        return [(ids[start], ids[whole]) for start, whole in texts]

    def _cut(self, start: list[int], whole: list[int]) -> list[Example]:
        """Context and target; nothing if the target does not fit, or none of it is learnt."""
        # Too long a text loses the start of its context, never its answer.
        cut = max(0, len(whole) - self.length)
        labels = [IGNORED] * len(start) + whole[len(start) :]
        ids, labels = whole[cut:], labels[cut:]
        # The first position has nothing before it that could predict it.
        is_usable = cut <= len(start) and any(label != IGNORED for label in labels[1:])
        return [{"input_ids": ids, "labels": labels}] if is_usable else []

    def _windows(self, whole: list[int]) -> list[Example]:
        """Windows of a text as lm-eval scores them: each token once, the first after a start."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        start = self.tokenizer.bos_token_id
        if start is None:
            start = self.tokenizer.eos_token_id
        # One token shorter than where it is scored: there the last one of a window is no input.
        windows = get_rolling_token_windows(whole, start, self.length - 1, 1)
        return [
            {"input_ids": before + said, "labels": [IGNORED] * len(before) + said}
            for before, said in map(make_disjoint_window, windows)
        ]


def _positions(model: nn.Module) -> int | None:
    """How many positions the model has learned; None where they are computed, without an end."""
    config: Any = model.config
    text = config.get_text_config()
    is_rotary = bool(getattr(text, "rope_parameters", None))
    positions: int | None = getattr(text, "max_position_embeddings", None)
    return None if is_rotary else positions


def _rate(name: str, values: list[float], asked: list[Document]) -> Metric:
    """A share of items. Greedy decoding that knows nothing says no text exactly."""
    choices = [document for document in asked if document.is_choice and name != "exact_match"]
    return Metric(
        metric=name,
        value=sum(values) / len(values),
        unit="fraction",
        better="higher",
        stderr=_stderr(values),
        n=len(values),
        # Questions have different numbers of choices.
        chance=sum(len(each.right) / len(each.asked) for each in choices) / len(values),
        phase="evaluate",
    )


def _loss(
    name: str, aggregate: Callable[[list[Any]], float], values: list[Any], uniform: list[float]
) -> Metric:
    """A loss over texts.

    Args:
        name: lm-eval's.
        aggregate: lm-eval's way from the values to the metric.
        values: of each text its log-likelihood, or that and the words or bytes to divide it by.
        uniform: of each text the log-likelihood where all tokens are equally likely.
    """
    value = float(aggregate(values))
    is_weighted = isinstance(values[0], tuple)
    guesses: list[Any] = uniform
    if is_weighted:
        guesses = [(guess, weight) for guess, (_, weight) in zip(uniform, values, strict=True)]
    try:
        chance: float | None = float(aggregate(guesses))
    except OverflowError:
        chance = None
    error = None if is_weighted else _stderr(values)
    return Metric(
        metric=name,
        value=value,
        unit="1",
        better="lower",
        # exp of minus a mean, to first order; lm-eval gives none where texts weigh differently.
        stderr=None if error is None else value * error,
        n=len(values),
        chance=chance,
        phase="evaluate",
    )


def _stderr(values: list[float]) -> float | None:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def _item(document: Document, sample: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a document: what paired statistics are made from."""
    item, answers = {"doc": sample["doc_hash"]}, sample["filtered_resps"]
    if document.is_rolling:
        weights = {"words": "word_perplexity", "bytes": "byte_perplexity"}
        sizes = {unit: int(sample[m][1]) for unit, m in weights.items() if m in sample}
        return {**item, "loglikelihoods": [float(answers[0])], **sizes}
    answers = answers[: len(document.asked)]
    scores = [float(score) for score, _ in answers]
    target: int | list[int] | str = document.asked[0][1]
    if document.is_choice:
        target = document.right[0] if len(document.right) == 1 else document.right
    # Where no choice is compared with another: whether a right one is said.
    prediction: int | bool = any(bool(answers[i][1]) for i in document.right)
    if document.is_choice and "acc" in sample:
        prediction = max(range(len(scores)), key=scores.__getitem__)
    return {
        **item,
        "target": target,
        "loglikelihoods": scores,
        "prediction": prediction,
        **{name: float(sample[name]) for name in RATES if name in sample},
    }
