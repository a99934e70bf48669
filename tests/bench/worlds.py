"""A suite and a world for planning without models, data or versions of this machine."""

from __future__ import annotations

from pathlib import Path

from bench.sources import Source
from bench.suite import Suite, load_suite
from bench.tasks.data import LocalData
from bench.world import World

SUITE = """\
schema: 1
name: small
models: {lm: {source: org/lm}}
tasks:
  text: {task: perplexity, data: {builtin: pydoc_topics}, block: 128}
matrix:
  model: lm
  adapter_blocks: 2+2
  compression: [{method: layer_drop, keep: 4}, {method: layer_drop, keep: 2}]
  tuning: [{method: full}, {method: lora, rank: 4}]
  task: text
  seed: [0, 1, 2]
train: {learning_rate: 1.0e-3, max_steps: 60}
"""
LANGUAGE_SOURCE = Source(
    location="org/lm", digest="commit:org/lm@c0ffee", revision="c0ffee", depth=12, kind="language"
)
ENVIRONMENT = {
    "device": "cpu",
    "lm-eval": "0.4",
    "peft": "0.21",
    "timm": "1.0",
    "torch": "2.13",
    "transformers": "5.23",
}


def suite_of(folder: Path, text: str = SUITE, **options: object) -> Suite:
    """The suite of `text`, read from a file as users' suites are."""
    path = folder / "small.yaml"
    path.write_text(text)
    return load_suite(str(path), **options)  # type: ignore[arg-type]


def world(source: Source = LANGUAGE_SOURCE, **changes: str) -> World:
    """A world where everything is known."""
    return World(
        sources={"lm": source},
        data={"text": LocalData({}, "0" * 64)},
        environment={**ENVIRONMENT, **changes},
    )
