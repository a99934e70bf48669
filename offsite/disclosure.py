"""What the data owner receives of the foundation model: how much, how much verbatim, how alike.

Everything is read off the tensors of the model that was sent, whatever the compression says of
itself. None of it is a promise of privacy: weights that are not verbatim may still be good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from offsite.blocks import architecture_of, get_blocks
from offsite.compression.low_rank import LowRankLinear
from offsite.compression.quantization import QuantizedLinear
from offsite.errors import BadLayout
from offsite.sandwich import Sandwich

CHUNK = 2**24
"""Elements that are compared at once, so that what is made in passing stays some 10 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDisclosure:
    """One block of the emulator beside the foundation model's block it stands for."""

    place: int
    """In the emulator, from 0."""
    position: int
    """Of the block it stands for, in the foundation model."""
    verbatim_fraction: float
    """Of the parameters of the block it stands for."""
    cosine: float | None
    """Of the matrices of both, each block's as one vector; None if there are none to compare."""
    reason: str
    """Why there is no cosine, or which matrices are not in it; empty if all are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """What the data owner receives."""

    sent_parameters: int
    disclosed_fraction: float
    verbatim_fraction: float
    """Share of the owner's parameters that were sent with the very same value; at least.

    It can be more where a later compression dropped the place of a block that is shared, or
    pruned single weights of a matrix whose channels are cut. Tensors are compared in their
    places, a block with the one it stands for: see `verbatim_elements`. What several places of
    the owner's model share counts once."""
    blocks: tuple[BlockDisclosure, ...]
    """Of the emulator, in order. Adapter blocks are always sent as they are."""


@torch.no_grad()
def disclose(sandwich: Sandwich, sent: nn.Module, layer_map: Sequence[int]) -> Disclosure:
    """Compare the model that was sent with the owner's, one block at a time.

    Args:
        sandwich: the owner's model, cut as it was for the emulator.
        sent: adapter blocks around the emulator; it may share tensors with the owner's model.
        layer_map: of the emulator: positions in the middle, in order.

    Raises:
        BadLayout: the layer map and the cut do not make as many blocks as were sent.
    """
    compared = _compared(sandwich, sent, layer_map)
    return Disclosure(
        sent_parameters=parameter_count(sent),
        disclosed_fraction=disclosed_fraction(sandwich.model, sent),
        verbatim_fraction=_verbatim_fraction(sandwich.model, sent, compared),
        blocks=tuple(_block_disclosures(compared)),
    )


def disclosed_fraction(model: nn.Module, sent: nn.Module) -> float:
    """Parameters that were sent over those of the owner's model.

    All that is sent counts: adapter blocks, emulator, embeddings, final norm, head. So do
    weights that were trained or drawn anew, and zeros; a packed weight counts as one parameter
    whatever its bits, a factored matrix as its factors. The fraction is thus at least what
    derives from the owner's model.
    """
    return parameter_count(sent) / parameter_count(model)


def parameter_count(model: nn.Module) -> int:
    """Parameters of a model, packed ones too; those that several places share count once."""
    packed = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    weights = {layer.codes: layer.in_features * layer.out_features for layer in packed}
    stored = {each for layer in packed for each in (layer.codes, layer.scales, layer.zeros)}
    plain = sum(p.numel() for p in model.parameters() if p not in stored)
    return plain + sum(weights.values())


def verbatim_elements(original: Tensor, received: Tensor) -> int:
    """How many elements of a tensor were sent as they are.

    Of a tensor that was changed in part (pruned, trained a little) the elements that are equal
    and not zero. Of one whose size was changed along one dimension the rows, or columns, that
    are among the original's. Types may differ: values count.
    """
    received = received.to(original.device)
    if original.shape != received.shape:
        return _slices_among(original, received)
    equal = not_zero = 0
    chunks = (torch.split(each.reshape(-1), CHUNK) for each in (original, received))
    for ours, theirs in zip(*chunks, strict=True):
        same = ours == theirs
        equal += int(same.sum())
        not_zero += int((same & (ours != 0)).sum())
    return equal if equal == original.numel() else not_zero


@torch.no_grad()
def block_similarity(original: nn.Module, received: nn.Module) -> tuple[float | None, str]:
    """Cosine of the matrices of two blocks, and which of the original's are not in it.

    Packed and factored matrices are compared as the matrices they compute.
    """
    modules = dict(received.named_modules())
    dot = ours = theirs = 0.0
    left_out = []
    for name, module in original.named_modules():
        matrix = _matrix(module)
        if matrix is None:
            continue
        other = _matrix(modules[name]) if name in modules else None
        if other is None or other.shape != matrix.shape:
            left_out.append(f"{name} ({'missing' if other is None else 'another shape'})")
            continue
        left, right = (each.to(matrix.device).float().flatten() for each in (matrix, other))
        dot += float(left @ right)
        ours += float(left @ left)
        theirs += float(right @ right)
    reason = f"not compared: {', '.join(left_out)}" if left_out else ""
    if not ours * theirs:
        return None, reason or "all weights of one block are zero"
    return dot / (ours * theirs) ** 0.5, reason


class _Compared(NamedTuple):
    """A block that was sent, beside the one in whose place it stands."""

    position: int
    place: int | None
    """In the emulator; None of an adapter block."""
    original: nn.Module
    received: nn.Module
    verbatim: dict[int, int]
    """For each parameter received, by its address, how many of its elements are the original's."""


def _compared(sandwich: Sandwich, sent: nn.Module, layer_map: Sequence[int]) -> list[_Compared]:
    order, blocks = sandwich.order(layer_map), list(get_blocks(sent))
    if len(order) != len(blocks):
        raise BadLayout(
            f"{len(blocks)} blocks were sent, but the cut and the layer map make {len(order)}"
        )
    owned = sandwich.blocks
    originals = [owned[position] for position, _ in order]
    return [
        _Compared(position, place, original, block, _verbatim_in_block(original, block))
        for (position, place), original, block in zip(order, originals, blocks, strict=True)
    ]


def _verbatim_fraction(model: nn.Module, sent: nn.Module, compared: Sequence[_Compared]) -> float:
    prefix = architecture_of(model).blocks + "."
    received = dict(sent.named_parameters(remove_duplicate=False))
    count = sum(
        verbatim_elements(parameter, received[name])
        for name, parameter in model.named_parameters()
        if name in received and not name.startswith(prefix)
    )
    found: dict[int, int] = {}
    for each in compared:
        for tensor, same in each.verbatim.items():
            # A shared block is sent once: it counts in the place where it is most verbatim.
            found[tensor] = max(same, found.get(tensor, 0))
    return (count + sum(found.values())) / parameter_count(model)


def _block_disclosures(compared: Sequence[_Compared]) -> Iterator[BlockDisclosure]:
    for each in compared:
        if each.place is None:
            continue
        cosine, reason = block_similarity(each.original, each.received)
        yield BlockDisclosure(
            place=each.place,
            position=each.position,
            verbatim_fraction=sum(each.verbatim.values()) / parameter_count(each.original),
            cosine=cosine,
            reason=reason,
        )


def _verbatim_in_block(original: nn.Module, received: nn.Module) -> dict[int, int]:
    """What `_Compared.verbatim` says."""
    modules = dict(received.named_modules())
    found = {}
    for name, module in original.named_modules():
        other = modules.get(name, nn.Module())
        theirs = dict(other.named_parameters(recurse=False))
        if isinstance(other, LowRankLinear):
            theirs = {"bias": other.up.bias} if other.up.bias is not None else {}
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if parameter_name not in theirs:
                continue
            # Conv1D stores its matrix the other way round than what may stand in for it.
            turned = isinstance(module, Conv1D) and not isinstance(other, Conv1D)
            ours = parameter.T if turned and parameter.dim() > 1 else parameter
            same = theirs[parameter_name]
            found[same.data_ptr()] = verbatim_elements(ours, same)
    return found


def _matrix(module: nn.Module) -> Tensor | None:
    """What a linear module multiplies with, (out, in); None if it is not one."""
    if isinstance(module, LowRankLinear):
        up, down = _matrix(module.up), _matrix(module.down)
        assert up is not None
        assert down is not None
        return up.float() @ down.float()
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return None
    return weight.T if isinstance(module, Conv1D) else weight


def _slices_among(original: Tensor, received: Tensor) -> int:
    """Elements in the slices of `received` that are slices of `original`, along what was cut."""
    cut = [
        i for i, (a, b) in enumerate(zip(original.shape, received.shape, strict=False)) if a != b
    ]
    if original.dim() != received.dim() or len(cut) != 1:
        return 0
    known = set(_slices(original, cut[0]))
    found = sum(each in known for each in _slices(received.to(original.dtype), cut[0]))
    return found * (received.numel() // received.shape[cut[0]])


def _slices(tensor: Tensor, dimension: int) -> Iterator[bytes]:
    """Each slice's bytes."""
    rows = tensor.detach().movedim(dimension, 0).reshape(tensor.shape[dimension], -1)
    # Bytes, since NumPy knows no bfloat16.
    for row in rows.contiguous().view(torch.uint8).cpu().numpy():
        yield row.tobytes()
