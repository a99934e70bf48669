"""GradOT (arXiv 2507.04455): give up the ranks and channels that adapters' gradients miss least.

The definition is second-hand: GCS(d) = ||H d||_1 - lambda (dL/dw) . d for a change d of the
weights. The first term keeps the gradients that adapter blocks get; the second rewards a change
that raises the loss, which is what protects the owner. H is the Hessian, by KFAC of the Fisher.
What is computed for one singular triplet and for one channel is said where it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from offsite.architectures import Architecture
from offsite.blocks import roles
from offsite.compression.calibration import (
    Calibration,
    evaluating,
    frozen,
    refuse_float16,
    scored,
)
from offsite.compression.channels import (
    Made,
    channel_matrices,
    exchanged,
    floor_of,
    highest,
    matrix_of,
    narrowed,
    once,
)
from offsite.compression.emulator import Emulator
from offsite.compression.layers import Described
from offsite.compression.low_rank import LowRankLinear, rank_of
from offsite.compression.methods import GradOt
from offsite.training import Batch, NonFiniteLoss

ALWAYS_KEPT = 0.05
"""Share of a matrix's singular triplets, the largest, that no score can remove."""


@dataclass(slots=True)
class Statistics:
    """What one linear sees in forward and backward passes, in float32."""

    gradient: Tensor
    """dL/dW, (out, in), L the mean loss."""
    inputs: Tensor
    """A: mean of x x^T over tokens, (in, in)."""
    outputs: Tensor
    """G: mean of g g^T over scored tokens, (out, out); g is dL/dy times how many a batch has, so
    the gradient of a token's own loss as far as tokens are independent."""


def grad_ot(emulator: Emulator, parameters: GradOt, calibration: Calibration) -> Emulator:
    """Choose singular triplets of attention and feed-forward channels by the GCS of removing them.

    Attention matrices become two factors with `attention_keep` of their parameters, of those
    triplets whose removal scores highest; the largest 5% of triplets always stay. Of each
    block's channels the floor(ffn_keep x channels) stay whose removal scores highest. A removed
    set is scored by the sum of its members' scores, and all scores come from the emulator as
    it is given. KFAC takes the matrices of a block as independent, also the halves of a fused
    gate and up.

    Statistics take several times a block's own bytes, so the data passes forward and backward
    once for every few blocks: as many as hold the statistics to the emulator's stored bytes.

    Raises:
        OffsiteError: a matrix is no plain one any more (quantised, or factored before); or the
            model is held in float16.
        NonFiniteLoss: a loss was NaN or infinite.
    """
    refuse_float16(calibration.sandwich.model, "grad_ot")
    batches = calibration.batches(parameters.samples, parameters.seed)
    made: Made = {}
    blocks: list[nn.Module] = []
    for places in _passes(emulator, parameters):
        linears = {place: _scored(emulator, place, parameters) for place in places}
        with evaluating(calibration.sandwich.model, emulator.blocks):
            found = _collect(emulator, calibration, batches, linears)
        for place in places:
            compress = partial(
                _compressed,
                emulator.architecture,
                statistics=found.pop(place),
                parameters=parameters,
            )
            blocks.append(once(made, emulator.blocks[place], compress))
    return replace(emulator, blocks=nn.ModuleList(blocks))


def triplet_scores(
    left: Tensor, values: Tensor, right: Tensor, statistics: Statistics, weight: float
) -> Tensor:
    """GCS of removing each singular triplet of a matrix alone; (triplets,).

    For triplet (u, s, v) the change is d = -s u v^T. By KFAC, H d = G d A = -s (G u)(A v)^T, a
    matrix of rank one, so ||H d||_1 = s ||G u||_1 ||A v||_1; and (dL/dW) . d = -s u^T (dL/dW) v.

    Args:
        left: U, (out, triplets).
        values: singular values, (triplets,).
        right: V, (in, triplets).
        statistics: of the linear.
        weight: lambda.
    """
    curvature = (statistics.outputs @ left).abs().sum(0) * (statistics.inputs @ right).abs().sum(0)
    slope = -(left * (statistics.gradient @ right)).sum(0)
    return values * (curvature - weight * slope)


def channel_scores(
    into: Sequence[tuple[Tensor, Statistics]], out: tuple[Tensor, Statistics], weight: float
) -> Tensor:
    """GCS of removing each intermediate channel alone; (channels,).

    For channel c the change d zeroes row c of every matrix into the channels and column c of
    the matrix out. The score is the sum over those matrices. For a matrix in with row w,
    d = -e_c w^T and ||G d A||_1 = ||G e_c||_1 ||A w||_1; for the matrix out with column w,
    d = -w e_c^T and ||G d A||_1 = ||G w||_1 ||A e_c||_1. Biases are left out of d.

    Args:
        into: matrices (channels, in) and what their linears saw.
        out: the matrix (out, channels) and what its linear saw.
        weight: lambda.
    """
    matrix, seen = out
    curvature = (seen.outputs @ matrix).abs().sum(0) * seen.inputs.abs().sum(0)
    slope = -(seen.gradient * matrix).sum(0)
    for matrix, seen in into:
        curvature = curvature + seen.outputs.abs().sum(0) * (seen.inputs @ matrix.T).abs().sum(0)
        slope = slope - (seen.gradient * matrix).sum(1)
    return curvature - weight * slope


def chosen_triplets(scores: Tensor, rank: int) -> Tensor:
    """Positions of `rank` triplets to keep, of scores in order of falling singular value."""
    always = min(rank, math.ceil(ALWAYS_KEPT * len(scores)))
    scores = scores.clone()
    scores[:always] = math.inf
    return highest(scores, rank)


@torch.no_grad()
def _compressed(
    architecture: Architecture,
    block: nn.Module,
    *,
    statistics: Mapping[str, Statistics],
    parameters: GradOt,
) -> nn.Module:
    found = roles(architecture, block)
    replacements: dict[str, nn.Module] = {}
    for name, linear in (found.attention | found.attention_out).items():
        rank = rank_of(matrix_of(linear).shape, parameters.attention_keep)
        if rank is not None:
            replacements[name] = _with_triplets(
                linear, rank, statistics[name], parameters.attention_weight
            )
    if parameters.ffn_keep < 1:
        replacements |= _with_best_channels(architecture, block, statistics, parameters)
    return exchanged(block, replacements)


def _with_triplets(
    linear: nn.Module, rank: int, statistics: Statistics, weight: float
) -> LowRankLinear:
    left, values, right = torch.linalg.svd(matrix_of(linear).float(), full_matrices=False)
    kept = chosen_triplets(triplet_scores(left, values, right.T, statistics, weight), rank)
    scale = values[kept].sqrt()
    return LowRankLinear.of(right[kept] * scale[:, None], left[:, kept] * scale, linear)


def _with_best_channels(
    architecture: Architecture,
    block: nn.Module,
    statistics: Mapping[str, Statistics],
    parameters: GradOt,
) -> dict[str, nn.Module]:
    found = roles(architecture, block)
    into, out = channel_matrices(block, architecture)
    seen = [statistics[name] for name in found.ffn_in]
    if architecture.ffn_fused:
        seen = [half for each in seen for half in _halves(each)]
    (out_seen,) = (statistics[name] for name in found.ffn_out)
    scores = channel_scores(
        [(matrix.float(), each) for matrix, each in zip(into, seen, strict=True)],
        (out.float(), out_seen),
        parameters.ffn_weight,
    )
    count = max(1, floor_of(parameters.ffn_keep * len(scores)))
    return narrowed(block, architecture, highest(scores, count))


def _halves(seen: Statistics) -> list[Statistics]:
    middle = len(seen.gradient) // 2
    return [
        Statistics(seen.gradient[rows], seen.inputs, seen.outputs[rows, rows])
        for rows in (slice(middle), slice(middle, None))
    ]


def _scored(emulator: Emulator, place: int, parameters: GradOt) -> dict[str, nn.Module]:
    """The linears of a block that need statistics."""
    block = emulator.blocks[place]
    if isinstance(block, Described):
        return {}
    found = roles(emulator.architecture, block)
    linears: dict[str, nn.Module] = {}
    if parameters.attention_keep < 1:
        linears |= found.attention | found.attention_out
    if parameters.ffn_keep < 1:
        linears |= found.ffn_in | found.ffn_out
    return linears


def _passes(emulator: Emulator, parameters: GradOt) -> list[range]:
    """The places of blocks, in runs whose statistics are held at the same time."""
    depth = len(emulator.blocks)
    largest = max(
        sum(4 * _numbers(linear) for linear in _scored(emulator, place, parameters).values())
        for place in range(depth)
    )
    many = max(1, emulator.stored_bytes // largest) if largest else depth
    return [range(start, min(start + many, depth)) for start in range(0, depth, many)]


def _numbers(linear: nn.Module) -> int:
    out, in_ = matrix_of(linear).shape
    return out * in_ + out * out + in_ * in_


def _collect(
    emulator: Emulator,
    calibration: Calibration,
    batches: Sequence[Batch],
    linears: Mapping[int, Mapping[str, nn.Module]],
) -> dict[int, dict[str, Statistics]]:
    """One forward and backward pass over `batches`, for the linears of some blocks."""
    found = {
        place: {name: _nothing_seen(linear) for name, linear in of_block.items()}
        for place, of_block in linears.items()
    }
    watched = [
        (linear, found[place][name])
        for place, of_block in linears.items()
        for name, linear in of_block.items()
    ]
    if not watched:
        return found
    first = emulator.blocks[min(place for place in linears if linears[place])]
    tokens = terms = 0
    with frozen(calibration.sandwich.model), frozen(emulator.blocks), torch.enable_grad():
        for batch in batches:
            with _watching(first, watched, batch) as counted:
                loss = calibration.loss(emulator, batch)
                if not torch.isfinite(loss):
                    raise NonFiniteLoss(f"grad_ot's loss is {float(loss.detach())}")
                loss.backward()  # type: ignore[no-untyped-call]
            tokens += counted[0]
            terms += scored(batch)
    for _, seen in watched:
        seen.gradient /= len(batches)
        seen.inputs /= tokens
        seen.outputs /= terms
    return found


def _nothing_seen(linear: nn.Module) -> Statistics:
    matrix = matrix_of(linear)
    out, in_ = matrix.shape
    zeros = partial(torch.zeros, dtype=torch.float32, device=matrix.device)
    return Statistics(zeros((out, in_)), zeros((in_, in_)), zeros((out, out)))


@contextmanager
def _watching(
    first: nn.Module, watched: Sequence[tuple[nn.Module, Statistics]], batch: Batch
) -> Iterator[list[int]]:
    """Inside the block, what runs adds to the statistics; yields the batch's real tokens in a list.

    Gradients go back to the input of `first` and no further.
    """
    mask = batch.inputs.get("attention_mask")
    counted = [0]

    def start(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
        if args:
            return (args[0].detach().requires_grad_(), *args[1:]), named
        return args, {**named, "hidden_states": named["hidden_states"].detach().requires_grad_()}

    def rows(values: Tensor) -> Tensor:
        flat = values.detach().flatten(0, -2).float()
        return flat if mask is None else flat[mask.flatten().bool()]

    def note(seen: Statistics, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs = rows(args[0])
        counted[0] = len(inputs)
        seen.inputs += inputs.T @ inputs

        def back(gradient: Tensor) -> None:
            gradients = rows(gradient)
            seen.gradient += gradients.T @ inputs
            # Of each term's own loss: that of the batch is their mean.
            seen.outputs += scored(batch) ** 2 * (gradients.T @ gradients)

        output.register_hook(back)  # type: ignore[no-untyped-call]

    handles = [first.register_forward_pre_hook(start, with_kwargs=True)]
    handles += [
        linear.register_forward_hook(lambda _, args, output, seen=seen: note(seen, args, output))
        for linear, seen in watched
    ]
    try:
        yield counted
    finally:
        for handle in handles:
            handle.remove()
