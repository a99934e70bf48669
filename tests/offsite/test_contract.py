"""The contract: every architecture, compression and tuning goes the whole way.

Cut, compress, send through disk, tune one step, send back through disk, plug in, generate or
predict. The ordinary run covers every pair of the three; `slow` covers every triple.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from offsite.compression.calibration import Corpus
from offsite.compression.emulator import Emulator, compress, parameters_of
from offsite.compression.methods import METHODS
from offsite.errors import OffsiteError
from offsite.models import Foundation, load_model, save_model
from offsite.sandwich import Sandwich, adapter_blocks, cut, plug_in, view, with_emulator
from offsite.training import Recipe, train
from offsite.tuning import keep_masters, tuning_from
from offsite.tuning_methods import METHODS as TUNINGS
from tests.fakes import (
    LANGUAGE,
    TIMM,
    VISION,
    run_model,
    tiny_batch,
    tiny_loss,
    tiny_model,
    weights,
)

ARCHITECTURES = [*LANGUAGE, *VISION]
CORPUS = {"corpus": "text", "samples": 4}
COMPRESSIONS: dict[str, list[dict[str, Any]]] = {
    "angular": [{"method": "angular", "keep": 2, **CORPUS}],
    "block_influence": [{"method": "block_influence", "keep": 2, **CORPUS}],
    "crash": [{"method": "crash", "keep": 2, **CORPUS}],
    "crash-unshared": [{"method": "crash", "keep": 2, "share": False, **CORPUS}],
    "distill": [
        {"method": "layer_drop", "keep": 2},
        {"method": "distill", "corpus": "text", "steps": 2},
    ],
    "ffn_prune": [{"method": "ffn_prune", "ratio": 0.5}],
    "grad_ot": [{"method": "grad_ot", **CORPUS}],
    "identity": [{"method": "identity"}],
    "layer_drop": [{"method": "layer_drop", "keep": 2}],
    "layer_drop-named": [{"method": "layer_drop", "blocks": [1]}],
    "layer_drop-random": [{"method": "layer_drop", "keep": 2, "choose": "random"}],
    "layer_drop-quantize": [{"method": "layer_drop", "keep": 2}, {"method": "quantize"}],
    "low_rank": [{"method": "low_rank", "keep": 0.5}],
    "low_rank-activations": [{"method": "low_rank", "keep": 0.5, **CORPUS}],
    "low_rank-attention": [{"method": "low_rank", "keep": 0.5, "only": "attention"}],
    "magnitude_prune": [{"method": "magnitude_prune", "ratio": 0.5}],
    "n_m": [{"method": "n_m"}],
    "paper-rtn": [{"method": "paper-rtn", "bits": 4}],
    "perplexity_greedy": [{"method": "perplexity_greedy", "keep": 2, **CORPUS}],
    "quantize": [{"method": "quantize", "bits": 3, "group": 16}],
    "quantize-int8": [{"method": "quantize", "format": "int8"}],
    "quantize-nf4": [{"method": "quantize", "format": "nf4"}],
    "random_init": [{"method": "random_init"}],
    "scale_ot": [
        {"method": "scale_ot", "corpus": "text", "steps": 2, "rank": 4, "attention_keep": 0.5}
    ],
    "scale_ot-layer_drop": [
        {"method": "scale_ot", "corpus": "text", "steps": 1, "rank": 4},
        {"method": "layer_drop", "keep": 2},
    ],
    "wanda": [{"method": "wanda", **CORPUS}],
}
"""Every method of the table, and its variants that run other code."""
NO_BIASES = ["gemma2", "gemma3_text", "llama", "mistral", "olmo2", "phi3", "qwen3"]
REFUSED = [
    *((architecture, "bitfit", "biases") for architecture in NO_BIASES),
    *((architecture, "soft_prompt", "token embeddings") for architecture in VISION),
]
"""Architecture and tuning that do not go together, and a word of the sentence that says why."""
Row = tuple[str, str, str]


def fits(architecture: str, tuning: str) -> bool:
    """Whether the tuning is meant to work on the architecture."""
    return not any((architecture, tuning) == (a, t) for a, t, _ in REFUSED)


def pairwise_rows() -> list[Row]:
    """One row for each architecture and compression, its tuning chosen to cover new pairs."""
    covered: set[tuple[str, str]] = set()
    rows = []
    for number, (architecture, compression) in enumerate(product(ARCHITECTURES, COMPRESSIONS)):
        tunings = [tuning for tuning in TUNINGS if fits(architecture, tuning)]
        # Turned, so that equally good choices take turns.
        turned = tunings[number % len(tunings) :] + tunings[: number % len(tunings)]
        pairs = {t: {(architecture, t), (compression, t)} for t in turned}
        news = {tuning: len(each - covered) for tuning, each in pairs.items()}
        tuning = max(turned, key=news.__getitem__)
        covered |= pairs[tuning]
        rows.append((architecture, compression, tuning))
    return rows


def test_the_rows_cover_every_pair_that_is_meant_to_work():
    """Architecture with compression, architecture with tuning, compression with tuning."""
    rows = pairwise_rows()
    assert {(a, c) for a, c, _ in rows} == set(product(ARCHITECTURES, COMPRESSIONS))
    wanted = {(a, t) for a, t in product(ARCHITECTURES, TUNINGS) if fits(a, t)}
    assert {(a, t) for a, _, t in rows} == wanted
    assert {(c, t) for _, c, t in rows} == set(product(COMPRESSIONS, TUNINGS))
    assert {step["method"] for steps in COMPRESSIONS.values() for step in steps} == set(METHODS)


@pytest.mark.parametrize("row", pairwise_rows(), ids="-".join)
def test_every_pair_goes_the_whole_way(row: Row, tmp_path: Path):
    """What one party writes the other reads, to the bit, and the owner's model stays as it is."""
    go_the_whole_way(*row, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_triple_goes_the_whole_way(architecture: str, compression: str, tmp_path: Path):
    """The full product."""
    for tuning in TUNINGS:
        if fits(architecture, tuning):
            go_the_whole_way(architecture, compression, tuning, tmp_path / tuning)


@pytest.mark.parametrize(("architecture", "tuning", "word"), REFUSED)
def test_what_is_not_meant_to_work_is_refused_with_the_reason(architecture, tuning, word):
    """One line, before anything is trained."""
    model = tiny_model(architecture)
    with pytest.raises(OffsiteError, match=word) as caught:
        tuning_from({"method": tuning}).attach(model, adapter_blocks(model, bottom=1, top=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "timm"])
@pytest.mark.parametrize("ends", [{"bottom": 2}, {"top": 2}, {"scattered": (0, 2, 5)}], ids=str)
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_adapter_blocks_may_lie_anywhere(architecture, ends, tuning, tmp_path):
    """At one end (Figure 3 of the paper) or scattered between the middle's blocks (CRaSh)."""
    owner = foundation(architecture)
    sandwich = cut(owner.model, **ends)
    go_through_disk(owner, sandwich, made(sandwich, "layer_drop"), tuning, tmp_path)


def test_with_the_identity_emulator_and_plug_in_are_the_same_model(tmp_path):
    """The control of controls: nothing was compressed, so nothing is lost."""
    owner = foundation("llama")
    sandwich = cut(owner.model, bottom=2, top=1)
    tuned, plugged = go_through_disk(owner, sandwich, made(sandwich, "identity"), "full", tmp_path)
    assert torch.equal(predict(tuned, "llama"), predict(plugged, "llama"))


def go_the_whole_way(architecture: str, compression: str, tuning: str, folder: Path) -> None:
    """One row of the contract."""
    owner = foundation(architecture)
    before = weights(owner.model)
    sandwich = cut(owner.model, bottom=2, top=1)
    emulator = made(sandwich, compression)
    assert_is_pure(owner.model, before, emulator)
    tuned, plugged = go_through_disk(owner, sandwich, emulator, tuning, folder)
    assert unchanged(owner.model, before)
    zero_shot = predict(owner.model, architecture)
    assert plugged_differs(predict(plugged, architecture), zero_shot)
    if architecture in LANGUAGE:
        for model in (tuned, plugged):
            assert_generates_the_same_with_a_cache(model, architecture)


def go_through_disk(
    owner: Foundation, sandwich: Sandwich, emulator: Emulator, method: str, folder: Path
) -> tuple[nn.Module, nn.Module]:
    """Send, tune one step, send back; returns the tuned emulator model and the plug-in."""
    kind = owner.model.contract_name
    save_model(replaced(owner, view(sandwich, emulator)), folder / "sent")
    sent = load_model(folder / "sent").model
    assert torch.equal(predict(sent, kind), predict(with_emulator(sandwich, emulator), kind))
    positions = sandwich.sent_positions(emulator)
    tuning = tuning_from({"method": method})
    torch.manual_seed(0)
    modules = tuning.attach(sent, adapter_blocks(sent, scattered=positions))
    keep_masters(modules)
    frozen = {n: p.clone() for n, p in sent.named_parameters() if not p.requires_grad}
    recipe = Recipe(learning_rate=1e-2, steps=1, schedule="constant")
    train(sent, [tiny_batch(kind)], recipe, loss_of=tiny_loss)
    now = dict(sent.named_parameters())
    assert all(torch.equal(now[name], before) for name, before in frozen.items())
    save_file(tuning.state(modules), folder / "tuned.safetensors")
    state = load_file(folder / "tuned.safetensors")
    again = load_model(folder / "sent").model
    torch.manual_seed(1)  # nothing drawn at random may survive the loading
    tuning.load(tuning.attach(again, adapter_blocks(again, scattered=positions)), state)
    assert torch.equal(predict(again.eval(), kind), predict(sent, kind))
    return again, named(plug_in(sandwich, tuning, state), kind)


def foundation(architecture: str) -> Foundation:
    """The owner's model of this test, with what saving it needs."""
    kind = "vision" if architecture in VISION else "language"
    config = TIMM.get(architecture)
    return Foundation(model=named(tiny_model(architecture), architecture), kind=kind,
                      timm_config=config)  # fmt: skip


def named(model: nn.Module, architecture: str) -> nn.Module:
    """The model, knowing which of the tiny ones it is."""
    model.contract_name = architecture  # type: ignore[assignment]
    return model


def replaced(owner: Foundation, model: nn.Module) -> Foundation:
    """The owner's foundation with another model."""
    return Foundation(model=model, kind=owner.kind, timm_config=owner.timm_config)


def made(sandwich: Sandwich, compression: str) -> Emulator:
    """The emulator of one of `COMPRESSIONS`."""
    kind = sandwich.model.contract_name

    def batches(batch_size: int, seed: int) -> Iterator[Any]:
        while True:
            yield tiny_batch(kind)

    steps = [parameters_of(step) for step in COMPRESSIONS[compression]]
    return compress(sandwich, steps, {"text": Corpus(batches, tiny_loss)})


def assert_is_pure(model: nn.Module, before: dict[str, Tensor], emulator: Emulator) -> None:
    """The owner's model is as it was, and the emulator has storage of its own."""
    assert unchanged(model, before)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    owned = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    # A view would drag the tensor it is cut from into the exported file.
    assert all(
        t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in emulator.tensors()
    )


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether every tensor is as it was."""
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[n], t) for n, t in before.items())


def plugged_differs(plugged: Tensor, zero_shot: Tensor) -> bool:
    """Whether tuning reached the plug-in, which still is about the same model."""
    return bool(plugged.isfinite().all()) and not torch.equal(plugged, zero_shot)


@torch.no_grad()
def predict(model: nn.Module, architecture: str) -> Tensor:
    """Logits of the fixed batch."""
    return run_model(model, tiny_batch(architecture))


@torch.no_grad()
def assert_generates_the_same_with_a_cache(model: nn.Module, architecture: str) -> None:
    """Blocks that were moved, shared or replaced keep their places in the cache."""
    ids = tiny_batch(architecture).inputs["ids"][:, :6]
    outputs = [
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=3,
            min_new_tokens=3,
            do_sample=False,
            use_cache=use_cache,
            output_logits=True,
            return_dict_in_generate=True,
        )
        for use_cache in (True, False)
    ]
    with_cache, without = (torch.stack(output.logits) for output in outputs)
    assert torch.allclose(with_cache, without, atol=1e-4)
