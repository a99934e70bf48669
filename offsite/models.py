"""Load a foundation model, and save one as a folder that loads the same way.

A source is a Hugging Face id, a local folder, `timm:NAME`, or `random:` and a folder or a
name of `offsite.published` (random weights of that configuration, no download). Only
safetensors are read.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from offsite import emulated, image_settings
from offsite.blocks import call_every_linear, get_blocks
from offsite.errors import NotAModel
from offsite.published import published

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

TIMM_SETTINGS = ("mean", "std", "input_size", "interpolation", "crop_pct", "crop_mode")
"""What of a timm model's settings says how it takes an image."""

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
    image_settings: dict[str, Any] | None = None
    """How a vision model takes its images, in the words of `offsite.image_settings.KEYS`,
    whichever library it is of. None where its folder does not say, and of a language model."""


def load_model(
    source: str | Path,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
    device: torch.device = CPU,
) -> Foundation:
    """Load `source`, in evaluation mode.

    Args:
        source: hub id, folder, `timm:NAME`, `random:FOLDER` or `random:NAME`.
        dtype: what the weights are stored in, whatever they were saved in.
        revision: full commit hash of a hub model.
        trust_remote_code: run Python code that comes with the model. Off, and rarely needed.
        seed: of the weights of a `random:` model; a CPU and every kind of GPU draw their own.
        device: where the model is afterwards.

    Raises:
        NotAModel: nothing there that can be loaded, with what was tried; also a hub model of
            images that does not say how its pixels are normalised.
    """
    ensure_torchvision()
    source = str(source)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        if source.startswith("random:"):
            with _drawing(seed, device):
                found = _drawn(source, DTYPES[dtype], options)
        else:
            found = _read(source, DTYPES[dtype], options)
    except (OSError, ValueError) as error:
        raise NotAModel(f"cannot load {source!r}: {_first_line(error)}") from error
    return replace(found, model=found.model.to(device))


def _read(source: str, dtype: torch.dtype, options: dict[str, Any]) -> Foundation:
    """A source with weights, on the CPU."""
    if source.startswith("timm:"):
        return _load_timm(source.removeprefix("timm:"), dtype, options["revision"])
    folder = Path(source)
    if (folder / emulated.FILE).is_file():
        return _load_emulated(folder, dtype, options)
    if folder.is_dir() and "architecture" in _read_config(folder / "config.json"):
        return _load_timm_folder(folder, dtype)
    return _load_transformers(source, dtype, options)


@contextmanager
def _drawing(seed: int, device: torch.device) -> Iterator[None]:
    """Inside the block modules are made on `device`, their weights drawn from `seed`.

    Afterwards the generators of the CPU and of `device` are where they were.
    """
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    index = torch.cuda.current_device() if device.index is None else device.index
    with torch.random.fork_rng(devices=[index], device_type=device.type), device:
        torch.manual_seed(seed)
        yield
    # What drawing took beside the weights is not in the next peak.
    torch.cuda.empty_cache()


def load_outline(
    source: str | Path, *, revision: str | None = None, trust_remote_code: bool = False
) -> Foundation:
    """Everything of `source` but its weights: modules on the meta device, tokenizer, settings.

    Arguments and errors are those of `load_model`.
    """
    ensure_torchvision()
    source = str(source)
    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    dtype = torch.float32
    try:
        with torch.device("meta"):
            if source.startswith("timm:"):
                name = source.removeprefix("timm:")
                return _load_timm(name, dtype, revision, pretrained=False)
            if source.startswith("random:"):
                return _drawn(source, dtype, options)
            if Path(source).is_dir():
                return _build(Path(source) / "config.json", dtype, options)
            return _configured(source, source, dtype, options)
    except (OSError, ValueError) as error:
        raise NotAModel(f"cannot load {source!r}: {_first_line(error)}") from error


def save_model(foundation: Foundation, folder: Path) -> None:
    """Write `foundation` as a folder that `load_model` reads.

    Configuration, safetensors, and the tokenizer or how images are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save_description(foundation, folder)
    if emulated.is_needed(foundation.model):
        emulated.save(foundation.model, folder)
    elif foundation.timm_config is None:
        foundation.model.save_pretrained(folder)  # type: ignore[operator]
    else:
        _save_tensors(foundation.model, folder)


def _save_description(foundation: Foundation, folder: Path) -> None:
    """Everything of the model's folder but the weights."""
    settings = foundation.image_settings
    if foundation.timm_config is None:
        foundation.model.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
        if settings is not None:
            image_settings.write_transformers(settings, foundation.model.config, folder)
    else:
        model_args = dict(foundation.timm_config.get("model_args") or {})
        model_args["depth"] = len(get_blocks(foundation.model))
        config = {**foundation.timm_config, "model_args": model_args}
        if settings is not None:
            config["pretrained_cfg"] = {**(config.get("pretrained_cfg") or {}), **settings}
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    if foundation.tokenizer is not None:
        foundation.tokenizer.save_pretrained(folder)


def _save_tensors(model: nn.Module, folder: Path) -> None:
    from safetensors.torch import save_file

    state = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _config_file(name: str) -> Path:
    """The configuration that a `random:` source names: a folder's, or a published one."""
    path = Path(name)
    if path.exists():
        return path / "config.json" if path.is_dir() else path
    known = published()
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise NotAModel(f"{name!r} is no folder and no configuration of offsite.published{hint}")


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise NotAModel(f"{file.parent} is not a model folder: it has no config.json") from None
    except ValueError as error:
        raise NotAModel(f"{file} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise NotAModel(f"{file} is not a JSON object")
    return config


def _drawn(source: str, dtype: torch.dtype, options: dict[str, Any]) -> Foundation:
    """A `random:` source; its weights know no pixels, so images are taken as they are."""
    drawn = _build(_config_file(source.removeprefix("random:")), dtype, options)
    if drawn.kind == "vision" and drawn.image_settings is None:
        return replace(drawn, image_settings=dict(image_settings.NEUTRAL))
    return drawn


def _build(file: Path, dtype: torch.dtype, options: dict[str, Any]) -> Foundation:
    """A model with random weights, as a configuration describes it."""
    config = _read_config(file)
    if "architecture" in config:
        return _timm_foundation(_build_timm(config), dtype, config)
    # Code that comes with a model is found beside its config.json.
    where = file.parent if file.name == "config.json" else file
    return _configured(str(where), str(file.parent), dtype, options)


def _configured(where: str, beside: str, dtype: torch.dtype, options: dict[str, Any]) -> Foundation:
    """A transformers model of the configuration that `where` names; `beside` holds the rest."""
    from transformers import AutoConfig

    described = AutoConfig.from_pretrained(where, **options)
    factory, kind = _factory(described)
    # A generator draws other numbers for other types, so float32 first; but not on a GPU, which
    # may have no room for that, and draws other numbers than a CPU anyway.
    drawn = dtype if torch.get_default_device().type == "cuda" else torch.float32
    model = factory.from_config(
        described, dtype=drawn, trust_remote_code=options["trust_remote_code"]
    )
    # Not `model.to`: what the library computes and does not save, such as rotary frequencies,
    # it keeps in float32 when it loads a model, and a saved model must come back the same.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return _described(model, kind, beside, options)


def _load_transformers(where: str, dtype: torch.dtype, options: dict[str, Any]) -> Foundation:
    from transformers import AutoConfig

    factory, kind = _factory(AutoConfig.from_pretrained(where, **options))
    model = factory.from_pretrained(where, dtype=dtype, use_safetensors=True, **options)
    return _described(model, kind, where, options)


def _described(
    model: nn.Module, kind: Literal["language", "vision"], where: str, options: dict[str, Any]
) -> Foundation:
    """The model with what lies beside its weights: a tokenizer, or how it takes images."""
    if kind == "language":
        return Foundation(model=model.eval(), kind=kind, tokenizer=_tokenizer(where, options))
    settings = image_settings.of_transformers(where, options)
    return Foundation(model=model.eval(), kind=kind, image_settings=settings)


def _load_emulated(folder: Path, dtype: torch.dtype, options: dict[str, Any]) -> Foundation:
    with emulated.without_initialisation():
        skeleton = _build(folder / "config.json", dtype, options)
    model = emulated.rebuild(skeleton.model, folder)
    for parameter in model.parameters():
        if parameter.is_floating_point():  # packed codes are not
            parameter.data = parameter.data.to(dtype)
    return replace(skeleton, model=model.eval())


def _factory(config: Any) -> tuple[Any, Literal["language", "vision"]]:  # noqa: ANN401 - untyped
    """The library's class that builds models of this configuration, and their kind."""
    from transformers import AutoModelForCausalLM, AutoModelForImageClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return AutoModelForCausalLM, "language"
    return AutoModelForImageClassification, "vision"


def _tokenizer(where: str, options: dict[str, Any]) -> PreTrainedTokenizerBase | None:
    """The folder's tokenizer; None where a local folder has none (efficiency suites need none)."""
    from transformers import AutoTokenizer

    if Path(where).is_dir() and not any(Path(where).glob("tokenizer*")):
        return None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_timm(
    name: str, dtype: torch.dtype, revision: str | None, *, pretrained: bool = True
) -> Foundation:
    import timm
    from timm.models import load_model_config_from_hf

    # timm's own table of names knows no commits; the hub's repositories are named alike.
    repository = f"timm/{name}@{revision}"
    arguments: dict[str, Any] = {}
    try:
        if revision is not None:
            arguments = load_model_config_from_hf(repository)[2] or {}
        with _no_pickle(name):
            where = f"hf-hub:{repository}" if revision else name
            model = timm.create_model(where, pretrained=pretrained)
    except RuntimeError as error:
        raise NotAModel(f"cannot load 'timm:{name}': {_first_line(error)}") from error
    config = {
        "architecture": name.split(".")[0],
        "num_classes": model.num_classes,
        "model_args": arguments,
        "pretrained_cfg": {k: v for k, v in model.pretrained_cfg.items() if k in TIMM_SETTINGS},
    }
    call_every_linear(model)
    return _timm_foundation(model, dtype, config)


@contextmanager
def _no_pickle(name: str) -> Iterator[None]:
    """Inside the block timm reads safetensors only; it would fall back to a pickle."""
    from timm.models import _hub

    def refuse(*_: object, **__: object) -> None:
        raise NotAModel(f"'timm:{name}' has no safetensors on the hub, and a pickle is not read")

    read = _hub._torch_load
    _hub._torch_load = refuse
    try:
        yield
    finally:
        _hub._torch_load = read


def _load_timm_folder(folder: Path, dtype: torch.dtype) -> Foundation:
    from safetensors.torch import load_file

    config = _read_config(folder / "config.json")
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise NotAModel(f"{folder} has no model.safetensors")
    model = _build_timm(config)
    # Assigned, not copied: the drawn weights and those of the file are never there together.
    model.load_state_dict(load_file(weights), assign=True)
    return _timm_foundation(model, dtype, config)


def _timm_foundation(model: Any, dtype: torch.dtype, config: dict[str, Any]) -> Foundation:  # noqa: ANN401
    return Foundation(
        model=model.to(dtype).eval(),
        kind="vision",
        timm_config=config,
        image_settings=image_settings.of_timm(config, model.pretrained_cfg),
    )


def _build_timm(config: dict[str, Any]) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(
        config["architecture"],
        pretrained=False,
        num_classes=config.get("num_classes", 1000),
        pretrained_cfg_overlay=config.get("pretrained_cfg"),
        **(config.get("model_args") or {}),
    )
    call_every_linear(model)
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
