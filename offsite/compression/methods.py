"""The table of compressions: name, one line, parameters, and where the function is.

Everything that needs to know which compressions exist reads this table: suite checking,
the JSON Schema, `list compressions`, did-you-mean. It never imports torch; the function
itself ('module:function') is imported when an emulator is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDrop:
    """Keep evenly spaced blocks of the middle and drop the rest."""

    keep: Annotated[int, Ge(2)]
    """How many blocks of the middle stay; its first and last are always among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Keep the whole middle as it is: the control that must lose nothing."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    parameters: type[LayerDrop] | type[Identity]
    function: str
    """'module:function', called as `function(middle, parameters) -> Emulator`."""

    @property
    def summary(self) -> str:
        """The first line of the parameters' docstring."""
        return (self.parameters.__doc__ or "").splitlines()[0]


METHODS: dict[str, Method] = {
    "identity": Method(Identity, "offsite.compression.layer_choice:identity"),
    "layer_drop": Method(LayerDrop, "offsite.compression.layer_choice:layer_drop"),
}
