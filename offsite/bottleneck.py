"""Bottleneck adapters (Houlsby et al., arXiv 1902.00751): two small layers inside a block.

A network is a child of the linear whose output it changes, and one hook function finds it
there. So a copy of a block holds and runs its own network, not the original's.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from offsite.blocks import architecture_of, roles
from offsite.errors import NothingToTrain
from offsite.tuning_methods import Bottleneck


class BottleneckLayer(nn.Module):
    """Adds to a hidden state what two narrow linear layers make of it; at first, nothing."""

    def __init__(self, width: int, parameters: Bottleneck) -> None:
        super().__init__()
        self.down = nn.Linear(width, parameters.size)
        self.dropout = nn.Dropout(parameters.dropout)
        self.up = nn.Linear(parameters.size, width)
        # With the usual random values here the model would start from something else.
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The hidden state plus the update, in the hidden state's dtype."""
        inner = nn.functional.relu(self.down(hidden.to(self.down.weight.dtype)))
        changed: Tensor = hidden + self.up(self.dropout(inner))
        return changed.to(hidden.dtype)


def attach_bottleneck(
    model: nn.Module, blocks: Mapping[str, nn.Module], parameters: Bottleneck
) -> Mapping[str, nn.Module]:
    """Put a network after each attention output projection and each FFN output projection."""
    architecture = architecture_of(model)
    for block in blocks.values():
        if block is model:
            raise NothingToTrain(
                f"tuning 'bottleneck' works inside blocks, and {type(block).__name__} is a whole "
                "model; full, lora, bitfit or bitfit-paper would work"
            )
        parts = roles(architecture, block)
        for projection in (parts.attention_out | parts.ffn_out).values():
            example = next(projection.parameters())
            layer = BottleneckLayer(_width_out(projection), parameters)
            projection.add_module("bottleneck", layer.to(example.device))
            projection.register_forward_hook(_through_bottleneck)
    return blocks


def _through_bottleneck(projection: nn.Module, args: object, output: Tensor) -> Tensor:
    changed: Tensor = projection.get_submodule("bottleneck")(output)
    return changed


def _width_out(projection: nn.Module) -> int:
    """How many outputs a linear has; GPT-2's Conv1D calls them `nf`."""
    width = getattr(projection, "out_features", None) or projection.nf
    assert isinstance(width, int)
    return width
