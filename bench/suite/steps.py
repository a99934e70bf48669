"""Read `{method: layer_drop, keep: 8}` against a table of methods.

The tables are `offsite.compression.methods` and `offsite.tuning_methods`; a method's own
parameters are checked here, before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from operator import or_
from typing import Annotated, Any, Protocol

from pydantic import create_model

from bench.suite.closed import Closed, Fault, Reads, closed_fields, closed_model
from bench.suite.wording import missing, unknown
from offsite import tuning_methods
from offsite.compression import methods
from offsite.errors import OffsiteError


class Row(Protocol):
    """What a table holds for a method."""

    @property
    def parameters(self) -> type:
        """The dataclass of its parameters."""

    @property
    def summary(self) -> str:
        """One line for lists and editors."""


@dataclass(frozen=True, slots=True)
class Step:
    """One compression or tuning with its parameters."""

    method: str
    parameters: Any
    """An instance of the dataclass that the method's table names."""

    @property
    def corpus(self) -> str | None:
        """The task that a compression looks at or trains on."""
        return getattr(self.parameters, "corpus", None)

    @property
    def label(self) -> str:
        """How tables name it: the method and what differs from its defaults.

        >>> COMPRESSIONS.read({"method": "layer_drop", "keep": 8}).label
        'layer_drop(keep=8)'
        """
        given = (
            f"{field.name}={_written(getattr(self.parameters, field.name))}"
            for field in sorted(fields(self.parameters), key=lambda field: field.name)
            if getattr(self.parameters, field.name) != _default(field)
        )
        inside = ", ".join(given)
        return f"{self.method}({inside})" if inside else self.method


def label(steps: tuple[Step, ...]) -> str:
    """How tables name a composition: `layer_drop(keep=8)+quantize(bits=4)`."""
    return "+".join(step.label for step in steps)


def _default(field: Field[Any]) -> object:
    default: object = field.default
    return default if field.default_factory is MISSING else field.default_factory()


def _written(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class StepPattern:
    """Matches a step that has this method (any, if None) and these parameters."""

    method: str | None
    parameters: Mapping[str, object]

    def matches(self, step: Step) -> bool:
        """Whether all that is named is equal."""
        return self.method in (None, step.method) and all(
            hasattr(step.parameters, name) and getattr(step.parameters, name) == value
            for name, value in self.parameters.items()
        )


class Table:
    """Reads steps and patterns of one table. A bare name is a method with its defaults."""

    def __init__(self, noun: str, rows: Mapping[str, Row]) -> None:
        self.noun = noun
        self.rows = rows
        self.model = cache(lambda method: closed_model(rows[method].parameters))
        """By method: the class that checks its parameters."""
        self._pattern = cache(self._build_pattern)

    def read(self, value: object) -> Step:
        """The step that `value` describes."""
        method, values = self._split(value)
        if method is None:
            raise Fault(f"{missing('method', values)} Known: {', '.join(self.rows)}.", "method")
        checked = self.model(method).model_validate(values)
        try:
            return Step(method, self.rows[method].parameters(**dict(checked)))
        except OffsiteError as error:
            raise Fault(str(error)) from None

    def read_pattern(self, value: object) -> StepPattern:
        """The pattern that `value` describes: any subset of a step's keys."""
        method, values = self._split(value)
        checked = self._pattern(method).model_validate(values)
        return StepPattern(method, {n: getattr(checked, n) for n in checked.model_fields_set})

    def _split(self, value: object) -> tuple[str | None, dict[str, object]]:
        """The method, checked, and the parameters, not checked yet."""
        if isinstance(value, str):
            if value not in self.rows:
                raise Fault(unknown(self.noun, value, self.rows))
            return value, {}
        if not isinstance(value, dict):
            raise Fault(f"it must name a {self.noun}, as in {{method: {next(iter(self.rows))}}}")
        rest = {key: each for key, each in value.items() if key != "method"}
        if "method" not in value:
            return None, rest
        method = value["method"]
        if not isinstance(method, str):
            raise Fault(f"it must be one of {', '.join(self.rows)}", "method")
        if method not in self.rows:
            raise Fault(unknown(self.noun, method, self.rows), "method")
        return method, rest

    def _build_pattern(self, method: str | None) -> type[Closed]:
        rows = [self.rows[method]] if method else self.rows.values()
        merged: dict[str, Any] = {}
        for row in rows:
            for name, (hint, default) in closed_fields(row.parameters, partial=True).items():
                known = merged.get(name)
                merged[name] = (or_(known[0], hint) if known else hint, default)
        return create_model("pattern", __base__=Closed, **merged)


COMPRESSIONS = Table("compression", methods.METHODS)
TUNINGS = Table("tuning", tuning_methods.METHODS)


def _distillation(value: object) -> Step:
    if not isinstance(value, dict):
        raise Fault("it must be a mapping, as in {corpus: wikitext2, steps: 2000}")
    return COMPRESSIONS.read({**value, "method": "distill"})


class Distilled(Closed):
    """The part of a compression that says how it is distilled."""

    distill: Annotated[Step, Reads(_distillation, "distillation")]


def read_compression(value: object) -> tuple[Step, ...]:
    """A compression and, if it has a `distill`, the distillation that follows it."""
    if not isinstance(value, dict) or "distill" not in value:
        return (COMPRESSIONS.read(value),)
    step = COMPRESSIONS.read({key: each for key, each in value.items() if key != "distill"})
    return step, Distilled.model_validate({"distill": value["distill"]}).distill
