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


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    parameters: type[Full] | type[Lora]
    function: str
    """'module:function', called as `function(block, parameters)`; it marks what trains."""

    @property
    def summary(self) -> str:
        """The first line of the parameters' docstring."""
        return (self.parameters.__doc__ or "").splitlines()[0]


METHODS: dict[str, Method] = {
    "full": Method(Full, "offsite.tuning:attach_full"),
    "lora": Method(Lora, "offsite.tuning:attach_lora"),
}
