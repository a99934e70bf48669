"""The table of architectures: where each keeps its blocks, and what the linears in them do.

Never imports torch: planning and `list models` read this table too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One row: a family of models that share code, and so names.

    The names of linears are relative to a block. Where a family has variants, all their
    names are listed; a block has some of them.
    """

    name: str
    """What people call it."""
    kind: Literal["language", "vision"]
    blocks: str
    """Path of the block list in the model."""
    attention: tuple[str, ...]
    """Linears that read the attention's input: query, key and value, apart or fused."""
    attention_out: tuple[str, ...]
    """The attention's output projection."""
    ffn_in: tuple[str, ...]
    """Linears whose outputs are the intermediate channels: one, or gate and up."""
    ffn_out: tuple[str, ...]
    """The linear that reads the intermediate channels."""
    ffn_norm: tuple[str, ...] = ()
    """A norm over the intermediate channels, where a variant has one."""
    ffn_fused: bool = False
    """Gate and up are the two halves of one matrix."""
    part: str | None = None
    """The part of the configuration that describes the blocks; None where all of it does."""


_LLAMA_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def _like_llama(name: str) -> Architecture:
    return Architecture(
        name=name,
        kind="language",
        blocks="model.layers",
        attention=_LLAMA_ATTENTION,
        attention_out=("self_attn.o_proj",),
        ffn_in=("mlp.gate_proj", "mlp.up_proj"),
        ffn_out=("mlp.down_proj",),
    )


ARCHITECTURES: dict[str, Architecture] = {
    "bloom": Architecture(
        name="BLOOM",
        kind="language",
        blocks="transformer.h",
        attention=("self_attention.query_key_value",),
        attention_out=("self_attention.dense",),
        ffn_in=("mlp.dense_h_to_4h",),
        ffn_out=("mlp.dense_4h_to_h",),
    ),
    "clip": Architecture(
        name="CLIP, the vision tower",
        kind="vision",
        blocks="vision_model.encoder.layers",
        attention=_LLAMA_ATTENTION,
        attention_out=("self_attn.out_proj",),
        ffn_in=("mlp.fc1",),
        ffn_out=("mlp.fc2",),
        part="vision_config",
    ),
    "gemma2": _like_llama("Gemma 2"),
    "gemma3_text": _like_llama("Gemma 3, text models"),
    "gpt2": Architecture(
        name="GPT-2",
        kind="language",
        blocks="transformer.h",
        attention=("attn.c_attn",),
        attention_out=("attn.c_proj",),
        ffn_in=("mlp.c_fc",),
        ffn_out=("mlp.c_proj",),
    ),
    "gpt_neox": Architecture(
        name="GPT-NeoX and Pythia",
        kind="language",
        blocks="gpt_neox.layers",
        attention=("attention.query_key_value",),
        attention_out=("attention.dense",),
        ffn_in=("mlp.dense_h_to_4h",),
        ffn_out=("mlp.dense_4h_to_h",),
    ),
    "llama": _like_llama("Llama 2 and 3"),
    "mistral": _like_llama("Mistral"),
    "olmo2": _like_llama("OLMo 2"),
    "opt": Architecture(
        name="OPT",
        kind="language",
        blocks="model.decoder.layers",
        attention=_LLAMA_ATTENTION,
        attention_out=("self_attn.out_proj",),
        ffn_in=("fc1",),
        ffn_out=("fc2",),
    ),
    "phi3": Architecture(
        name="Phi-3",
        kind="language",
        blocks="model.layers",
        attention=("self_attn.qkv_proj",),
        attention_out=("self_attn.o_proj",),
        ffn_in=("mlp.gate_up_proj",),
        ffn_out=("mlp.down_proj",),
        ffn_fused=True,
    ),
    "qwen2": _like_llama("Qwen 2 and 2.5"),
    "qwen3": _like_llama("Qwen 3"),
    "timm": Architecture(
        name="timm's vision_transformer and eva",
        kind="vision",
        blocks="blocks",
        attention=("attn.qkv", "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.gate"),
        attention_out=("attn.proj",),
        ffn_in=("mlp.fc1", "mlp.fc1_g", "mlp.fc1_x"),
        ffn_out=("mlp.fc2",),
        ffn_norm=("mlp.norm",),
    ),
    "vit": Architecture(
        name="ViT",
        kind="vision",
        blocks="vit.layers",
        attention=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        attention_out=("attention.o_proj",),
        ffn_in=("mlp.fc1",),
        ffn_out=("mlp.fc2",),
    ),
}
"""By model type (`config.model_type`; `timm` for timm's models)."""
