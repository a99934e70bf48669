"""Make a model's training step cheaper without changing what it computes."""

from __future__ import annotations

from typing import Any

from torch import nn

from offsite.blocks import get_blocks

_WRITTEN_OUT = ("NewGELUActivation", "BloomGelu")
"""Names of transformers' modules that compute it in single operations."""


def fuse_activations(model: nn.Module) -> None:
    """Use torch's one kernel for the tanh approximation of GELU, in place.

    transformers writes it out for GPT-2 and BLOOM, as some eight passes over the widest
    activations of a block, most of which are kept for the backward pass.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child).__name__ in _WRITTEN_OUT:
                setattr(module, name, nn.GELU(approximate="tanh"))


def compile_blocks(model: nn.Module) -> None:
    """Compile every block, in place: one program serves all blocks that are alike."""
    for block in get_blocks(model):
        block.compile()


def checkpoint_blocks(model: nn.Module) -> None:
    """Keep only what enters a block for the backward pass, in place, and compute the rest again."""
    untyped: Any = model
    if hasattr(untyped, "set_grad_checkpointing"):  # timm
        untyped.set_grad_checkpointing(True)
    else:
        # transformers 5.23 renamed it, and warns of the old name.
        enable = getattr(untyped, "activation_checkpointing_enable", None)
        (enable or untyped.gradient_checkpointing_enable)({"use_reentrant": False})
