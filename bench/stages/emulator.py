"""Stage `emulator`: cut the model, compress its middle, save what the data owner receives."""

from __future__ import annotations

import time
from dataclasses import replace

from bench.stages.loading import load_foundation
from bench.stages.work import StageResult, Work
from offsite.compression.emulator import compress, parameters_of
from offsite.models import save_model
from offsite.sandwich import cut, with_emulator
from reports.record import Metric


def run(work: Work) -> StageResult:
    """Build the emulator and save it with its adapter blocks as an ordinary model folder.

    One saved emulator serves tuning and every evaluation.
    """
    bottom, top = work.stage.params["adapter_blocks"]
    with work.memory.phase("load"):
        foundation = load_foundation(work)
    with work.memory.phase("build"):
        start = time.perf_counter()
        sandwich = cut(foundation.model, bottom=bottom, top=top)
        steps = [parameters_of(step) for step in work.stage.params["compression"]]
        emulator = compress(sandwich.middle, steps)
        sent = with_emulator(sandwich, emulator)
        seconds = time.perf_counter() - start
    folder = work.scratch / "model"
    save_model(replace(foundation, model=sent), folder)
    stored = sum(t.numel() * t.element_size() for t in emulator.blocks.state_dict().values())
    return StageResult(
        metrics=[
            Metric(metric="build_seconds", value=seconds, unit="s", better="lower", phase="build"),
            Metric(metric="emulator_bytes", value=stored, unit="bytes", better="lower"),
        ],
        files={f"model/{path.name}": path for path in sorted(folder.iterdir())},
        facts={"layer_map": [bottom + i for i in emulator.layer_map]},
    )
