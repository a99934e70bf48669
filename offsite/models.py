"""Load a foundation model, and save one as a folder that loads the same way.

A source is a Hugging Face id, a local folder, `timm:NAME`, or `random:FOLDER` (random
weights from that folder's config.json). Only safetensors are read.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from offsite.blocks import get_blocks
from offsite.errors import NotAModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_kept_alive: list[torch.library.Library] = []


def ensure_torchvision() -> None:
    """Make torchvision importable next to a CPU-only torch; timm, peft and transformers need it.

    PyPI's Linux torchvision is linked against CUDA. Beside a CPU torch its C++ library does
    not load, and the import then fails because a fake kernel is registered for an operator
    that was never defined (pytorch/vision#9077). Everything we use of it is pure Python, so
    declaring those two operators is enough. The real import is tried first: declaring them
    where the library does load would register them twice.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        known = "torchvision::nms does not exist" in str(error)
        if not known or torch.version.cuda or torch.version.hip:
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for operator in ("nms", "qnms"):
            signature = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(signature)  # type: ignore[no-untyped-call]
        _kept_alive.append(library)
        importlib.import_module("torchvision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """A loaded model with what is needed to use it and to save it again."""

    model: nn.Module
    kind: Literal["language", "vision"]
    tokenizer: PreTrainedTokenizerBase | None = None
    timm_config: dict[str, Any] | None = None
    """config.json of a timm model (architecture, num_classes, model_args, pretrained_cfg)."""


def load_model(
    source: str | Path,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> Foundation:
    """Load `source`, in evaluation mode, on the CPU.

    Args:
        source: hub id, folder, `timm:NAME` or `random:FOLDER`.
        dtype: what the weights are stored in, whatever they were saved in.
        revision: full commit hash of a hub model.
        trust_remote_code: run Python code that comes with the model. Off, and rarely needed.
        seed: of the weights of a `random:` model.

    Raises:
        NotAModel: nothing there that can be loaded, with what was tried.
    """
    ensure_torchvision()
    source = str(source)
    if source.startswith("timm:"):
        return _load_timm(source.removeprefix("timm:"), DTYPES[dtype])
    is_random = source.startswith("random:")
    folder = Path(source.removeprefix("random:"))
    if is_random:
        folder = folder.parent if folder.name == "config.json" else folder
        torch.manual_seed(seed)
    config = _read_config(folder) if folder.is_dir() else {}
    if "architecture" in config:
        return _load_timm_folder(folder, config, DTYPES[dtype], is_random=is_random)
    where = str(folder) if is_random or folder.is_dir() else source
    try:
        return _load_transformers(
            where,
            is_random=is_random,
            dtype=DTYPES[dtype],
            options={"revision": revision, "trust_remote_code": trust_remote_code},
        )
    except (OSError, ValueError) as error:
        raise NotAModel(f"cannot load {source!r}: {_first_line(error)}") from error


def save_model(foundation: Foundation, folder: Path) -> None:
    """Write `foundation` as a folder that `load_model` reads: config, safetensors, tokenizer."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if foundation.timm_config is not None:
        model_args = dict(foundation.timm_config.get("model_args") or {})
        model_args["depth"] = len(get_blocks(foundation.model))
        config = {**foundation.timm_config, "model_args": model_args}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
        state = {k: v.detach().contiguous() for k, v in foundation.model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    foundation.model.save_pretrained(folder)  # type: ignore[operator]
    if foundation.tokenizer is not None:
        foundation.tokenizer.save_pretrained(folder)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise NotAModel(f"{folder} is not a model folder: it has no config.json") from None
    except ValueError as error:
        raise NotAModel(f"{folder}/config.json is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise NotAModel(f"{folder}/config.json is not a JSON object")
    return config


def _load_transformers(
    where: str, *, is_random: bool, dtype: torch.dtype, options: dict[str, Any]
) -> Foundation:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = AutoConfig.from_pretrained(where, **options)
    is_language = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    factory = AutoModelForCausalLM if is_language else AutoModelForImageClassification
    if is_random:
        trust = options["trust_remote_code"]
        # float32 first: a generator draws other numbers for other types.
        model = factory.from_config(config, trust_remote_code=trust).to(dtype)
    else:
        model = factory.from_pretrained(where, dtype=dtype, use_safetensors=True, **options)
    tokenizer = _tokenizer(where, options) if is_language else None
    kind: Literal["language", "vision"] = "language" if is_language else "vision"
    return Foundation(model=model.eval(), kind=kind, tokenizer=tokenizer)


def _tokenizer(where: str, options: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """The folder's tokenizer; None where a local folder has none (efficiency suites need none)."""
    from transformers import AutoTokenizer

    if Path(where).is_dir() and not any(Path(where).glob("tokenizer*")):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_timm(name: str, dtype: torch.dtype) -> Foundation:
    import timm

    try:
        model = timm.create_model(name, pretrained=True)
    except RuntimeError as error:
        raise NotAModel(f"cannot load 'timm:{name}': {_first_line(error)}") from error
    config = {
        "architecture": name.split(".")[0],
        "num_classes": model.num_classes,
        "model_args": {},
        "pretrained_cfg": {k: v for k, v in model.pretrained_cfg.items() if k in ("mean", "std")},
    }
    return Foundation(model=model.to(dtype).eval(), kind="vision", timm_config=config)


def _load_timm_folder(
    folder: Path, config: dict[str, Any], dtype: torch.dtype, *, is_random: bool
) -> Foundation:
    import timm
    from safetensors.torch import load_file

    model = timm.create_model(
        config["architecture"],
        pretrained=False,
        num_classes=config.get("num_classes", 1000),
        pretrained_cfg_overlay=config.get("pretrained_cfg"),
        **(config.get("model_args") or {}),
    )
    if not is_random:
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise NotAModel(f"{folder} has no model.safetensors")
        model.load_state_dict(load_file(weights))
    return Foundation(model=model.to(dtype).eval(), kind="vision", timm_config=config)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
