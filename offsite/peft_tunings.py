"""The tunings that peft has: LoRA, DoRA and IA3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from offsite.blocks import architecture_of, roles
from offsite.errors import NothingToTrain
from offsite.models import ensure_torchvision
from offsite.tuning_methods import Dora, Ia3, Lora

if TYPE_CHECKING:
    from peft import PeftConfig


def attach_lora(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: Lora
) -> Mapping[str, nn.Module]:
    """Add low-rank updates (arXiv 2106.09685) to every linear layer; they start at zero.

    With `Dora` (arXiv 2402.09353) the size of each output channel trains too.
    """
    ensure_torchvision()
    from peft import LoraConfig

    for block in blocks.values():
        linears = _linears(block)
        if not linears:
            method = "dora" if isinstance(parameters, Dora) else "lora"
            raise NothingToTrain(
                f"tuning {method!r} trains updates of linear layers, and {type(block).__name__} "
                "has none; full or bitfit-paper would work"
            )
        config = LoraConfig(
            r=parameters.rank,
            lora_alpha=parameters.alpha,
            lora_dropout=parameters.dropout,
            use_dora=isinstance(parameters, Dora),
            target_modules=_exactly(linears),
            fan_in_fan_out=_transposed(linears.values()),
        )
        _inject(config, block)
        _measure_channels(block)
    return blocks


def attach_ia3(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: Ia3
) -> Mapping[str, nn.Module]:
    """Scale keys, values and the FFN's intermediate channels (arXiv 2205.05638), from 1.

    Where query, key and value are one matrix all its outputs are scaled, as in peft's own
    tables: a query's scale multiplies the same products as its key's.
    """
    ensure_torchvision()
    from peft import IA3Config

    for block in blocks.values():
        linears = _linears(block)
        if block is model or not linears:
            raise NothingToTrain(
                f"tuning 'ia3' scales attention and FFN within blocks, and {type(block).__name__} "
                "is no block with linear layers; full or bitfit-paper would work"
            )
        parts = roles(architecture_of(model), block)
        attention = {n for n in parts.attention if n.rpartition(".")[2] not in ("q_proj", "gate")}
        config = IA3Config(
            target_modules=_exactly(attention | set(parts.ffn_out)),
            # These are scaled at their input: the intermediate channels after the activation.
            feedforward_modules=_exactly(parts.ffn_out),
            fan_in_fan_out=_transposed(linears.values()),
        )
        _inject(config, block)
    return blocks


def _linears(block: nn.Module) -> dict[str, nn.Module]:
    from transformers.pytorch_utils import Conv1D

    return {n: m for n, m in block.named_modules() if isinstance(m, (nn.Linear, Conv1D))}


def _transposed(linears: Iterable[nn.Module]) -> bool:
    """GPT-2 stores its weights as inputs × outputs."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(linear, Conv1D) for linear in linears)


def _exactly(names: Iterable[str]) -> str:
    """A pattern for these modules alone: peft takes a list of names for endings of names."""
    return "|".join(re.escape(name) for name in sorted(names))


def _inject(config: PeftConfig, block: nn.Module) -> None:
    from peft import inject_adapter_in_model

    with torch.no_grad():
        inject_adapter_in_model(config, block)
    # peft gives what it adds the dtype of the frozen weights.
    for parameter in block.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _measure_channels(block: nn.Module) -> None:
    """Take DoRA's channel sizes again: in bfloat16 they are rounded, and step 0 is off."""
    from peft.tuners.lora import LoraLayer

    for layer in block.modules():
        if isinstance(layer, LoraLayer):
            for name, size in layer.lora_magnitude_vector.items():
                size.update_layer(
                    base_layer=layer.get_base_layer(),
                    lora_A=layer.lora_A[name].weight,
                    lora_B=layer.lora_B[name].weight,
                    scaling=layer.scaling[name],
                )
