"""The table of stage kinds: code version, where the function is, what its number rests on.

It never imports torch. The version is part of every digest: raise it when a change to the
sources can change a stage's result. A test fails when a source changed and the number did
not (`tests/bench/test_stage_versions.py` says how to settle it).
"""

from __future__ import annotations

from dataclasses import dataclass

_SHARED = (
    "bench/stages/loading.py",
    "bench/stages/work.py",
    "bench/worker.py",
    "offsite/architectures.py",
    "offsite/blocks.py",
    "offsite/models.py",
)
_TRAINING = (
    *_SHARED,
    "offsite/training.py",
    "offsite/sandwich.py",
    "offsite/tuning.py",
    "offsite/tuning_methods.py",
    "bench/stages/training.py",
    "bench/suite/suite_file.py",
    "bench/tasks/data.py",
    "bench/tasks/builtin.py",
    "bench/tasks/kinds.py",
    "bench/tasks/language.py",
    "bench/tasks/perplexity.py",
    "bench/tasks/sequences.py",
    "bench/tasks/task.py",
    "bench/tasks/vision.py",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    version: int
    function: str
    """'module:function', called as `function(work) -> StageResult`."""
    summary: str
    sources: tuple[str, ...]
    """Files whose change can change the result."""


KINDS: dict[str, Kind] = {
    "emulator": Kind(
        1,
        "bench.stages.emulator:run",
        "compress the middle into an emulator",
        (
            *_SHARED,
            "offsite/sandwich.py",
            "offsite/compression/emulator.py",
            "offsite/compression/layer_choice.py",
            "offsite/compression/methods.py",
            "bench/stages/emulator.py",
        ),
    ),
    "finetune": Kind(
        1,
        "bench.stages.training:finetune",
        "fine-tune the full model",
        _TRAINING,
    ),
    "tune": Kind(
        1,
        "bench.stages.training:tune",
        "tune the adapter blocks with the emulator",
        _TRAINING,
    ),
    "evaluate": Kind(
        1,
        "bench.stages.evaluate:run",
        "score a model on a task",
        (*_TRAINING, "bench/stages/evaluate.py"),
    ),
}
