"""No stage of a run tokenises a text that the check of its tasks has tokenised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports.record import SETTINGS
from tests.bench.command import ROOT, environment

DATA = ROOT / "tests" / "data"
TASKS = ("text", "choices", "pages", "shown")
SUITE = f"""\
schema: 1
name: once
models: {{lm: {{source: "{ROOT}/suites/models/tiny-lm"}}}}
tasks:
  text:
    task: perplexity
    block: 32
    data: {{train: "{DATA}/lessons.jsonl", test: "{DATA}/lessons.jsonl"}}
  choices:
    task: multiple_choice
    length: 64
    data: {{train: "{DATA}/choices.jsonl", test: "{DATA}/choices.jsonl"}}
  pages:
    task: lm_eval
    id: wikitext
    length: 64
    data: {{train: "{DATA}/tasks/wikitext.jsonl", test: "{DATA}/tasks/wikitext.jsonl"}}
  shown:
    task: lm_eval
    id: piqa
    fewshot: 1
    length: 96
    data: {{train: "{DATA}/tasks/piqa.jsonl", validation: "{DATA}/tasks/piqa.jsonl"}}
matrix:
  model: lm
  adapter_blocks: 2+2
  compression: {{method: layer_drop, keep: 4, distill: {{corpus: text, steps: 1}}}}
  tuning: {{method: full}}
  task: [{", ".join(TASKS)}]
  seed: 0
train: {{max_steps: 1, batch_size: 2}}
overrides: [{{when: {{task: choices}}, evaluate: {{examples: 7}}}}]
"""
IN_THIS_PROCESS = """
import json, sys
from pathlib import Path
from transformers.tokenization_utils_tokenizers import TokenizersBackend
from bench import cli, worker
from bench.executors import local

texts = []
encode = TokenizersBackend._encode_plus

def counted(self, text, *args, **kwargs):
    texts.extend([text] if isinstance(text, str) else text)
    return encode(self, text, *args, **kwargs)

def run(self, results, plan, stage, log):
    texts.clear()
    status = worker.main([str(results), plan, stage])
    with open("counts.jsonl", "a") as stream:
        print(json.dumps({"stage": stage, "texts": len(texts)}), file=stream)
    return status

TokenizersBackend._encode_plus = counted
local.LocalExecutor.run = run
sys.exit(cli.call(["run", "once.yaml", "--results", "r"]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose stages share one process, with the texts that reached a tokenizer counted."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "once.yaml").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-c", IN_THIS_PROCESS],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_five_settings_of_a_case_tokenise_nothing(folder):
    """The check has: the train split, the scored one and any subset of it, and the corpus."""
    counts = [json.loads(line) for line in (folder / "counts.jsonl").read_text().splitlines()]
    assert counts[0]["stage"] == "tasks"
    assert counts[0]["texts"] > 0
    stages = {each["stage"]: each["texts"] for each in counts[1:]}
    (plan,) = (folder / "r" / "plans").glob("*.json")
    planned = {stage["digest"]: stage for stage in json.loads(plan.read_text())["stages"]}
    assert stages == dict.fromkeys(planned, 0)
    evaluated = {s["params"]["setting"] for s in planned.values() if s["kind"] == "evaluate"}
    assert evaluated == set(SETTINGS)
    assert {s["labels"]["task"] for s in planned.values()} == {"", *TASKS}
