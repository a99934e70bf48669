"""The next-token loss without logits is the usual one, with its gradients, for every model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from offsite import head_loss
from offsite.head_loss import IGNORED, next_token_loss, next_token_scores
from offsite.sandwich import all_blocks
from offsite.tuning import Tuning
from offsite.tuning_methods import SoftPrompt
from tests.fakes import LANGUAGE, VOCABULARY, tiny_model

LENGTH = 10


def batch() -> dict[str, Tensor]:
    """Two sequences; the second is padded, and a part of both is not scored."""
    ids = torch.randint(1, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    labels = ids.clone()
    labels[mask == 0] = IGNORED
    labels[0, :4] = IGNORED
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def usual_loss(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """As the libraries compute it: all logits, then a cross-entropy that ignores some."""
    logits = model(given["input_ids"], attention_mask=given["attention_mask"], use_cache=False)
    return nn.functional.cross_entropy(
        logits.logits[:, :-1].flatten(0, 1).float(),
        given["labels"][:, 1:].flatten(),
        ignore_index=IGNORED,
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """What each parameter got, and forget it."""
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("part", [256, 5])
@pytest.mark.parametrize("architecture", LANGUAGE)
def test_loss_and_gradients_are_the_usual_ones(architecture, part, monkeypatch):
    """In one part and in parts of five positions, head and embeddings trained too."""
    monkeypatch.setitem(head_loss.PART, "cpu", part)
    model, given = tiny_model(architecture), batch()
    expected = usual_loss(model, given)
    expected.backward()
    wanted = gradients(model)
    found = next_token_loss(model, **given)
    # What it is multiplied with reaches the gradients.
    (3 * found).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    got = gradients(model)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], 3 * gradient, rtol=1e-3, atol=2e-5, msg=name)


def test_positions_that_the_host_knows_are_those_with_a_label():
    """Given or looked up, the same positions count."""
    model, given = tiny_model("llama"), batch()
    scored = (given["labels"][:, 1:].flatten() != IGNORED).nonzero().flatten()
    with_them = next_token_loss(model, **given, scored=scored)
    assert torch.equal(with_them, next_token_loss(model, **given))


def test_the_head_computes_no_position_that_is_not_scored(monkeypatch):
    """Of 18 positions, 12 predict a token that counts."""
    model, seen = tiny_model("llama"), []
    real = head_loss._loss_and_gradients

    def spy(hidden: Tensor, *rest: object) -> object:
        seen.append(len(hidden))
        return real(hidden, *rest)

    monkeypatch.setattr(head_loss, "_loss_and_gradients", spy)
    next_token_loss(model, **batch())
    assert seen == [int((batch()["labels"][:, 1:] != IGNORED).sum())] == [12]


def test_nothing_is_differentiated_where_no_gradient_is_asked_for():
    """A checkpoint's score is the same number."""
    model, given = tiny_model("gpt2").eval(), batch()
    with torch.inference_mode():
        assert next_token_loss(model, **given).item() == pytest.approx(
            usual_loss(model, given).item(), rel=1e-5
        )


def test_a_model_has_its_head_again_after_an_error():
    """An interrupted forward pass leaves a whole model."""
    model = tiny_model("llama")
    head = model.lm_head
    with pytest.raises(IndexError):
        next_token_loss(model, **{**batch(), "input_ids": torch.full((2, LENGTH), 10**6)})
    assert model.lm_head is head


def test_bfloat16_is_near_float32():
    """Under autocast the products are in bfloat16 and the softmax is not."""
    model, given = tiny_model("llama").train(), batch()
    exact = next_token_loss(model, **given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = next_token_loss(model, **given)
        mixed.backward()
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(exact.item(), abs=0.02)


def test_a_soft_prompt_gets_its_gradient():
    """Hooks of the whole model, which move positions, still run."""
    model, given = tiny_model("llama").train(), batch()
    Tuning("soft_prompt", SoftPrompt(length=3)).attach(model, all_blocks(model))
    usual_loss(model, given).backward()
    wanted = gradients(model)
    next_token_loss(model, **given).backward()
    assert wanted.keys() == {"soft_prompt.weight"}
    torch.testing.assert_close(gradients(model)["soft_prompt.weight"], wanted["soft_prompt.weight"])


def test_a_very_sure_and_wrong_model_has_a_finite_loss():
    """A share of 0 has no logarithm; it is not needed."""
    hidden = torch.full((1, 4), 50.0, requires_grad=True)
    weight = torch.stack([torch.full((4,), 5.0), torch.full((4,), -5.0)])
    loss = head_loss._HeadLoss.apply(hidden, weight, None, torch.tensor([1]))
    assert loss.item() == pytest.approx(2000.0)


@pytest.mark.parametrize("part", [256, 3])
@pytest.mark.parametrize("architecture", LANGUAGE)
def test_scores_are_those_of_all_logits(architecture, part, monkeypatch):
    """Some positions are asked for several tokens, the likeliest among them, some for none."""
    monkeypatch.setitem(head_loss.PART, "cpu", part)
    model, ids = tiny_model(architecture).eval(), batch()["input_ids"]
    places = torch.tensor([4, 4, 0, 17, 9, 4])
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits.flatten(0, 1)[places].float()
        targets = torch.tensor([3, 5, 7, 9, 11, 0])
        targets[0], targets[3] = logits[0].argmax(), logits[3].argmax()
        scores, is_top = next_token_scores(model, {"input_ids": ids}, places, targets)
    expected = logits.log_softmax(1)[torch.arange(len(places)), targets]
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert is_top.tolist() == (logits.argmax(1) == targets).tolist()
    assert is_top[[0, 3]].all()
    assert not is_top.all()
