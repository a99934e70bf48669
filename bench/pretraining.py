"""How the shipped models and rows were made: `python -m bench.pretraining WHAT --output DIR`.

WHAT is one of

* `language`: a tiny Llama, from docstrings of installed packages (`suites/models/tiny-lm`);
* `vision`: a tiny ViT, from digit strokes drawn by a program (`suites/models/tiny-vit`);
* `rows`: multiple-choice rows from Python's documentation (`suites/data/topic_continuation`).

The language corpus is read from source files with `ast`, so nothing is imported and the same
versions (`constraints/tested.txt`) give the same text, whose sha256 is printed and written to
`training.json`. `SOURCES` names the packages and the licence of each; what they carry of others
(`externals`, `_vendor`, ...) is left out. The tuning tasks use Python's documentation, so nothing
of Python itself may be in the corpus: only the files of `SOURCES` are read, and a docstring that
shares 13 words in a row with the standard library or with `pydoc_data.topics` is dropped.

On two cores `language --compile` takes about ten minutes and `vision` two. The last digits of the
weights depend on the machine, the number of threads and the versions; corpus and rows do not.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import json
import logging
import platform
import re
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

SOURCES = {
    "accelerate": "Apache-2.0",
    "datasets": "Apache-2.0",
    "huggingface_hub": "Apache-2.0",
    "joblib": "BSD-3-Clause",
    "matplotlib": "PSF-based (Matplotlib licence)",
    "networkx": "BSD-3-Clause",
    "nltk": "Apache-2.0",
    "numpy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "peft": "Apache-2.0",
    "pydantic": "MIT",
    "scikit-learn": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "timm": "Apache-2.0",
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
}
"""Distributions whose docstrings are the corpus, with the licence of their own code."""

VENDORED = frozenset(
    {"_external", "_extern", "_vendor", "_vendored", "externals", "extern", "vendor"}
)
"""Folders that hold other people's code under other licences."""

SHORTEST = 200
"""Characters. Shorter docstrings are mostly one-line restatements of a name."""

SHARED_WORDS = 13
"""Words in a row that count as the same text (the length GPT-3's authors used)."""

END = "<|endoftext|>"


# ----------------------------------------------------------------------------- corpus


def read_corpus(names: Iterable[str], *, forbidden: frozenset[int]) -> list[str]:
    """Distinct long docstrings of the named distributions, in a fixed order."""
    seen: dict[str, None] = {}
    for name in sorted(names):
        for path in source_files(name):
            for text in docstrings(path):
                seen[text] = None
    return [text for text in seen if forbidden.isdisjoint(word_runs(text))]


def source_files(distribution: str) -> list[Path]:
    """The distribution's own Python files, sorted."""
    found = importlib.metadata.distribution(distribution)
    return sorted(
        Path(str(found.locate_file(file)))
        for file in found.files or []
        if file.suffix == ".py" and VENDORED.isdisjoint(file.parts)
    )


def docstrings(path: Path) -> Iterator[str]:
    """Cleaned docstrings of at least `SHORTEST` characters in one source file."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # written for another Python version
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, documented) else None
        if text and len(text) >= SHORTEST:
            yield text


def word_runs(text: str) -> Iterator[int]:
    """A hash of every `SHARED_WORDS` consecutive words (layout does not matter)."""
    words = text.split()
    for start in range(len(words) - SHARED_WORDS + 1):
        yield hash(tuple(words[start : start + SHARED_WORDS]))


def python_runs() -> frozenset[int]:
    """The word runs of the standard library's docstrings and of `pydoc_data.topics`."""
    from pydoc_data.topics import topics

    library = Path(sysconfig.get_path("stdlib"))
    files = (p for p in library.rglob("*.py") if not {"site-packages", "test"} & set(p.parts))
    texts = [text for path in files for text in docstrings(path)]
    return frozenset(run for text in [*texts, *topics.values()] for run in word_runs(text))


def sha256(texts: Iterable[str]) -> str:
    """One hash over texts and their boundaries."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def is_held_out(text: str) -> bool:
    """About one docstring in 128 is only ever used to report the loss."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] < 2


# --------------------------------------------------------------------------- language


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
    optimizers = muon_and_adamw(model, recipe)
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


def muon_and_adamw(
    model: nn.Module, recipe: LanguageRecipe | VisionRecipe
) -> list[torch.optim.Optimizer]:
    """Muon learns the blocks' matrices in about half of AdamW's steps; it is not for the rest."""
    import torch

    named = list(model.named_parameters())
    inside = [p for name, p in named if p.ndim == 2 and BLOCK.search(name)]
    chosen = set(map(id, inside))
    outside = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(
            inside, lr=recipe.matrix_rate, momentum=0.95, weight_decay=recipe.weight_decay
        ),
        torch.optim.AdamW(outside, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


BLOCK = re.compile(r"(^|\.)(layers|blocks)\.\d+\.")
"""Names of parameters inside a transformer block, in transformers' Llama and timm's ViT."""


def train(
    loss: Callable[[], Tensor], optimizers: Sequence[torch.optim.Optimizer], *, steps: int
) -> None:
    """Warm up, hold, then let the learning rate fall to zero over the last 40%."""
    import torch

    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
        for optimizer in optimizers
    ]
    started = time.perf_counter()
    for step in range(steps):
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step + 1 == steps:
            log.info("step %d loss %.3f %.0f s", step, value.item(), time.perf_counter() - started)


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: 2% warm-up, flat to 60%, then a straight line to 0.

    >>> [rate_at(step, 1000) for step in (0, 19, 500, 600, 800, 999)]
    [0.05, 1.0, 1.0, 1.0, 0.5, 0.0025]
    """
    warm_up = max(1, round(0.02 * steps))
    return min(1.0, (step + 1) / warm_up, (steps - step) / (0.4 * steps))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """JSON with a final newline, keys in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


# ----------------------------------------------------------------------------- vision

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

    train(loss, muon_and_adamw(model, recipe), steps=recipe.steps)
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


# ------------------------------------------------------------------------------- rows

QUESTION_LENGTH = 72
ANSWER_LENGTH = 36
"""Characters, rounded up to whole words: about 24 and 12 tokens. All answers are equally long
because a sum of log-likelihoods prefers a shorter one."""


def topic_rows(texts: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Which of four passages goes on from the question?

    Every passage that is right once is wrong in three other rows, so nothing but the question
    tells which one is right.
    """
    passages = topic_passages(texts)[: max(count, 4)]
    rows = []
    for index, (question, _) in enumerate(passages[:count]):
        choices = [passages[(index + step) % len(passages)][1] for step in (0, 1, 2, 3)]
        label = index % 4
        choices[0], choices[label] = choices[label], choices[0]
        rows.append({"question": question, "choices": choices, "label": label})
    return rows


def topic_passages(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Questions and what follows them, no two overlapping, shuffled by their own hash."""
    found: dict[str, str] = {}
    for text in texts:
        words = iter(re.findall(r"\S+\s*", text))
        while (question := take(words, QUESTION_LENGTH)) and (answer := take(words, ANSWER_LENGTH)):
            # The template puts one space between the two; anything else would not be the text.
            if question.endswith(" ") and not question.endswith("  "):
                found.setdefault(answer.rstrip(), question[:-1])
    passages = [(question, answer) for answer, question in found.items()]
    return sorted(passages, key=lambda passage: text_order(" ".join(passage)))


def take(words: Iterator[str], length: int) -> str:
    """The next words, at least `length` characters; empty at the end of the text."""
    taken = ""
    while len(taken) < length:
        if not (word := next(words, "")):
            return ""
        taken += word
    return taken


def text_order(text: str) -> bytes:
    """A stable shuffle that no library version can change."""
    return hashlib.sha256(text.encode()).digest()


def write_rows(output: Path) -> None:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl`, each from its own topics."""
    from bench.tasks.builtin import pydoc_topics

    counts = {"train": 600, "validation": 100, "test": 100}
    output.mkdir(parents=True, exist_ok=True)
    for split, texts in pydoc_topics().items():
        rows = topic_rows(texts, counts[split])
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (output / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        log.info("%s: %d rows", split, len(rows))


# ---------------------------------------------------------------------------- command


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pretraining", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("what", choices=["language", "vision", "rows"])
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    parser.add_argument("--compile", action="store_true", help="language: needs a C++ compiler")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps = {} if chosen.steps is None else {"steps": chosen.steps}
    if chosen.what == "language":
        corpus = read_corpus(SOURCES, forbidden=python_runs())
        pretrain_language(chosen.output, LanguageRecipe(compile=chosen.compile, **steps), corpus)
    elif chosen.what == "vision":
        pretrain_vision(chosen.output, VisionRecipe(**steps))
    else:
        write_rows(chosen.output)


if __name__ == "__main__":
    main()
