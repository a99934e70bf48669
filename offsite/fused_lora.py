"""LoRA's forward and backward pass with as few passes over activations as there are products.

peft adds an update in single operations: two skinny products, a multiplication by the scale and an
addition, each over all outputs, and their mirror images in the backward pass. Here the scale is
part of a product, and what is added is added by the product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

ADAPTER = "default"
"""What peft calls the only adapter a layer has."""


@contextmanager
def fused_lora(model: nn.Module) -> Iterator[None]:
    """Inside the block, LoRA layers over plain linears run fused; all others as peft has them."""
    layers = [m for m in model.modules() if hasattr(m, "lora_A") and _is_plain(m)]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_plain(layer: Any) -> bool:  # noqa: ANN401 - a layer of peft
    """Whether all that happens is the linear and one low-rank update without dropout."""
    from transformers.pytorch_utils import Conv1D

    return (
        list(layer.lora_A) == [ADAPTER]
        and type(layer.base_layer) in (nn.Linear, Conv1D)
        and not any(p.requires_grad for p in layer.base_layer.parameters())
        and isinstance(layer.lora_dropout[ADAPTER], nn.Identity)
        and not layer.use_dora[ADAPTER]
        and not layer.lora_bias[ADAPTER]
        and not layer.merged
    )


def _forward(layer: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a layer of peft
    """In place of the layer's own `forward`."""
    base = layer.base_layer
    # Rows of the matrix are inputs, as it multiplies; nn.Linear stores it the other way round.
    matrix = base.weight.t() if isinstance(base, nn.Linear) else base.weight
    rows: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
        x.flatten(0, -2),
        matrix,
        base.bias,
        layer.lora_A[ADAPTER].weight,
        layer.lora_B[ADAPTER].weight,
        layer.scaling[ADAPTER],
    )
    return rows.view(*x.shape[:-1], rows.shape[-1])


class _LoraLinear(torch.autograd.Function):
    """y = x W + b + s x A' B', with W and b frozen."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        x: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        """Shapes: x (rows, in), matrix (in, out), bias (out,), down (rank, in), up (out, rank)."""
        device = x.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else x.dtype
        ctx.scale, ctx.dtypes = scale, (x.dtype, down.dtype, up.dtype)
        x, matrix, down, up = (each.to(dtype) for each in (x, matrix, down, up))
        with torch.autocast(device, enabled=False):
            inner = x @ down.t()
            y = x @ matrix if bias is None else torch.addmm(bias.to(dtype), x, matrix)
            y.addmm_(inner, up.t(), alpha=scale)
        ctx.save_for_backward(x, matrix, down, up, inner)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of x, if anybody asks for it, and of the two factors."""
        x, matrix, down, up, inner = ctx.saved_tensors
        of_x, of_down, of_up = ctx.dtypes
        # As products of few rows, not of few columns: they take a third of the time.
        to_inner = (up.t() @ grad.t()).mul_(ctx.scale)
        to_up = (inner.t() @ grad).mul_(ctx.scale).t()
        to_down = to_inner @ x
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (grad @ matrix.t()).addmm_(to_inner.t(), down).to(of_x)
        return to_x, None, None, to_down.to(of_down), to_up.to(of_up), None
