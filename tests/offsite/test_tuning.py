"""Tunings: what each trains, that it starts from the model itself, and the way through disk."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from offsite.blocks import get_blocks
from offsite.compression.emulator import compress, parameters_of
from offsite.errors import NothingToTrain
from offsite.sandwich import adapter_blocks, all_blocks, cut, plug_in, with_emulator
from offsite.training import Recipe, autocast, train
from offsite.tuning import Tuning, keep_masters, trainable, tuning_from
from offsite.tuning_methods import METHODS
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_loss, tiny_model, weights

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ["gpt2", "opt", "bloom", "llama", "qwen2", "phi3", "vit", "timm", "timm_eva"]
SMALL = {"lora": {"rank": 2}, "dora": {"rank": 2}, "bottleneck": {"size": 4}}
IN_BLOCKS = [name for name in METHODS if name != "soft_prompt"]
NO_BIASES = {"llama", "phi3"}


def tuning(method: str) -> Tuning:
    """A tuning small enough for tiny models."""
    return tuning_from({"method": method, **SMALL.get(method, {})})


def works(method: str, architecture: str) -> bool:
    """Whether the tuning is not refused for this model."""
    if method == "soft_prompt":
        return architecture in LANGUAGE
    return method != "bitfit" or architecture not in NO_BIASES


PAIRS = [(m, a) for m in IN_BLOCKS for a in ARCHITECTURES if works(m, a)]
ENDS = {"bottom": 1, "top": 1}


@pytest.mark.parametrize("held", ["float32", "bfloat16", "bfloat16, autocast"])
@pytest.mark.parametrize(("method", "architecture"), PAIRS)
def test_step_0_is_the_model_itself(method, architecture, held):
    """Attached and untrained, every tuning leaves the logits at the same bits."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    if held != "float32":
        model.bfloat16()
        batch = replace(batch, inputs={n: _in_bfloat16(t) for n, t in batch.inputs.items()})
    precision = "bf16" if held.endswith("autocast") else "fp32"
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        expected = run_model(model, batch)
    trained = tuning(method).attach(model, adapter_blocks(model, **ENDS))
    if precision == "bf16":
        keep_masters(trained)
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        assert torch.equal(run_model(model, batch), expected)


def _in_bfloat16(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize(("method", "architecture"), PAIRS)
def test_whatever_is_marked_gets_a_gradient_and_nothing_else_does(method, architecture):
    """A module that the model bypasses would be trained in name alone."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    trained = trainable(tuning(method).attach(model, adapter_blocks(model, **ENDS)))
    tiny_loss(model, batch).backward()
    with_gradient = {id(p) for p in model.parameters() if p.grad is not None}
    assert with_gradient == {id(p) for p in trained.values()}


# Names within one block.
BOTTLENECK = ["down.weight", "down.bias", "up.weight", "up.bias"]
NAMES = {
    ("bitfit", "gpt2"): [
        *("ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias"),
        *("ln_2.bias", "mlp.c_fc.bias", "mlp.c_proj.bias"),
    ],
    ("bitfit", "qwen2"): [f"self_attn.{p}_proj.bias" for p in "qkv"],
    ("bitfit", "timm_eva"): [
        *("norm1.bias", "attn.q_bias", "attn.v_bias", "attn.proj.bias"),
        *("norm2.bias", "mlp.fc1.bias", "mlp.fc2.bias"),
    ],
    ("bitfit-paper", "llama"): ["input_layernorm.weight", "post_attention_layernorm.weight"],
    ("bitfit-paper", "gpt2"): [
        *("ln_1.weight", "ln_1.bias", "attn.c_attn.bias", "attn.c_proj.bias"),
        *("ln_2.weight", "ln_2.bias", "mlp.c_fc.bias", "mlp.c_proj.bias"),
    ],
    ("bottleneck", "bloom"): [
        f"{projection}.bottleneck.{name}"
        for projection in ("self_attention.dense", "mlp.dense_4h_to_h")
        for name in BOTTLENECK
    ],
    ("bottleneck", "vit"): [
        f"{projection}.bottleneck.{name}"
        for projection in ("attention.o_proj", "mlp.fc2")
        for name in BOTTLENECK
    ],
    ("ia3", "opt"): [f"{p}.ia3_l.default" for p in ("self_attn.k_proj", "self_attn.v_proj", "fc2")],
    ("ia3", "gpt2"): [f"{p}.ia3_l.default" for p in ("attn.c_attn", "mlp.c_proj")],
    ("ia3", "timm_eva"): [f"{p}.ia3_l.default" for p in ("attn.qkv", "mlp.fc2")],
}


@pytest.mark.parametrize(("method", "architecture"), NAMES)
def test_these_parameters_train(method, architecture):
    """Exactly those, in every adapter block."""
    model = tiny_model(architecture)
    trained = tuning(method).attach(model, adapter_blocks(model, **ENDS))
    expected = {f"adapter.{i}.{n}" for i in (0, 1) for n in NAMES[method, architecture]}
    assert trainable(trained).keys() == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_every_linear_of_a_block_is_updated(method, architecture):
    """Fused, transposed and bias-free ones too."""
    from transformers.pytorch_utils import Conv1D

    model = tiny_model(architecture)
    block = get_blocks(model)[0]
    linears = [n for n, m in block.named_modules() if isinstance(m, (nn.Linear, Conv1D))]
    adds = ["lora_A", "lora_B", *(["lora_magnitude_vector"] if method == "dora" else [])]
    trained = trainable(tuning(method).attach(model, {"adapter.0": block}))
    assert trained.keys() == {f"adapter.0.{n}.{a}.default.weight" for n in linears for a in adds}


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_ia3_scales_the_intermediate_channels_and_the_projections_outputs(architecture):
    """One scale of 0 takes one intermediate channel away; transposed weights are no exception."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    other = copy.deepcopy(model)
    blocks = adapter_blocks(model, bottom=1)
    trained = trainable(tuning("ia3").attach(model, blocks))
    names = {"gpt2": ("mlp.c_proj", "attn.c_attn"), "llama": ("mlp.down_proj", "self_attn.v_proj")}
    ffn, attention = (trained[f"adapter.0.{n}.ia3_l.default"] for n in names[architecture])
    ffn.data.view(-1)[3] = 0
    attention.data.view(-1)[-1] = 0
    out, projection = (get_blocks(other)[0].get_submodule(n) for n in names[architecture])
    weight, values = out.weight.data, projection.weight.data
    if architecture == "gpt2":
        weight[3] = values[:, -1] = projection.bias.data[-1] = 0
    else:
        weight[:, 3] = values[-1] = 0
    torch.testing.assert_close(run_model(model, batch), run_model(other, batch))


def test_dora_takes_directions_and_sizes_apart():
    """The output is that of W + BA with each row brought to its own trained size."""
    model, batch = tiny_model("llama"), tiny_batch("llama")
    other = copy.deepcopy(model)
    trained = trainable(tuning("dora").attach(model, adapter_blocks(model, bottom=1)))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in trained.items():
        if "lora_A" not in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    block = get_blocks(other)[0]
    for name in {n.split(".lora_")[0] for n in trained}:
        a, b, size = (
            trained[f"{name}.{p}.default.weight"]
            for p in ("lora_A", "lora_B", "lora_magnitude_vector")
        )
        linear = block.get_submodule(name.removeprefix("adapter.0."))
        weight = linear.weight.data + 32 / 2 * b.data @ a.data
        linear.weight.data = size.data[:, None] * weight / weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(run_model(model, batch), run_model(other, batch))


def test_a_copied_block_runs_its_own_bottleneck():
    """Changing the original's after the copy does not change what the copy computes."""
    model, batch = tiny_model("gpt2"), tiny_batch("gpt2")
    blocks = tuning("bottleneck").attach(model, adapter_blocks(model, **ENDS))
    expected = run_model(model, batch)
    copied = copy.deepcopy(model)
    for parameter in trainable(blocks).values():
        parameter.data += 0.1
    assert not torch.equal(run_model(model, batch), expected)
    assert torch.equal(run_model(copied, batch), expected)


SIZES = {
    "opt": {
        "hidden_size": 2048,
        "ffn_dim": 8192,
        "word_embed_proj_dim": 2048,
        "num_attention_heads": 32,
    },
    "gpt2": {"n_embd": 1600, "n_head": 25},
}
COUNTS = [
    ({"method": "full"}, 201_433_088, 122_963_200),
    ({"method": "bottleneck", "size": 64}, 2_114_048, 1_651_712),
    ({"method": "lora", "rank": 4}, 589_824, 409_600),
    ({"method": "bitfit-paper"}, 106_496, 83_200),
    ({"method": "bitfit"}, 90_112, 70_400),
]


@pytest.mark.parametrize(("described", "opt", "gpt2"), COUNTS)
def test_counts_of_the_papers_table_5(described, opt, gpt2):
    """Four adapter blocks of OPT-1.3B and GPT2-XL."""
    from transformers import AutoConfig, AutoModelForCausalLM

    for architecture, expected in (("opt", opt), ("gpt2", gpt2)):
        size = {**SIZES[architecture], "num_hidden_layers": 5, "vocab_size": 8}
        tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        config = AutoConfig.for_model(architecture, **size, **tokens)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        trained = tuning_from(described).attach(model, adapter_blocks(model, bottom=2, top=2))
        assert sum(p.numel() for p in trainable(trained).values()) == expected


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gemma3_text", "phi3"])
def test_bitfit_is_refused_where_there_are_no_biases(architecture):
    """The line says so, and what would work; the authors' variant trains the norms."""
    model = tiny_model(architecture)
    blocks = adapter_blocks(model, **ENDS)
    with pytest.raises(NothingToTrain, match=r"have none; bitfit-paper .* would work") as refusal:
        tuning("bitfit").attach(model, blocks)
    assert "\n" not in str(refusal.value)
    trained = trainable(tuning("bitfit-paper").attach(model, blocks))
    assert trained
    assert all("norm" in name for name in trained)


@pytest.mark.parametrize("architecture", VISION)
def test_a_soft_prompt_is_refused_where_there_are_no_tokens(architecture):
    """The line says what would work."""
    model = tiny_model(architecture)
    with pytest.raises(NothingToTrain, match=r"has none; full, lora, .* would work"):
        tuning("soft_prompt").attach(model, adapter_blocks(model, **ENDS))


@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_blocks_without_linears_are_refused(method):
    """In one line that says what would work."""
    model = tiny_model("llama")
    with pytest.raises(NothingToTrain, match=rf"'{method}'.* would work"):
        tuning(method).attach(model, {"adapter.0": nn.LayerNorm(4)})


@pytest.mark.parametrize("method", ["bottleneck", "ia3"])
def test_what_works_in_blocks_is_refused_for_a_whole_model(method):
    """Freeing everything is for methods that need not know what is what."""
    model = tiny_model("llama")
    with pytest.raises(NothingToTrain, match=r"would work"):
        tuning(method).attach(model, {"model": model})


@pytest.mark.parametrize("ends", [(0, 2), (2, 0)])
@pytest.mark.parametrize("method", METHODS)
def test_either_end_may_be_without_adapter_blocks(method, ends):
    """What is trained at one end alone is plugged in there."""
    bottom, top = ends
    model, batch = tiny_model("gpt2"), tiny_batch("gpt2")
    before = weights(model)
    sandwich = cut(model, bottom=bottom, top=top)
    state, expected = tuned(sandwich, tuning(method), "gpt2", bottom=bottom, top=top)
    assert torch.equal(run_model(plug_in(sandwich, tuning(method), state), batch), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert before.keys() == model.state_dict().keys()


@pytest.mark.parametrize("method", METHODS)
def test_full_fine_tuning_takes_every_tuning(method):
    """All blocks instead of the adapter blocks, as `references` in a suite may ask."""
    model = tiny_model("opt")
    method_ = tuning(method)
    state = method_.state(method_.attach(model, all_blocks(model)))
    assert state.keys() == {"prompt.weight"} or {n.split(".")[1] for n in state} == set("012345")


def tuned(sandwich, method, architecture, *, bottom, top, precision="fp32"):
    """Train two steps around an identity emulator; what is exported, and the logits then."""
    sent = with_emulator(sandwich, compress(sandwich, [parameters_of({"method": "identity"})]))
    torch.manual_seed(0)
    trained = method.attach(sent, adapter_blocks(sent, bottom=bottom, top=top))
    keep_masters(trained)
    recipe = Recipe(learning_rate=0.01, steps=2, precision=precision)
    batch = tiny_batch(architecture)
    train(sent, [batch, batch], recipe, loss_of=tiny_loss)
    state = method.state(trained)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    with torch.no_grad(), autocast(torch.device("cpu"), precision):
        return state, run_model(sent, batch)


JOURNEYS = [
    (method, architecture, precision)
    for method in METHODS
    for architecture, precision in [("gpt2", "fp32"), ("opt", "bf16"), ("qwen2", "bf16")]
] + [("bottleneck", "timm", "fp32"), ("ia3", "vit", "fp32"), ("bitfit", "timm_eva", "fp32")]


def foundation_of(architecture: str, precision: str) -> nn.Module:
    """The same bits in every process."""
    model = tiny_model(architecture)
    return model.bfloat16() if precision == "bf16" else model


def plug_in_all(folder: str) -> None:
    """In a process of its own: plug in everything that lies in `folder`, and keep the logits."""
    for path in sorted(Path(folder).glob("*.tuned")):
        method, architecture, precision = path.stem.split(".")
        sandwich = cut(foundation_of(architecture, precision), bottom=2, top=1)
        plugged = plug_in(sandwich, tuning(method), load_file(path))
        with torch.no_grad(), autocast(torch.device("cpu"), precision):
            logits = run_model(plugged, tiny_batch(architecture))
        save_file({"logits": logits.contiguous()}, path.with_suffix(".logits"))


def test_every_tuning_survives_the_way_through_disk(tmp_path):
    """Trained here, plugged in elsewhere: the logits are those of the model in training."""
    expected = {}
    for method, architecture, precision in JOURNEYS:
        sandwich = cut(foundation_of(architecture, precision), bottom=2, top=1)
        untuned = run_model(sandwich.model, tiny_batch(architecture))
        state, logits = tuned(
            sandwich, tuning(method), architecture, bottom=2, top=1, precision=precision
        )
        name = f"{method}.{architecture}.{precision}"
        save_file(state, tmp_path / f"{name}.tuned")
        expected[name] = logits
        assert not torch.equal(logits, untuned), name
    code = f"from tests.offsite.test_tuning import plug_in_all; plug_in_all({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for name, logits in expected.items():
        assert torch.equal(load_file(tmp_path / f"{name}.logits")["logits"], logits), name


def test_every_method_has_a_line_of_its_own():
    """For `list tunings`; a parent's docstring would describe another method."""
    summaries = [row.summary for row in METHODS.values()]
    assert all(line.endswith(".") for line in summaries)
    assert len(set(summaries)) == len(METHODS)
