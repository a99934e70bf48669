"""Stages with scores by item, timed trainings and builds: what the shipped records hold too."""

from __future__ import annotations

from collections.abc import Sequence

from reports.items import pack_items
from reports.record import Metric
from tests.reports.synthetic_store import SyntheticStore

ITEMS = 100


def scored(right: Sequence[float], *, of: str = "test") -> Metric:
    """An accuracy with its items: 1 for right, 0 for wrong; `of` names the set of items."""
    count = len(right)
    value = sum(right) / count
    return Metric(
        metric="acc",
        value=value,
        unit="fraction",
        better="higher",
        stderr=(value * (1 - value) / (count - 1)) ** 0.5,
        n=count,
        phase="evaluate",
        items=pack_items([f"{of} {index}" for index in range(count)], right),
    )


def first(right: int, count: int = ITEMS) -> list[float]:
    """The first items are right, the rest wrong."""
    return [1.0] * right + [0.0] * (count - right)


def evaluated(store: SyntheticStore, setting: str, *metrics: Metric, **labels: object) -> str:
    """An evaluation; returns its digest."""
    digest = store.plan("evaluate", setting=setting, **labels)
    store.save(store.record(digest, "evaluate", *metrics))
    return digest


def trained(
    store: SyntheticStore,
    kind: str,
    *,
    steps: int = 60,
    examples: int = 96,
    seconds: float | None = None,
    rule: str = "",
    size: int = 1000,
    train: dict[str, object] | None = None,
    **labels: object,
) -> None:
    """A tuning or fine-tuning of `steps` steps that took `seconds`."""
    digest = store.plan(kind, **labels)
    timing = {} if seconds is None else {"end_to_end_seconds": seconds}
    selection = {"rule": rule, "split": "test", "examples": 9} if rule else {}
    metrics = [Metric(metric="trainable_parameters", value=size, unit="1", better="lower")]
    if seconds is not None:
        # Without its warm-up a step takes less than the share of the whole.
        step = seconds / steps / 2
        metrics.append(
            Metric(metric="step_time_median", value=step, unit="s", better="lower", phase="train")
        )
    facts = {"steps": steps, "examples": examples, "timing": timing, "selection": selection}
    params = {"train": train or {}}
    store.save(store.record(digest, kind, *metrics, facts=facts, params=params))


def built(store: SyntheticStore, seconds: float | None = None, **labels: object) -> None:
    """An emulator that took `seconds` to build."""
    digest = store.plan("emulator", **labels)
    metrics = []
    if seconds is not None:
        metrics.append(
            Metric(metric="build_seconds", value=seconds, unit="s", better="lower", phase="build")
        )
    store.save(store.record(digest, "emulator", *metrics))
