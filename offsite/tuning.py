"""What is trained: a tuning marks the parameters of blocks, and carries them elsewhere.

A tuning works on named blocks and never looks past them, so the tensors it exports from a
model with an emulator fit the same blocks of the original model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from offsite.errors import NothingToTrain
from offsite.tuning_methods import METHODS, Full, Lora


@dataclass(frozen=True, slots=True)
class Tuning:
    """A method of `tuning_methods.METHODS` with its parameters."""

    method: str = "full"
    parameters: Full | Lora = field(default_factory=Full)

    def attach(self, model: nn.Module, blocks: Mapping[str, nn.Module]) -> None:
        """Freeze `model` but for what this method trains in `blocks`, some of its blocks.

        Raises:
            NothingToTrain: no parameter is left to train.
        """
        module, _, name = METHODS[self.method].function.partition(":")
        function = getattr(importlib.import_module(module), name)
        model.requires_grad_(False)
        for block in blocks.values():
            function(block, self.parameters)
        if not trainable(blocks):
            raise NothingToTrain(f"tuning {self.method!r} finds nothing to train in these blocks")

    def state(self, blocks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Copies of the trained tensors, on the CPU, by names that hold at any depth."""
        return {
            name: parameter.detach().cpu().clone().contiguous()
            for name, parameter in trainable(blocks).items()
        }

    def load(self, blocks: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
        """Put exported tensors into blocks this tuning is attached to, in their own dtype."""
        parameters = trainable(blocks)
        if parameters.keys() != state.keys():
            missing = sorted(parameters.keys() - state.keys())
            unknown = sorted(state.keys() - parameters.keys())
            raise ValueError(f"adapter state does not fit: missing {missing}, unknown {unknown}")
        for name, parameter in parameters.items():
            if parameter.shape != state[name].shape:
                raise ValueError(f"{name}: {tuple(state[name].shape)} != {tuple(parameter.shape)}")
            parameter.data = state[name].to(parameter.device, copy=True)


def tuning_from(description: Mapping[str, object]) -> Tuning:
    """`{"method": "lora", "rank": 4}` as a `Tuning`."""
    fields = {key: value for key, value in description.items() if key != "method"}
    method = str(description["method"])
    return Tuning(method, METHODS[method].parameters(**fields))  # type: ignore[arg-type]


def trainable(blocks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters that training may change, by block name and parameter name."""
    return {
        f"{label}.{name}": parameter
        for label, block in blocks.items()
        for name, parameter in block.named_parameters()
        if parameter.requires_grad
    }


def keep_masters(blocks: Mapping[str, nn.Module]) -> None:
    """Hold what trains in float32, whatever the frozen weights are stored in."""
    for parameter in trainable(blocks).values():
        parameter.data = parameter.data.float()


def attach_full(block: nn.Module, parameters: Full) -> None:
    """Train everything in the block."""
    block.requires_grad_(True)


def attach_lora(block: nn.Module, parameters: Lora) -> None:
    """Add low-rank updates (arXiv 2106.09685) to every linear layer; they start at zero."""
    from offsite.models import ensure_torchvision

    ensure_torchvision()
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    linears = {n: m for n, m in block.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    if not linears:
        raise NothingToTrain("tuning 'lora' finds no linear layer in these blocks")
    config = LoraConfig(
        r=parameters.rank,
        lora_alpha=parameters.alpha,
        lora_dropout=parameters.dropout,
        target_modules=list(linears),
        # GPT-2 stores its weights transposed.
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in linears.values()),
    )
    with torch.no_grad():
        inject_adapter_in_model(config, block)
