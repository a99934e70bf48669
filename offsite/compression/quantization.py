"""Compressions that store weights in few bits, and the authors' simulated rounding.

`quantize` really packs: two 4-bit weights are one byte. Nothing runs faster, since weights are
expanded whenever they compute; what falls is memory, and what an emulator discloses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from offsite.blocks import roles
from offsite.compression.emulator import Emulator
from offsite.compression.layers import Described
from offsite.compression.methods import PaperRtn, Quantize
from offsite.errors import OffsiteError

NF4_LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""Quantiles of a normal distribution scaled to [-1, 1], with an exact 0 (arXiv 2305.14314)."""

NF4_GROUP = 64
INT8_TOP = 127
CHUNK = 2**21
"""Weights that are worked on at once, so that float32 copies stay a few MiB."""


def quantize(emulator: Emulator, parameters: Quantize) -> Emulator:
    """Replace every linear of the blocks, also factors of one, by a `QuantizedLinear`.

    Raises:
        OffsiteError: the blocks are quantised already.
    """
    refuse_quantized(emulator, "quantize once")
    by_weight: dict[int, QuantizedLinear] = {}
    # What deepcopy finds in its memo it takes instead of a copy: the dense weights of the
    # emulator are never copied, and what blocks share they share again.
    memo: dict[int, Any] = {}
    to_fill = []
    for linear in linears(emulator):
        bias, twin = deepcopy(linear.bias, memo), by_weight.get(id(linear.weight))
        layer = twin.with_bias(bias) if twin else QuantizedLinear.like(linear, parameters, bias)
        to_fill += [] if twin else [(layer, linear)]
        memo[id(linear)] = by_weight[id(linear.weight)] = layer
    # All room first: between what passes in filling it would lie scattered, and the heap with it
    # (1.2 GB of holes at 1.3B parameters and 8 bits).
    for layer, linear in to_fill:
        layer.fill(linear)
    return replace(emulator, blocks=deepcopy(emulator.blocks, memo))


@torch.no_grad()
def paper_rtn(emulator: Emulator, parameters: PaperRtn) -> Emulator:
    """Round every two-dimensional weight as arXiv 2302.04870's code does; stored dense.

    Raises:
        OffsiteError: the blocks are quantised already.
    """
    refuse_quantized(emulator, "quantize once")
    blocks = deepcopy(emulator.blocks)
    for weight in blocks.parameters():
        if weight.dim() == 2:
            paper_round(weight, parameters.bits)
    return replace(emulator, blocks=blocks)


def paper_round(weight: Tensor, bits: int) -> None:
    """The authors' rounding of one tensor, in place and in its own dtype.

    The grid is centred between the extremes and not clamped, so there are up to 2**bits + 1
    values; at 1 bit all weights become one (round() sends .5 to 0). A constant tensor stays
    as it is: the authors' code divides by zero there.
    """
    low, high = weight.aminmax()
    if low < high:
        zero_point, scale = (high + low) / 2, (high - low) / (2**bits - 1)
        weight.sub_(zero_point).div_(scale).round_().mul_(scale).add_(zero_point)


def linears(emulator: Emulator) -> Iterator[nn.Linear | Conv1D]:
    """Every linear of the emulator's blocks; of a factored one its factors.

    Not in blocks that another compression put in a block's place (harmonizers), which have no
    attention and no FFN.
    """
    for block in emulator.blocks:
        if isinstance(block, Described):
            continue
        for name, module in roles(emulator.architecture, block).all.items():
            found = [m for m in module.modules() if isinstance(m, (nn.Linear, Conv1D))]
            if not found:
                raise OffsiteError(f"{name} is a {type(module).__name__}, not a linear layer")
            yield from found


def refuse_quantized(emulator: Emulator, instead: str) -> None:
    """Raise OffsiteError with the advice `instead` if any weights are packed already."""
    if any(isinstance(module, QuantizedLinear) for module in emulator.blocks.modules()):
        raise OffsiteError(f"the emulator's weights are packed by quantize already; {instead}")


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is stored packed, and expanded each time it computes.

    Codes of a row lie next to one another, `bits` bits each, and end on a whole byte. A group
    of consecutive inputs of a row shares a scale; the last one may be shorter. The weight gets
    no gradient.

    Args:
        in_features: inputs of the layer.
        out_features: outputs of the layer.
        format: how a code becomes a weight. `rtn`: (code - zero) * scale. `nf4`: the code's
            quantile * scale. `int8`: (code - 127) * scale.
        bits: of a code.
        group: weights of a row that share a scale.
        bias: whether the layer has one.
        dtype: of scales and bias, and so of the expanded weight.
        device: where the tensors are; they are still to be filled.
    """

    kind = "quantized"
    codes: nn.Parameter
    """uint8, (out_features, bytes of a row)."""
    scales: nn.Parameter
    """(out_features, groups)."""
    zeros: nn.Parameter | None
    """`rtn` only: codes of weight 0, packed like `codes`. uint8, (out_features, bytes)."""
    levels: Tensor
    """`nf4` only: `NF4_LEVELS`, which are not stored."""
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        format: str,
        bits: int,
        group: int,
        bias: bool,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.format, self.bits, self.group = format, bits, group
        groups = -(-in_features // group)

        def room(count: int) -> nn.Parameter:
            shape = out_features, packed_length(count, bits)
            codes = torch.empty(shape, dtype=torch.uint8, device=device)
            return nn.Parameter(codes, requires_grad=False)

        # Parameters, though none is trained: what layers share they still share on another
        # device, where every buffer would get a copy of its own.
        self.register_parameter("codes", room(in_features))
        scales = torch.empty(out_features, groups, dtype=dtype, device=device)
        self.register_parameter("scales", nn.Parameter(scales, requires_grad=False))
        self.register_parameter("zeros", room(groups) if format == "rtn" else None)
        if format == "nf4":
            levels = torch.tensor(NF4_LEVELS, dtype=torch.float32, device=device)
            self.register_buffer("levels", levels, persistent=False)
        empty = torch.empty(out_features, dtype=dtype, device=device)
        self.register_parameter("bias", nn.Parameter(empty) if bias else None)

    @classmethod
    def like(
        cls, linear: nn.Linear | Conv1D, parameters: Quantize, bias: nn.Parameter | None
    ) -> Self:
        """A layer with room for the weight of `linear`, and `bias` (not copied)."""
        weight = _weight(linear)
        outputs, inputs = weight.shape
        bits, group = {
            "rtn": (parameters.bits, parameters.group),
            "nf4": (4, NF4_GROUP),
            "int8": (8, inputs),
        }[parameters.format]
        layer = cls(
            inputs,
            outputs,
            parameters.format,
            bits,
            min(group, inputs),
            bias=False,
            dtype=weight.dtype,
            device=weight.device,
        )
        layer.bias = bias
        return layer.train(linear.training)

    @torch.no_grad()
    def fill(self, linear: nn.Linear | Conv1D) -> None:
        """Quantise the weight of `linear` into the room there is."""
        weight, step = _weight(linear), max(1, CHUNK // self.in_features)
        for start in range(0, self.out_features, step):
            self._fill(slice(start, start + step), weight[start : start + step])

    def with_bias(self, bias: nn.Parameter | None) -> Self:
        """Another layer that shares the weight of this one."""
        twin = self.empty(**self.description() | {"bias": False})
        twin._parameters = dict(self._parameters)
        twin.bias = bias
        return twin.train(self.training)

    def description(self) -> dict[str, Any]:
        """Keyword arguments of `empty`, as JSON."""
        names = ("in_features", "out_features", "format", "bits", "group")
        return {name: getattr(self, name) for name in names} | {"bias": self.bias is not None}

    @classmethod
    def empty(cls, **description: Any) -> Self:  # noqa: ANN401 - as `description` gave them
        """A layer of the same shape whose tensors are still to be filled."""
        return cls(**description)

    @property
    def weight(self) -> Tensor:
        """The expanded weight, made anew each time: (out_features, in_features)."""
        groups = self.scales.shape[1]
        codes = unpacked(self.codes, self.bits, self.in_features)
        codes = padded(codes, self.group).view(self.out_features, groups, -1)
        if self.format == "nf4":
            levels = self.levels.to(self.scales.dtype)
            values = levels.index_select(0, codes.flatten().int()).view(codes.shape)
        else:
            values = codes.to(self.scales.dtype)
            values.sub_(INT8_TOP if self.zeros is None else self._zeros().unsqueeze(-1))
        values.mul_(self.scales.unsqueeze(-1))
        return values.view(self.out_features, -1)[:, : self.in_features]

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        result: Tensor = _Linear.apply(inputs, self.bias, self)  # type: ignore[no-untyped-call]
        return result

    def extra_repr(self) -> str:
        """The description, in one line."""
        return ", ".join(f"{key}={value}" for key, value in self.description().items())

    def _zeros(self) -> Tensor:
        assert self.zeros is not None
        return unpacked(self.zeros, self.bits, self.scales.shape[1])

    def _fill(self, rows: slice, weight: Tensor) -> None:
        """Quantise some rows of the weight."""
        groups = padded(weight.float(), self.group).view(len(weight), -1, self.group)
        if self.format == "rtn":
            codes, scales, zeros = rtn(groups, self.bits, self.scales.dtype)
            assert self.zeros is not None
            self.zeros[rows] = packed(zeros, self.bits)
        else:
            method = nf4 if self.format == "nf4" else int8
            codes, scales = method(groups, self.scales.dtype)
        self.scales[rows] = scales
        self.codes[rows] = packed(codes.flatten(1)[:, : self.in_features], self.bits)


def _weight(linear: nn.Linear | Conv1D) -> Tensor:
    """(outputs, inputs), whichever way round it is stored."""
    return linear.weight.T if isinstance(linear, Conv1D) else linear.weight


class _Linear(torch.autograd.Function):
    """F.linear that expands the weight again for the backward pass, and keeps it at no time.

    F.linear would hold every expanded weight of the emulator until the backward pass, and with
    it all the memory that packing saved. QLoRA does the same (arXiv 2305.14314).
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, bias: Tensor | None, layer: QuantizedLinear) -> Tensor:  # noqa: ANN401
        ctx.layer = layer
        ctx.dtypes = inputs.dtype, None if bias is None else bias.dtype
        return functional.linear(inputs, layer.weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        inputs, bias = None, None
        input_dtype, bias_dtype = ctx.dtypes
        # Under autocast the gradient arrives in the lower precision, in which a dense layer
        # would compute too.
        if ctx.needs_input_grad[0]:
            inputs = (gradient @ ctx.layer.weight.to(gradient.dtype)).to(input_dtype)
        if ctx.needs_input_grad[1]:
            bias = gradient.flatten(0, -2).sum(0).to(bias_dtype)
        return inputs, bias, None


def rtn(groups: Tensor, bits: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Round to the nearest of 2**bits even steps between a group's smallest and largest weight.

    s = (max - min) / (2**bits - 1), z = round(-min / s), code = clamp(round(w / s) + z).
    The range of a group of one sign is extended to 0, so that z is a code too; a constant
    group then has its constant at one end, and 0 in every place stays exactly 0.

    Args:
        groups: float32, (rows, groups, weights of a group).
        bits: of a code.
        dtype: of the scales.

    Returns:
        Codes (uint8, as `groups`), scales (rows, groups) and zeros (uint8, rows, groups).
    """
    low, high, top = groups.amin(-1).clamp_(max=0), groups.amax(-1).clamp_(min=0), 2**bits - 1
    scales = ((high - low) / top).to(dtype)
    steps = _divisors(scales)
    zeros = (-low / steps).round_().clamp_(0, top)
    codes = (groups / steps.unsqueeze(-1)).round_().add_(zeros.unsqueeze(-1)).clamp_(0, top)
    return codes.byte(), scales, zeros.byte()


def nf4(groups: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The nearest of `NF4_LEVELS` times a group's largest magnitude; shapes as in `rtn`."""
    scales = groups.abs().amax(-1).to(dtype)
    relative = groups / _divisors(scales).unsqueeze(-1)
    codes = torch.zeros(groups.shape, dtype=torch.uint8, device=groups.device)
    # Three times as fast as bucketize on a CPU.
    for lower, upper in pairwise(NF4_LEVELS):
        codes += relative > (lower + upper) / 2
    return codes, scales


def int8(groups: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The nearest of -127 to 127 steps of a group's largest magnitude; shapes as in `rtn`."""
    scales = (groups.abs().amax(-1) / INT8_TOP).to(dtype)
    codes = (groups / _divisors(scales).unsqueeze(-1)).round_().clamp_(-INT8_TOP, INT8_TOP)
    return (codes + INT8_TOP).byte(), scales


def packed_length(count: int, bits: int) -> int:
    """Bytes that `count` codes take."""
    return -(-count * bits // 8)


def packed(codes: Tensor, bits: int) -> Tensor:
    """Codes side by side, the first in the lowest bits.

    Args:
        codes: uint8 below 2**bits, (rows, count).
        bits: 1 to 8.

    Returns:
        uint8, (rows, packed_length(count, bits)).
    """
    rows, count = codes.shape
    per_run, length = _run(bits)
    runs = padded(codes, per_run).view(rows, -1, per_run)
    data = torch.zeros((*runs.shape[:2], length), dtype=torch.uint8, device=codes.device)
    for i in range(per_run):
        byte, shift = divmod(bits * i, 8)
        data[..., byte] |= runs[..., i] << shift
        if shift + bits > 8:
            data[..., byte + 1] |= runs[..., i] >> (8 - shift)
    return data.view(rows, -1)[:, : packed_length(count, bits)]


def unpacked(data: Tensor, bits: int, count: int) -> Tensor:
    """The `count` codes of each row that `packed` made `data` from."""
    per_run, length = _run(bits)
    runs = padded(data, length).view(len(data), -1, length)
    codes = torch.empty((*runs.shape[:2], per_run), dtype=torch.uint8, device=data.device)
    for i in range(per_run):
        byte, shift = divmod(bits * i, 8)
        code = runs[..., byte] >> shift
        if shift + bits > 8:
            code |= runs[..., byte + 1] << (8 - shift)
        codes[..., i] = code & (2**bits - 1)
    return codes.view(len(data), -1)[:, :count]


def padded(rows: Tensor, multiple: int) -> Tensor:
    """Rows with zeros at the end, up to a multiple of a length; no copy where there are none."""
    missing = -rows.shape[1] % multiple
    return functional.pad(rows, (0, missing)) if missing else rows.contiguous()


def _run(bits: int) -> tuple[int, int]:
    """Codes and bytes of the shortest run of codes that ends on a whole byte."""
    common = math.gcd(bits, 8)
    return 8 // common, bits // common


def _divisors(scales: Tensor) -> Tensor:
    """Scales as they are stored, in float32; 1 where all weights are 0 or too small for one."""
    return scales.float().masked_fill(scales == 0, 1)
