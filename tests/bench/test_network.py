"""A model from the hub, as `facebook/opt-1.3b` would be used."""

from __future__ import annotations

import subprocess

import pytest

from tests.bench.command import START, environment
from tests.bench.test_end_to_end import RANDOM, exported, write_rows

pytestmark = pytest.mark.network


def test_a_hub_model_is_pinned_to_its_commit_and_runs(tmp_path):
    """The name is resolved to a full commit hash, and the whole line runs with its weights."""
    text = RANDOM.split("models:")[0] + "models: {lm: {source: sshleifer/tiny-gpt2}}\n"
    text += "tasks:" + RANDOM.split("tasks:")[1]
    (tmp_path / "hub.yaml").write_text(text.replace("2+1", "1+0"))
    write_rows(tmp_path)
    online = {**environment(), "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    command = [*START, "run", "hub.yaml", "--results", "r"]
    done = subprocess.run(
        command, cwd=tmp_path, env=online, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert exported(tmp_path / "r", tmp_path, "hub.yaml")
