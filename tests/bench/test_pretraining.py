"""The recipe of the shipped models and rows, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.pretraining import (
    SOURCES,
    STROKES,
    LanguageRecipe,
    VisionRecipe,
    docstrings,
    drawn_digits,
    drawn_pairs,
    main,
    pretrain_language,
    pretrain_vision,
    python_runs,
    read_corpus,
    source_files,
    topic_rows,
    word_runs,
)
from bench.tasks.builtin import digits_pair_sum, pydoc_topics

SUITES = Path(__file__).parents[2] / "suites"


def test_no_text_of_python_itself_is_in_the_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A package that copies a topic and a standard library docstring contributes neither."""
    import textwrap
    from pydoc_data.topics import topics

    own = "This sentence is the package's own and it is repeated with a number.\n" * 4
    texts = [topics["assert"], textwrap.__doc__ or "", textwrap.wrap.__doc__ or "", own]
    module = tmp_path / "copied.py"
    module.write_text("\n".join(f"def f{i}():\n    {text!r}" for i, text in enumerate(texts)))
    monkeypatch.setattr("bench.pretraining.source_files", lambda name: [module])
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


def test_the_shipped_model_names_every_source():
    """Versions and the corpus hash travel with the weights."""
    report = json.loads((SUITES / "models/tiny-lm/training.json").read_text())
    assert set(report["versions"]) == set(SOURCES)
    assert len(report["corpus_sha256"]) == 64


def test_a_pretrained_language_model_loads_like_any_other(tmp_path: Path):
    """Two steps on a few sentences leave a folder that `from_pretrained` reads."""
    from offsite.models import ensure_torchvision

    ensure_torchvision()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = LanguageRecipe(
        width=16, inner=32, heads=2, blocks=2, vocabulary=300, context=16, batch=2, steps=2
    )
    corpus = [f"Return x plus {number}, and warn where x is not a number." for number in range(400)]
    pretrain_language(tmp_path, recipe, corpus)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = tokenizer("def été(x): return 1", return_tensors="pt").input_ids
    assert tokenizer.decode(rows[0]) == "def été(x): return 1"
    assert torch.isfinite(model(input_ids=rows).logits).all()
    assert model.dtype == torch.bfloat16


def test_a_pretrained_vision_model_loads_through_timm(tmp_path: Path):
    """Two steps on drawn digits leave a folder that `timm.create_model` reads."""
    from offsite.models import ensure_torchvision

    ensure_torchvision()
    import timm

    pretrain_vision(
        tmp_path, VisionRecipe(width=16, heads=2, blocks=2, steps=2, batch=4, digits=50)
    )
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert model(torch.zeros(3, 1, 8, 16)).shape == (3, 19)


def test_drawn_digits_look_like_the_scanned_ones():
    """Same shape and range, every digit, and about as much ink."""
    images, digits = drawn_digits(2000, torch.Generator().manual_seed(0))
    assert images.shape == (2000, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(digits.tolist()) == set(STROKES)
    real = torch.from_numpy(digits_pair_sum()["validation"][0])
    assert images.mean().item() == pytest.approx(real.mean().item(), abs=0.06)


def test_a_drawn_pair_is_labelled_with_its_sum():
    """Left and right keep their place and the label adds them."""
    images = torch.arange(3.0)[:, None, None].expand(3, 8, 8)
    pairs, sums = drawn_pairs(images, torch.arange(3), 20, torch.Generator().manual_seed(0))
    assert pairs.shape == (20, 1, 8, 16)
    assert torch.equal(pairs[:, 0, 0, 0] + pairs[:, 0, 0, 8], sums.float())


def test_the_same_seed_draws_the_same_digits():
    """Drawing depends on the generator alone."""
    first, second = (drawn_digits(30, torch.Generator().manual_seed(7))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_the_right_choice_follows_its_question_in_the_text():
    """Each row's labelled choice, and no other, is what the text goes on with."""
    texts = pydoc_topics()["validation"]
    for row in topic_rows(texts, 40):
        follows = [any(f"{row['question']} {c}" in text for text in texts) for c in row["choices"]]
        assert follows.index(True) == row["label"]
        assert sum(follows) == 1


def test_every_passage_is_right_once_and_wrong_three_times():
    """The choices alone say nothing about the label."""
    rows = topic_rows(pydoc_topics()["test"], 100)
    right = [row["choices"][row["label"]] for row in rows]
    assert len(set(right)) == 100
    assert sorted(right * 4) == sorted(choice for row in rows for choice in row["choices"])
    assert {[row["label"] for row in rows].count(label) for label in range(4)} == {25}


def test_rows_are_written_per_split(tmp_path: Path):
    """The command writes what the shipped files hold: 600, 100 and 100 rows."""
    main(["rows", "--output", str(tmp_path)])
    counts = {path.stem: len(path.read_text().splitlines()) for path in tmp_path.iterdir()}
    assert counts == {"train": 600, "validation": 100, "test": 100}


def test_shipped_rows_share_no_question_between_splits():
    """The files in `suites/data` keep the split of the topics."""
    folder = SUITES / "data/topic_continuation"
    questions = {
        path.stem: {json.loads(line)["question"] for line in path.read_text().splitlines()}
        for path in folder.glob("*.jsonl")
    }
    assert set(questions) == {"train", "validation", "test"}
    assert sum(map(len, questions.values())) == len(set.union(*questions.values()))
