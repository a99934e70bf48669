"""The table of architectures: where each keeps its transformer blocks. Never imports torch."""

from __future__ import annotations

BLOCK_PATHS = {
    "bloom": "transformer.h",
    "gpt2": "transformer.h",
    "llama": "model.layers",
    "opt": "model.decoder.layers",
    "qwen2": "model.layers",
    "qwen3": "model.layers",
    "timm": "blocks",
    "vit": "vit.layers",
}
"""Model type (`config.model_type`; `timm` for timm's vision transformers) to its block list."""
