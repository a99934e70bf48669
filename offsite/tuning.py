"""What is trained: a tuning marks what trains in a model, and carries it elsewhere.

What it exports is named after trainable blocks and never after their place in the model, so
the tensors of a model with an emulator fit the same blocks of the original model.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from offsite.errors import NothingToTrain
from offsite.heads import own_head
from offsite.tuning_methods import METHODS, Bitfit, BitfitPaper, Full, Parameters


@dataclass(frozen=True, slots=True)
class Tuning:
    """A method of `tuning_methods.METHODS` with its parameters."""

    method: str = "full"
    parameters: Parameters = field(default_factory=Full)
    head: bool = False
    """Also train an image model's classifier; the model gets a copy of its own."""

    def attach(self, model: nn.Module, blocks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """Freeze `model` but for what this method trains.

        Args:
            model: changed in place; what a method adds is held in float32.
            blocks: those of its blocks that may be trained, by name.

        Returns:
            The modules that hold what trains, by name: for most methods `blocks`.

        Raises:
            NothingToTrain: the method finds nothing to train in this model, or in these blocks.
        """
        module, _, name = METHODS[self.method].function.partition(":")
        function = getattr(importlib.import_module(module), name)
        model.requires_grad_(False)
        modules = dict(function(model, blocks, self.parameters))
        if self.head:
            modules["head"] = own_head(model).requires_grad_(True)
        if not trainable(modules):
            raise NothingToTrain(f"tuning {self.method!r} finds nothing to train in these blocks")
        return modules

    def state(self, modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Copies of the trained tensors, on the CPU, by names that hold at any depth.

        Args:
            modules: what `attach` returned.
        """
        return {
            name: parameter.detach().cpu().clone().contiguous()
            for name, parameter in trainable(modules).items()
        }

    def load(self, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
        """Put exported tensors into the modules `attach` returned, in the tensors' own dtype."""
        parameters = trainable(modules)
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


def trainable(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters that training may change, by module name and parameter name."""
    return {
        f"{label}.{name}": parameter
        for label, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def keep_masters(modules: Mapping[str, nn.Module]) -> None:
    """Hold what trains in float32, whatever the frozen weights are stored in."""
    for parameter in trainable(modules).values():
        parameter.data = parameter.data.float()


def attach_full(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: Full
) -> Mapping[str, nn.Module]:
    """Train everything in the blocks."""
    for block in blocks.values():
        block.requires_grad_(True)
    return blocks


def attach_bitfit(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: Bitfit
) -> Mapping[str, nn.Module]:
    """Train the biases of linears and norms (arXiv 2106.10199), which are known by their names."""
    for block in blocks.values():
        for name, parameter in block.named_parameters():
            # timm's eva calls two of its biases q_bias and v_bias.
            parameter.requires_grad_(name.endswith("bias"))
        _hold_norms_in_float32(block)
    if blocks and not trainable(blocks):
        kind = type(next(iter(blocks.values()))).__name__
        raise NothingToTrain(
            f"tuning 'bitfit' trains biases, and these blocks ({kind}) have none; "
            "bitfit-paper (norm weights), lora, dora, ia3, bottleneck or full would work"
        )
    return blocks


def _hold_norms_in_float32(block: nn.Module) -> None:
    # A layer norm refuses a float32 bias beside a weight of another dtype. Nothing is rounded.
    for module in block.modules():
        own = list(module.parameters(recurse=False))
        if any(p.requires_grad for p in own) and all(p.dim() == 1 for p in own):
            for parameter in own:
                parameter.data = parameter.data.float()


def attach_bitfit_paper(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: BitfitPaper
) -> Mapping[str, nn.Module]:
    """Train what has one dimension, as the authors' code does: biases and norm weights."""
    for block in blocks.values():
        for parameter in block.parameters():
            parameter.requires_grad_(parameter.dim() == 1)
    return blocks
