"""Tiny models of every architecture, fake clocks, a scripted GPU driver."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import torch
from torch import Tensor, nn

from bench.measure.monitor import Sampled
from bench.measure.nvml import GpuInfo, NvmlUnavailable, PynvmlSource
from bench.measure.rapl import Rapl
from bench.measure.sampler import Probe, Sampler
from bench.measure.unavailable import Unavailable
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
class ScriptedBoard:
    """One GPU, or one slice of a GPU, as a test has it."""

    uuid: str
    held: dict[int, int] = field(default_factory=dict)
    """Bytes that processes truly hold."""
    hidden: set[int] = field(default_factory=set)
    """Processes that the driver's list does not show."""
    tells_processes: bool = True
    """Whether the list says how much each holds: not so under WSL."""
    tells_instead: int | None = None
    """What it says if not."""
    high: dict[int, int] | None = None
    """The accounting's peaks; None where accounting is off."""
    unlisted: int = 300 * 2**20
    """Bytes in use that no process holds."""
    refusals: dict[str, int] = field(default_factory=dict)
    """NVML error code by function."""
    joules: float = 1000.0
    watts: float = 400.0
    clock: int = 1980
    temperature: int = 40
    throttling: int = 0
    cut_into: list[ScriptedBoard] = field(default_factory=list)

    def hold(self, pid: int, held: int) -> None:
        """A process takes this much now."""
        self.held[pid] = held
        if self.high is not None:
            self.high[pid] = max(held, self.high.get(pid, 0))


@dataclass
class ScriptedDriver:
    """nvidia-ml-py's functions over scripted boards, for `install` to put in its place."""

    boards: list[ScriptedBoard]
    """In NVML's order."""

    def install(self, monkeypatch: Any) -> None:
        """Put every function here in the place of the library's."""
        for name in (name for name in dir(self) if name.startswith("nvml")):
            monkeypatch.setattr(pynvml, name, getattr(self, name))

    def nvmlInit(self) -> None: ...

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> ScriptedBoard:
        return self.boards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> ScriptedBoard:
        everything = [*self.boards, *(s for board in self.boards for s in board.cut_into)]
        found = [board for board in everything if board.uuid == uuid]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found[0]

    def nvmlDeviceGetUUID(self, board: ScriptedBoard) -> str:
        return board.uuid

    def nvmlDeviceGetName(self, board: ScriptedBoard) -> str:
        return "H200"

    def nvmlDeviceGetMigMode(self, board: ScriptedBoard) -> list[int]:
        return [int(bool(board.cut_into))] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, board: ScriptedBoard) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(
        self, board: ScriptedBoard, index: int
    ) -> ScriptedBoard:
        if index >= len(board.cut_into):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return board.cut_into[index]

    def nvmlDeviceGetMemoryInfo(self, board: ScriptedBoard) -> SimpleNamespace:
        self._refuse(board, "nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(
            total=140 * 2**30, used=board.unlisted + sum(map(int, board.held.values()))
        )

    def nvmlDeviceGetComputeRunningProcesses(self, board: ScriptedBoard) -> list[SimpleNamespace]:
        self._refuse(board, "nvmlDeviceGetComputeRunningProcesses")
        return [
            SimpleNamespace(
                pid=pid, usedGpuMemory=held if board.tells_processes else board.tells_instead
            )
            for pid, held in board.held.items()
            if pid not in board.hidden
        ]

    def nvmlDeviceGetAccountingMode(self, board: ScriptedBoard) -> int:
        self._refuse(board, "nvmlDeviceGetAccountingMode")
        return int(board.high is not None)

    def nvmlDeviceGetAccountingStats(self, board: ScriptedBoard, pid: int) -> SimpleNamespace:
        return SimpleNamespace(maxMemoryUsage=board.high[pid])

    def nvmlDeviceGetTotalEnergyConsumption(self, board: ScriptedBoard) -> int:
        self._refuse(board, "nvmlDeviceGetTotalEnergyConsumption")
        return int(board.joules * 1000)

    def nvmlDeviceGetPowerUsage(self, board: ScriptedBoard) -> int:
        self._refuse(board, "nvmlDeviceGetPowerUsage")
        return int(board.watts * 1000)

    def nvmlDeviceGetClockInfo(self, board: ScriptedBoard, kind: int) -> int:
        self._refuse(board, "nvmlDeviceGetClockInfo")
        return board.clock

    def nvmlDeviceGetTemperature(self, board: ScriptedBoard, sensor: int) -> int:
        self._refuse(board, "nvmlDeviceGetTemperature")
        return board.temperature

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, board: ScriptedBoard) -> int:
        self._refuse(board, "nvmlDeviceGetCurrentClocksThrottleReasons")
        return board.throttling

    def _refuse(self, board: ScriptedBoard, function: str) -> None:
        if function in board.refusals:
            raise pynvml.NVMLError(board.refusals[function])


@dataclass
class ScriptedCuda:
    """A process on a scripted board, as its framework and the driver see it."""

    board: ScriptedBoard
    pid: int = field(default_factory=os.getpid)
    """The driver's number of it."""
    context: int = 500 * 2**20
    brings: list[int] = field(default_factory=list)
    """Other processes that come at the same moment."""
    started: bool = False
    reserved: int = 0
    allocated: int = 0
    peak: int = 0
    allocated_high: int = 0

    def hold(self, size: int) -> None:
        """Have tensors of this many bytes; the allocator reserves as much."""
        self.allocated = self.reserved = size
        self.peak = max(self.peak, size)
        self.allocated_high = max(self.allocated_high, size)
        self.board.hold(self.pid, self.context + size)

    def has_context(self) -> bool:
        return self.started

    def create_context(self) -> None:
        self.started = True
        self.hold(2 * 2**20)
        for pid in self.brings:
            self.board.hold(pid, 2**30)

    def synchronize(self) -> None: ...

    def reset_peak(self) -> None:
        self.peak, self.allocated_high = self.reserved, self.allocated

    def allocated_peak(self) -> int:
        return self.allocated_high

    def reserved_peak(self) -> int:
        return self.peak

    def uuid(self) -> str:
        return self.board.uuid.partition("-")[2]


@dataclass
class ScriptedTime:
    """A clock that a test moves, with things that happen on the way and a sampler that looks."""

    now: float = 100.0
    events: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    sampler: Sampler | None = None

    def __call__(self) -> float:
        return self.now

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        """Something happens `seconds` from now."""
        self.events.append((self.now + seconds, event))
        self.events.sort(key=lambda e: e[0])

    def run(self, seconds: float) -> None:
        """Time passes."""
        until = self.now + seconds
        while self.now < until:
            stops = [until, *(at for at, _ in self.events[:1])]
            if self.sampler is not None:
                stops.append(self.now + self.sampler.timeout())
            self.now = max(min(stops), self.now + 1e-9)
            while self.events and self.events[0][0] <= self.now:
                self.events.pop(0)[1]()
            if self.sampler is not None:
                self.sampler.tick()


@dataclass
class ScriptedMonitor:
    """The sampler's own code in this process, with a clock that the test moves."""

    time: ScriptedTime
    nvml: Callable[[], Any] = PynvmlSource
    cpu: Callable[[], float] = lambda: 0.0
    cores: int = 16
    rapl: Rapl = field(default_factory=Rapl)
    ended: bool = False
    """Set by a test that kills it."""

    def __post_init__(self) -> None:
        self.time.sampler = Sampler(
            Probe(os.getpid(), self.nvml),
            self.cores,
            clock=self.time,
            cpu=self.cpu,
            rapl=self.rapl,
        )

    def watch(self, uuid: str, pid: int | None) -> None:
        self._tell({"gpu": {"uuid": uuid, "pid": pid}})

    def begin(self, at: float) -> None:
        self._tell({"begin": at})

    def end(self, at: float) -> Sampled:
        if self.ended:
            raise Unavailable("the sampler ended early")
        return Sampled(**json.loads(json.dumps(self._tell({"end": at}))))

    def close(self) -> None: ...

    def _tell(self, command: dict[str, Any]) -> Any:
        return self.time.sampler.obey(command)


@dataclass
class ScriptedNvml:
    """An NVML that lists the GPUs the test wrote."""

    devices: list[GpuInfo]

    def gpus(self) -> list[GpuInfo]:
        return self.devices


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
