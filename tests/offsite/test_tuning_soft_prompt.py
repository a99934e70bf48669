"""A soft prompt stands before the tokens, and whoever calls the model sees nothing of it."""

from __future__ import annotations

import copy

import pytest
import torch

from offsite.sandwich import cut, plug_in
from offsite.training import Recipe, train
from offsite.tuning import Tuning, trainable, tuning_from
from tests.fakes import LANGUAGE, run_model, tiny_batch, tiny_loss, tiny_model, weights

LENGTH = 3


def prompted(architecture: str):
    """A model with a soft prompt, and the prompt's vectors."""
    model = tiny_model(architecture)
    trained = trainable(soft_prompt().attach(model, {}))
    assert trained.keys() == {"prompt.weight"}
    return model, trained["prompt.weight"]


def soft_prompt() -> Tuning:
    """With fewer vectors than tokens, so that one cannot pass for the other."""
    return tuning_from({"method": "soft_prompt", "length": LENGTH})


def ids_of(architecture: str) -> torch.Tensor:
    """Two samples of ten tokens."""
    return tiny_batch(architecture).inputs["ids"]


def by_hand(architecture: str, prompt: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the tokens, from the model as it comes and embeddings put together here."""
    model = tiny_model(architecture)
    embedded = model.get_input_embeddings()(ids)
    together = torch.cat([prompt.expand(len(ids), -1, -1), embedded], 1)
    return model(inputs_embeds=together, use_cache=False).logits[:, len(prompt) :]


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_logits_are_those_of_embeddings_behind_the_prompt(architecture):
    """However the ids are passed, and for as many positions as there are ids."""
    model, prompt = prompted(architecture)
    ids = ids_of(architecture)
    expected = by_hand(architecture, prompt, ids)
    assert torch.equal(model(ids).logits, expected)
    assert torch.equal(model(input_ids=ids, use_cache=False).logits, expected)
    # The head multiplies another number of rows here: the last bits may differ.
    torch.testing.assert_close(model(ids, logits_to_keep=1).logits, expected[:, -1:])
    whole = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    torch.testing.assert_close(whole, expected)
    assert not torch.allclose(expected, tiny_model(architecture)(ids).logits, atol=1e-3)


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_the_prompt_alone_trains(architecture):
    """It moves, and nothing else does."""
    model, _ = prompted(architecture)
    before = weights(model)
    recipe = Recipe(learning_rate=0.1, steps=1)
    train(model, [tiny_batch(architecture)], recipe, loss_of=tiny_loss)
    moved = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"soft_prompt.weight"}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", LANGUAGE)
def test_padding_changes_no_token(architecture, side):
    """A short sample beside a long one has the logits it has alone."""
    if side == "left" and getattr(tiny_model(architecture).config, "sliding_window", None):
        pytest.skip("padding takes up room in the window between prompt and tokens")
    model, _ = prompted(architecture)
    ids = ids_of(architecture)
    short = slice(4, 10) if side == "left" else slice(0, 6)
    mask = torch.zeros_like(ids)
    mask[0] = 1
    mask[1, short] = 1
    together = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    alone = [model(ids[:1]).logits[0], model(ids[1:, short]).logits[0]]
    torch.testing.assert_close(together[0], alone[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(together[1, short], alone[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_it_generates_the_same_with_and_without_a_cache(architecture):
    """The prompt is there once, at the start; the tokens are those of a loop by hand."""
    model, prompt = prompted(architecture)
    ids = ids_of(architecture)
    texts = [
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            do_sample=False,
            use_cache=cached,
            eos_token_id=None,
        )
        for cached in (True, False)
    ]
    expected = ids
    for _ in range(6):
        following = by_hand(architecture, prompt, expected)[:, -1:].argmax(-1)
        expected = torch.cat([expected, following], 1)
    assert torch.equal(texts[0], expected)
    assert torch.equal(texts[1], expected)


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_logits_in_pieces_are_those_in_one(architecture):
    """With a cache, masks and positions go on behind the prompt."""
    model, prompt = prompted(architecture)
    ids = ids_of(architecture)
    expected = by_hand(architecture, prompt, ids)
    for masked in (False, True):
        first = model(ids[:, :6], use_cache=True)
        pieces = [first.logits]
        for i in range(6, ids.shape[1]):
            mask = {"attention_mask": torch.ones_like(ids[:, : i + 1])} if masked else {}
            one = ids[:, i : i + 1]
            cache = first.past_key_values
            pieces.append(model(one, past_key_values=cache, use_cache=True, **mask).logits)
        torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_padded_samples_generate_what_they_generate_alone(architecture):
    """Left padding, as generation has it, with masks and positions that grow."""
    model, _ = prompted(architecture)
    ids = ids_of(architecture)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    together = model.generate(ids, attention_mask=mask, **settings)
    for row, start in ((0, 0), (1, 4)):
        own = ids[row : row + 1, start:]
        alone = model.generate(own, attention_mask=torch.ones_like(own), **settings)
        assert torch.equal(together[row, start:], alone[0])


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_given_positions_go_on_behind_the_prompt(architecture):
    """Positions of the caller are those of the tokens."""
    model, prompt = prompted(architecture)
    ids = ids_of(architecture)
    positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
    expected = by_hand(architecture, prompt, ids)
    assert torch.equal(model(ids, position_ids=positions).logits, expected)


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_the_owners_model_has_no_prompt(architecture):
    """Plugged in, it is the served model's alone."""
    owned = tiny_model(architecture)
    batch = tiny_batch(architecture)
    expected = run_model(owned, batch)
    state = {"prompt.weight": torch.randn(LENGTH, 32)}
    plugged = plug_in(cut(owned, bottom=1, top=1), soft_prompt(), state)
    assert not torch.equal(run_model(plugged, batch), expected)
    assert torch.equal(run_model(owned, batch), expected)
    assert not hasattr(owned, "soft_prompt")


def test_a_copy_of_the_model_runs_its_own_prompt():
    """Changing the original's does not reach the copy."""
    model, prompt = prompted("gpt2")
    ids = ids_of("gpt2")
    copied, expected = copy.deepcopy(model), model(ids).logits
    prompt.data += 1
    assert torch.equal(copied(ids).logits, expected)
    assert not torch.equal(model(ids).logits, expected)


def test_the_stages_generator_draws_the_start():
    """The same seed starts from the same vectors, and they are embeddings of tokens."""
    starts = []
    for seed in (1, 1, 2):
        model = tiny_model("gemma3_text")
        torch.manual_seed(seed)
        starts.append(soft_prompt().attach(model, {})["prompt"].weight)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    table = tiny_model("gemma3_text").get_input_embeddings()(torch.arange(64))
    assert all(any(torch.equal(vector, row) for row in table) for vector in starts[0])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"labels": torch.ones(2, 10, dtype=torch.long)}, "no labels"),
        ({"inputs_embeds": torch.ones(2, 10, 32)}, "no inputs_embeds"),
        ({"attention_mask": torch.ones(2, 1, 10, 10)}, r"shape \(samples, tokens\)"),
        ({"logits_to_keep": torch.tensor([1])}, "as a number"),
    ],
)
def test_what_would_be_off_by_the_prompt_is_refused(given, why):
    """Wrong positions would be a number like any other."""
    model, _ = prompted("gpt2")
    with pytest.raises(ValueError, match=why):
        model(input_ids=ids_of("gpt2"), **given)


@pytest.mark.parametrize("architecture", ["gpt2", "opt", "llama"])
def test_samples_that_leave_no_room_for_the_prompt_are_refused(architecture):
    """In one line that says how long they may be."""
    model, _ = prompted(architecture)
    model(torch.ones(1, 61, dtype=torch.long))
    with pytest.raises(ValueError, match=r"62 tokens and a soft prompt of 3 .* at most 61 tokens"):
        model(torch.ones(1, 62, dtype=torch.long))
