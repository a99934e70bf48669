"""The paper's own numbers, to be printed beside ours. README.md says where they were read."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

FOLDER = Path(__file__).parent
TABLES = ("1", "2", "3", "6")
RAW: Mapping[str, tuple[float, str]] = {
    "percent": (0.01, "fraction"),
    "MiB": (2.0**20, "bytes"),
    "tokens/s": (1.0, "tokens/s"),
    "1": (1.0, "1"),
}
"""Factor and name of the unit that records use, by the unit that was printed."""
REPOSITORIES: Mapping[str, tuple[str, ...]] = {
    "gpt2-xl": ("gpt2-xl", "openai-community/gpt2-xl"),
    "opt-1.3b": ("facebook/opt-1.3b",),
    "opt-6.7b": ("facebook/opt-6.7b",),
    "bloom-7b1": ("bigscience/bloom-7b1",),
    "eva-giant": ("timm/eva_giant_patch14_*",),
    "clip-vit-g": ("timm/vit_giant_patch14_clip_*", "laion/CLIP-ViT-g-14-*"),
}
"""Where the published models are on the hub. Anything else under such a name is a stand-in."""
BUDGET = frozenset(
    {
        *("batch_size", "corpus", "learning_rate", "precision"),
        *("schedule", "steps", "warmup_steps", "weight_decay"),
    }
)
"""Parameters of a distillation that say how long and on what, not towards which goal."""
VISION_GOAL = frozenset({"kd_weight=1", "lm_weight=0"})
DISTILLATION_GOALS: Mapping[str, frozenset[str]] = {
    "eva-giant": VISION_GOAL,
    "clip-vit-g": VISION_GOAL,
}
"""The weights of the paper's distillation loss, as labels name them: where they are the defaults
(30 on hidden states, 1 on the text), labels name none."""


class Place(NamedTuple):
    """What two numbers must share to be comparable."""

    model: str
    layout: str
    compression: str
    tuning: str
    setting: str
    task: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNumber:
    """One number of one published table, in the units of records."""

    table: str
    place: Place
    value: float
    unit: str
    decimals: int
    """As printed."""
    source: str
    """The image it was read from."""
    note: str
    """Why it may not be what it seems; empty if nothing is known against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedData:
    """Where a published task's rows are on the hub."""

    repositories: tuple[str, ...]
    """All names of the same data set."""
    config: str
    """Empty: there is only one."""
    scored: tuple[str, ...]
    """The hub's split, or slice of one, that the score is of."""


@cache
def published_numbers() -> Mapping[Place, PublishedNumber]:
    """Every number of the shipped tables, by its place."""
    numbers = [number for table in TABLES for number in _read(FOLDER / f"table{table}.csv")]
    found = {number.place: number for number in numbers}
    assert len(found) == len(numbers), "two published numbers have one place"
    return MappingProxyType(found)


@cache
def published_data() -> Mapping[str, PublishedData]:
    """The data of every published task, by its name."""
    with (FOLDER / "data.csv").open(encoding="utf-8", newline="") as stream:
        return {
            row["task"]: PublishedData(
                repositories=tuple(row["repositories"].split()),
                config=row["config"],
                scored=tuple(row["scored"].split()),
            )
            for row in csv.DictReader(stream)
        }


def place(
    *, model: str, layout: str, compression: str, tuning: str, setting: str, task: str, metric: str
) -> Place:
    """The place of a number of ours. How long an emulator was distilled is left out of it.

    >>> place(model="m", layout="2-8-2", compression="layer_drop(keep=8)+distill(steps=5)",
    ...       tuning="full", setting="plug_in", task="t", metric="acc").compression
    'layer_drop(keep=8)+distill'
    """
    goal = DISTILLATION_GOALS.get(model, frozenset())

    def without_budget(found: re.Match[str]) -> str:
        given = [each for each in found[2].split(", ") if each.partition("=")[0] not in BUDGET]
        return found[1] if goal == set(given) else f"{found[1]}({', '.join(given)})"

    compression = re.sub(r"((?:^|\+)distill)\(([^)]*)\)", without_budget, compression)
    return Place(model, layout, compression, tuning, setting, task, metric)


def is_published_model(model: str, digest: str) -> bool:
    """Whether a model input's digest, `commit:REPOSITORY@COMMIT`, is of the model of that name.

    >>> is_published_model("opt-1.3b", "commit:facebook/opt-1.3b@3f5c25d0bc63")
    True
    >>> is_published_model("opt-1.3b", "sha256:0123")
    False
    """
    repository = digest.removeprefix("commit:").partition("@")[0]
    return digest.startswith("commit:") and any(
        fnmatchcase(repository, pattern) for pattern in REPOSITORIES.get(model, ())
    )


def is_published_data(task: str, identity: str, *, scored: bool = True) -> bool:
    """Whether data, `commit:REPOSITORY@COMMIT?config=...&test=...`, is that of the paper.

    The split that is scored, `validation` for want of a `test`, has to be the paper's too. What is
    tuned on may be any slice: that is `scored=False`.

    >>> is_published_data("piqa", "commit:baber/piqa@142f6d?train=train&validation=validation")
    True
    >>> is_published_data("piqa", "sha256:0123")
    False
    """
    expected = published_data().get(task)
    source, _, rows = identity.partition("?")
    repository = source.removeprefix("commit:").partition("@")[0]
    # Not parse_qs: a slice, `train[:85%]+validation`, stands in the identity as it is.
    found = {key: value for key, _, value in (row.partition("=") for row in rows.split("&"))}
    return (
        expected is not None
        and source.startswith("commit:")
        and repository in expected.repositories
        and expected.config in ("", found.get("config", ""))
        and (not scored or found.get("test", found.get("validation")) in expected.scored)
    )


def _read(path: Path) -> list[PublishedNumber]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [_number(row) for row in csv.DictReader(stream)]


def _number(row: Mapping[str, str]) -> PublishedNumber:
    factor, unit = RAW[row["unit"]]
    return PublishedNumber(
        table=row["table"],
        place=Place(*(row[name] for name in Place._fields)),
        value=float(row["value"]) * factor,
        unit=unit,
        decimals=len(row["value"].partition(".")[2]),
        source=row["source"],
        note=row["note"],
    )
