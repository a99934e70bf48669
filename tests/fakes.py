"""Tiny models of every architecture, a fake clock, a scripted NVML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.measure.nvml import GpuInfo, NvmlUnavailable
from offsite.blocks import call_every_linear
from offsite.models import ensure_torchvision
from offsite.training import Batch

DEPTH = 6
CLASSES = 5
VOCABULARY = 64
_TEXT = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_GROUPED = {
    **_TEXT,
    "num_hidden_layers": DEPTH,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
# BLOOM's default initialisation hardly moves in one step.
_CONFIGS: dict[str, dict[str, Any]] = {
    "bloom": {**_TEXT, "n_layer": DEPTH, "hidden_size": 32, "n_head": 4, "initializer_range": 0.2},
    "gpt2": {**_TEXT, "n_layer": DEPTH, "n_embd": 32, "n_head": 4, "n_positions": 64},
    # Two of three of gemma's blocks see a window shorter than the batch.
    "gemma2": {**_GROUPED, "head_dim": 8, "sliding_window": 4},
    "gemma3_text": {
        **_GROUPED,
        "head_dim": 8,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    },
    "gpt_neox": {
        **_TEXT,
        "num_hidden_layers": DEPTH,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 4},
    "olmo2": _GROUPED,
    "opt": {
        **_TEXT,
        "num_hidden_layers": DEPTH,
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 32,
    },
    "phi3": _GROUPED,
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
}
LANGUAGE = sorted(_CONFIGS)
_IMAGES = {"img_size": 8, "patch_size": 4, "in_chans": 1}
TIMM: dict[str, dict[str, Any]] = {
    "timm": {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"embed_dim": 16, "depth": DEPTH, "num_heads": 2},
    },
    "timm_eva": {
        "architecture": "eva_giant_patch14_224",
        "model_args": {"embed_dim": 16, "depth": DEPTH, "num_heads": 2, "mlp_ratio": 2.0},
    },
}
"""timm models as their config.json describes them."""
for _config in TIMM.values():
    _config["model_args"].update(_IMAGES)
    _config["num_classes"] = CLASSES
    _config["pretrained_cfg"] = {"mean": [0.5], "std": [0.25]}
VISION = ["clip", *TIMM, "vit"]


def tiny_model(architecture: str, seed: int = 0) -> nn.Module:
    """A random model of `DEPTH` blocks, in evaluation mode."""
    ensure_torchvision()
    torch.manual_seed(seed)
    if architecture in TIMM:
        return _tiny_timm(TIMM[architecture])
    if architecture in VISION:
        return _tiny_vision(architecture)
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(architecture, **_CONFIGS[architecture])
    return AutoModelForCausalLM.from_config(config).eval()


def _tiny_timm(config: dict[str, Any]) -> nn.Module:
    import timm

    model = timm.create_model(
        config["architecture"], num_classes=config["num_classes"], **config["model_args"]
    )
    call_every_linear(model)
    return model.eval()


def _tiny_vision(architecture: str) -> nn.Module:
    from transformers import AutoModelForImageClassification, CLIPConfig, ViTConfig

    images = {
        "num_hidden_layers": DEPTH,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
        "num_channels": 1,
    }
    if architecture == "clip":
        config = CLIPConfig(vision_config=images, num_labels=CLASSES)
    else:
        config = ViTConfig(**images, num_labels=CLASSES)
    return AutoModelForImageClassification.from_config(config).eval()


def tiny_batch(architecture: str) -> Batch:
    """Two samples the model can take, with labels."""
    generator = torch.Generator().manual_seed(1)
    if architecture in VISION:
        images = torch.rand((2, 1, 8, 8), generator=generator)
        return Batch({"images": images, "labels": torch.tensor([1, 3])}, 2)
    ids = torch.randint(1, VOCABULARY, (2, 10), generator=generator)
    return Batch({"ids": ids}, 2, 20, 20)


def run_model(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of the model for the batch."""
    inputs = batch.inputs
    if "images" in inputs:
        output = model(inputs["images"])
    else:
        output = model(inputs["ids"], use_cache=False)
    return output if isinstance(output, Tensor) else output.logits


def tiny_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of labels, or of the next token."""
    logits = run_model(model, batch)
    if "labels" in batch.inputs:
        return nn.functional.cross_entropy(logits, batch.inputs["labels"])
    return nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.inputs["ids"][:, 1:].flatten()
    )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all tensors of a model, to see whether they change."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@dataclass
class FakeClock:
    """Returns the times it is given, one a call."""

    times: list[float]

    def __call__(self) -> float:
        return self.times.pop(0)


@dataclass
class ScriptedNvml:
    """An NVML that says what the test wrote."""

    devices: list[GpuInfo] = field(default_factory=list)
    processes: dict[int, int | None] = field(default_factory=dict)
    used: int = 0

    def gpus(self) -> list[GpuInfo]:
        return self.devices

    def process_memory(self, uuid: str) -> dict[int, int | None]:
        return self.processes

    def device_memory(self, uuid: str) -> int:
        return self.used


def no_driver() -> ScriptedNvml:
    """What opening NVML does on a machine without a GPU."""
    raise NvmlUnavailable("no NVIDIA driver")


@dataclass
class FakeHostMemory:
    """Host memory as the test wrote it."""

    peaks: list[int]
    reason: str | None = None
    resets: int = 0

    def reset_peak(self) -> str | None:
        self.resets += 1
        return self.reason

    def peak(self) -> int:
        return self.peaks.pop(0)

    def current(self) -> int:
        return 100


@dataclass
class FakeGpuMemory:
    """A GPU's allocator as the test wrote it."""

    allocated: int = 1000
    reserved: int = 1500

    def reset_peak(self) -> None: ...

    def allocated_peak(self) -> int:
        return self.allocated

    def reserved_peak(self) -> int:
        return self.reserved

    def uuid(self) -> str:
        return "GPU-0000"


Opener = Callable[[], ScriptedNvml]
