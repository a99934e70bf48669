"""What a compression gets to see of the owner's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from offsite.compression.calibration import Calibration, Corpus, refuse_float16, scored
from offsite.errors import OffsiteError
from offsite.sandwich import cut
from offsite.training import Batch
from tests.fakes import tiny_model
from tests.offsite.corpora import calibration, loss_of, tiny_corpus


def test_as_many_samples_are_seen_as_are_asked_for():
    """The last batch is cut: the number is part of what the emulator is called."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    batches = calibration(sandwich, "llama").batches(11, 0)
    assert [batch.samples for batch in batches] == [8, 3]
    assert [len(batch.inputs["ids"]) for batch in batches] == [8, 3]
    assert batches[1].tokens_real == int(batches[1].inputs["attention_mask"].sum())


def test_no_sample_is_seen_twice():
    """A corpus that has fewer than are asked for gives all it has, once."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    corpus = replace(tiny_corpus("llama"), samples=5)
    batches = Calibration(sandwich, corpus).batches(512, 0)
    assert sum(batch.samples for batch in batches) == 5


def test_a_corpus_that_ends_is_refused():
    """An emulator made from less would have the name of one made from all."""

    def nothing(batch_size: int, seed: int) -> Iterator[Batch]:
        yield from ()

    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    with pytest.raises(OffsiteError, match="ends 4 samples before the 4 asked for"):
        Calibration(sandwich, Corpus(nothing, loss_of)).batches(4, 0)


def test_the_terms_of_a_mean_loss_are_counted():
    """Labelled tokens that something predicts, samples of a classification, or all real tokens."""
    labels = torch.tensor([[5, -100, 5, 5], [-100, -100, 5, -100]])
    assert scored(Batch({"labels": labels}, 2, 8, 8)) == 3
    assert scored(Batch({"labels": torch.tensor([1, 2])}, 2)) == 2
    assert scored(Batch({"ids": labels}, 2, 7, 8)) == 7


def test_float16_is_refused_where_gradients_are_needed():
    """Small ones would become zero, and the emulator another one, without a word."""
    with pytest.raises(OffsiteError, match=r"distill needs gradients, .* bfloat16 or float32"):
        refuse_float16(tiny_model("gpt2").half(), "distill")
