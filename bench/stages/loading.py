"""Put the models that stages work on back together from sources and blobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.stages.work import Work
from offsite import layout
from offsite.models import Foundation, load_model
from offsite.sandwich import Sandwich, adapter_blocks, cut


def load_foundation(work: Work) -> Foundation:
    """The owner's model, on the stage's device."""
    places = work.stage.locations
    return load_model(
        places["model"],
        dtype=work.stage.params["dtype"],
        revision=places.get("revision"),
        trust_remote_code=work.stage.params.get("trust_remote_code", False),
        device=torch.device(work.device),
    )


def load_emulated(work: Work) -> Foundation:
    """What the data owner received: adapter blocks around the emulator, as it was saved."""
    folder = work.scratch / "emulator"
    folder.mkdir()
    work.store.materialise(work.input_record("emulator").blobs, "model", folder)
    return load_model(folder, dtype=work.stage.params["dtype"], device=torch.device(work.device))


def cut_as_planned(work: Work, model: nn.Module) -> Sandwich:
    """The owner's model with the stage's adapter blocks marked."""
    return cut(model, **asdict(layout.read(work.stage.params["adapter_blocks"])))


def sent_adapter(work: Work, model: nn.Module) -> dict[str, nn.Module]:
    """The adapter blocks of the model that `load_emulated` loaded."""
    return adapter_blocks(model, scattered=work.input_record("emulator").facts["adapter_positions"])


def load_tuned(work: Work, name: str = "tuned.safetensors") -> Mapping[str, Tensor]:
    """The tuned tensors that a tune or finetune stage exported."""
    from safetensors.torch import load_file

    blob = work.store.blob(work.input_record("tuned").blobs[name])
    state: dict[str, Tensor] = load_file(blob)
    return state


def save_tuned(path: Path, state: Mapping[str, Tensor]) -> Path:
    """Write exported tensors; the same tensors are the same bytes."""
    from safetensors.torch import save_file

    save_file(dict(sorted(state.items())), path)
    return path
