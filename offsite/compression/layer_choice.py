"""Compressions that choose blocks without looking at data, and the two controls."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from offsite.compression.emulator import Emulator
from offsite.compression.layers import Described
from offsite.compression.methods import Identity, LayerDrop, RandomInit
from offsite.errors import BadLayout


def layer_drop(emulator: Emulator, parameters: LayerDrop) -> Emulator:
    """Keep evenly spaced (arXiv 2302.04870, section 4), random or named blocks."""
    total = len(emulator.blocks)
    if parameters.blocks is not None:
        return keep(emulator, parameters.blocks)
    assert parameters.keep is not None
    if parameters.choose == "random":
        return keep(emulator, random_positions(total, parameters.keep, parameters.seed))
    return keep(emulator, evenly_spaced(total, parameters.keep, parameters.rounding))


def identity(emulator: Emulator, parameters: Identity) -> Emulator:
    """Keep every block."""
    return keep(emulator, range(len(emulator.blocks)))


def random_init(emulator: Emulator, parameters: RandomInit) -> Emulator:
    """Draw every parameter of the blocks anew, as their library does for an untrained model.

    Scales are the library's own (GPT-2's smaller output projections, CLIP's widths, Gemma's
    norms around 0), biases 0, norms neutral. BLOOM's and timm's blocks do not hold their
    configuration: they get their library's default scale, a standard deviation of 0.02.
    The numbers depend on the seed alone, not on device or dtype.

    Raises:
        BadLayout: a module has weights that only a compression can make, packed or factored.
    """
    result = keep(emulator, range(len(emulator.blocks)))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the generators of every GPU.
        torch.default_generator.manual_seed(parameters.seed)
        for block in result.blocks:
            _draw(block)
    return result


def keep(emulator: Emulator, positions: Sequence[int]) -> Emulator:
    """A copy of the blocks at `positions`, in order; what they share, the copies share."""
    blocks = nn.ModuleList(deepcopy([emulator.blocks[i] for i in positions]))
    return replace(
        emulator, blocks=blocks, layer_map=tuple(emulator.layer_map[i] for i in positions)
    )


def evenly_spaced(total: int, keep: int, rounding: str = "nearest-even") -> list[int]:
    """Pick `keep` of `total` positions, the first and last among them.

    Args:
        total: how many there are.
        keep: how many stay, 2 to `total`.
        rounding: `nearest-even` as the authors' code, `floor` as FederatedScope's.

    Raises:
        BadLayout: `keep` is out of range.

    >>> evenly_spaced(20, 8)
    [0, 3, 5, 8, 11, 14, 16, 19]
    >>> evenly_spaced(20, 8, "floor")
    [0, 2, 5, 8, 10, 13, 16, 19]
    """
    if not 2 <= keep <= total:
        raise BadLayout(f"layer_drop cannot keep {keep} of {total} middle blocks; 2 to {total} can")
    stride = (total - 1) / (keep - 1)
    # round() sends ties to even, as the authors' code does. int(x + 0.5) picks other
    # blocks at some depths (3 of 6: 0, 3, 5), which would not compare with the paper.
    # int() of a product that falls just short of a whole number takes the block before, as
    # FederatedScope does; of all pairs up to 96 blocks that moves a position in 116 of 4,560.
    place = int if rounding == "floor" else round
    return [place(i * stride) for i in range(keep)]


def random_positions(total: int, keep: int, seed: int) -> list[int]:
    """Pick `keep` of `total` positions at random, each set equally likely, in order.

    With one seed, fewer positions are a part of more.
    """
    # Of Python's generator only random() promises equal numbers in all versions; sample() is
    # free to change.
    generator = random.Random(seed)
    draws = [generator.random() for _ in range(total)]
    return sorted(sorted(range(total), key=draws.__getitem__)[:keep])


def _draw(block: nn.Module) -> None:
    """Draw all parameters of `block`, in float32 on the CPU: others draw other numbers."""
    _refuse(block, _only_of_compressions(block))
    initialise = _initialiser(block)
    parameters = dict(block.named_parameters())
    kept = {name: (p.dtype, p.device) for name, p in parameters.items()}
    for parameter in parameters.values():
        # NaN shows what the library's initialiser does not reach.
        parameter.data = torch.full(parameter.shape, torch.nan)
    block.apply(initialise)
    _refuse(block, [name for name, p in parameters.items() if not bool(p.isfinite().all())])
    for name, parameter in parameters.items():
        dtype, device = kept[name]
        parameter.data = parameter.data.to(device, dtype)


def _only_of_compressions(block: nn.Module) -> list[str]:
    """Modules of ours that are no linear or norm of another size, and tensors that do not train."""
    modules = [
        name
        for name, module in block.named_modules()
        if isinstance(module, Described) and not isinstance(module, (nn.Linear, nn.LayerNorm))
    ]
    trained = dict(block.named_parameters(remove_duplicate=False))
    return modules + sorted(block.state_dict().keys() - trained.keys())


def _refuse(block: nn.Module, names: list[str]) -> None:
    if names:
        raise BadLayout(
            f"random_init does not know how to draw {names[0]!r} of {type(block).__name__}; "
            "put it before compressions that pack, factor or replace weights"
        )


def _initialiser(block: nn.Module) -> Callable[[nn.Module], Any]:
    """The function with which the block's library initialises one module."""
    from timm.models.vision_transformer import init_weights_vit_timm
    from transformers import PreTrainedModel

    # transformers has it as a method of the family's models, in the file that defines the block.
    neighbours = vars(sys.modules[type(block).__module__]).values()
    families: list[Any] = [
        each
        for each in neighbours
        if isinstance(each, type) and PreTrainedModel in each.__mro__[1:]
    ]
    if not families:
        return cast(Callable[[nn.Module], Any], init_weights_vit_timm)
    model = families[0].__new__(families[0])  # a model without weights
    nn.Module.__init__(model)
    # Most of transformers' attention modules keep the model's configuration.
    configs = (getattr(module, "config", None) for module in block.modules())
    model.config = next((c for c in configs if c is not None), None) or families[0].config_class()
    return cast(Callable[[nn.Module], Any], model._init_weights)
