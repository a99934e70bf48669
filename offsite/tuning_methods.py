"""The table of tunings: name, one line, parameters, and where the functions are.

It never imports torch: suite checking, the JSON Schema, `list tunings` and did-you-mean
are generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """Train every parameter of the trainable blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Train low-rank updates of every linear layer of the trainable blocks (peft)."""

    rank: Annotated[int, Ge(1)] = 8
    alpha: Annotated[float, Gt(0)] = 32
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dora(Lora):
    """Train low-rank updates and, apart from them, the size of each output channel (peft)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ia3:
    """Train scales of keys, values and the FFN's intermediate channels (peft)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """Train small two-layer networks put after attention and after the FFN (Houlsby)."""

    size: Annotated[int, Ge(1)] = 64
    """Width of the inner layer."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitfit:
    """Train the biases of the trainable blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BitfitPaper:
    """Train all one-dimensional parameters, norm weights too, as the authors' code does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftPrompt:
    """Train vectors that stand before each sample's token embeddings; no block changes."""

    length: Annotated[int, Ge(1)] = 5
    """How many vectors."""


Parameters = Full | Lora | Dora | Ia3 | Bottleneck | Bitfit | BitfitPaper | SoftPrompt


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    parameters: type[Parameters]
    function: str
    """'module:function', called as `function(model, blocks, parameters) -> modules`.

    `model` comes frozen and `blocks` are some of its blocks by name. The function adds what
    the method needs, marks what trains, and returns the modules that hold it, by names that
    are the same at any depth.
    """

    @property
    def summary(self) -> str:
        """The first line of the parameters' docstring."""
        return (self.parameters.__doc__ or "").splitlines()[0]


METHODS: dict[str, Method] = {
    "full": Method(Full, "offsite.tuning:attach_full"),
    "lora": Method(Lora, "offsite.peft_tunings:attach_lora"),
    "dora": Method(Dora, "offsite.peft_tunings:attach_lora"),
    "ia3": Method(Ia3, "offsite.peft_tunings:attach_ia3"),
    "bottleneck": Method(Bottleneck, "offsite.bottleneck:attach_bottleneck"),
    "bitfit": Method(Bitfit, "offsite.tuning:attach_bitfit"),
    "bitfit-paper": Method(BitfitPaper, "offsite.tuning:attach_bitfit_paper"),
    "soft_prompt": Method(SoftPrompt, "offsite.soft_prompt:attach_soft_prompt"),
}
