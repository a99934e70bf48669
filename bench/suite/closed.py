"""Classes for what users write by hand: strict (`true` is not 1) and closed (no unknown keys).

A key the class does not have is an error, never a silent default. Where a list is expected a
single value will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, TypeVar, get_type_hints

from annotated_types import Len
from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from bench.suite.wording import unknown


class Fault(ValueError):
    """What our own checks raise: a sentence, and where below the checked value it applies."""

    def __init__(self, sentence: str, *path: str | int, on_key: bool = False) -> None:
        super().__init__(sentence)
        self.path = path
        self.on_key = on_key
        """The key at `path` is wrong, not its value."""


class Closed(BaseModel):
    """A mapping with a fixed set of keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    @classmethod
    def known_keys(cls) -> list[str]:
        """The keys as a file has them."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: object) -> object:
        # First of all checks: a misspelt key is what explains a missing one.
        known = cls.known_keys()
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                raise Fault(unknown("key", key, known), key, on_key=True)
        return value


LATER = "$ref-later"


class Reads:
    """Marks a field that a function reads; editors find it at `name` in the schema's `$defs`."""

    def __init__(self, read: Callable[[object], object], name: str) -> None:
        self.read = read
        self.name = name

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Call the function; its errors keep their place."""
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A reference, which pydantic could not follow: `suite_schema` turns it into one."""
        return {LATER: f"#/$defs/{self.name}"}


class Listed:
    """Marks a tuple for which a file may give a single value."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Wrap a single value before the tuple is checked."""
        return core_schema.no_info_before_validator_function(_as_tuple, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Either form."""
        listed = handler(schema)
        return {"anyOf": [listed["items"], listed]}


def _as_tuple(value: object) -> object:
    return value if isinstance(value, tuple) else (value,)


T = TypeVar("T")
AnyNumber = Annotated[tuple[T, ...], Listed()]
"""A list, or a single value."""
Many = Annotated[tuple[T, ...], Len(1), Listed()]
"""A list with something in it, or a single value."""


def closed_model(row: type, *, partial: bool = False) -> type[Closed]:
    """The strict, closed model of a parameter dataclass of one of the tables.

    Args:
        row: the dataclass.
        partial: every field may be missing (`model_fields_set` has those given).
    """
    return create_model(row.__name__, __base__=Closed, **closed_fields(row, partial=partial))


def closed_fields(row: type, *, partial: bool = False) -> dict[str, Any]:
    """The fields of a parameter dataclass as pydantic's `create_model` takes them."""
    hints = get_type_hints(row, include_extras=True)
    return {f.name: (hints[f.name], None if partial else _default(f)) for f in fields(row)}


def _default(field: Field[Any]) -> object:
    if field.default is not MISSING:
        return field.default
    return ... if field.default_factory is MISSING else field.default_factory()
