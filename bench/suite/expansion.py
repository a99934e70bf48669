"""Write a matrix out into its cases. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

from bench.suite.checking import Keys
from bench.suite.steps import Step
from bench.suite.suite_file import AXES, Include, Matrix
from offsite.layout import AdapterBlocks


@dataclass(frozen=True, slots=True)
class CasePoint:
    """One row of the product."""

    model: str
    adapter_blocks: AdapterBlocks
    compression: tuple[Step, ...]
    tuning: Step
    task: str
    seed: int
    places: tuple[Keys, ...] = field(default=(), compare=False, repr=False)
    """Per axis, in the order of `AXES`, the path of its value: `suite.where(*point.path(axis))`."""

    def path(self, axis: str) -> Keys:
        """Where in the suite the value of this axis was given."""
        return self.places[AXES.index(axis)]


Axes = dict[str, list[tuple[Any, Keys]]]
"""Per axis its values, each with its path."""


def _axes(values: Matrix | Include, path: Keys) -> Axes:
    return {
        axis: [(value, (*path, axis, index)) for index, value in enumerate(given)]
        for axis in AXES
        if (given := getattr(values, axis)) is not None
    }


def points(matrix: Matrix, index: int) -> Iterator[CasePoint]:
    """The cases of the suite's matrix number `index`, as its axes give them."""
    path: Keys = ("matrix", index)
    base = _axes(matrix, path)
    for point in _product(base):
        axes = {axis: getattr(point, axis) for axis in AXES}
        if not any(pattern.matches(axes) for pattern in matrix.exclude):
            yield point
    for i, include in enumerate(matrix.include):
        yield from _product(base | _axes(include, (*path, "include", i)))


def _product(axes: Axes) -> Iterator[CasePoint]:
    for combination in product(*(axes[axis] for axis in AXES)):
        values = {axis: value for axis, (value, _) in zip(AXES, combination, strict=True)}
        yield CasePoint(**values, places=tuple(path for _, path in combination))


def size(matrix: Matrix) -> int:
    """Cases before anything is excluded, counted without making them."""
    base = _axes(matrix, ())
    products = [base, *(base | _axes(include, ()) for include in matrix.include)]
    return sum(prod(len(values) for values in axes.values()) for axes in products)
