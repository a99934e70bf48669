"""Where one of our numbers has a published one to stand beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from reports.comparison import Comparison, Treatment
from reports.published import (
    PublishedNumber,
    is_published_data,
    is_published_model,
    place,
    published_numbers,
)
from reports.record import TRAININGS

METRICS = ("acc", "exact_match", "perplexity", "top1")
"""What the published tables score."""
STAND_IN_NOTE = "Published numbers exist for these rows; not shown: stand-in models or other data."


class Row(NamedTuple):
    """A setting of one emulator, or of the whole model."""

    setting: str
    treatment: Treatment


def published_beside(comparison: Comparison) -> Mapping[Row, PublishedNumber]:
    """The published numbers of a model and task that are the paper's own; none of a stand-in."""
    return dict(_same_places(comparison)) if is_the_papers(comparison) else {}


def stand_in_notes(comparison: Comparison) -> tuple[str, ...]:
    """What to say where a model or a task only bears the name of a published one."""
    is_stand_in = not is_the_papers(comparison) and any(_same_places(comparison))
    return (STAND_IN_NOTE,) if is_stand_in else ()


def is_the_papers(comparison: Comparison) -> bool:
    """Whether all that was loaded under the two names is the published model and its data."""
    model, task = comparison.model, comparison.task
    scored, tuned_on = comparison.data("evaluate"), comparison.data(*TRAININGS)
    return (
        bool(comparison.sources and (scored or tuned_on))
        and all(is_published_model(model, source) for source in comparison.sources)
        and all(is_published_data(task, identity) for identity in scored)
        and all(is_published_data(task, identity, scored=False) for identity in tuned_on)
    )


def _same_places(comparison: Comparison) -> Iterator[tuple[Row, PublishedNumber]]:
    """Every published number that stands where one of ours does or should."""
    for role, treatment in comparison.entries:
        for metric in METRICS:
            where = place(
                model=comparison.model,
                **treatment._asdict(),
                setting=role,
                task=comparison.task,
                metric=metric,
            )
            if where in published_numbers():
                yield Row(role, treatment), published_numbers()[where]
