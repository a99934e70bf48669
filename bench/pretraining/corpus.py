"""The text the language model learns from: docstrings of installed packages, none of Python's."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

SOURCES = {
    "accelerate": "Apache-2.0",
    "datasets": "Apache-2.0",
    "huggingface_hub": "Apache-2.0",
    "joblib": "BSD-3-Clause",
    "matplotlib": "PSF-based (Matplotlib licence)",
    "networkx": "BSD-3-Clause",
    "nltk": "Apache-2.0",
    "numpy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "peft": "Apache-2.0",
    "pydantic": "MIT",
    "scikit-learn": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "timm": "Apache-2.0",
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
}
"""Distributions whose docstrings are the corpus, with the licence of their own code."""

VENDORED = frozenset(
    {"_external", "_extern", "_vendor", "_vendored", "externals", "extern", "vendor"}
)
"""Folders that hold other people's code under other licences."""

SHORTEST = 200
"""Characters. Shorter docstrings are mostly one-line restatements of a name."""

SHARED_WORDS = 13
"""Words in a row that count as the same text (the length GPT-3's authors used)."""


def read_corpus(names: Iterable[str], *, forbidden: frozenset[int]) -> list[str]:
    """Distinct long docstrings of the named distributions, in a fixed order."""
    seen: dict[str, None] = {}
    for name in sorted(names):
        for path in source_files(name):
            for text in docstrings(path):
                seen[text] = None
    return [text for text in seen if forbidden.isdisjoint(word_runs(text))]


def source_files(distribution: str) -> list[Path]:
    """The distribution's own Python files, sorted."""
    found = importlib.metadata.distribution(distribution)
    return sorted(
        Path(str(found.locate_file(file)))
        for file in found.files or []
        if file.suffix == ".py" and VENDORED.isdisjoint(file.parts)
    )


def docstrings(path: Path) -> Iterator[str]:
    """Cleaned docstrings of at least `SHORTEST` characters in one source file."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # written for another Python version
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        if text and len(text) >= SHORTEST:
            yield text


def word_runs(text: str) -> Iterator[int]:
    """A hash of every `SHARED_WORDS` consecutive words (layout does not matter)."""
    words = text.split()
    for start in range(len(words) - SHARED_WORDS + 1):
        yield hash(tuple(words[start : start + SHARED_WORDS]))


def python_runs() -> frozenset[int]:
    """The word runs of the standard library's docstrings and of `pydoc_data.topics`."""
    from pydoc_data.topics import topics

    library = Path(sysconfig.get_path("stdlib"))
    files = (p for p in library.rglob("*.py") if not {"site-packages", "test"} & set(p.parts))
    texts = [text for path in files for text in docstrings(path)]
    return frozenset(run for text in [*texts, *topics.values()] for run in word_runs(text))


def sha256(texts: Iterable[str]) -> str:
    """One hash over texts and their boundaries."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def is_held_out(text: str) -> bool:
    """About one docstring in 128 is only ever used to report the loss."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] < 2
