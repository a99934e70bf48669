"""Feed-forward layers with fewer intermediate channels, and how a block gets other modules.

A channel is one row of every matrix into the intermediate (up, and gate where there is one)
with its bias, and one column of the matrix out of it. Shapes really shrink.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from offsite.architectures import Architecture
from offsite.blocks import roles
from offsite.compression.emulator import Emulator
from offsite.compression.layers import Described
from offsite.compression.methods import FfnPrune
from offsite.errors import OffsiteError


class ResizedLinear(nn.Linear):
    """A linear whose size is not the one that the model's configuration says."""

    kind = "linear"

    def description(self) -> dict[str, Any]:
        """Its size, and whether it has a bias."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
        }

    @classmethod
    def empty(cls, **description: Any) -> Self:  # noqa: ANN401 - as `description` gave them
        """A linear on the meta device, its tensors to be assigned."""
        return cls(**description, device="meta")

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> Self:
        """A linear that holds these tensors, weight (out, in); it does not copy them."""
        out_features, in_features = weight.shape
        made = cls.empty(in_features=in_features, out_features=out_features, bias=bias is not None)
        made.weight = nn.Parameter(weight.detach())
        if bias is not None:
            made.bias = nn.Parameter(bias.detach())
        return made


class ResizedLayerNorm(nn.LayerNorm):
    """A layer norm whose size is not the one that the model's configuration says."""

    kind = "norm"

    def description(self) -> dict[str, Any]:
        """Its size, its epsilon, and whether it has a bias."""
        return {
            "normalized_shape": list(self.normalized_shape),
            "eps": self.eps,
            "bias": self.bias is not None,
        }

    @classmethod
    def empty(cls, **description: Any) -> Self:  # noqa: ANN401 - as `description` gave them
        """A norm on the meta device, its tensors to be assigned."""
        return cls(**description, device="meta")


@torch.no_grad()
def ffn_prune(emulator: Emulator, parameters: FfnPrune) -> Emulator:
    """Drop in every block the channels of least saliency (FedPFT, arXiv 2404.11536).

    floor(ratio x channels) go; the others keep their order.
    """
    architecture = emulator.architecture

    def pruned(block: nn.Module) -> nn.Module:
        scores = saliency(block, architecture)
        dropped = floor_of(parameters.ratio * len(scores))
        return with_channels(block, architecture, highest(scores, len(scores) - dropped))

    made: Made = {}
    return replace(
        emulator, blocks=nn.ModuleList(once(made, block, pruned) for block in emulator.blocks)
    )


def saliency(block: nn.Module, architecture: Architecture) -> Tensor:
    """L2 norm of the weights into and out of each channel, taken together; (channels,)."""
    into, out = channel_matrices(block, architecture)
    squares = out.float().square().sum(0)
    for matrix in into:
        squares = squares + matrix.float().square().sum(1)
    return squares.sqrt()


def with_channels(block: nn.Module, architecture: Architecture, kept: Tensor) -> nn.Module:
    """A copy of `block` that has only the channels `kept`, positions in the order they get.

    Raises:
        OffsiteError: the feed-forward layers are already something else than plain matrices.
    """
    return exchanged(block, narrowed(block, architecture, kept))


@torch.no_grad()
def narrowed(block: nn.Module, architecture: Architecture, kept: Tensor) -> dict[str, nn.Module]:
    """By name, what stands in for the feed-forward modules of `block` with the channels `kept`.

    A norm over the channels normalises over those that are left.
    """
    found = roles(architecture, block)
    into, _ = channel_matrices(block, architecture)
    channels = len(into[0])
    rows = torch.cat([kept, kept + channels]) if architecture.ffn_fused else kept
    result: dict[str, nn.Module] = {}
    for name, linear in found.ffn_in.items():
        bias = bias_of(linear)
        result[name] = ResizedLinear.of(
            matrix_of(linear)[rows].contiguous(), None if bias is None else bias[rows]
        )
    for name, linear in found.ffn_out.items():
        bias = bias_of(linear)
        result[name] = ResizedLinear.of(
            matrix_of(linear)[:, kept].contiguous(), None if bias is None else bias.clone()
        )
    for name, norm in found.ffn_norm.items():
        result[name] = _narrow_norm(norm, kept)
    return result


def channel_matrices(block: nn.Module, architecture: Architecture) -> tuple[list[Tensor], Tensor]:
    """Matrices into the channels, each (channels, in), and the one out, (out, channels).

    A fused gate and up counts as two matrices. All are views of the block's own weights.
    """
    found = roles(architecture, block)
    into = [matrix_of(linear) for linear in found.ffn_in.values()]
    if architecture.ffn_fused:
        into = [half for matrix in into for half in matrix.chunk(2)]
    (out,) = (matrix_of(linear) for linear in found.ffn_out.values())
    return into, out


def matrix_of(linear: nn.Module) -> Tensor:
    """The weight of a linear as (out, in), a view: GPT-2's Conv1D stores it transposed.

    Raises:
        OffsiteError: it is no plain matrix any more.
    """
    if isinstance(linear, nn.Linear):
        return linear.weight.detach()
    if isinstance(linear, Conv1D):
        weight: Tensor = linear.weight.detach().T
        return weight
    raise OffsiteError(
        f"a {type(linear).__name__} is no plain matrix, so its rank or channels cannot be cut; "
        "in a list of compressions, put this one first"
    )


def bias_of(linear: nn.Module) -> Tensor | None:
    """The bias of a linear, or None if it has none."""
    bias = getattr(linear, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def highest(scores: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores, in order of position; ties go to the first."""
    best = torch.sort(scores, descending=True, stable=True).indices[:count]
    return best.sort().values


def floor_of(value: float) -> int:
    """The floor of a product that rounding may have left just below a whole number."""
    return math.floor(value + 1e-9)


def exchanged(block: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of `block` with other modules at the names given.

    What they replace is never copied, so the peak is one block's kept and new tensors.
    """
    memo: dict[int, Any] = {}
    for name, new in replacements.items():
        original = block.get_submodule(name)
        new.train(original.training)
        asks = any(p.requires_grad for p in original.parameters())
        memo[id(original)] = new.requires_grad_(asks)
    return deepcopy(block, memo)


Made = dict[tuple[int, ...], nn.Module]
"""Compressed blocks by the parameters of what they were made from."""


def once(made: Made, block: nn.Module, compress: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """`compress(block)`; but blocks that share all parameters go on sharing, as after `crash`.

    Blocks that are ours (harmonizers) have nothing to compress and are copied.
    """
    key = tuple(id(parameter) for parameter in block.parameters())
    if key in made:
        # Modules of its own, for its number in the model; parameters of the one before.
        return deepcopy(made[key], {id(p): p for p in made[key].parameters()})
    made[key] = deepcopy(block) if isinstance(block, Described) else compress(block)
    return made[key]


def _narrow_norm(norm: nn.Module, kept: Tensor) -> nn.Module:
    if not isinstance(norm, nn.LayerNorm):
        raise OffsiteError(
            f"the norm over the channels is a {type(norm).__name__}; only a LayerNorm can shrink"
        )
    made = ResizedLayerNorm.empty(
        normalized_shape=[len(kept)], eps=norm.eps, bias=norm.bias is not None
    )
    made.weight = nn.Parameter(norm.weight.detach()[kept])
    if norm.bias is not None:
        made.bias = nn.Parameter(norm.bias.detach()[kept])
    return made
