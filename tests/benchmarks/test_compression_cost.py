"""What compressing a 1.3B model costs the owner, in time and memory: `tox -e bench`.

The bound is the model's bytes and the emulator's, and 15% of both, above the process's own
floor: an owner who can load a model can compress it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from offsite.models import load_model, save_model
from tests.bench.command import ROOT, environment

MODEL = "random:facebook/opt-1.3b"
COMPRESSIONS: dict[str, list[dict[str, Any]]] = {
    "layer_drop": [{"method": "layer_drop", "keep": 8}],
    "magnitude_prune": [{"method": "magnitude_prune", "ratio": 0.5}],
    "magnitude_prune-row": [{"method": "magnitude_prune", "ratio": 0.5, "scope": "row"}],
    "magnitude_prune-global": [{"method": "magnitude_prune", "ratio": 0.5, "scope": "global"}],
    "n_m": [{"method": "n_m"}],
    "ffn_prune": [{"method": "ffn_prune", "ratio": 0.5}],
    "quantize": [{"method": "quantize", "bits": 4}],
    "quantize-3": [{"method": "quantize", "bits": 3}],
    "quantize-nf4": [{"method": "quantize", "format": "nf4"}],
    "quantize-int8": [{"method": "quantize", "format": "int8"}],
    "paper-rtn": [{"method": "paper-rtn", "bits": 4}],
}
SLACK = 1.15
OWNER = """\
import json, sys, tempfile
from dataclasses import replace
from pathlib import Path
from bench.measure.host import LinuxHostMemory
from offsite.compression.emulator import compress, parameters_of
from offsite.models import ensure_torchvision, load_model, save_model
from offsite.sandwich import cut, view

ensure_torchvision()
import peft, safetensors.torch, transformers, transformers.models.opt.modeling_opt  # the floor

folder, steps = Path(sys.argv[1]), json.loads(sys.argv[2])
memory = LinuxHostMemory()
floor = memory.current()
reason = memory.reset_peak()
assert reason is None, reason
foundation = load_model(folder, dtype="bfloat16")
loaded = memory.peak() - floor
sandwich = cut(foundation.model, bottom=2, top=2)
emulator = compress(sandwich, [parameters_of(step) for step in steps])
compressed = memory.peak() - floor
with tempfile.TemporaryDirectory() as scratch:
    sent = replace(foundation, model=view(sandwich, emulator))
    save_model(sent, Path(scratch) / "sent")
tensors = {t.data_ptr(): t for t in foundation.model.state_dict().values()}.values()
print(json.dumps({
    "floor": floor,
    "model_bytes": sum(t.numel() * t.element_size() for t in tensors),
    "emulator_bytes": emulator.stored_bytes,
    "loaded": loaded,
    "compressed": compressed,
    "saved": memory.peak() - floor,
}))
"""


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1.3B model as safetensors, weights drawn at random."""
    if not request.config.getoption("benchmark_enable"):
        pytest.skip("takes minutes and 8 GB; `tox -e bench` runs it")
    path = tmp_path_factory.mktemp("opt-1.3b")
    save_model(load_model(MODEL, dtype="bfloat16"), path)
    return path


@pytest.mark.benchmark(group="compression")
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compression_cost(benchmark: BenchmarkFixture, folder: Path, name: str):
    """Load, compress and save peak within the bound; figures are in the extra info."""
    figures = json.loads(benchmark.pedantic(owner, (folder, COMPRESSIONS[name]), rounds=1))
    bound = SLACK * (figures["model_bytes"] + figures["emulator_bytes"])
    figures["share_of_bound"] = figures["saved"] / bound
    benchmark.extra_info.update(figures)
    assert figures["saved"] <= bound, figures


def owner(folder: Path, steps: list[dict[str, Any]]) -> str:
    """Compress in a process of its own; returns what it measured, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", OWNER, str(folder), json.dumps(steps)],
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
