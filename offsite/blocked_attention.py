"""Causal attention for training on a CPU: whole products over blocks of queries.

torch's fused kernel for the CPU works in small tiles and computes the scores again in its backward
pass. A block of queries needs the keys up to its end only, its products are as fast as any
other's, and its probabilities are kept for the backward pass: 4 bytes x heads x length x
(length + block) / 2 of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

NAME = "offsite_blocked"
"""Under which transformers knows it."""
BLOCK = 128
"""Queries of a block: the best of 64 to 512 at lengths of 512 (docs/log.md)."""
_FUSED = "sdpa"


@contextmanager
def blocked_attention(model: nn.Module) -> Iterator[None]:
    """Inside the block, a model of transformers on a CPU attends so wherever it can.

    What it cannot do (a mask, dropout, another dtype than float32) torch's kernel does as before.
    """
    configs = _fused_configs(model) if _is_on_cpu(model) else []
    if configs:
        _register()
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation = _FUSED


def _is_on_cpu(model: nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in model.parameters())


def _fused_configs(model: nn.Module) -> list[Any]:
    """Configurations in `model` that ask for torch's kernel; blocks may bring their own."""
    found = {id(config): config for m in model.modules() if (config := getattr(m, "config", None))}
    return [c for c in found.values() if getattr(c, "_attn_implementation", None) == _FUSED]


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,  # noqa: ANN401 - whatever a model passes on
) -> tuple[Tensor, None]:
    """Shapes: (batch, heads, length, head); returns (batch, length, heads, head)."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    # Under autocast rotated queries and keys are in float32, and values are not.
    dtypes = {query.dtype, key.dtype, value.dtype}
    alike = query.shape[2] == key.shape[2] and dtypes == {torch.float32}
    if attention_mask is not None or dropout or not causal or not alike or kwargs.get("softcap"):
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
        return result
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [
        each.flatten(0, 1) for each in (query, repeat_kv(key, groups), repeat_kv(value, groups))
    ]
    mixed: Tensor = _Blocked.apply(*rows, scale)  # type: ignore[no-untyped-call]
    return mixed.unflatten(0, query.shape[:2]).transpose(1, 2).contiguous(), None  # type: ignore[no-untyped-call]


class _Blocked(torch.autograd.Function):
    """softmax(s Q K' + causal mask) V."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:  # noqa: ANN401
        """Shapes: (batch x heads, length, head)."""
        mixed, kept = torch.empty_like(value), []
        for start, end in _blocks(query.shape[1]):
            scores = torch.bmm(query[:, start:end], key[:, :end].transpose(1, 2)).mul_(scale)
            scores[:, :, start:end].add_(_hidden(end - start))
            shares = torch.softmax(scores, -1)
            mixed[:, start:end] = torch.bmm(shares, value[:, :end])
            kept.append(shares)
        ctx.scale = scale
        ctx.save_for_backward(query, key, value, mixed, *kept)
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Of a row of probabilities p with gradient g: p (g - sum(p g))."""
        query, key, value, mixed, *kept = ctx.saved_tensors
        to_query = torch.empty_like(query)
        to_key, to_value = torch.zeros_like(key), torch.zeros_like(value)
        # sum(p g) is the product of what came out and its gradient.
        sums = (grad * mixed).sum(-1, keepdim=True)
        for (start, end), shares in zip(_blocks(query.shape[1]), kept, strict=True):
            own = grad[:, start:end]
            to_value[:, :end].baddbmm_(shares.transpose(1, 2), own)
            to_scores = torch.bmm(own, value[:, :end].transpose(1, 2))
            to_scores.sub_(sums[:, start:end]).mul_(shares)
            to_query[:, start:end] = torch.bmm(to_scores, key[:, :end]).mul_(ctx.scale)
            to_key[:, :end].baddbmm_(
                to_scores.transpose(1, 2), query[:, start:end], alpha=ctx.scale
            )
        return to_query, to_key, to_value, None


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))


@cache
def _hidden(size: int) -> Tensor:
    """Minus infinity where a key comes after its query, within a block."""
    return torch.full((size, size), -torch.inf).triu_(1)
