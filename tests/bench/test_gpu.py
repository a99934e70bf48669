"""The whole line on a GPU."""

from __future__ import annotations

import pytest
import torch

from tests.bench.command import offsite_bench
from tests.bench.test_end_to_end import SMOKE, exported

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def test_the_smoke_profile_runs_on_the_gpu_and_measures_its_memory(tmp_path):
    """Stages run on the device, and the allocator's peaks are within what the driver says."""
    done = offsite_bench("run", *SMOKE, "--results", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = exported(tmp_path / "r", tmp_path, *SMOKE)
    trained = [r for r in rows if r["stage"] in ("tune", "finetune") and r["phase"] == "train"]
    for digest in {r["digest"] for r in trained}:
        values = {r["metric"]: r["value"] for r in trained if r["digest"] == digest}
        allocated, reserved = (float(values[f"peak_memory_{k}"]) for k in ("allocated", "reserved"))
        assert 0 < allocated <= reserved
