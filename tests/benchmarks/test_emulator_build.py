"""What building an emulator of the tiny shipped models takes: `tox -e bench`.

`test_compression_cost.py` has the costs of a large model, each in a process of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from offsite.compression.emulator import compress, parameters_of
from offsite.models import load_model
from offsite.sandwich import Sandwich, cut
from tests.bench.command import ROOT

COMPRESSIONS: dict[str, dict[str, Any]] = {
    "layer_drop": {"method": "layer_drop", "keep": 4},
    "quantize": {"method": "quantize", "bits": 4},
    "quantize-nf4": {"method": "quantize", "format": "nf4"},
}


@pytest.fixture(scope="module", params=["tiny-lm", "tiny-vit"])
def sandwich(request: pytest.FixtureRequest) -> Sandwich:
    """A shipped model, cut after its first block and before its last."""
    return cut(load_model(ROOT / "suites" / "models" / request.param).model, bottom=1, top=1)


@pytest.mark.benchmark(group="emulator of a tiny model")
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_build(benchmark: BenchmarkFixture, sandwich: Sandwich, name: str):
    """Copies of four blocks, or all blocks with fewer bits: either way less than there was."""
    weights = [p for block in sandwich.middle for p in block.parameters()]
    before = sum(p.numel() * p.element_size() for p in weights)
    emulator = benchmark(compress, sandwich, [parameters_of(COMPRESSIONS[name])])
    benchmark.extra_info.update(middle_bytes=before, emulator_bytes=emulator.stored_bytes)
    kept = 4 if name == "layer_drop" else len(sandwich.middle)
    assert len(emulator.blocks) == kept
    assert emulator.stored_bytes < before
