"""Floating-point operations of a training step, counted as it runs.

A formula such as 6N is wrong by half where most weights are frozen: what a frozen block saves,
and what it cannot save, shows only in what is really computed. torch counts the matrix products
it dispatches; it does not know the CPU's attention, nor that half of a causal attention is never
computed, so these are counted here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_KERNELS = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
FORWARD, BACKWARD = 2, 4
"""Products of length x length x head: scores and output; their gradients. A fused kernel computes
the scores once more in its backward pass: that is its way, not part of what is asked for."""

Shape = Sequence[int]


def count_flops(step: Callable[[], object]) -> int:
    """Run `step` once; a multiplication and an addition are two operations."""
    counter = FlopCounterMode(display=False, custom_mapping=_attention())
    # A compiled block would be one operation that nobody can look into.
    with torch.compiler.set_stance("force_eager"), counter:
        step()
    return int(counter.get_total_flops())


def _attention() -> dict[Any, Callable[..., int]]:
    """Counting functions of torch's fused attention kernels, forward and backward."""
    mapping: dict[Any, Callable[..., int]] = {}
    for kernel in _KERNELS:
        for suffix, products in (("", FORWARD), ("_backward", BACKWARD)):
            packet = getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}{suffix}", None)
            if packet is not None:
                mapping[packet] = _counting(packet, products)
    return mapping


def _counting(packet: Any, products: int) -> Callable[..., int]:  # noqa: ANN401 - torch's
    names = [argument.name for argument in packet.default._schema.arguments]
    first, causal = names.index("query"), names.index("is_causal")

    def count(*args: Any, out_shape: object = None, **kwargs: Any) -> int:  # noqa: ANN401
        query, key = args[first], args[first + 1]
        is_causal = args[causal] if causal < len(args) else kwargs.get("is_causal", False)
        return attention_flops(query, key, products, is_causal=bool(is_causal))

    return count


def attention_flops(query: Shape, key: Shape, products: int, *, is_causal: bool) -> int:
    """Operations of `products` products between (batch, heads, length, head) queries and keys.

    A causal one needs half of each.

    >>> attention_flops((1, 2, 8, 4), (1, 2, 8, 4), 2, is_causal=False)
    2048
    """
    batch, heads, length, width = query
    whole = products * 2 * batch * heads * length * key[2] * width
    return whole // 2 if is_causal else whole
