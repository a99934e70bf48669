"""Put the models that stages work on back together from sources and blobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bench.stages.work import Work
from offsite.models import Foundation, load_model


def load_foundation(work: Work) -> Foundation:
    """The owner's model, on the stage's device."""
    places = work.stage.locations
    foundation = load_model(
        places["model"],
        dtype=work.stage.params["dtype"],
        revision=places.get("revision"),
        trust_remote_code=work.stage.params.get("trust_remote_code", False),
    )
    return _on_device(work, foundation)


def load_emulated(work: Work) -> Foundation:
    """What the data owner received: adapter blocks around the emulator, as it was saved."""
    folder = work.scratch / "emulator"
    folder.mkdir()
    work.store.materialise(work.input_record("emulator").blobs, "model", folder)
    return _on_device(work, load_model(folder, dtype=work.stage.params["dtype"]))


def load_tuned(work: Work) -> Mapping[str, Tensor]:
    """The tuned tensors that a tune or finetune stage exported."""
    from safetensors.torch import load_file

    blob = work.store.blob(work.input_record("tuned").blobs["tuned.safetensors"])
    state: dict[str, Tensor] = load_file(blob)
    return state


def save_tuned(path: Path, state: Mapping[str, Tensor]) -> Path:
    """Write exported tensors; the same tensors are the same bytes."""
    from safetensors.torch import save_file

    save_file(dict(sorted(state.items())), path)
    return path


def _on_device(work: Work, foundation: Foundation) -> Foundation:
    return replace(foundation, model=foundation.model.to(torch.device(work.device)))
