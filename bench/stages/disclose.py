"""Stage `disclose`: what the data owner gets to see of the foundation model."""

from __future__ import annotations

from dataclasses import asdict

from torch import nn

from bench.stages.loading import cut_as_planned, load_emulated, load_foundation
from bench.stages.work import StageResult, Work, write_rows
from offsite.blocks import architecture_of, get_blocks
from offsite.compression.effective_bytes import effective_bytes
from offsite.compression.emulator import Emulator
from offsite.disclosure import disclose
from reports.record import Metric


def run(work: Work) -> StageResult:
    """Compare what was sent, as it lies on disk, with the owner's model."""
    with work.memory.phase("load"):
        foundation = load_foundation(work)
        sent = load_emulated(work).model
    sandwich = cut_as_planned(work, foundation.model)
    record = work.input_record("emulator")
    adapter = record.facts["adapter_positions"]
    middle = [block for place, block in enumerate(get_blocks(sent)) if place not in adapter]
    layer_map = tuple(sandwich.middle_positions.index(i) for i in record.facts["layer_map"])
    emulator = Emulator(nn.ModuleList(middle), layer_map, architecture_of(sent))
    found = disclose(sandwich, sent, layer_map)
    files = (work.scratch / "emulator").glob("*.safetensors")
    similarities = [block.cosine for block in found.blocks if block.cosine is not None]
    metrics = [
        _metric("disclosed_fraction", found.disclosed_fraction, "fraction"),
        _metric("verbatim_fraction", found.verbatim_fraction, "fraction"),
        _metric("sent_bytes", sum(path.stat().st_size for path in files), "bytes"),
        _metric("stored_bytes", emulator.stored_bytes, "bytes"),
        _metric("effective_bytes", effective_bytes(emulator), "bytes"),
    ]
    if similarities:
        mean = sum(similarities) / len(similarities)
        metrics.append(_metric("block_similarity", mean, "1", n=len(similarities)))
    else:
        metrics.append(_incomparable("no block has weights of its original's shape"))
    rows = (asdict(block) for block in found.blocks)
    return StageResult(
        metrics=metrics,
        files={"blocks.jsonl": write_rows(work.scratch / "blocks.jsonl", rows)},
        facts={"sent_parameters": found.sent_parameters},
    )


def _incomparable(reason: str) -> Metric:
    return Metric(
        metric="block_similarity",
        value=None,
        unit="1",
        better="lower",
        phase="disclose",
        grade="unmeasured",
        reason=reason,
    )


def _metric(name: str, value: float, unit: str, n: int | None = None) -> Metric:
    return Metric(metric=name, value=value, unit=unit, better="lower", n=n, phase="disclose")
