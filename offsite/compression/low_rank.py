"""Matrices as two thin factors that run as two matmuls and are never multiplied out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from offsite.architectures import Architecture
from offsite.blocks import roles
from offsite.compression.calibration import (
    Calibration,
    Call,
    evaluating,
    show_inputs,
    through_all,
)
from offsite.compression.channels import (
    Made,
    ResizedLinear,
    bias_of,
    exchanged,
    floor_of,
    matrix_of,
    once,
)
from offsite.compression.emulator import Emulator
from offsite.compression.methods import LowRank
from offsite.errors import BadLayout
from offsite.training import NonFiniteLoss

SMALLEST = 1e-6
"""Least weight of a direction of the inputs, over the mean: one never seen still counts a bit."""


class LowRankLinear(nn.Module):
    """A linear as two: in to rank without bias, then rank to out with the original's bias."""

    kind = "low_rank"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        *,
        bias: bool,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.rank = rank
        self.down = nn.Linear(in_features, rank, bias=False, device=device)
        self.up = nn.Linear(rank, out_features, bias=bias, device=device)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        output: Tensor = self.up(self.down(inputs))
        return output

    def description(self) -> dict[str, Any]:
        """Its size, and whether it has a bias."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "rank": self.rank,
            "bias": self.up.bias is not None,
        }

    @classmethod
    def empty(cls, **description: Any) -> Self:  # noqa: ANN401 - as `description` gave them
        """Two factors on the meta device, their tensors to be assigned."""
        return cls(**description, device="meta")

    @classmethod
    def of(cls, down: Tensor, up: Tensor, linear: nn.Module) -> Self:
        """Factors down (rank, in) and up (out, rank) in the place of `linear`, in its type."""
        bias = bias_of(linear)
        rank, in_features = down.shape
        made = cls.empty(
            in_features=in_features, out_features=len(up), rank=rank, bias=bias is not None
        )
        dtype = matrix_of(linear).dtype
        made.down.weight = nn.Parameter(down.to(dtype).contiguous())
        made.up.weight = nn.Parameter(up.to(dtype).contiguous())
        if bias is not None:
            made.up.bias = nn.Parameter(bias.clone())
        return made


@torch.no_grad()
def low_rank(
    emulator: Emulator, parameters: LowRank, calibration: Calibration | None = None
) -> Emulator:
    """Replace the matrices of every block by two factors with `keep` of the parameters.

    Without a calibration, the factors are nearest to the matrix (SVD). With one, the outputs
    they give for the inputs seen are nearest to the matrix's outputs (SVD-LLM, arXiv
    2403.07378; EMLoC, arXiv 2506.12015). Blocks are then done in order, and each sees what
    the compressed ones before it make of the data; padding does not count. The hidden states
    of all samples are held at once.

    A matrix that would not shrink stays as it is. Where query, key and value are one matrix,
    they are factored as one.

    Raises:
        OffsiteError: a matrix is no plain one any more (quantised, or factored before).
        NonFiniteLoss: hidden states are not finite.
    """
    if calibration is None:
        made: Made = {}
        factored = partial(_factored, emulator.architecture, parameters, {})
        blocks = [once(made, block, factored) for block in emulator.blocks]
        return replace(emulator, blocks=nn.ModuleList(blocks))
    with evaluating(calibration.sandwich.model, emulator.blocks):
        return _along_the_data(emulator, parameters, calibration)


def rank_of(shape: Sequence[int], keep: float) -> int | None:
    """The rank at which two factors have `keep` of the parameters of a matrix.

    None if they would not be smaller than the matrix, or `keep` is 1.

    Raises:
        BadLayout: less than one rank would stay.

    >>> rank_of((64, 64), 0.5)
    16
    """
    out, in_ = shape
    if keep == 1 or out + in_ >= out * in_:
        return None
    rank = floor_of(keep * out * in_ / (out + in_))
    if rank < 1:
        least = (out + in_) / (out * in_)
        raise BadLayout(
            f"keep {keep:g} leaves no rank of a matrix of {out} x {in_}; at least {least:.3g} does"
        )
    return None if rank * (out + in_) >= out * in_ else rank


def of_rank(linear: nn.Module, rank: int, moment: Tensor | None = None) -> nn.Module:
    """`linear` with its matrix brought to `rank`: two factors, or one matrix where that is smaller.

    Args:
        linear: a linear or GPT-2's Conv1D. It is not changed.
        rank: at most the smaller side of its matrix.
        moment: as in `factors`.
    """
    matrix = matrix_of(linear)
    out, in_ = matrix.shape
    down, up = factors(matrix, rank, moment)
    if rank * (out + in_) < out * in_:
        return LowRankLinear.of(down, up, linear)
    bias = bias_of(linear)
    return ResizedLinear.of((up @ down).to(matrix.dtype), None if bias is None else bias.clone())


def factors(matrix: Tensor, rank: int, moment: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best two factors of a matrix, by weight or by what it does to its inputs.

    Args:
        matrix: (out, in).
        rank: of the factors.
        moment: second moment of the inputs, X^T X, (in, in), up to a factor; None for the
            plain SVD.

    Returns:
        down (rank, in) and up (out, rank) in float32, equally long in every direction.
        up @ down minimises the norm of X (W - W')^T, or of W - W' without a moment.
    """
    matrix = matrix.float()
    weighted = matrix if moment is None else matrix @ _root(moment)
    left = torch.linalg.svd(weighted, full_matrices=False).U[:, :rank]
    # With W S = U Sig V^T, the published Sig V^T S^-1 is U^T W: so nothing is inverted, and
    # inputs that span few directions (S nearly singular) do no harm.
    right = left.T @ matrix
    scale = right.norm(dim=1).sqrt()
    scale[scale == 0] = 1
    return right / scale[:, None], left * scale


def second_moments(
    linears: Mapping[str, nn.Module],
    block: nn.Module,
    position: int,
    calls: Sequence[Call],
    hidden: Sequence[Tensor],
) -> dict[str, Tensor]:
    """Sum of x x^T over all real tokens for every linear of a block, (in, in) in float32.

    Args:
        linears: modules of `block` by name.
        block: what runs.
        position: of the foundation's block in whose place it runs.
        calls: the batches.
        hidden: for each call, what enters the block.

    Raises:
        NonFiniteLoss: a moment is not finite.
    """
    names = {linear: name for name, linear in linears.items()}
    moments: dict[str, Tensor] = {}

    def add(linear: nn.Module, inputs: Tensor) -> None:
        rows, name = inputs.float(), names[linear]
        moments[name] = moments.get(name, 0) + rows.T @ rows

    show_inputs(names, position, block, calls, hidden, add)
    if not all(bool(moment.isfinite().all()) for moment in moments.values()):
        raise NonFiniteLoss("hidden states are not finite, so they say nothing about a matrix")
    return moments


def _along_the_data(emulator: Emulator, parameters: LowRank, calibration: Calibration) -> Emulator:
    """Compress block after block, each on what reaches it through the compressed ones."""
    calls = calibration.calls(calibration.batches(parameters.samples, parameters.seed))
    hidden = [call.hidden for call in calls]
    made: Made = {}
    blocks: list[nn.Module] = []
    for position, original, place in calibration.path(emulator):
        block = original
        if place is not None:
            compress = partial(_fitted, emulator.architecture, parameters, position, calls, hidden)
            block = once(made, original, compress)
            blocks.append(block)
        hidden = through_all(calls, position, block, hidden)
    return replace(emulator, blocks=nn.ModuleList(blocks))


def _fitted(
    architecture: Architecture,
    parameters: LowRank,
    position: int,
    calls: Sequence[Call],
    hidden: Sequence[Tensor],
    block: nn.Module,
) -> nn.Module:
    chosen = _chosen(architecture, block, parameters)
    moments = second_moments(chosen, block, position, calls, hidden)
    return _factored(architecture, parameters, moments, block)


def _factored(
    architecture: Architecture,
    parameters: LowRank,
    moments: Mapping[str, Tensor],
    block: nn.Module,
) -> nn.Module:
    replacements = {}
    for name, linear in _chosen(architecture, block, parameters).items():
        rank = rank_of(matrix_of(linear).shape, parameters.keep)
        if rank is not None:
            replacements[name] = of_rank(linear, rank, moments.get(name))
    return exchanged(block, replacements)


def _chosen(
    architecture: Architecture, block: nn.Module, parameters: LowRank
) -> dict[str, nn.Module]:
    found = roles(architecture, block)
    return found.all if parameters.only == "all" else found.attention | found.attention_out


def _root(moment: Tensor) -> Tensor:
    """S with S S^T = `moment`, whose smallest eigenvalues are raised to a share of the mean."""
    # float64: some inputs are a thousand times the others, and their squares are summed here.
    values, vectors = torch.linalg.eigh(moment.double())
    least = (SMALLEST * values.mean()).clamp(min=torch.finfo(torch.float32).tiny)
    root: Tensor = (vectors * values.clamp(min=least).sqrt()).float()
    return root
