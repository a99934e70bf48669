"""A tiny Llama and its tokenizer, trained from nothing on the corpus."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.pretraining.corpus import SOURCES, is_held_out, sha256
from bench.pretraining.json_file import write_json
from bench.pretraining.loop import muon_and_adamw, train

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

END = "<|endoftext|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRecipe:
    """Everything that decides the language model except the corpus."""

    width: int = 96
    inner: int = 256
    heads: int = 3
    blocks: int = 12
    context: int = 128
    vocabulary: int = 2048
    steps: int = 1000
    batch: int = 32
    matrix_rate: float = 0.02
    """Muon, for the matrices inside the blocks."""

    other_rate: float = 5e-3
    """AdamW, for embeddings and norms."""

    weight_decay: float = 0.05
    seed: int = 0
    compile: bool = False
    """About 1.4 times faster with a C++ compiler at hand; last digits differ."""


def pretrain_language(output: Path, recipe: LanguageRecipe, corpus: Sequence[str]) -> None:
    """Train tokenizer and model on the corpus and save an ordinary Hugging Face folder."""
    import torch

    started = time.perf_counter()
    training = [text for text in corpus if not is_held_out(text)]
    tokenizer = train_tokenizer(training, recipe.vocabulary)
    tokens = encode(tokenizer, training)
    held_out = encode(tokenizer, [text for text in corpus if is_held_out(text)])
    log.info("%d documents, %d tokens", len(training), len(tokens))
    torch.manual_seed(recipe.seed)
    model = new_language_model(recipe, tokenizer.eos_token_id)
    draw = torch.Generator().manual_seed(recipe.seed)

    def loss() -> Tensor:
        return next_token_loss(model, windows(tokens, recipe.batch, recipe.context, draw))

    if recipe.compile:
        for block in model.model.layers:
            block.compile()
    optimizers = muon_and_adamw(
        model,
        matrix_rate=recipe.matrix_rate,
        other_rate=recipe.other_rate,
        weight_decay=recipe.weight_decay,
    )
    train(loss, optimizers, steps=recipe.steps)
    report = {
        "corpus_sha256": sha256(corpus),
        "corpus_documents": len(corpus),
        "corpus_characters": sum(map(len, corpus)),
        "training_tokens": len(tokens),
        "held_out_loss": round(held_out_loss(model, held_out, recipe.context), 4),
        "seconds": round(time.perf_counter() - started),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "recipe": asdict(recipe),
        "versions": {name: importlib.metadata.version(name) for name in SOURCES},
    }
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    write_json(output / "training.json", report)
    log.info("%s", json.dumps(report, indent=2))


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be written, so nothing is ever unknown."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        unk_token=END,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """All texts in a row, each closed by the end token."""
    import numpy as np
    import torch

    end = [tokenizer.eos_token_id]
    rows = tokenizer.backend_tokenizer.encode_batch(list(texts))
    return torch.from_numpy(np.concatenate([np.array(row.ids + end, np.int16) for row in rows]))


def new_language_model(recipe: LanguageRecipe, end: int) -> LlamaForCausalLM:
    """A small Llama with tied embeddings and random weights."""
    from offsite.models import ensure_torchvision

    ensure_torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.blocks,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    return LlamaForCausalLM(config)


def windows(tokens: Tensor, count: int, length: int, draw: torch.Generator) -> Tensor:
    """`count` random windows of `length + 1` tokens."""
    import torch

    starts = torch.randint(len(tokens) - length, (count, 1), generator=draw)
    return tokens[starts + torch.arange(length + 1)].long()


def next_token_loss(model: LlamaForCausalLM, rows: Tensor) -> Tensor:
    """Mean cross-entropy in nats a token."""
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    assert logits is not None
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def held_out_loss(model: LlamaForCausalLM, tokens: Tensor, length: int) -> float:
    """Loss over the first 256 windows of text that was not trained on."""
    import torch

    count = max(1, min(256, (len(tokens) - 1) // length))
    starts = torch.arange(count)[:, None] * length
    last = len(tokens) - 1
    rows = tokens[(starts + torch.arange(length + 1)).clamp(max=last)].long()
    with torch.no_grad():
        losses = [next_token_loss(model, rows[at : at + 64]) for at in range(0, count, 64)]
    sizes = [min(64, count - at) for at in range(0, count, 64)]
    return sum(loss.item() * size for loss, size in zip(losses, sizes, strict=True)) / count
