"""The pictures of a report: which are drawn, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice, product

from reports.blobs import Kept
from reports.comparison import Compared, Comparison
from reports.figures.compressions import compression_sketches
from reports.figures.costs import cost_sketches
from reports.figures.curves import curve_sketches
from reports.figures.frontier import frontier_sketches
from reports.figures.memory import memory_sketches
from reports.figures.picture import Gallery, Picture, Sketch
from reports.figures.positions import position_sketches
from reports.figures.settings import settings_sketches

MOST = 14
"""Pictures of one report: each takes about a tenth of a second."""
MOST_BYTES = 400_000
"""Of all pictures of a report: a page has two million for everything."""
ALIKE = 2
"""Pictures of one kind, model and task that come before the first ones of others."""
LEFT_OUT = (
    f"Figures: there are more than a page has room for ({MOST}, or {MOST_BYTES // 1000} kB). Those "
    "of the first model and task come first, then kind by kind those of the others. All numbers "
    "are in the tables."
)

Kind = Callable[[Comparison], Iterator[Sketch]]


def gallery(found: Compared, kept: Kept) -> Gallery:
    """Draw the first of what there is to show, as far as there is room."""
    sketches = _sketches(found.tasks, kept)
    pictures: list[Picture] = []
    size = 0
    for sketch in islice(sketches, MOST):
        picture = sketch()
        size += len(picture.svg)
        if size > MOST_BYTES:
            return Gallery(pictures=tuple(pictures), note=LEFT_OUT)
        pictures.append(picture)
    is_more = next(sketches, None) is not None
    return Gallery(pictures=tuple(pictures), note=LEFT_OUT if is_more else "")


def _sketches(tasks: Sequence[Comparison], kept: Kept) -> Iterator[Sketch]:
    """The most telling first, one by one: what is not drawn need not be looked for."""
    kinds = _kinds(kept)
    for some in (tasks[:1], tasks[1:]):
        for kind, each in product(kinds, some):
            yield from islice(kind(each), ALIKE)
    for kind, each in product(kinds, tasks):
        yield from islice(kind(each), ALIKE, None)


def _kinds(kept: Kept) -> tuple[Kind, ...]:
    """In the order of what they tell."""
    return (
        settings_sketches,
        frontier_sketches,
        cost_sketches,
        compression_sketches,
        position_sketches,
        partial(curve_sketches, kept=kept),
        partial(memory_sketches, kept=kept),
    )
