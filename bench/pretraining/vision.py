"""A tiny ViT, trained from nothing to add two digits that a program draws."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.pretraining.json_file import write_json
from bench.pretraining.loop import muon_and_adamw, train

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

log = logging.getLogger(__name__)

STROKES: dict[int, tuple[str, ...]] = {
    0: ("50 21 14 26 49 69 86 83 71 50", "60 31 14 17 39 69 86 83 60"),
    1: ("50 59", "23 50 50 59", "23 50 50 59/29 89", "60 49", "33 50 50 59"),
    2: ("12 31 50 71 83 65 37 19 19 59 99", "12 40 72 64 28 08 26 58 99", "11 50 82 46 19 19 89"),
    3: ("11 40 71 73 45 45 75 87 49 08", "00 80 80 44 44 77 68 39 08", "11 50 72 44 76 68 39 18"),
    4: ("20 05 05 95/62 69", "59 50 50 06 06 96", "10 15 15 85/80 79", "40 06 06 96/53 59"),
    5: ("80 20 20 14 14 54 86 78 39 08", "20 14 54 86 68 39 08/20 90", "80 30 24 64 87 59 19"),
    6: ("60 31 15 18 49 78 76 54 25 16", "70 43 17 29 69 77 55 27", "30 14 17 39 79 76 45 17"),
    7: ("00 80 80 45 39", "00 80 80 49/25 75", "02 00 80 80 39/24 84", "10 80 80 55 49"),
    8: ("50 21 23 55 77 69 39 17 35 63 71 50", "71 40 22 44 76 68 39 18 36 63 71"),
    9: ("82 60 31 23 45 73 82 82 77 59", "82 51 23 45 82 82 89", "82 50 12 34 73 82 86 69 29"),
}
"""How each digit is drawn: strokes divided by `/`, through points `xy` on a 10 x 10 grid, y down.

A point given twice makes a corner."""

SAMPLES = 48
"""Points a digit is rendered from. Enough that neighbours overlap at the thinnest pen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionRecipe:
    """Everything that decides the vision model."""

    width: int = 64
    heads: int = 4
    blocks: int = 10
    patch: int = 4
    steps: int = 800
    batch: int = 128
    digits: int = 60_000
    """Digits drawn once; every step pairs others of them."""

    matrix_rate: float = 0.01
    other_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0


def pretrain_vision(output: Path, recipe: VisionRecipe) -> None:
    """Train a ViT to add two drawn digits and save it as timm's own kind of folder."""
    import torch
    from torch.nn.functional import cross_entropy

    started = time.perf_counter()
    torch.manual_seed(recipe.seed)
    draw = torch.Generator().manual_seed(recipe.seed)
    images, labels = drawn_digits(recipe.digits, draw)
    model, arguments = new_vision_model(recipe)

    def loss() -> Tensor:
        pairs, sums = drawn_pairs(images, labels, recipe.batch, draw)
        return cross_entropy(model(pairs), sums)

    optimizers = muon_and_adamw(
        model,
        matrix_rate=recipe.matrix_rate,
        other_rate=recipe.other_rate,
        weight_decay=recipe.weight_decay,
    )
    train(loss, optimizers, steps=recipe.steps)
    fresh = drawn_pairs(*drawn_digits(4000, draw), 2000, draw)
    model.eval()
    with torch.no_grad():
        accuracy = (model(fresh[0]).argmax(1) == fresh[1]).float().mean().item()
    report = {
        "accuracy_on_fresh_drawings": round(accuracy, 4),
        "seconds": round(time.perf_counter() - started),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": importlib.metadata.version("timm"),
        "recipe": asdict(recipe),
    }
    save_vision_model(model, arguments, output)
    write_json(output / "training.json", report)
    log.info("%s", json.dumps(report, indent=2))


def new_vision_model(recipe: VisionRecipe) -> tuple[nn.Module, dict[str, Any]]:
    """A small ViT over an 8 x 16 grey image with 19 classes, and the arguments that make it."""
    from offsite.models import ensure_torchvision

    ensure_torchvision()
    import timm

    arguments = {
        "img_size": [8, 16],
        "patch_size": recipe.patch,
        "in_chans": 1,
        "embed_dim": recipe.width,
        "depth": recipe.blocks,
        "num_heads": recipe.heads,
    }
    return timm.create_model(ARCHITECTURE, num_classes=CLASSES, **arguments), arguments


ARCHITECTURE = "vit_tiny_patch16_224"
"""timm's registered name whose every size `model_args` then changes."""

CLASSES = 19
"""Two digits add to 0, 1, ... or 18."""


def save_vision_model(model: nn.Module, arguments: dict[str, Any], output: Path) -> None:
    """config.json and model.safetensors, as `timm.create_model("local-dir:...")` reads them."""
    import torch
    from safetensors.torch import save_file

    height, width = arguments["img_size"]
    described = {
        "tag": "strokes",
        "custom_load": False,
        "input_size": [1, height, width],
        "fixed_input_size": True,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.0],
        "std": [1.0],
        "num_classes": CLASSES,
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "license": "apache-2.0",
    }
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": CLASSES,
        "num_features": arguments["embed_dim"],
        "global_pool": "token",
        "model_args": arguments,
        "pretrained_cfg": described,
    }
    write_json(output / "config.json", config)
    weights = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    save_file(weights, output / "model.safetensors", metadata={"format": "pt"})


def drawn_pairs(
    images: Tensor, labels: Tensor, count: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """`count` random pairs side by side, (count, 1, 8, 16), and their sums."""
    import torch

    left, right = torch.randint(len(labels), (2, count), generator=draw)
    pairs = torch.cat([images[left], images[right]], dim=2)[:, None]
    return pairs, labels[left] + labels[right]


def drawn_digits(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` handwritten-looking 8 x 8 digits, 0 to 1, and which digit each is."""
    import torch

    shapes = [(digit, shape) for digit, kinds in STROKES.items() for shape in kinds]
    digits = torch.arange(count) % 10
    paths = torch.stack([stroke_path(shape) for _, shape in shapes])
    owners = torch.tensor([digit for digit, _ in shapes])
    weights = (digits[:, None] == owners).float()
    chosen = torch.multinomial(weights, 1, generator=draw)[:, 0]
    parts = [chosen[at : at + 2000] for at in range(0, count, 2000)]
    images = [render(shaken(paths[part], draw), draw) for part in parts]
    return torch.cat(images), digits


def stroke_path(shape: str) -> Tensor:
    """`SAMPLES` points along smooth curves through a shape's points, (SAMPLES, 2)."""
    import numpy as np
    import torch

    strokes = [[(int(xy[0]), int(xy[1])) for xy in stroke.split()] for stroke in shape.split("/")]
    dense = [catmull_rom(np.array(stroke, float)) for stroke in strokes]
    lengths = [len(points) for points in dense]
    counts = [max(4, round(SAMPLES * length / sum(lengths))) for length in lengths]
    counts[0] += SAMPLES - sum(counts)
    picked = [
        points[np.linspace(0, len(points) - 1, number).round().astype(int)]
        for points, number in zip(dense, counts, strict=True)
    ]
    return torch.from_numpy(np.concatenate(picked)).float() / 9


def catmull_rom(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve through the points, sampled finely with about even spacing."""
    import numpy as np

    ends = np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, 40, endpoint=False)[:, None]
    pieces = [
        0.5
        * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    curve = np.concatenate([*pieces, points[-1:]])
    walked = np.concatenate([[0.0], np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()])
    even = np.linspace(0, walked[-1], max(2, int(walked[-1] * 8)))
    return np.stack([np.interp(even, walked, curve[:, axis]) for axis in (0, 1)], axis=1)


def shaken(paths: Tensor, draw: torch.Generator) -> Tensor:
    """The same strokes by another hand: bent by a smooth random field, slanted, turned."""
    import torch

    count = len(paths)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    for frequency in (3.0, 6.0):
        phase = normal(count, 1, 2) * 3
        turned = torch.einsum("npi,nij->npj", paths, normal(count, 2, 2) * frequency / 2)
        paths = paths + 0.12 / frequency * normal(count, 1, 2) * 3 * torch.sin(turned + phase)
    angle = 0.12 * normal(count)
    slant = 0.15 * normal(count)
    turn = torch.stack([angle.cos(), slant - angle.sin(), angle.sin(), angle.cos()], 1)
    return torch.einsum("npi,nji->npj", paths, turn.view(-1, 2, 2))


def render(paths: Tensor, draw: torch.Generator) -> Tensor:
    """Draw paths with a round pen as scikit-learn's digits were scanned: full height, centred."""
    import torch

    count = len(paths)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((count, 1, 1), generator=draw)

    pen = uniform(0.5, 0.95)
    low, high = paths.amin(1, keepdim=True), paths.amax(1, keepdim=True)
    extent = (high - low).clamp(min=0.05)
    tall = (8 - 2 * pen) / extent[..., 1:]
    wide = torch.minimum(tall * uniform(0.6, 0.95), (7.6 - 2 * pen) / extent[..., :1])
    centred = (paths - (low + high) / 2) * torch.cat([wide, tall], 2) + 4
    centred[..., :1] += 0.25 * torch.randn((count, 1, 1), generator=draw)
    ticks = (torch.arange(16) + 0.5) / 2
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), -1).view(-1, 2)
    nearest = torch.cdist(grid.expand(count, -1, -1), centred).amin(2)
    ink = ((pen[..., 0] - nearest) / 0.35 + 0.5).clamp(0, 1)
    small = ink.view(count, 8, 2, 8, 2).mean((2, 4))
    noise = 0.04 * torch.randn(small.shape, generator=draw)
    return (small + noise * (small > 0)).clamp(0, 1)
