"""How fast choices are scored, beside lm-eval's own model: `python -m tests.benchmarks.scoring`.

The same items, weights, dtype and threads, in one run: for each task both are timed to and fro,
and the ratio of each pair counts. lm-eval's model runs at the fixed batch size that is best for it.
The bound is tokens it computes over tokens that are needed, padding left out on both sides: with
nothing else saved, that many times as fast is all there is to gain by sharing contexts.

Needs the rows of real data sets: OFFSITE_BENCH_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from bench.suite.task_files import SUITES
from bench.tasks.builtin import pydoc_topics
from bench.tasks.kinds import LmEval, MultipleChoice
from bench.tasks.scorer import SharedPrefixLM
from bench.tasks.task import prepare
from offsite.models import Foundation, ensure_torchvision
from reports.statistics.ratios import RatioEstimate, paired_ratio

SPLITS = {
    "hellaswag": "validation",
    "arc_easy": "test",
    "openbookqa": "test",
    "piqa": "validation",
    "sciq": "test",
    "boolq": "validation",
}
LENGTH = 1024
BATCHES = (4, 8, 16, 32)
"""Sizes that lm-eval's model is tried with."""
OURS = 16
"""The default of a suite."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one task showed."""

    task: str
    requests: int
    bound: float
    batch: int
    theirs: float
    """Seconds, median."""
    ours: float
    ratio: RatioEstimate
    apart: float
    """Largest difference of a log-likelihood."""


def main() -> None:
    """Print a table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tasks", nargs="*", default=[*SPLITS, "long_context"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    ensure_torchvision()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SUITES / "models" / "tiny-lm")
    model = llama().to(given.device, getattr(torch, given.dtype)).eval()
    found = []
    for name in given.tasks:
        asked = requests_of(
            name, given.items, Foundation(model=model, kind="language", tokenizer=tokenizer)
        )
        found.append(compare(name, asked, model, tokenizer, given.pairs))
        print(line(found[-1]), file=sys.stderr, flush=True)
    print(f"{given.device}, {given.dtype}, {torch.get_num_threads()} threads, {given.items} items")
    print(
        "| task | requests | bound | lm-eval (batch) | ours | ratio | lower bound | share | apart |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(map(line, found)))
    if given.json:
        given.json.write_text(json.dumps([asdict(each) for each in found], indent=1))


def llama() -> Any:
    """Twelve blocks of width 768, random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        vocab_size=32000,
        max_position_embeddings=LENGTH,
    )
    return LlamaForCausalLM(config)


def requests_of(name: str, items: int, foundation: Foundation) -> list[Any]:
    """lm-eval's requests for the first items of a task."""
    if name == "long_context":
        rows = list(long_contexts(items))
        templates = {"doc_to_text": "{{article}}\n\nQuestion: {{question}}\nAnswer:"}
        kind = MultipleChoice(data={}, doc_to_choice="options", length=LENGTH, **templates)
        described = {"kind": "multiple_choice", **_fields(kind)}
    else:
        file = Path(os.environ["OFFSITE_BENCH_DATA"]) / name / f"{SPLITS[name]}.jsonl"
        rows = [json.loads(text) for text in file.read_text().splitlines()[:items]]
        described = {"kind": "lm_eval", **_fields(LmEval(id=name, length=LENGTH))}
    task: Any = prepare(described, {SPLITS.get(name, "test"): ""}, foundation)
    defined = task.definition.over(task.definition.id, rows, is_scored=True)
    defined.build_all_requests(rank=0, world_size=1)
    return [request for request in defined.instances if request.request_type == "loglikelihood"]


def _fields(parameters: Any) -> dict[str, Any]:
    return {k: getattr(parameters, k) for k in parameters.__slots__ if k != "data"}


def long_contexts(items: int) -> Iterable[dict[str, Any]]:
    """Four answers to a question about an article of some 300 words, RACE's shape."""
    words = " ".join(pydoc_topics()["train"]).split()
    for i in range(items):
        start = 97 * i % (len(words) - 400)
        article, rest = words[start : start + 250], words[start + 250 :]
        options = [" ".join(rest[8 * k : 8 * (k + 1)]) for k in range(1, 5)]
        question = " ".join(rest[:8]) + "?"
        yield {"article": " ".join(article), "question": question, "options": options, "label": 0}


def compare(name: str, asked: list[Any], model: Any, tokenizer: Any, pairs: int) -> Found:
    """Time both, to and fro."""
    ours = SharedPrefixLM(model, tokenizer, batch_size=OURS, max_length=LENGTH)
    assert ours.refusal is None, ours.refusal

    def theirs(size: int) -> HFLM:
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=size, max_length=LENGTH)

    # A fifth of the requests tell: they come in no order of length.
    few = asked[: -(-len(asked) // 5)]
    best = min(BATCHES, key=lambda size: timed(theirs(size), few)[0])
    both: dict[str, HFLM] = {"theirs": theirs(best), "ours": ours}
    seconds: dict[str, list[float]] = {key: [] for key in both}
    answers = {}
    for pair in range(pairs):
        for key in both if pair % 2 else reversed(both):
            took, answers[key] = timed(both[key], asked)
            seconds[key].append(took)
    ratio = paired_ratio(*({(0, i): t for i, t in enumerate(seconds[key])} for key in both))
    assert ratio is not None
    apart = max(
        abs(a - b) for (a, _), (b, _) in zip(answers["ours"], answers["theirs"], strict=True)
    )
    bound = computed(asked, ours) / needed(asked, ours)
    middle = {key: median(values) for key, values in seconds.items()}
    return Found(name, len(asked), bound, best, middle["theirs"], middle["ours"], ratio, apart)


def timed(lm: HFLM, asked: list[Any]) -> tuple[float, list[tuple[float, bool]]]:
    """Seconds for all requests, encoding included, and the answers."""
    synchronize: Callable[[], None] = (
        torch.cuda.synchronize if lm.device.type == "cuda" else lambda: None
    )
    synchronize()
    start = time.perf_counter()
    answers = lm.loglikelihood(asked, disable_tqdm=True)
    synchronize()
    return time.perf_counter() - start, answers


def computed(asked: list[Any], lm: HFLM) -> int:
    """Tokens lm-eval's model computes: what differs in its last token only is computed once."""
    return sum(map(len, {tuple(inputs) for inputs in _inputs(asked, lm)}))


def needed(asked: list[Any], lm: HFLM) -> int:
    """Distinct beginnings of the requests of each item."""
    beginnings = set()
    for request, inputs in zip(asked, _inputs(asked, lm), strict=True):
        beginnings |= {(request.doc_id, tuple(inputs[: i + 1])) for i in range(len(inputs))}
    return len(beginnings)


def _inputs(asked: list[Any], lm: HFLM) -> list[list[int]]:
    pairs = [lm._encode_pair(*request.args) for request in asked]
    return [[*context, *said][-(LENGTH + 1) :][:-1] for context, said in pairs]


def line(found: Found) -> str:
    """A row of the table."""
    low = "-" if found.ratio.low is None else f"{found.ratio.low:.2f}"
    return (
        f"| {found.task} | {found.requests} | {found.bound:.2f} | {found.theirs:.2f} s "
        f"({found.batch}) | {found.ours:.2f} s | {found.ratio.ratio:.2f} | {low} | "
        f"{found.ratio.ratio / found.bound:.2f} | {found.apart:.0e} |"
    )


if __name__ == "__main__":
    main()
