"""How a model takes its images: pixels' normalisation, resizing and cropping, in timm's words.

timm keeps them in config.json, transformers in preprocessor_config.json. A model that was trained
on normalised pixels loses accuracy on others without a word, so they travel with the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYS = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
"""timm's words for them, with timm's meaning."""

NEUTRAL: Mapping[str, Any] = {
    "mean": [0.0],
    "std": [1.0],
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "center",
}
"""For random weights, which know no pixels: 0 to 1, the middle of the whole short side."""

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where transformers keeps them; the second holds a text model's tokenizer settings too."""

_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By the number that PIL and transformers have for it."""


def of_timm(config: Mapping[str, Any], pretrained_cfg: Mapping[str, Any]) -> dict[str, Any] | None:
    """Those of a timm model; None if its config.json does not say how pixels are normalised.

    Args:
        config: what config.json says.
        pretrained_cfg: of the model that was built from it: the rest is the architecture's.
    """
    stated = config.get("pretrained_cfg") or {}
    if not {"mean", "std"} <= stated.keys():
        return None
    return {key: pretrained_cfg[key] for key in KEYS if pretrained_cfg.get(key) is not None}


def of_transformers(where: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Those of a hub model or a folder; None for a folder that has no file of them.

    Raises:
        OSError: a hub model without them.
        ValueError: they describe images of no fixed size.
    """
    from transformers import AutoImageProcessor

    folder = Path(where)
    if folder.is_dir() and not any((folder / name).is_file() for name in FILES):
        return None
    # The library knows what its older files mean by a bare `size`, and what is left out.
    return _read(AutoImageProcessor.from_pretrained(where, **options))


def _read(processor: Any) -> dict[str, Any]:  # noqa: ANN401 - untyped library
    # Its mean and deviation are those of 0..255 times a factor; ours are those of 0..1.
    factor = round(255 * (processor.rescale_factor if processor.do_rescale else 1), 6)
    normalises = processor.do_normalize
    mean = processor.image_mean if normalises else 0.0
    deviation = processor.image_std if normalises else 1.0
    crop_pct, crop_mode = _crop(processor)
    return {
        "mean": [value / factor for value in _listed(mean)],
        "std": [value / factor for value in _listed(deviation)],
        "interpolation": _RESAMPLING[int(processor.resample)],
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
    }


def _listed(value: Any) -> list[float]:  # noqa: ANN401 - one number, or one a channel
    return [float(value)] if isinstance(value, (int, float)) else [float(each) for each in value]


def _crop(processor: Any) -> tuple[float, str]:  # noqa: ANN401 - untyped library
    """What share of the resized image is kept, and what the resizing does to its shape."""
    size = processor.size if processor.do_resize else None
    crop = processor.crop_size if processor.do_center_crop else None
    if size and size.height and size.width:
        return _share(crop.height if crop else size.height, size.height), "squash"
    if size and size.shortest_edge and crop:
        return _share(crop.height, size.shortest_edge), "center"
    raise ValueError(f"its {FILES[0]} does not bring images to a fixed size")


def _share(kept: int, edge: int) -> float:
    """`kept / edge`, such that timm's floor(kept / share) is the edge again.

    >>> math.floor(1 / (1 / 93)), math.floor(1 / _share(1, 93))
    (92, 93)
    """
    share = kept / edge
    return share if math.floor(kept / share) == edge else math.nextafter(share, 0)


def write_transformers(settings: Mapping[str, Any], config: Any, folder: Path) -> None:  # noqa: ANN401
    """Write them as the file that `of_transformers` and transformers itself read."""
    _, height, width = input_size(config)
    edges = [math.floor(side / settings["crop_pct"]) for side in (height, width)]
    squash = settings["crop_mode"] == "squash"
    described = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": dict(zip(("height", "width"), edges, strict=True))
        if squash
        else {"shortest_edge": min(edges)},
        "resample": _RESAMPLING.index(settings["interpolation"]),
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(settings["mean"]),
        "image_std": list(settings["std"]),
    }
    (folder / FILES[0]).write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")


def input_size(config: Any) -> tuple[int, int, int]:  # noqa: ANN401 - untyped library
    """Channels, height and width of the images that a transformers configuration is for."""
    # CLIP's describes a text tower beside the one that sees.
    seen = getattr(config, "vision_config", config)
    side = seen.image_size
    height, width = (side, side) if isinstance(side, int) else side
    return seen.num_channels, height, width
