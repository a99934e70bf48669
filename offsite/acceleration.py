"""Make a model's training step cheaper without changing what it computes.

Each of these holds inside a `with` block: a model is as it was when its training ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from offsite.blocks import get_blocks

_WRITTEN_OUT = ("NewGELUActivation", "BloomGelu")
"""Names of transformers' modules that compute it in single operations."""


@contextmanager
def fused_activations(model: nn.Module) -> Iterator[None]:
    """Use torch's one kernel for the tanh approximation of GELU.

    transformers writes it out for GPT-2 and BLOOM, as some eight passes over the widest
    activations of a block, most of which are kept for the backward pass.
    """
    found = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child).__name__ in _WRITTEN_OUT
    ]
    for module, name, _ in found:
        setattr(module, name, nn.GELU(approximate="tanh"))
    try:
        yield
    finally:
        for module, name, child in found:
            setattr(module, name, child)


@contextmanager
def compiled_blocks(model: nn.Module) -> Iterator[None]:
    """Compile every block: one program serves all blocks that are alike."""
    blocks = list(get_blocks(model))
    for block in blocks:
        block.compile()
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


@contextmanager
def checkpointed_blocks(model: nn.Module) -> Iterator[None]:
    """Keep only what enters a block for the backward pass, and compute the rest again."""
    _checkpoint(model, True)
    try:
        yield
    finally:
        _checkpoint(model, False)


def _checkpoint(model: Any, is_on: bool) -> None:  # noqa: ANN401 - either library's
    if hasattr(model, "set_grad_checkpointing"):  # timm
        model.set_grad_checkpointing(is_on)
    elif is_on:
        _newest(model, "enable")({"use_reentrant": False})
    else:
        _newest(model, "disable")()


def _newest(model: Any, verb: str) -> Any:  # noqa: ANN401 - a method of transformers'
    """transformers 5.23 renamed it, and warns of the old name."""
    new = getattr(model, f"activation_checkpointing_{verb}", None)
    return new or getattr(model, f"gradient_checkpointing_{verb}")
