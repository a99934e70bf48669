"""Soft prompts (Lester et al., arXiv 2104.08691): trained vectors before the token embeddings.

They belong to no block. Two hooks of the model put them in and take their positions out of
the logits again, so that whoever calls the model sees nothing of them. The hooks find the
vectors in the model they are called with: a copy of the model runs its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offsite.errors import NothingToTrain
from offsite.tuning_methods import SoftPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.utils import ModelOutput

REFUSED = ("inputs_embeds", "labels")
"""Arguments whose positions we would have to guess."""


class Prompt(nn.Module):
    """The trained vectors; they start as the embeddings of random tokens."""

    def __init__(self, length: int, embeddings: nn.Embedding) -> None:
        super().__init__()
        ids = torch.randint(embeddings.num_embeddings, (length,))
        # Called, not indexed: Gemma's embeddings scale what they look up.
        with torch.no_grad():
            start = embeddings(ids.to(embeddings.weight.device))
        self.weight = nn.Parameter(start.float())


def attach_soft_prompt(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: SoftPrompt
) -> Mapping[str, nn.Module]:
    """Put trained vectors before the token embeddings of a causal language model."""
    assert not hasattr(model, "soft_prompt")
    prompt = Prompt(parameters.length, _token_embeddings(model))
    model.add_module("soft_prompt", prompt)
    model.register_forward_pre_hook(_prepend, with_kwargs=True)
    model.register_forward_hook(_line_up, with_kwargs=True)
    return {"prompt": prompt}


def _token_embeddings(model: nn.Module) -> nn.Embedding:
    try:
        embeddings = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        embeddings = None
    if not isinstance(embeddings, nn.Embedding):
        raise NothingToTrain(
            "tuning 'soft_prompt' trains vectors before token embeddings, and "
            f"{type(model).__name__} has none; full, lora, dora, ia3 or bottleneck would work"
        )
    return embeddings


def _prepend(
    model: PreTrainedModel, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[()], dict[str, Any]]:
    """Pass embeddings with the prompt in front; later calls with a cache find it there."""
    names = inspect.signature(model.forward).parameters
    inputs = dict(zip(names, args, strict=False)) | kwargs
    _check(inputs)
    prompt: Tensor = model.soft_prompt.weight
    cache = inputs.get("past_key_values")
    seen = 0 if cache is None else cache.get_seq_length()
    ids: Tensor = inputs["input_ids"]
    new = ids.shape[1] + (0 if seen else len(prompt))
    _check_positions(model, seen + new, len(prompt))
    if not seen:
        embedded = model.get_input_embeddings()(ids)
        vectors = prompt.to(embedded.dtype).expand(len(ids), -1, -1)
        inputs["input_ids"] = None
        inputs["inputs_embeds"] = torch.cat([vectors, embedded], dim=1)
    mask = inputs.get("attention_mask")
    if mask is not None:
        mask = inputs["attention_mask"] = _after_ones(mask, len(prompt))
    positions = inputs.get("position_ids")
    if positions is not None:
        inputs["position_ids"] = _shifted(positions, len(prompt), starts=not seen)
    elif mask is not None and "position_ids" in names:
        # Padding on the left stands between prompt and tokens: it must not count.
        inputs["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -new:]
    return (), inputs


def _line_up(
    model: PreTrainedModel, args: object, kwargs: dict[str, Any], output: ModelOutput
) -> ModelOutput:
    """Drop the logits of the prompt, so that logits and input ids have the same positions."""
    embedded = kwargs.get("inputs_embeds")
    if embedded is not None:
        tokens = embedded.shape[1] - len(model.soft_prompt.weight)
        # Fewer logits than tokens come where the caller asked for the last ones alone.
        output.logits = output.logits[:, -tokens:]
    return output


def _check(inputs: Mapping[str, Any]) -> None:
    for name in REFUSED:
        if inputs.get(name) is not None:
            raise ValueError(f"a model with a soft prompt takes input_ids, and no {name}")
    mask = inputs.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
        raise ValueError(
            "a model with a soft prompt takes attention masks of shape (samples, tokens)"
        )
    if isinstance(inputs.get("logits_to_keep"), Tensor):
        raise ValueError("a model with a soft prompt takes logits_to_keep as a number")


def _check_positions(model: PreTrainedModel, total: int, length: int) -> None:
    """Where positions are learned, one too many would be an error in the midst of a GPU's work."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and total > limit:
        raise ValueError(
            f"{total - length} tokens and a soft prompt of {length} do not fit in the model's "
            f"{limit} positions; use at most {limit - length} tokens"
        )


def _after_ones(mask: Tensor, length: int) -> Tensor:
    return torch.cat([mask.new_ones(len(mask), length), mask], dim=1)


def _shifted(positions: Tensor, length: int, *, starts: bool) -> Tensor:
    """Positions behind the prompt, and at the start those of the prompt too."""
    own = torch.arange(length, device=positions.device).expand(len(positions), -1)
    shifted = positions + length
    return torch.cat([own, shifted], dim=1) if starts else shifted
