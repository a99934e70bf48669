"""The table of stage kinds: code version, where the function is, what its number rests on.

It never imports torch. The version is part of every digest: raise it when a change to the
sources can change a stage's result. A test fails when a source changed and the number did
not (`tests/bench/test_stage_versions.py` says how to settle it).
"""

from __future__ import annotations

from dataclasses import dataclass

_SHARED = (
    "bench/measure/board.py",
    "bench/measure/cuda.py",
    "bench/measure/host.py",
    "bench/measure/memory.py",
    "bench/measure/monitor.py",
    "bench/measure/peaks.py",
    "bench/measure/sampler.py",
    "bench/measure/tally.py",
    "bench/stages/loading.py",
    "bench/stages/work.py",
    "bench/worker.py",
    "offsite/architectures.py",
    "offsite/blocks.py",
    "offsite/compression/layers.py",
    "offsite/emulated.py",
    "offsite/image_settings.py",
    "offsite/layout.py",
    "offsite/models.py",
    "offsite/sandwich.py",
)
_TASKS = (
    "bench/file_hash.py",
    "bench/tasks/data.py",
    "bench/tasks/builtin.py",
    "bench/tasks/documents.py",
    "bench/tasks/image_folders.py",
    "bench/tasks/kinds.py",
    "bench/tasks/language.py",
    "bench/tasks/perplexity.py",
    "bench/tasks/pictures.py",
    "bench/tasks/registered.py",
    "bench/tasks/rows.py",
    "bench/tasks/samples.py",
    "bench/tasks/scorer.py",
    "bench/tasks/sequences.py",
    "bench/tasks/synthetic.py",
    "bench/tasks/task.py",
    "bench/tasks/templates.py",
    "bench/tasks/token_tree.py",
    "bench/tasks/tokens.py",
    "bench/tasks/vision.py",
    "offsite/head_loss.py",
)
_LAYERS = (
    "offsite/compression/channels.py",
    "offsite/compression/low_rank.py",
    "offsite/compression/quantization.py",
    "offsite/compression/scale_ot.py",
)
"""Compressions whose modules run in what they make."""
_COMPRESSION = (
    *_SHARED,
    *_LAYERS,
    "offsite/compression/calibration.py",
    "offsite/compression/crash.py",
    "offsite/compression/data_aware_choice.py",
    "offsite/compression/emulator.py",
    "offsite/compression/grad_ot.py",
    "offsite/compression/layer_choice.py",
    "offsite/compression/methods.py",
    "offsite/compression/pruning.py",
    "bench/stages/emulator.py",
)
_STEP = (
    "offsite/acceleration.py",
    "offsite/blocked_attention.py",
    "offsite/fused_lora.py",
    "offsite/training.py",
)
_TRAINING = (
    *_SHARED,
    *_LAYERS,
    *_TASKS,
    "bench/measure/canary.py",
    "bench/measure/ceilings.py",
    "bench/measure/energy.py",
    "bench/measure/flops.py",
    "bench/measure/memory_cap.py",
    "bench/measure/throughput.py",
    "bench/peers/__init__.py",
    "bench/peers/authors.py",
    "bench/peers/trainer.py",
    *_STEP,
    "offsite/activation_cache.py",
    "offsite/bottleneck.py",
    "offsite/heads.py",
    "offsite/peft_tunings.py",
    "offsite/soft_prompt.py",
    "offsite/tuning.py",
    "offsite/tuning_methods.py",
    "bench/stages/cost.py",
    "bench/stages/training.py",
    "bench/suite/suite_file.py",
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
        4,
        "bench.stages.emulator:run",
        "compress the middle into an emulator",
        (
            *_COMPRESSION,
            *_TASKS,
            *_STEP,
            "offsite/distillation.py",
        ),
    ),
    "disclose": Kind(
        2,
        "bench.stages.disclose:run",
        "measure what the emulator gives away",
        (
            *_COMPRESSION,
            "offsite/compression/effective_bytes.py",
            "offsite/disclosure.py",
            "bench/stages/disclose.py",
        ),
    ),
    "finetune": Kind(
        5,
        "bench.stages.training:finetune",
        "fine-tune the full model",
        _TRAINING,
    ),
    "tune": Kind(
        5,
        "bench.stages.training:tune",
        "tune the adapter blocks with the emulator",
        _TRAINING,
    ),
    "evaluate": Kind(
        5,
        "bench.stages.evaluate:run",
        "score a model on a task",
        (
            *_TRAINING,
            "bench/stages/evaluate.py",
            "bench/tasks/item_scores.py",
            "reports/items.py",
        ),
    ),
}
