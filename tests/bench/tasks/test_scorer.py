"""Log-likelihoods are lm-eval's own, for every architecture, and contexts are computed once."""

from __future__ import annotations

from pathlib import Path
from types import MethodType

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from torch import nn
from transformers import AutoTokenizer

from bench.suite.task_files import SUITES
from bench.tasks.scorer import SharedPrefixLM, branching_refusal
from offsite.sandwich import all_blocks
from offsite.tuning import Tuning
from offsite.tuning_methods import Lora, SoftPrompt
from tests.fakes import LANGUAGE, VOCABULARY, tiny_model

LENGTH = 32
ONE_BY_ONE = {"bloom", "gemma2", "gemma3_text", "mistral"}
"""BLOOM counts positions by itself; the others have, in the fakes, windows of 4 tokens."""

Asked = tuple[None, list[int], list[int]]


@pytest.fixture(scope="module")
def tokenizer():
    """HFLM wants one, though it is asked for nothing here."""
    return AutoTokenizer.from_pretrained(Path(SUITES) / "models" / "tiny-lm")


def asked() -> list[Asked]:
    """Questions with choices of several lengths, one of them too long, some answered in a token."""
    draw = torch.Generator().manual_seed(5)

    def tokens(count: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (count,), generator=draw).tolist()

    requests: list[Asked] = []
    for length, choices in (
        (9, (3, 1, 4)),
        (5, (1, 1, 1, 1)),
        (12, (6, 2)),
        (40, (3, 5)),
        (1, (2,)),
    ):
        context = tokens(length)
        requests += [(None, context, tokens(count)) for count in choices]
    # The same answer after contexts that differ at their ends.
    start, said = tokens(6), tokens(3)
    return [*requests, *((None, [*start, *tokens(2)], said) for _ in range(2)), requests[0]]


def both(model: nn.Module, tokenizer, requests: list[Asked], batch_size: int = 3):
    """Our answers and lm-eval's."""
    given = {"batch_size": batch_size, "max_length": LENGTH}
    ours = SharedPrefixLM(model, tokenizer, **given)
    # By default its probabilities of 16-bit models are rounded to 16 bits: -4.1739 to -4.1875.
    exact = {"softmax_dtype": "float32"}
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, **given, **exact)
    return (
        ours._loglikelihood_tokens(requests, disable_tqdm=True),
        theirs._loglikelihood_tokens(requests, disable_tqdm=True),
    )


def assert_agree(ours, theirs, tolerance: float = 1e-4) -> None:
    """Log-likelihoods within a tolerance, greedy decoding the same."""
    for (one, top), (other, other_top) in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=tolerance)
        assert top == other_top


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_answers_are_lm_evals(architecture, tokenizer):
    """Truncated contexts, shared ones, answers of one token, equal requests."""
    assert_agree(*both(tiny_model(architecture).eval(), tokenizer, asked()))


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_which_architectures_share_contexts(architecture):
    """A model that cannot is scored sequence by sequence, and the reason is known."""
    refusal = branching_refusal(tiny_model(architecture).eval(), LENGTH)
    assert (refusal is not None) == (architecture in ONE_BY_ONE), refusal


def test_a_window_that_is_never_reached_is_no_reason(tokenizer):
    """Mistral's attention within 4096 tokens is all there is for a task of 32."""
    model = tiny_model("mistral").eval()
    model.config.sliding_window = LENGTH
    assert branching_refusal(model, LENGTH) is None
    assert_agree(*both(model, tokenizer, asked()))


def test_a_model_that_ignores_positions_is_found_out():
    """No error, other logits."""
    model = tiny_model("llama").eval()
    forward = model.forward

    def deaf(self, position_ids=None, **kwargs):
        return forward(**kwargs)

    model.forward = MethodType(deaf, model)
    assert "logits" in (branching_refusal(model, LENGTH) or "")


@pytest.mark.parametrize("tuning", ["lora", "soft_prompt"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_tuned_models_are_scored_as_lm_eval_does(architecture, tuning, tokenizer):
    """Also those with trained vectors before the tokens."""
    model = tiny_model(architecture)
    parameters = {"lora": Lora(rank=2, alpha=8), "soft_prompt": SoftPrompt(length=3)}[tuning]
    trained = Tuning(tuning, parameters).attach(model, all_blocks(model))
    with torch.no_grad():
        for parameter in (p for module in trained.values() for p in module.parameters()):
            if parameter.requires_grad:
                parameter.normal_(std=0.3)
    assert_agree(*both(model.eval(), tokenizer, asked()))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_answers_in_bfloat16_are_near_lm_evals(architecture, tokenizer):
    """Frozen weights of the paper's runs are 16 bits wide."""
    model = tiny_model(architecture).eval().bfloat16()
    ours, theirs = both(model, tokenizer, asked())
    for (one, _), (other, _) in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-2)


def test_a_context_is_computed_once(tokenizer):
    """Four choices of three tokens after a context of nine: 9 + 4 x 2 positions, not 4 x 11."""
    model = tiny_model("llama").eval()
    draw = torch.Generator().manual_seed(1)
    context = torch.randint(1, VOCABULARY, (9,), generator=draw).tolist()
    requests: list[Asked] = [(None, context, [i, i + 1, i + 2]) for i in (10, 20, 30, 40)]
    lm = SharedPrefixLM(model, tokenizer, batch_size=8, max_length=LENGTH)
    seen = []
    model.model.embed_tokens.register_forward_hook(
        lambda m, args, out: seen.append(args[0].numel())
    )
    lm._loglikelihood_tokens(requests)
    assert seen == [9 + 4 * 2]


def test_the_batch_does_not_matter(tokenizer):
    """One row at a time, and all at once."""
    model = tiny_model("qwen3").eval()
    one, _ = both(model, tokenizer, asked(), batch_size=1)
    many, _ = both(model, tokenizer, asked(), batch_size=64)
    assert_agree(one, many)
