"""Where a model keeps its transformer blocks, what is in one, and how to put others there.

This is the only module that knows model internals. Supporting another architecture is one
row in `offsite.architectures`; `tests/offsite/test_architectures.py` builds a model per row.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from offsite.architectures import ARCHITECTURES, Architecture
from offsite.errors import UnknownArchitecture


@dataclass(frozen=True, slots=True)
class Roles:
    """The linears of one block by what they do, by their names within the block."""

    attention: dict[str, nn.Module]
    attention_out: dict[str, nn.Module]
    ffn_in: dict[str, nn.Module]
    ffn_out: dict[str, nn.Module]
    ffn_norm: dict[str, nn.Module]
    """Not linear: the norm over the intermediate channels, in the few variants that have one."""

    @property
    def all(self) -> dict[str, nn.Module]:
        """Every linear of the block."""
        return self.attention | self.attention_out | self.ffn_in | self.ffn_out


def architecture_of(model: nn.Module) -> Architecture:
    """The model's row of the table, made exact where the row stands for variants.

    Raises:
        UnknownArchitecture: no row, or a variant whose blocks cannot be moved or replaced.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind is None and hasattr(model, "pretrained_cfg"):
        kind = "timm"
    if kind not in ARCHITECTURES:
        raise UnknownArchitecture(
            f"{type(model).__name__} is of model type {kind!r}, which has no row in "
            f"offsite.architectures; known: {', '.join(ARCHITECTURES)}"
        )
    if getattr(getattr(model, "config", None), "scale_attn_by_inverse_layer_idx", False):
        raise UnknownArchitecture(
            f"{type(model).__name__} scales attention by a block's number "
            "(scale_attn_by_inverse_layer_idx), so a block cannot move to another position"
        )
    return _timm_variant(model) if kind == "timm" else ARCHITECTURES[kind]


def get_blocks(model: nn.Module) -> nn.ModuleList | nn.Sequential:
    """The model's own list of blocks (not a copy)."""
    path = architecture_of(model).blocks
    try:
        blocks = model.get_submodule(path)
    except AttributeError:
        raise UnknownArchitecture(
            f"{type(model).__name__} has no blocks at {path!r}; the installed library may have "
            "moved them. Correct offsite.architectures."
        ) from None
    assert isinstance(blocks, (nn.ModuleList, nn.Sequential))
    return blocks


def roles(architecture: Architecture, block: nn.Module) -> Roles:
    """Find the linears of `block`, or whatever stands in their places by now.

    Raises:
        UnknownArchitecture: a variant that computes attention or FFN in another way.
    """
    modules = dict(block.named_modules())
    found = {}
    for role in ("attention", "attention_out", "ffn_in", "ffn_out"):
        names: tuple[str, ...] = getattr(architecture, role)
        present = {name: modules[name] for name in names if name in modules}
        if not present:
            raise UnknownArchitecture(
                f"{type(block).__name__} is no block of {architecture.name} as "
                f"offsite.architectures knows it: it has no {' or '.join(names)}"
            )
        found[role] = present
    norms = {name: modules[name] for name in architecture.ffn_norm if name in modules}
    weighted = {name: norm for name, norm in norms.items() if any(True for _ in norm.parameters())}
    return Roles(**found, ffn_norm=weighted)


def with_blocks(
    model: nn.Module,
    blocks: Iterable[nn.Module],
    *,
    origins: Sequence[int],
    renumber: bool = True,
) -> nn.Module:
    """A model that runs `blocks` and shares everything else with `model`, which stays as it is.

    The library indexes its key-value cache and per-layer settings by a block's number, so
    blocks are renumbered in place: pass copies of blocks that change their position.

    Args:
        model: the model whose embeddings, norms and head are shared.
        blocks: the new blocks, in order.
        origins: for each new block, the position in `model` whose per-layer settings
            (`config.layer_types`) it takes.
        renumber: False leaves the blocks untouched, for a passing look through some of the
            owner's own blocks. Such a model must run without a cache.
    """
    path = architecture_of(model).blocks.split(".")
    result = _shallow(model)
    parent = result
    for name in path[:-1]:
        child = _shallow(getattr(parent, name))
        setattr(parent, name, child)
        parent = child
    new = list(blocks)
    assert len(new) == len(origins)
    setattr(parent, path[-1], type(getattr(parent, path[-1]))(*_arguments(parent, path[-1], new)))
    if renumber:
        for position, block in enumerate(new):
            renumber_block(block, position)
    _reconfigure(result, path[:-1], origins)
    return result


def call_every_linear(model: nn.Module) -> None:
    """Let timm's eva blocks call `attn.qkv` where they would read its weight alone.

    They add query and value biases of their own, and to do both at once they pass the
    weight to a function. LoRA, quantised or factored layers in that place would have no
    effect, and nothing would say so.
    """
    for module in _silent_qkv(model):
        module.qkv_bias_separate = True  # type: ignore[assignment]


def _silent_qkv(model: nn.Module) -> list[nn.Module]:
    return [
        module
        for module in model.modules()
        if getattr(module, "qkv_bias_separate", True) is False and module.q_bias is not None
    ]


def _timm_variant(model: nn.Module) -> Architecture:
    """timm's row for this model; refuses models that would ignore a block's change."""
    from timm.layers import GluMlp

    if getattr(model, "rope_mixed", False):
        raise UnknownArchitecture(
            f"{type(model).__name__} learned rotary embeddings for each block's number "
            "(rope_mixed), so a block cannot move to another position"
        )
    if _silent_qkv(model):
        raise UnknownArchitecture(
            f"{type(model).__name__} reads the weight of attn.qkv without calling it, so nothing "
            "can stand in for it; load it with load_model, or pass it to blocks.call_every_linear"
        )
    fused = any(isinstance(module, GluMlp) for module in model.modules())
    return replace(ARCHITECTURES["timm"], ffn_fused=fused)


def _shallow(module: nn.Module) -> nn.Module:
    """The same module with tables of its own, so that a child can be exchanged or a hook added."""
    result = copy.copy(module)
    # copy.copy shares the tables themselves: without this the owner's model would change too.
    for name, value in vars(nn.Module()).items():
        if isinstance(value, (dict, set)):
            result.__dict__[name] = copy.copy(module.__dict__[name])
    return result


def _arguments(parent: nn.Module, name: str, blocks: list[nn.Module]) -> list[object]:
    """Constructor arguments: a ModuleList takes one list, a Sequential takes the blocks."""
    return list(blocks) if isinstance(getattr(parent, name), nn.Sequential) else [blocks]


def renumber_block(block: nn.Module, position: int) -> None:
    """Tell everything in `block` that its place in the model is `position`: caches go by it."""
    for module in block.modules():
        if getattr(module, "layer_idx", position) != position:
            module.layer_idx = position  # type: ignore[assignment]


def _reconfigure(model: nn.Module, path: Sequence[str], origins: Sequence[int]) -> None:
    """Give the modules on the way to the blocks configurations of the new depth.

    Where the blocks are described by a part of the model's configuration, the modules below
    keep that part; deepcopy's memo makes the new part belong to the new whole.
    """
    memo: dict[int, object] = {}
    config: Any = None
    for depth in range(len(path) + 1):
        module: Any = model.get_submodule(".".join(path[:depth]))
        if hasattr(module, "config"):
            config = module.config = copy.deepcopy(module.config, memo)
    if config is None:
        return
    layer_types = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(origins)
    if layer_types is not None:
        config.layer_types = [layer_types[i] for i in origins]
