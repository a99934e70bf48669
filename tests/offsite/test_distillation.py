"""An emulator learns from the middle it stands in for, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from offsite.blocks import get_blocks
from offsite.compression.calibration import Calibration, Corpus, hidden_of
from offsite.compression.emulator import Emulator, compress, parameters_of
from offsite.compression.methods import Distill, Identity, LayerDrop
from offsite.compression.scale_ot import Harmonizer
from offsite.distillation import Lesson, distill, divergence, hidden_distance
from offsite.errors import BadLayout, OffsiteError
from offsite.sandwich import Sandwich, cut
from offsite.training import Batch
from tests.fakes import LANGUAGE, VISION, tiny_model, weights
from tests.offsite.corpora import loss_of, tiny_corpus

KD = Distill(corpus="tiny", steps=4, kd_weight=1, lm_weight=0, learning_rate=3e-3)
ALL = replace(KD, lm_weight=1, logit_weight=1, layerwise=True)


def lesson(sandwich: Sandwich, emulator: Emulator, parameters: Distill, corpus: Corpus) -> Lesson:
    """What is learnt, to look at its loss."""
    return Lesson(emulator, parameters, Calibration(sandwich, corpus))


def dropped(sandwich: Sandwich, *blocks: int) -> Emulator:
    """The middle with only some of its blocks."""
    return compress(sandwich, [("layer_drop", LayerDrop(blocks=blocks))])


def first_batch(corpus: Corpus) -> Batch:
    """One batch that training with seed 0 does not begin with."""
    return next(corpus.batches(8, 99))


def kd_by_reference(teacher: Tensor, student: Tensor) -> Tensor:
    """The authors' formula: over batch, positions and width, no mask."""
    rms = teacher.pow(2).mean().sqrt()
    return ((teacher - student) / rms).pow(2).mean()


def test_unmasked_the_distance_is_the_authors():
    """On random tensors; in float32 also where the states are not."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn((2, 5, 7), generator=generator) + 1 for _ in range(2))
    everywhere = torch.ones(2, 5, dtype=torch.bool)
    found = hidden_distance(teacher, student, everywhere)
    torch.testing.assert_close(found, kd_by_reference(teacher, student))
    half = hidden_distance(teacher.bfloat16(), student.bfloat16(), everywhere)
    expected = kd_by_reference(teacher.bfloat16().float(), student.bfloat16().float())
    torch.testing.assert_close(half, expected)
    assert half.dtype == torch.float32


def test_padding_is_in_neither_mean():
    """The same as the formula on the real positions alone, even where padding is NaN."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn((2, 5, 7), generator=generator) for _ in range(2))
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    expected = kd_by_reference(teacher[mask], student[mask])
    teacher[1, 3], student[1, 4] = torch.nan, 1e9
    torch.testing.assert_close(hidden_distance(teacher, student, mask), expected)


def test_the_divergence_of_known_distributions():
    """KL((1/2, 1/2) || (1/4, 3/4)) = ln(2) - ln(3) / 2, in the one row that counts."""
    teacher = torch.zeros(1, 2, 2)
    student = torch.tensor([[[1.0, 3.0], [1e4, 0.0]]]).log()
    found = divergence(teacher, student, torch.tensor([[True, False]]))
    torch.testing.assert_close(found, torch.tensor(2.0).log() - torch.tensor(3.0).log() / 2)
    assert float(divergence(student[:, 0], student[:, 0], torch.tensor([True]))) == 0


def state_behind(model: nn.Module, position: int, batch: Batch) -> Tensor:
    """Hidden states that leave a block of the model."""
    seen = []
    hook = get_blocks(model)[position].register_forward_hook(
        lambda _, __, output: seen.append(hidden_of(output))
    )
    loss_of(model, batch)
    hook.remove()
    return seen[0]


def run_through(model: nn.Module, positions: list[int], batch: Batch) -> dict[int, Tensor]:
    """Hidden states behind each of the blocks at `positions`, the only ones that run."""
    from offsite.blocks import with_blocks

    blocks = [get_blocks(model)[position] for position in positions]
    view = with_blocks(model, blocks, origins=positions, renumber=False)
    return {position: state_behind(view, i, batch) for i, position in enumerate(positions)}


@torch.no_grad()
def test_the_student_is_compared_at_the_end_of_the_middle():
    """Weights multiply their terms; the states are those of two runs of the whole model."""
    sandwich = cut(tiny_model("opt"), bottom=1, top=1)
    corpus = tiny_corpus("opt")
    batch = first_batch(corpus)
    emulator = dropped(sandwich, 0, 2)
    teacher = state_behind(sandwich.model, 4, batch)
    student = run_through(sandwich.model, [0, 1, 3], batch)[3]
    mask = batch.inputs["attention_mask"].bool()
    kd = kd_by_reference(teacher[mask], student[mask])
    found = lesson(sandwich, emulator, replace(KD, kd_weight=30), corpus).loss(batch)
    torch.testing.assert_close(found, 30 * kd)
    given = lesson(sandwich, emulator, replace(KD, lm_weight=2), corpus)
    lm = given.calibration.loss(emulator, batch)
    torch.testing.assert_close(given.loss(batch), 2 * lm + kd)


@torch.no_grad()
def test_layerwise_a_block_answers_for_those_dropped_behind_it():
    """Of middle blocks 1 2 3 4 keep 1 and 3: compare 1 with the teacher's 2, and 3 with its 4."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    corpus = tiny_corpus("llama")
    batch = first_batch(corpus)
    given = lesson(sandwich, dropped(sandwich, 0, 2), replace(KD, layerwise=True), corpus)
    assert given.pairs() == [(1, 2), (3, 4)]
    student = run_through(sandwich.model, [0, 1, 3], batch)
    mask = batch.inputs["attention_mask"].bool()
    distances = [
        kd_by_reference(state_behind(sandwich.model, theirs, batch)[mask], student[ours][mask])
        for ours, theirs in given.pairs()
    ]
    torch.testing.assert_close(given.loss(batch), torch.stack(distances).mean())


def test_scattered_adapter_blocks_are_places_to_compare_before():
    """Adapter blocks 0, 3, 4 and blocks 1, 5 kept: what enters 3 is what leaves the teacher's 2.

    Where the last middle block is dropped behind an adapter block, the student's last state is
    that adapter block's.
    """
    sandwich = cut(tiny_model("llama"), scattered=(0, 3, 4))
    corpus = tiny_corpus("llama")
    layerwise = replace(KD, layerwise=True)
    assert lesson(sandwich, dropped(sandwich, 0, 2), layerwise, corpus).pairs() == [(1, 2), (5, 5)]
    assert lesson(sandwich, dropped(sandwich, 0), layerwise, corpus).pairs() == [(1, 2), (4, 5)]
    trained = distill(dropped(sandwich, 0), layerwise, Calibration(sandwich, corpus))
    assert trained.layer_map == (0,)


@torch.no_grad()
def test_logits_are_compared_over_real_tokens():
    """The weight multiplies the mean divergence of the two complete models."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    corpus = tiny_corpus("gpt2")
    batch = first_batch(corpus)
    emulator = dropped(sandwich, 1)
    parameters = replace(KD, kd_weight=0, logit_weight=3)
    given = lesson(sandwich, emulator, parameters, corpus)
    inputs = {"input_ids": batch.inputs["ids"], "attention_mask": batch.inputs["attention_mask"]}
    logits = [
        model(**inputs, use_cache=False).logits[inputs["attention_mask"].bool()]
        for model in (sandwich.model, given.calibration.view(emulator))
    ]
    log_t, log_s = (each.log_softmax(-1) for each in logits)
    expected = (log_t.exp() * (log_t - log_s)).sum(-1).mean()
    torch.testing.assert_close(given.loss(batch), 3 * expected)


@torch.no_grad()
@pytest.mark.parametrize("architecture", LANGUAGE)
def test_padding_changes_no_term(architecture):
    """The same samples among more padding have the same loss, all terms in it."""
    sandwich = cut(tiny_model(architecture), bottom=1, top=1)
    emulator = dropped(sandwich, 0, 2)
    losses = []
    for padding in (0, 6):
        corpus = tiny_corpus(architecture, padding)
        losses.append(lesson(sandwich, emulator, ALL, corpus).loss(first_batch(corpus)))
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "teacher", "student"),
    [
        # How often the owner's middle, top adapter block and head run; the student's blocks,
        # and the complete student.
        ({"kd_weight": 0, "lm_weight": 1}, (0, 0), (1, 1)),
        ({"kd_weight": 1, "lm_weight": 0}, (1, 0), (1, 0)),
        ({"kd_weight": 1, "lm_weight": 1}, (1, 0), (1, 1)),
        ({"kd_weight": 0, "lm_weight": 0, "logit_weight": 1}, (1, 1), (1, 1)),
        ({"kd_weight": 1, "lm_weight": 0, "logit_weight": 1, "layerwise": True}, (1, 1), (1, 1)),
    ],
)
def test_nothing_runs_that_no_weight_needs(changes, teacher, student):
    """Per step; a run that is not needed would be in every measured second."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = dropped(sandwich, 0, 2)
    corpus = tiny_corpus("llama")
    given = lesson(sandwich, emulator, replace(KD, **changes), corpus)
    counts = {"middle": 0, "emulator": 0, "top": 0}

    def count(name: str, block: nn.Module) -> None:
        def note(*_: object) -> None:
            counts[name] += 1

        block.register_forward_pre_hook(note)

    count("middle", sandwich.middle[-1])
    count("emulator", emulator.blocks[-1])
    count("top", sandwich.blocks[-1])
    given.loss(first_batch(corpus))
    assert counts == {
        "middle": teacher[0],
        "emulator": student[0],
        "top": teacher[1] + student[1],
    }


@pytest.mark.parametrize("architecture", LANGUAGE + VISION)
def test_every_architecture_learns(architecture):
    """A few steps bring the hidden states nearer, on data that was not trained on."""
    sandwich = cut(tiny_model(architecture), bottom=1, top=1)
    corpus = tiny_corpus(architecture)
    slowly = replace(KD, steps=12, learning_rate=1e-3)
    steps = [("layer_drop", LayerDrop(keep=2)), ("distill", slowly)]
    before, after = (compress(sandwich, steps[:count], {"tiny": corpus}) for count in (1, 2))
    assert after.layer_map == before.layer_map
    batch = first_batch(corpus)
    with torch.no_grad():
        untaught, taught = (
            float(lesson(sandwich, each, KD, corpus).loss(batch)) for each in (before, after)
        )
    assert taught < 0.8 * untaught


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["gemma2", "gpt2", "opt", "timm"])
def test_weights_are_trained_in_float32_and_stored_as_they_were(architecture, dtype, precision):
    """Steps too small for bfloat16 add up, in a model of either type, with every term."""
    sandwich = cut(tiny_model(architecture).to(dtype), bottom=1, top=1)
    emulator = dropped(sandwich, 0, 2)
    source = tiny_corpus(architecture)
    seen: set[torch.dtype] = set()

    def draw(batch_size, seed):
        for batch in source.batches(batch_size, seed):
            images = {k: v.to(dtype) for k, v in batch.inputs.items() if k == "images"}
            yield replace(batch, inputs=batch.inputs | images)

    def spy(model, batch):
        seen.update(p.dtype for p in get_blocks(model)[1].parameters() if p.requires_grad)
        return loss_of(model, batch)

    parameters = replace(ALL, precision=precision, steps=2)
    corpus = Corpus(draw, spy)
    trained = distill(emulator, parameters, Calibration(sandwich, corpus))
    assert seen == {torch.float32}
    assert {t.dtype for t in trained.tensors()} == {dtype}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in trained.blocks.modules())
    changed = [
        not torch.equal(a, b)
        for a, b in zip(emulator.tensors(), trained.tensors(), strict=True)
        if a.dim() > 1
    ]
    assert all(changed)


@pytest.mark.parametrize("parameters", [KD, ALL])
def test_the_owners_model_and_the_given_emulator_stay_as_they_are(parameters):
    """Weights, gradients, flags, modes and hooks; and nothing is shared with the result."""
    model = tiny_model("gpt2").train()
    get_blocks(model)[2].requires_grad_(False)
    sandwich = cut(model, bottom=1, top=1)
    given = Emulator(nn.ModuleList(sandwich.middle), (0, 1, 2, 3), None)
    before = weights(model)
    flags = [p.requires_grad for p in model.parameters()]
    result = distill(given, parameters, Calibration(sandwich, tiny_corpus("gpt2")))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in [*model.parameters(), *result.blocks.parameters()])
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in result.blocks.modules())
    assert not any(p._backward_hooks for p in result.blocks.parameters())
    owned = {p.data_ptr() for p in model.parameters()}
    assert not owned & {p.data_ptr() for p in result.blocks.parameters()}
    assert not any(p.requires_grad for p in result.blocks[1].parameters())


def test_nothing_is_dropped_out_of_student_or_teacher():
    """An identity emulator has no distance to the middle, in training too, and learns nothing."""
    sandwich = cut(tiny_model("gpt2").train(), bottom=1, top=1)
    corpus = tiny_corpus("gpt2")
    same = compress(sandwich, [("identity", Identity())])
    taught = distill(same, KD, Calibration(sandwich, corpus))
    for left, right in zip(same.tensors(), taught.tensors(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_the_same_seed_gives_the_same_weights():
    """And another seed, another order of the data and so others."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = dropped(sandwich, 0, 2)
    corpus = tiny_corpus("llama")
    first, again, other = (
        list(distill(emulator, replace(KD, seed=seed), Calibration(sandwich, corpus)).tensors())
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_pruned_weights_stay_zero():
    """Exactly those; all others of the matrix learn, and weight decay changes nothing."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    steps = [parameters_of({"method": "magnitude_prune", "ratio": 0.5})]
    pruned = compress(sandwich, steps)
    taught = distill(
        pruned, replace(KD, weight_decay=0.1), Calibration(sandwich, tiny_corpus("llama"))
    )
    for before, after in zip(pruned.tensors(), taught.tensors(), strict=True):
        if before.dim() > 1:
            assert torch.equal(before == 0, after == 0)
            assert not bool((before == after)[before != 0].all())


def test_shared_blocks_stay_shared():
    """CRaSh's tied blocks learn as one, and are stored as one."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    corpora = {"tiny": tiny_corpus("llama")}
    steps = [parameters_of({"method": "crash", "keep": 1, "corpus": "tiny", "samples": 8})]
    shared = compress(sandwich, steps, corpora)
    taught = compress(sandwich, [*steps, ("distill", KD)], corpora)
    assert taught.stored_bytes == shared.stored_bytes
    assert taught.blocks[0].mlp.up_proj.weight is taught.blocks[3].mlp.up_proj.weight
    assert not torch.equal(taught.blocks[0].mlp.up_proj.weight, shared.blocks[0].mlp.up_proj.weight)


def test_a_harmonizer_that_begins_at_zero_learns():
    """Its second matrix is zero, but nobody pruned it."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = dropped(sandwich, 0, 1)
    harmonizer = Harmonizer(32, 4, layer_idx=1)
    nn.init.zeros_(harmonizer.up.weight)
    emulator.blocks[1] = harmonizer
    taught = distill(emulator, KD, Calibration(sandwich, tiny_corpus("llama")))
    assert bool(taught.blocks[1].up.weight.all())


def test_factors_learn():
    """Low-rank modules are trained as factors and stay factors."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    factored = compress(sandwich, [parameters_of({"method": "low_rank", "keep": 0.5})])
    taught = distill(factored, KD, Calibration(sandwich, tiny_corpus("llama")))
    pairs = zip(factored.tensors(), taught.tensors(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs if a.dim() > 1)


def test_packed_weights_are_refused():
    """In one line that says which order works."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    steps = [parameters_of({"method": "quantize", "bits": 4}), ("distill", KD)]
    with pytest.raises(OffsiteError, match="distill before quantize"):
        compress(sandwich, steps, {"tiny": tiny_corpus("llama")})


def test_a_layerwise_distance_without_weight_is_refused():
    """It would be left out without a word."""
    with pytest.raises(BadLayout, match="kd_weight"):
        Distill(corpus="tiny", steps=1, kd_weight=0, layerwise=True)
