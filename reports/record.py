"""What a stage leaves behind: one checksummed JSON record per (digest, machine, repeat).

Standard library and pydantic only: reports are made on machines that have no torch.
A number that could not be measured has no value and says why. It is never written as 0:
a perplexity of 0 would look like the best result ever seen.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from reports.errors import BadRecord

SCHEMA = 1
"""Raised when a field changes meaning. `read_record` refuses newer ones."""

OPENING = b'{"record":'
"""How a record's file begins."""

Outcome = Literal[
    "ok",
    "oom_gpu",
    "oom_host",
    "timeout",
    "crashed",
    "failed",
    "invalid",
    "skipped",
    "interrupted",
    "device_lost",
]
Grade = Literal["exact", "bounded", "device", "unmeasured"]
Setting = Literal[
    "full_zero_shot", "emulator_zero_shot", "full_finetuned", "emulator_finetuned", "plug_in"
]
SETTINGS: tuple[Setting, ...] = (
    "full_zero_shot",
    "emulator_zero_shot",
    "full_finetuned",
    "emulator_finetuned",
    "plug_in",
)
"""In the order of the paper's tables."""

OF_A_RUN = frozenset({"seed", "checkpoint"})
"""Parameters in which the runs of one row differ."""
TRAININGS = ("tune", "finetune")
"""Kinds of stages that train, and whose speed and memory are measured."""

DRAWN = "drawn"
"""Stands for a task's data among the inputs where its samples are drawn at random."""

ORACLE = "oracle_"
"""Begins the metrics of a checkpoint that was plugged in though it was not the chosen one."""

CLOSED = ConfigDict(extra="forbid", frozen=True)


class ItemScores(BaseModel):
    """What a metric is made of, item by item: small enough to travel with the number.

    `reports.items` packs and reads it.
    """

    model_config = CLOSED

    documents: str
    """sha256 of the items' own hashes in order: equal means the same items, in the same order."""
    count: int
    encoding: Literal["bits", "float32"]
    values: str
    """base64: bits from the highest of the first byte on, or little-endian floats. Right or wrong
    or, of a perplexity, what the item's text costs in nats."""
    weights: str | None = None
    """base64 floats: tokens, words or bytes of each item, where the values are sums over them."""


class Metric(BaseModel):
    """One number and what is needed to compare it later, or the reason it is missing."""

    model_config = CLOSED

    metric: str
    value: float | None
    unit: str
    """Raw: bytes, s, J, tokens/s, fraction, nats; `1` for plain counts."""
    better: Literal["higher", "lower"]
    stderr: float | None = None
    """Standard error over the scored items of this one stage, never over seeds."""
    n: int | None = None
    """How many items (tokens, documents, images, windows) the value rests on."""
    chance: float | None = None
    """What a model that knows nothing scores: 1/choices, or for a perplexity what a uniform
    guess has: per token, the vocabulary's size. None where the task names none."""
    phase: str | None = None
    """load, build, train or evaluate."""
    grade: Grade | None = None
    reason: str | None = None
    items: ItemScores | None = None
    """Of a quality metric."""

    @model_validator(mode="after")
    def _measured_or_explained(self) -> Metric:
        if self.value is None and not (self.grade == "unmeasured" and self.reason):
            raise ValueError(f"{self.metric}: no value needs grade 'unmeasured' and a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.metric} is {self.value}, not a finite number")
        for name, number in (("chance", self.chance), ("stderr", self.stderr)):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.metric}: {name} {number} is not a finite number")
        return self


class Record(BaseModel):
    """All that one stage left behind."""

    model_config = CLOSED

    digest: str
    machine: str
    """Fingerprint of the machine; speed, memory and energy compare only within one."""
    repeat: int = 0
    kind: str
    """emulator, disclose, tune, finetune or evaluate."""
    version: int
    """Code version of the stage kind."""
    params: dict[str, Any]
    inputs: dict[str, str]
    """Name to digest of what went in: stages, weights, data."""
    outcome: Outcome
    reason: str | None = None
    """Always there unless the outcome is ok."""
    metrics: tuple[Metric, ...] = ()
    blobs: dict[str, str] = Field(default_factory=dict)
    """Name to sha256 of the files the stage wrote (weights, per-step and per-item data, log)."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What else is true of the result: layer map, trainable parameters' names, steady state."""
    environment: dict[str, Any] = Field(default_factory=dict)
    """Versions, hardware, commit and whether the tree was dirty. An allow-list."""
    observed: dict[str, Any] = Field(default_factory=dict)
    """When and how long: differs from run to run and never enters a result."""

    @model_validator(mode="after")
    def _failure_has_a_reason(self) -> Record:
        if self.outcome != "ok" and not self.reason:
            raise ValueError(f"outcome {self.outcome} needs a reason")
        return self


def canonical(value: object) -> bytes:
    """JSON bytes that depend on the value alone: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def to_bytes(record: Record) -> bytes:
    """The file content of a record: a checksummed envelope, all of it canonical JSON.

    The checksum is of the record as it stands there, so nothing is written again to check it.
    """
    body = canonical(record.model_dump(mode="json"))
    checksum = hashlib.sha256(body).hexdigest()
    rest = canonical({"schema": SCHEMA, "sha256": checksum})
    return b"".join([OPENING, body, b",", rest.removeprefix(b"{"), b"\n"])


def read_record(path: Path) -> Record:
    """Read one record file.

    Raises:
        BadRecord: damaged (checksum, JSON, fields), or of another schema version.
    """
    raw = path.read_bytes()
    return _as_written(raw) or _in_any_layout(path, raw)


def _as_written(raw: bytes) -> Record | None:
    """The record, if the file is as `to_bytes` writes it and undamaged; else None."""
    body, comma, rest = raw[len(OPENING) :].rpartition(b',"schema":')
    checksum = hashlib.sha256(body).hexdigest()
    wanted = f',"schema":{SCHEMA},"sha256":"{checksum}"}}\n'.encode()
    # A number that is none is refused with its reason; these may also be words of a text.
    if not raw.startswith(OPENING) or comma + rest != wanted or b"NaN" in body or b"Inf" in body:
        return None
    try:
        return Record.model_validate_json(body)
    except ValidationError:
        # Also half a surrogate pair, of a file name that is no text, which only json reads.
        return None


def _in_any_layout(path: Path, raw: bytes) -> Record:
    """A record in whatever layout of JSON; the checksum is of its canonical form.

    Raises:
        BadRecord: see `read_record`.
    """
    try:
        envelope = _parsed(raw)
        schema, checksum, body = (envelope[key] for key in ("schema", "sha256", "record"))
        found = hashlib.sha256(canonical(body)).hexdigest()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadRecord(
            f"{path}: not a record ({type(error).__name__}: {error}); delete it and run again"
        ) from None
    if schema != SCHEMA:
        raise BadRecord(f"{path}: record schema {schema}; this version reads {SCHEMA}")
    if found != checksum:
        raise BadRecord(
            f"{path}: checksum does not match its content: it is damaged; delete it and run again"
        )
    try:
        return Record.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "record"
        raise BadRecord(f"{path}: {where}: {first['msg']}") from None


def _parsed(raw: bytes) -> dict[str, Any]:
    """What JSON holds."""
    try:
        parsed: dict[str, Any] = from_json(raw)
    except ValueError:
        # A file name that is no text leaves half a surrogate pair, which only this one reads.
        parsed = json.loads(raw)
    return parsed
