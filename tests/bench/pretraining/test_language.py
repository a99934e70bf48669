"""The recipe of the shipped language model, in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from bench.pretraining.corpus import SOURCES
from bench.pretraining.language import LanguageRecipe, pretrain_language

SUITES = Path(__file__).parents[3] / "suites"


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
