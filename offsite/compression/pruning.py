"""Compressions that set single weights to zero. Weights stay dense: shapes and speed do not change.

What is pruned are the weight matrices of every linear in the blocks, and both factors of a
factored one. Biases and norms stay. Among equally small weights those that come first go
first, so the number of zeros is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from offsite.blocks import roles
from offsite.compression.calibration import Calibration, Call, show_inputs, through_all
from offsite.compression.channels import floor_of
from offsite.compression.emulator import Emulator
from offsite.compression.layers import Described
from offsite.compression.methods import MagnitudePrune, NofM, Wanda
from offsite.compression.quantization import padded, refuse_quantized

CHUNK = 2**21
"""Weights that are worked on at once, so that what lies beside them stays a few MiB."""


@torch.no_grad()
def magnitude_prune(emulator: Emulator, parameters: MagnitudePrune) -> Emulator:
    """Zero the smallest weights: floor(ratio x count) of each matrix, of each row, or of all.

    Raises:
        OffsiteError: the weights are packed by `quantize`.
    """
    pruned = _copy(emulator)
    matrices = list(_matrices(pruned))
    ratio, scope = parameters.ratio, parameters.scope
    if scope == "row":
        for matrix in matrices:
            zero_where(matrix.rows, lambda rows: smallest_in_rows(rows.abs(), _count(ratio, rows)))
        return pruned
    weights = [matrix.weight for matrix in matrices]
    for group in [weights] if scope == "global" else [[weight] for weight in weights]:
        zero_smallest(group, floor_of(ratio * sum(weight.numel() for weight in group)))
    return pruned


@torch.no_grad()
def n_m(emulator: Emulator, parameters: NofM) -> Emulator:
    """Of every m consecutive input weights of an output row keep the n largest.

    What is left at the end of a row counts as filled up with zeros: up to n of it stay.

    Raises:
        OffsiteError: the weights are packed by `quantize`.
    """
    pruned = _copy(emulator)
    n, m = parameters.n, parameters.m

    def surplus(rows: Tensor) -> Tensor:
        groups = padded(rows.abs(), m).view(-1, m)
        return smallest_in_rows(groups, m - n).view(len(rows), -1)[:, : rows.shape[1]]

    for matrix in _matrices(pruned):
        zero_where(matrix.rows, surplus)
    return pruned


@torch.no_grad()
def wanda(emulator: Emulator, parameters: Wanda, calibration: Calibration) -> Emulator:
    """Zero floor(ratio x inputs) of each output row: the lowest |weight| x norm of its input.

    Blocks are pruned in order, each on what the ones before it put out when they were pruned
    (arXiv 2306.11695). Norms are over real positions. A block that stands in several places
    is pruned for its first.

    Raises:
        OffsiteError: the weights are packed by `quantize`.
    """
    pruned = _copy(emulator)
    matrices = list(_matrices(pruned))
    calls = calibration.calls(calibration.batches(parameters.samples, parameters.seed))
    hidden = [call.hidden for call in calls]
    for position, block, place in calibration.path(pruned):
        modules = set(block.modules()) if place is not None else set()
        here = [m for m in matrices if m.owner in modules]
        if here:
            squares = _squared_inputs([m.owner for m in here], position, block, calls, hidden)
            for matrix in here:
                _prune_by_inputs(matrix, squares[matrix.owner].sqrt(), parameters.ratio)
        hidden = through_all(calls, position, block, hidden)
    return pruned


def smallest_in_rows(scores: Tensor, count: int) -> Tensor:
    """Where the `count` smallest of each row are: bool, (rows, columns), exactly that many.

    Args:
        scores: not negative, (rows, columns).
        count: how many of a row, up to its length.
    """
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    scores = scores.float()
    # Three times as fast as sorting, on long rows.
    limit = scores.kthvalue(count, dim=1, keepdim=True).values
    below, ties = scores < limit, scores == limit
    left = count - below.sum(1, keepdim=True)
    return below | (ties & (ties.cumsum(1, dtype=torch.int32) <= left))


def zero_where(rows: Tensor, chosen: Callable[[Tensor], Tensor]) -> None:
    """Zero, in place, what `chosen` says of some rows at a time: (rows, inputs) to bool."""
    for some in torch.split(rows, max(1, CHUNK // rows.shape[1])):
        some.masked_fill_(chosen(some), 0)


def zero_smallest(weights: Sequence[Tensor], count: int) -> None:
    """Zero, in place, the `count` smallest magnitudes of all `weights` together.

    Exact, without a copy of the weights: magnitudes order as the bits of their float32 do, so
    the limit is found by counting its upper 16 bits, then its lower 16.
    """
    if not count:
        return
    upper, rank = _find(_histogram(_bits(part) >> 16 for part in _parts(weights)), count)

    def lower_bits(part: Tensor) -> Tensor:
        bits = _bits(part)
        return bits[bits >> 16 == upper] & 0xFFFF

    lower, left = _find(_histogram(lower_bits(part) for part in _parts(weights)), rank)
    limit = upper << 16 | lower
    for part in _parts(weights):
        bits = _bits(part)
        part.masked_fill_(bits < limit, 0)
        if left:
            ties = (bits == limit).nonzero().flatten()[:left]
            part[ties] = 0
            left -= len(ties)


@dataclass(frozen=True, slots=True)
class _Matrix:
    weight: nn.Parameter
    owner: nn.Module

    @property
    def rows(self) -> Tensor:
        """The weights as (outputs, inputs); the storage is the weight's."""
        return self.weight.T if isinstance(self.owner, Conv1D) else self.weight


def _copy(emulator: Emulator) -> Emulator:
    refuse_quantized(emulator, "prune before quantize")
    return replace(emulator, blocks=deepcopy(emulator.blocks))


def _matrices(emulator: Emulator) -> Iterator[_Matrix]:
    """Every weight matrix of the blocks' linears; one that blocks share comes once."""
    seen: set[int] = set()
    for block in emulator.blocks:
        # What another compression put in a block's place (harmonizers) has no linears to find.
        found = {} if isinstance(block, Described) else roles(emulator.architecture, block).all
        for owner in (module for linear in found.values() for module in linear.modules()):
            for weight in owner.parameters(recurse=False):
                if weight.dim() == 2 and id(weight) not in seen:
                    seen.add(id(weight))
                    yield _Matrix(weight, owner)


def _count(ratio: float, rows: Tensor) -> int:
    return floor_of(ratio * rows.shape[1])


def _prune_by_inputs(matrix: _Matrix, norms: Tensor, ratio: float) -> None:
    zero_where(matrix.rows, lambda rows: smallest_in_rows(rows.abs() * norms, _count(ratio, rows)))


def _squared_inputs(
    owners: Iterable[nn.Module],
    position: int,
    block: nn.Module,
    calls: Sequence[Call],
    hidden: Sequence[Tensor],
) -> dict[nn.Module, Tensor]:
    """For each module, the sum of squares of its inputs over all real positions: (inputs,)."""
    squares: dict[nn.Module, Tensor] = {}

    def add(owner: nn.Module, inputs: Tensor) -> None:
        squares[owner] = squares.get(owner, 0) + inputs.float().square().sum(0)

    show_inputs(owners, position, block, calls, hidden, add)
    return squares


def _parts(weights: Sequence[Tensor]) -> Iterator[Tensor]:
    """All weights, some at a time; the storage is theirs."""
    for weight in weights:
        yield from torch.split(weight.view(-1), CHUNK)


def _bits(part: Tensor) -> Tensor:
    """The bits of magnitudes as float32: int32, and in the order of the magnitudes."""
    return part.abs().float().view(torch.int32)


def _histogram(values: Iterable[Tensor]) -> Tensor:
    """How often each number below 2**16 occurs."""
    counts = torch.zeros(2**16, dtype=torch.long)
    for part in values:
        counts += torch.bincount(part, minlength=2**16).cpu()
    return counts


def _find(histogram: Tensor, rank: int) -> tuple[int, int]:
    """The number that is `rank`-th from below, and the rank within those equal to it."""
    totals = histogram.cumsum(0)
    number = int(torch.searchsorted(totals, rank))
    return number, rank - int(totals[number] - histogram[number])
