"""What a model source is, known without loading it: digest of its weights, depth, kind.

Reads config.json and hashes files; never imports torch. A hub model is known by its full
commit hash: from the local cache where it is there, from the hub when a run starts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import SuiteError
from bench.file_hash import file_sha256
from bench.hub_cache import cached_commit, cached_snapshot, reason
from bench.names import unknown
from offsite.architectures import ARCHITECTURES
from offsite.published import published
from reports.record import canonical

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "depth")
"""Names under which architectures keep their number of blocks in config.json."""

READ_SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja", ".py")
"""Files of a model folder that loading may read: configuration, weights, tokenizer, code."""

POSITION_KEYS = ("max_position_embeddings", "n_positions")
"""Likewise their longest sequence."""

PENDING = "pending:"
"""Prefix of a digest that cannot be known without the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model source as the planner sees it."""

    location: str
    """What `offsite.load_model` takes."""
    digest: str
    """`sha256:...` of the weights' bytes, `commit:...` of the hub, or `pending:NAME@REVISION`."""
    revision: str | None
    depth: int | None
    """Number of transformer blocks; None while only the hub knows it."""
    kind: Literal["language", "vision"] | None
    """None while only the hub knows it."""
    has_tokenizer: bool | None = None
    """Whether text can be read; None while only the hub knows it. A published configuration has
    none."""
    positions: int | None = None
    """The longest sequence of tokens it was made for; None where none is said."""


def resolve(source: str, folder: Path, *, revision: str | None, online: bool) -> Source:
    """Find out about `source`; relative folders are relative to `folder`.

    Args:
        source: as a suite gives it: hub id, folder, `timm:NAME`, `random:FOLDER`,
            `random:NAME` of a published configuration.
        folder: where the suite file is.
        revision: commit, branch or tag of a hub model.
        online: ask the hub for what the local cache does not tell.

    Raises:
        SuiteError: the folder is no model, or the hub has no such model.
    """
    prefix, path = ("random:", source[7:]) if source.startswith("random:") else ("", source)
    local = (folder / Path(path).expanduser()).resolve()
    if not source.startswith("timm:") and local.exists():
        return _local(prefix, local.parent if local.name == "config.json" else local)
    if prefix:
        return _published(path, local)
    return _hub(source, revision, online=online)


def _local(prefix: str, folder: Path) -> Source:
    config = _config(folder / "config.json")
    weights = [] if prefix else sorted(folder.glob("*.safetensors"))
    if not prefix and not weights:
        raise SuiteError(f"{folder} is not a model folder: it has no *.safetensors")
    read = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in READ_SUFFIXES)
    parts = {p.name: p for p in read if not (prefix and p.suffix == ".safetensors")}
    # By the names that `offsite.load_model` goes by.
    has_tokenizer = any(p.name.startswith("tokenizer") for p in folder.iterdir())
    return _of_files(f"{prefix}{folder}", prefix, parts, config, has_tokenizer=has_tokenizer)


def _published(name: str, local: Path) -> Source:
    """A configuration that ships with us: what a folder with that config.json would be."""
    known = published()
    if name not in known:
        sentence = unknown("configuration", name, known)
        raise SuiteError(f"'random:{name}': no folder {local} with a config.json; {sentence}")
    file = known[name]
    # The path, and not the name, which could be a folder's where the stage runs.
    parts = {"config.json": file}
    return _of_files(f"random:{file}", "random:", parts, _config(file), has_tokenizer=False)


def _of_files(
    location: str,
    prefix: str,
    parts: dict[str, Path],
    config: dict[str, Any],
    *,
    has_tokenizer: bool,
) -> Source:
    hashes = {name: file_sha256(path) for name, path in parts.items()}
    return Source(
        location=location,
        digest="sha256:" + hashlib.sha256(canonical([prefix, hashes])).hexdigest(),
        revision=None,
        depth=_depth(config),
        kind=_kind(config),
        has_tokenizer=has_tokenizer,
        positions=_positions(config),
    )


def _hub(source: str, revision: str | None, *, online: bool) -> Source:
    name = source.removeprefix("timm:")
    repository = f"timm/{name}" if source.startswith("timm:") else name
    commit = cached_commit("models", repository, revision)
    config_file = _cached_config(repository, commit) if commit else None
    if online and config_file is None:
        commit, config_file = _ask_hub(repository, revision)
    # What the hub says of a timm model leaves its depth to timm; before it is asked, a model
    # that everybody knows has the shape that everybody knows.
    shape = published().get(repository.split(".")[0] if source.startswith("timm:") else repository)
    configs = [_config(file) for file in (config_file, shape) if file is not None]
    branch = f"@{revision}" if revision else ""
    return Source(
        location=source,
        digest=f"commit:{repository}@{commit}" if commit else f"{PENDING}{source}{branch}",
        revision=commit,
        depth=next((depth for depth in map(_depth, configs) if depth is not None), None),
        kind=_kind(configs[0]) if configs else None,
        # What the cache lacks the hub may have.
        has_tokenizer=_has_cached_tokenizer(repository, commit) or None,
        positions=next((most for most in map(_positions, configs) if most is not None), None),
    )


def _cached_config(repository: str, commit: str) -> Path | None:
    path = cached_snapshot("models", repository, commit) / "config.json"
    return path if path.is_file() else None


def _has_cached_tokenizer(repository: str, commit: str | None) -> bool:
    if commit is None:
        return False
    return any(cached_snapshot("models", repository, commit).glob("tokenizer*"))


def _ask_hub(repository: str, revision: str | None) -> tuple[str, Path]:
    from huggingface_hub import hf_hub_download

    try:
        # By name, not by commit: this is what writes the name's commit into the cache.
        path = hf_hub_download(repository, "config.json", revision=revision or "main")
    except Exception as error:  # the hub client raises its own, requests' and the OS's errors
        raise SuiteError(
            f"model {repository!r} is no local folder, and the hub does not give it: "
            f"{reason(error)}"
        ) from error
    # snapshots/COMMIT/config.json
    return Path(path).parent.name, Path(path)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise SuiteError(f"{path.parent} is not a model folder: it has no config.json") from None
    except ValueError as error:
        raise SuiteError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise SuiteError(f"{path} is not a JSON object")
    return config


def _depth(config: dict[str, Any]) -> int | None:
    """Number of blocks; None for a timm name whose depth only timm knows."""
    depth = _first(config, DEPTH_KEYS)
    if depth is not None and not isinstance(depth, int):
        raise SuiteError(f"config.json gives {depth!r} for the number of blocks")
    return depth


def _positions(config: dict[str, Any]) -> int | None:
    most = _first(config, POSITION_KEYS)
    return most if isinstance(most, int) else None


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> object:
    """The value under the first of `keys` that the blocks' configuration has."""
    architecture = ARCHITECTURES.get(model_type(config))
    part = config.get((architecture and architecture.part) or "model_args")
    fields = {**config, **(part if isinstance(part, dict) else {})}
    return next((fields[key] for key in keys if key in fields), None)


def _kind(config: dict[str, Any]) -> Literal["language", "vision"]:
    name = model_type(config)
    if name not in ARCHITECTURES:
        raise SuiteError(unknown("architecture", name, ARCHITECTURES))
    return ARCHITECTURES[name].kind


def model_type(config: dict[str, Any]) -> str:
    """The name in `ARCHITECTURES` of what a config.json describes, if it is there."""
    return "timm" if "architecture" in config else str(config.get("model_type"))
