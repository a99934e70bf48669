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


@cache
def published_numbers() -> Mapping[Place, PublishedNumber]:
    """Every number of the shipped tables, by its place."""
    numbers = [number for table in TABLES for number in _read(FOLDER / f"table{table}.csv")]
    found = {number.place: number for number in numbers}
    assert len(found) == len(numbers), "two published numbers have one place"
    return MappingProxyType(found)


def place(
    *, model: str, layout: str, compression: str, tuning: str, setting: str, task: str, metric: str
) -> Place:
    """The place of a number of ours. How long an emulator was distilled is left out of it.

    >>> place(model="m", layout="2-8-2", compression="layer_drop(keep=8)+distill(steps=5)",
    ...       tuning="full", setting="plug_in", task="t", metric="acc").compression
    'layer_drop(keep=8)+distill'
    """
    compression = re.sub(r"(^|\+)distill\([^)]*\)", r"\1distill", compression)
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
