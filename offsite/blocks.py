"""Where each architecture keeps its transformer blocks, and how to put others there.

This is the only module that knows model internals. Supporting another architecture is one
line in `offsite.architectures`; `tests/offsite/test_architectures.py` builds a model per line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

from torch import nn

from offsite.architectures import BLOCK_PATHS
from offsite.errors import UnknownArchitecture


def get_blocks(model: nn.Module) -> nn.ModuleList | nn.Sequential:
    """The model's own list of blocks (not a copy)."""
    path = _block_path(model)
    try:
        blocks = model.get_submodule(path)
    except AttributeError:
        raise UnknownArchitecture(
            f"{type(model).__name__} has no blocks at {path!r}; the installed library may have "
            "moved them. Correct offsite.architectures."
        ) from None
    assert isinstance(blocks, (nn.ModuleList, nn.Sequential))
    return blocks


def with_blocks(
    model: nn.Module, blocks: Iterable[nn.Module], *, origins: Sequence[int]
) -> nn.Module:
    """A model that runs `blocks` and shares everything else with `model`, which stays as it is.

    The library indexes its key-value cache and per-layer settings by a block's number, so
    blocks are renumbered in place: pass copies of blocks that change their position.

    Args:
        model: the model whose embeddings, norms and head are shared.
        blocks: the new blocks, in order.
        origins: for each new block, the position in `model` whose per-layer settings
            (`config.layer_types`) it takes.
    """
    path = _block_path(model).split(".")
    result = _shallow(model)
    parent = result
    for name in path[:-1]:
        child = _shallow(getattr(parent, name))
        setattr(parent, name, child)
        parent = child
    new = list(blocks)
    assert len(new) == len(origins)
    setattr(parent, path[-1], type(getattr(parent, path[-1]))(*_arguments(parent, path[-1], new)))
    for position, block in enumerate(new):
        _renumber(block, position)
    _reconfigure(result, path[:-1], origins)
    return result


def _shallow(module: nn.Module) -> nn.Module:
    """The same module with its own table of children, so that one can be exchanged."""
    result = copy.copy(module)
    # copy.copy shares the table itself: without this the owner's model would change too.
    result.__dict__["_modules"] = dict(module._modules)
    return result


def _arguments(parent: nn.Module, name: str, blocks: list[nn.Module]) -> list[object]:
    """Constructor arguments: a ModuleList takes one list, a Sequential takes the blocks."""
    return list(blocks) if isinstance(getattr(parent, name), nn.Sequential) else [blocks]


def _renumber(block: nn.Module, position: int) -> None:
    for module in block.modules():
        if getattr(module, "layer_idx", position) != position:
            module.layer_idx = position  # type: ignore[assignment]


def _reconfigure(model: nn.Module, path: Sequence[str], origins: Sequence[int]) -> None:
    """Give the modules on the way to the blocks one configuration of the new depth."""
    if not hasattr(model, "config"):
        return
    config = copy.deepcopy(model.config)
    layer_types = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(origins)  # type: ignore[union-attr]
    if layer_types is not None:
        config.layer_types = [layer_types[i] for i in origins]  # type: ignore[union-attr]
    module = model
    module.config = config
    for name in path:
        module = getattr(module, name)
        if hasattr(module, "config"):
            module.config = config


def _block_path(model: nn.Module) -> str:
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    if kind is None and hasattr(model, "pretrained_cfg"):
        kind = "timm"
    if kind not in BLOCK_PATHS:
        raise UnknownArchitecture(
            f"no block path for model type {kind!r} ({type(model).__name__}); "
            f"known: {', '.join(BLOCK_PATHS)}. Add it to offsite.architectures."
        )
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        raise UnknownArchitecture(
            f"{type(model).__name__} scales attention by the block's number "
            "(scale_attn_by_inverse_layer_idx), so a block cannot move to another position"
        )
    return BLOCK_PATHS[kind]
