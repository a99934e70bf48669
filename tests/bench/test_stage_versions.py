"""A stage's code version is raised when its source changes."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import pytest

from bench.stages import KINDS

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "data" / "stage_sources.json"
HOW = (
    "the source of stage {kind!r} changed. If a result can change, raise its version in "
    "bench/stages/__init__.py. Then run `python tests/bench/test_stage_versions.py`, which "
    "writes the new hashes, and commit both."
)


def source_hash(kind: str) -> str:
    """Hash of a stage's code: comments, docstrings and layout are left out."""
    parts = []
    for name in KINDS[kind].sources:
        tree = ast.parse((ROOT / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [each for each in node.body if not is_text(each)]
        parts.append(ast.dump(tree))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_text(node: ast.stmt) -> bool:
    """A docstring, of a module, class, function or field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_stage_has_a_new_version_or_an_explanation(kind):
    """Reusing a record of other code would compare two programs as if they were one."""
    known = json.loads(GOLDEN.read_text())[kind]
    found = {"version": KINDS[kind].version, "sources": source_hash(kind)}
    assert found == known, HOW.format(kind=kind)


if __name__ == "__main__":
    content = {
        kind: {"version": row.version, "sources": source_hash(kind)} for kind, row in KINDS.items()
    }
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
