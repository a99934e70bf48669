"""What README shows is what the project does."""

from __future__ import annotations

import re
from typing import Any

import torch

from tests.bench.command import ROOT

README = (ROOT / "README.md").read_text()


def test_the_library_example_runs_and_leaves_the_owner_unchanged(monkeypatch):
    """The code block is executed as it stands, from the project's folder."""
    monkeypatch.chdir(ROOT)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(code, names)
    ids = names["ids"]
    owner, served = names["owner"].model, names["served"]
    fresh = names["offsite"].load_model("suites/models/tiny-lm").model
    with torch.no_grad():
        assert torch.equal(owner(ids).logits, fresh(ids).logits)
        before = owner(ids, labels=ids).loss
        assert served(ids, labels=ids).loss < before


def test_the_verbs_in_readme_are_the_programs_own():
    """Every verb that is shown exists, and none is left out."""
    from bench.cli import app

    block = README.split("```text\n")[1].split("```")[0]
    shown = {line.replace("offsite-bench", "").split()[0] for line in block.splitlines()}
    known = {c.name or c.callback.__name__.rstrip("_") for c in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    assert shown == known


def test_the_suite_in_readme_is_valid(tmp_path):
    """Copied into a file beside its data, it plans."""
    from bench.suite import load_suite

    (tmp_path / "my.yaml").write_text(re.search(r"```yaml\n(.*?)```", README, re.DOTALL)[1])
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"text": "a"}\n')
    assert len(load_suite(str(tmp_path / "my.yaml")).cases()) == 18
