"""From a split's rows to the documents that lm-eval asks about, each with its place in a file.

What a definition cannot read is an error that names the row: it may be any code, so any error of
it is about one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from bench.errors import SuiteError
from bench.tasks import rows
from bench.tasks.samples import content_hash, sample

FEWSHOT_SEED = 1234
"""lm-eval's default."""

ROWS = "rows"
"""What lm-eval takes for the name of whatever split it is given."""

Row = dict[str, Any]


class Definition(Protocol):
    """Where lm-eval's tasks come from."""

    @property
    def id(self) -> str:
        """What records call it."""
        ...

    def name_of(self, row: Row) -> str:
        """The name of the task that reads this row.

        Raises:
            SuiteError: there is none.
        """
        ...

    def over(self, name: str, found: list[Row], *, is_scored: bool) -> Any:  # noqa: ANN401
        """That task over these rows, its split `ROWS`; scored ones may come with examples."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """The documents of a split that one of lm-eval's tasks reads."""

    name: str
    task: Any
    """lm-eval's; the documents are its `eval_docs`."""
    places: list[str]
    """Where to find each of them."""


@dataclass(frozen=True, slots=True)
class Document:
    """What lm-eval asks a model about one document."""

    asked: list[tuple[str, str]]
    """Context and continuation of each choice, or of the only text there is."""
    right: list[int]
    """Which of them are right."""
    place: str
    output_type: str
    """lm-eval's word: what is asked."""

    @property
    def is_choice(self) -> bool:
        """One of several continuations, or contexts, is right."""
        return self.output_type == "multiple_choice"

    @property
    def is_rolling(self) -> bool:
        """A whole text without a context, scored window by window."""
        return self.output_type == "loglikelihood_rolling"


def read(
    definition: Definition,
    data: Mapping[str, str],
    split: str,
    *,
    is_scored: bool = False,
    examples: int | None = None,
) -> list[Part]:
    """The documents of a split, or a sample of so many of them.

    Raises:
        SuiteError: file and row of the first row that cannot be read.
    """
    found = rows.read(data, split)
    places = [rows.place(data, split, position) for position in range(len(found))]
    _same_fields(found, places)
    members: dict[str, list[int]] = {}
    for position, row in enumerate(found):
        try:
            members.setdefault(definition.name_of(row), []).append(position)
        except SuiteError as error:
            raise SuiteError(f"{places[position]}: {error}") from None
    parts = []
    for name, chosen in members.items():
        of_rows = [places[i] for i in chosen]
        task = _defined(definition, name, [found[i] for i in chosen], of_rows, is_scored=is_scored)
        if len(task.eval_docs) != len(chosen):
            # The definition chose among the rows, so a document's row is not known.
            of_rows = [data[split]] * len(task.eval_docs)
        parts.append(Part(name, task, of_rows))
    return parts if examples is None else _sampled(parts, examples)


def documents(part: Part) -> Iterator[Document]:
    """Each document as lm-eval asks about it.

    Raises:
        SuiteError: it cannot be asked about.
    """
    part.task.set_fewshot_seed(FEWSHOT_SEED)
    for doc, place in zip(part.task.eval_docs, part.places, strict=True):
        with _at(place):
            document = _document(part.task, doc, place)
        yield document


def _sampled(parts: list[Part], examples: int) -> list[Part]:
    """The parts with a sample of all their documents, stratified by which choice is right."""
    hashes, labels, owners = [], [], []
    for number, part in enumerate(parts):
        for position, (doc, place) in enumerate(zip(part.task.eval_docs, part.places, strict=True)):
            hashes.append(content_hash(doc))
            with _at(place):
                labels.append(_label(part.task, doc))
            owners.append((number, position))
    chosen = [owners[i] for i in sample(hashes, examples, labels)]
    result = []
    for number, part in enumerate(parts):
        positions = [position for owner, position in chosen if owner == number]
        if positions:
            part.task.dataset[ROWS] = part.task.eval_docs.select(positions)
            result.append(replace(part, places=[part.places[i] for i in positions]))
    return result


def _document(task: Any, doc: Row, place: str) -> Document:  # noqa: ANN401 - untyped library
    """Its requests, without those that lm-eval adds for its own metrics."""
    context = task.fewshot_context(
        doc, num_fewshot=task.config.num_fewshot, gen_prefix=task.doc_to_prefix(doc)
    )
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = _choices(task.doc_to_choice(doc))
        right = _right(task, doc, choices)
        requests = task.construct_requests(doc, context)[: len(choices)]
        return Document([request.args for request in requests], right, place, task.OUTPUT_TYPE)
    args = task.construct_requests(doc, context).args
    is_whole = task.OUTPUT_TYPE == "loglikelihood_rolling"
    # Pages of text may be empty; lm-eval counts them.
    if not isinstance(args[-1], str) or not (args[-1].strip() or is_whole):
        raise SuiteError(f"there is no text to score, but {str(args[-1])[:60]!r}")
    return Document([("", args[0]) if is_whole else args], [0], place, task.OUTPUT_TYPE)


def _label(task: Any, doc: Row) -> int:  # noqa: ANN401 - untyped library
    """Which choice is right; 0 where there are none to choose from."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0
    return _right(task, doc, _choices(task.doc_to_choice(doc)))[0]


def _defined(
    definition: Definition, name: str, found: list[Row], places: list[str], *, is_scored: bool
) -> Any:  # noqa: ANN401 - untyped library
    """lm-eval's task over these rows, or an error about the first that it cannot read."""

    def fails(count: int) -> bool:
        try:
            definition.over(name, found[:count], is_scored=is_scored)
        except Exception:  # whatever the definition's own code raises
            return True
        return False

    try:
        return definition.over(name, found, is_scored=is_scored)
    except SuiteError:
        raise
    except Exception as error:
        bad = bisect_left(range(1, len(found)), True, key=fails)
        raise SuiteError(f"{places[bad]}: {_unreadable(error)}") from error


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Errors within are about the row at `place`."""
    try:
        yield
    except SuiteError as error:
        raise SuiteError(f"{place}: {error}") from None
    except Exception as error:  # whatever the definition's own code raises
        raise SuiteError(f"{place}: {_unreadable(error)}") from error


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
