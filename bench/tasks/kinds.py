"""The table of task kinds: what a task file may say, and the module that runs it.

It never imports torch, so a suite's tasks are checked before anything heavy loads.
A task is a kind plus its fields; `suites/tasks/NAME.yaml` and a suite's own `tasks`
section are read into these dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, MinLen


@dataclass(frozen=True, slots=True, kw_only=True)
class Perplexity:
    """Perplexity of a split's whole text, in fixed blocks, weighted by tokens."""

    data: dict[str, str] = field(default_factory=dict)
    """Split to file (Parquet, or JSONL, one object a line), `{builtin: NAME}`, or `{hub: ORG/NAME,
    config: NAME}` with split to the hub's split. Splits: train, validation (selection; optional),
    test (scored)."""
    text: str = "text"
    """The field of a row that holds its text."""
    block: Annotated[int, Ge(2)] = 512
    """Tokens in a block; also the sequence length of tuning."""
    row_end: Literal["end_token", "tokenizer"] = "end_token"
    """What marks the end of a row: the tokenizer's end token, or whatever special tokens the
    tokenizer itself puts around a text (OPT's do, GPT-2's do not), as the paper's code did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipleChoice:
    """Choices scored by log-likelihood through lm-eval; tuned on the right choice."""

    data: dict[str, str] = field(default_factory=dict)
    """Split to file (JSONL or Parquet, with the fields the templates name), or `hub` as for
    perplexity."""
    doc_to_text: Annotated[str, MinLen(1)] = "question"
    doc_to_choice: Annotated[str, MinLen(1)] = "choices"
    doc_to_target: Annotated[str, MinLen(1)] = "label"
    """lm-eval's own: the name of a field, or a jinja template over a row's fields."""
    length: Annotated[int, Ge(2)] = 512
    """Longest context plus choice, in tokens; longer contexts lose their start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LmEval:
    """A task that lm-eval scores by log-likelihood, tuned and scored by its own definition."""

    id: Annotated[str, MinLen(1)]
    """Its name in lm-eval; with a field of the rows in braces (`mmlu_{subject}`) all that the rows
    name. Or a YAML file in lm-eval's format, without functions, relative to where it is named; in
    a plan its content stands here, as JSON."""
    data: dict[str, str] = field(default_factory=dict)
    """Split to file (JSONL or Parquet, with the hub's field names), or `hub` as for perplexity. The
    splits are the data set's own: if the definition scores `validation` for want of a `test`, leave
    `test` out."""
    fewshot: Annotated[int, Ge(0)] = 0
    """How many answered examples stand before each scored text, drawn as lm-eval draws them: from
    the definition's few-shot split if `data` has it, else from train. None where it is tuned."""
    prompt: Literal["definition", "paper"] = "definition"
    """What is tuned on: the text that is scored, or the paper's, which lacks the space before the
    answer (the text that is scored stays lm-eval's)."""
    length: Annotated[int, Ge(2)] = 512
    """Longest context plus choice, in tokens; longer contexts lose their start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClassification:
    """Top-1 and top-5 accuracy of a model whose head has the task's classes."""

    data: dict[str, str] = field(default_factory=dict)
    """Split to a folder with one sub-folder of images a class, to a .parquet file with a column
    of encoded images and one of labels, or to a .npz file with `images` (N, H, W) or
    (N, C, H, W) in 0..1 and `labels` (N,); `{builtin: NAME}`; or `hub` as for perplexity. Labels
    of folders are the places of their names among those of all splits, sorted."""
    image: str = "image"
    """The column of images of the hub's data set or of parquet files. Encoded images are resized
    and cropped to the model's input."""
    label: str = "label"
    """The column of labels of the hub's data set or of parquet files."""
    classes: Annotated[int, Ge(2)] | None = None
    """The model gets a new classifier of so many classes, trained with the trainable blocks;
    without it, the model's own classifier knows the task's classes and stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticTokens:
    """Random tokens, to measure what training costs; there is nothing to learn or to score."""

    length: Annotated[int, Ge(2)] = 512
    """Tokens of a sample: all real, no padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticImages:
    """Random images of the model's size, to measure what training costs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    parameters: type[
        Perplexity
        | MultipleChoice
        | LmEval
        | ImageClassification
        | SyntheticTokens
        | SyntheticImages
    ]
    module: str
    """Module with `prepare(parameters, model) -> Task`."""
    model: str
    """The kind of model that can run it: language or vision."""
    splits: tuple[tuple[str, ...], ...] = (("train",), ("test",))
    """Of each group of splits one must be there."""
    is_drawn: bool = False
    """Its samples are drawn at random: it has no data, and nothing is scored."""
    takes_folders: bool = False
    """Whether a split may be an image folder."""

    @property
    def summary(self) -> str:
        """The first line of the parameters' docstring."""
        return (self.parameters.__doc__ or "").splitlines()[0]


KINDS: dict[str, Kind] = {
    "image_classification": Kind(
        ImageClassification, "bench.tasks.vision", "vision", takes_folders=True
    ),
    "lm_eval": Kind(LmEval, "bench.tasks.registered", "language", splits=(("test", "validation"),)),
    "multiple_choice": Kind(MultipleChoice, "bench.tasks.language", "language"),
    "perplexity": Kind(Perplexity, "bench.tasks.perplexity", "language"),
    "synthetic_images": Kind(
        SyntheticImages, "bench.tasks.synthetic", "vision", splits=(), is_drawn=True
    ),
    "synthetic_tokens": Kind(
        SyntheticTokens, "bench.tasks.synthetic", "language", splits=(), is_drawn=True
    ),
}
