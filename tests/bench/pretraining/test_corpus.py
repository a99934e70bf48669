"""The corpus is the same every time, and nothing of Python itself is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.pretraining.corpus import docstrings, python_runs, read_corpus, source_files, word_runs


def test_no_text_of_python_itself_is_in_the_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A package that copies a topic and a standard library docstring contributes neither."""
    import textwrap
    from pydoc_data.topics import topics

    own = "This sentence is the package's own and it is repeated with a number.\n" * 4
    texts = [topics["assert"], textwrap.__doc__ or "", textwrap.wrap.__doc__ or "", own]
    module = tmp_path / "copied.py"
    module.write_text("\n".join(f"def f{i}():\n    {text!r}" for i, text in enumerate(texts)))
    monkeypatch.setattr("bench.pretraining.corpus.source_files", lambda name: [module])
    stdlib = Path(textwrap.__file__)
    forbidden = {run for text in topics.values() for run in word_runs(text)}
    forbidden |= {run for text in docstrings(stdlib) for run in word_runs(text)}
    assert read_corpus(["copied"], forbidden=frozenset(forbidden)) == [own.strip()]


@pytest.mark.slow
def test_python_runs_cover_the_standard_library():
    """What is left out holds the documentation of the library and the language reference."""
    from pydoc_data.topics import topics

    runs = python_runs()
    assert runs.issuperset(word_runs(topics["lambda"]))
    assert runs.issuperset(
        run for text in docstrings(Path(json.__file__)) for run in word_runs(text)
    )


def test_the_corpus_is_the_same_every_time_and_only_of_the_package_itself():
    """Files are sorted, docstrings distinct and long, and vendored folders are left out."""
    files = source_files("joblib")
    assert files == sorted(files)
    assert not [path for path in files if "externals" in path.parts]
    corpus = read_corpus(["joblib"], forbidden=frozenset())
    assert corpus == read_corpus(["joblib"], forbidden=frozenset())
    assert len(corpus) == len(set(corpus)) > 20
    assert min(map(len, corpus)) >= 200
