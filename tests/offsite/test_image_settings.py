"""How a model takes its images is read from its folder, and travels with the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from offsite.errors import NotAModel
from offsite.image_settings import NEUTRAL, of_transformers, write_transformers
from offsite.models import Foundation, load_model, save_model
from tests.fakes import TIMM, tiny_model

VIT = {
    "feature_extractor_type": "ViTFeatureExtractor",
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.25, 0.5],
    "resample": 2,
    "size": 224,
}
"""As google/vit-* were published with."""
CLIP = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "resample": 3,
    "size": 248,
}
"""As openai/clip-* were published with, but for a crop of less than the whole short side."""
OPTIONS = {"revision": None, "trust_remote_code": False}


def described(folder: Path, values: dict[str, object], model_type: str = "vit") -> Path:
    """A folder whose images are taken so."""
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def test_vit_squashes_the_whole_image(tmp_path):
    """A bare size is a square; no crop is made."""
    assert of_transformers(str(described(tmp_path, VIT)), OPTIONS) == {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.25, 0.5],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }


def test_clip_crops_the_middle_of_the_short_side(tmp_path):
    """A bare size is the short side's."""
    settings = of_transformers(str(described(tmp_path, CLIP, "clip")), OPTIONS)
    assert settings is not None
    assert (settings["mean"], settings["crop_mode"]) == ([0.48, 0.46, 0.41], "center")
    assert settings["crop_pct"] == pytest.approx(224 / 248)
    assert settings["interpolation"] == "bicubic"


@pytest.mark.parametrize(
    ("change", "mean", "std"),
    [
        ({"do_normalize": False}, [0.0], [1.0]),
        ({"do_rescale": True, "rescale_factor": 1 / 127.5}, [0.25] * 3, [0.25, 0.125, 0.25]),
        ({"image_mean": [0.25], "image_std": [2.0]}, [0.25], [2.0]),
    ],
)
def test_normalisation_is_that_of_pixels_from_0_to_1(tmp_path, change, mean, std):
    """Whatever the file calls the range of a pixel."""
    settings = of_transformers(str(described(tmp_path, {**VIT, **change})), OPTIONS)
    assert settings is not None
    assert (settings["mean"], settings["std"]) == (mean, std)


@pytest.mark.parametrize("change", [{"size": {"shortest_edge": 224}}, {"do_resize": False}])
def test_images_of_no_fixed_size_are_refused(tmp_path, change):
    """No model here takes them."""
    with pytest.raises(ValueError, match="fixed size"):
        of_transformers(str(described(tmp_path, {**VIT, **change})), OPTIONS)


@pytest.mark.parametrize("published", [VIT, CLIP], ids=["vit", "clip"])
def test_our_transform_gives_the_pixels_of_transformers(tmp_path, published):
    """On an image of another shape and size, within what two resizers differ by."""
    from timm.data import create_transform, resolve_data_config
    from transformers import AutoImageProcessor

    folder = described(tmp_path, published, "clip" if published is CLIP else "vit")
    settings = of_transformers(str(folder), OPTIONS)
    config = resolve_data_config(pretrained_cfg={**settings, "input_size": (3, 224, 224)})
    ramp = np.linspace(0, 255, 300 * 400 * 3).reshape(300, 400, 3).astype("uint8")
    image = Image.fromarray(np.roll(ramp, 37, axis=1))
    found = create_transform(**config, is_training=False)(image)
    expected = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")
    assert float((found - expected["pixel_values"][0]).abs().max()) < 0.1


@pytest.mark.parametrize("architecture", ["clip", "timm", "vit"])
@pytest.mark.parametrize("crop", [{}, {"crop_mode": "squash"}, {"crop_pct": 8 / 11}])
def test_they_are_the_same_after_the_way_through_disk(architecture, crop, tmp_path):
    """An emulator sees the pixels that the full model sees."""
    settings = {**NEUTRAL, "mean": [0.25], "std": [0.5], "interpolation": "bilinear", **crop}
    owner = Foundation(
        model=tiny_model(architecture),
        kind="vision",
        timm_config=TIMM.get(architecture),
        image_settings=settings,
    )
    save_model(owner, tmp_path)
    assert load_model(tmp_path).image_settings == settings


@pytest.mark.parametrize("architecture", ["clip", "timm", "vit"])
def test_random_weights_take_plain_pixels_unless_the_folder_says_so(architecture, tmp_path):
    """They were trained on none. What is saved says it, so that it loads the same."""
    timm = {k: v for k, v in TIMM.get(architecture, {}).items() if k != "pretrained_cfg"} or None
    model = tiny_model(architecture)
    save_model(Foundation(model=model, kind="vision", timm_config=timm), tmp_path / "a")
    assert load_model(tmp_path / "a").image_settings is None
    drawn = load_model(f"random:{tmp_path / 'a'}")
    assert drawn.image_settings == NEUTRAL
    save_model(drawn, tmp_path / "b")
    assert load_model(tmp_path / "b").image_settings == NEUTRAL
    said = replace(drawn, image_settings={**NEUTRAL, "mean": [0.5]})
    save_model(said, tmp_path / "c")
    assert load_model(f"random:{tmp_path / 'c'}").image_settings == said.image_settings


def test_what_is_written_is_what_transformers_reads(tmp_path):
    """Also where the crop is a share that floating point numbers miss."""
    config = tiny_model("vit").config
    for side, edge in [(1, 93), (8, 11), (224, 248), (384, 384)]:
        config.image_size = side
        (tmp_path / str(edge)).mkdir()
        described(tmp_path / str(edge), {**CLIP, "size": edge, "crop_size": side}, "clip")
        settings = of_transformers(str(tmp_path / str(edge)), OPTIONS)
        assert settings is not None
        write_transformers(settings, config, tmp_path / str(edge))
        assert of_transformers(str(tmp_path / str(edge)), OPTIONS) == settings
        written = json.loads((tmp_path / str(edge) / "preprocessor_config.json").read_text())
        assert written["size"] == {"shortest_edge": edge}


def test_a_hub_model_without_them_is_refused_in_one_line(monkeypatch, tmp_path):
    """Its scores would be wrong, and nothing would show it."""
    repository = tmp_path / "hub" / "models--org--vit"
    save_model(
        Foundation(model=tiny_model("vit"), kind="vision"), repository / "snapshots" / ("a" * 40)
    )
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(NotAModel, match=r"^cannot load 'org/vit': [^\n]*image processor[^\n]*$"):
        load_model("org/vit")
