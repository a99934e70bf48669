"""Multiple-choice rows from Python's documentation: which passage goes on from the question?"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

QUESTION_LENGTH = 72
ANSWER_LENGTH = 36
"""Characters, rounded up to whole words: about 24 and 12 tokens. All answers are equally long
because a sum of log-likelihoods prefers a shorter one."""


def write_rows(output: Path) -> None:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl`, each from its own topics."""
    from bench.tasks.builtin import pydoc_topics

    counts = {"train": 600, "validation": 100, "test": 100}
    output.mkdir(parents=True, exist_ok=True)
    for split, texts in pydoc_topics().items():
        rows = topic_rows(texts, counts[split])
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (output / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        log.info("%s: %d rows", split, len(rows))


def topic_rows(texts: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Which of four passages goes on from the question?

    Every passage that is right once is wrong in three other rows, so nothing but the question
    tells which one is right.
    """
    passages = topic_passages(texts)[: max(count, 4)]
    rows = []
    for index, (question, _) in enumerate(passages[:count]):
        choices = [passages[(index + step) % len(passages)][1] for step in (0, 1, 2, 3)]
        label = index % 4
        choices[0], choices[label] = choices[label], choices[0]
        rows.append({"question": question, "choices": choices, "label": label})
    return rows


def topic_passages(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Questions and what follows them, no two overlapping, shuffled by their own hash."""
    found: dict[str, str] = {}
    for text in texts:
        words = iter(re.findall(r"\S+\s*", text))
        while (question := take(words, QUESTION_LENGTH)) and (answer := take(words, ANSWER_LENGTH)):
            # The template puts one space between the two; anything else would not be the text.
            if question.endswith(" ") and not question.endswith("  "):
                found.setdefault(answer.rstrip(), question[:-1])
    passages = [(question, answer) for answer, question in found.items()]
    return sorted(passages, key=lambda passage: text_order(" ".join(passage)))


def take(words: Iterator[str], length: int) -> str:
    """The next words, at least `length` characters; empty at the end of the text."""
    taken = ""
    while len(taken) < length:
        if not (word := next(words, "")):
            return ""
        taken += word
    return taken


def text_order(text: str) -> bytes:
    """A stable shuffle that no library version can change."""
    return hashlib.sha256(text.encode()).digest()
