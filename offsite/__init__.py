"""Offsite-Tuning (arXiv 2302.04870) as a library: cut, compress, tune, plug in.

Names are imported on first use, so the parts that need no torch load without it.
"""

from __future__ import annotations

import importlib

_HOME = {
    "ActivationCache": "offsite.activation_cache",
    "Batch": "offsite.training",
    "Emulator": "offsite.compression.emulator",
    "Full": "offsite.tuning_methods",
    "Foundation": "offsite.models",
    "Identity": "offsite.compression.methods",
    "LayerDrop": "offsite.compression.methods",
    "Lora": "offsite.tuning_methods",
    "Recipe": "offsite.training",
    "Sandwich": "offsite.sandwich",
    "Tuning": "offsite.tuning",
    "adapter_blocks": "offsite.sandwich",
    "all_blocks": "offsite.sandwich",
    "compress": "offsite.compression.emulator",
    "cut": "offsite.sandwich",
    "load_model": "offsite.models",
    "plug_in": "offsite.sandwich",
    "save_model": "offsite.models",
    "train": "offsite.training",
    "tuning_from": "offsite.tuning",
    "with_emulator": "offsite.sandwich",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of str


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'offsite' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
