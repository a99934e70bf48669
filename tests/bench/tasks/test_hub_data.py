"""Tasks over hub data sets, without the hub: rows, images, and the commit that was planned."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from PIL import Image as Pillow

from bench.errors import SuiteError
from bench.tasks import rows
from bench.tasks.task import prepare
from offsite.image_settings import NEUTRAL
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT
from tests.fakes import CLASSES, tiny_model

COMMIT = "c" * 40
HUB = {"hub": "org/name", "revision": COMMIT, "train": "train", "test": "validation"}


@dataclass
class Hub:
    """A hub with one data set, and what it was asked."""

    splits: dict[str, Dataset]
    hash: str = COMMIT
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def load_dataset_builder(self, name: str, config: str | None, *, revision: str) -> Hub:
        self.asked.append((name, config, revision))
        return self

    def download_and_prepare(self) -> None: ...

    def as_dataset(self, split: str) -> Dataset:
        if split not in self.splits:
            raise ValueError(f'Unknown split "{split}".\nShould be one of {list(self.splits)}.')
        return self.splits[split]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """In the place of the real one."""
    one = Hub({})
    monkeypatch.setattr("datasets.load_dataset_builder", one.load_dataset_builder)
    return one


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


def test_rows_are_those_of_the_hubs_split_at_the_planned_commit(hub):
    """The task's split is looked up under the name the hub has for it."""
    hub.splits = {"validation": Dataset.from_list([{"text": "one"}, {"text": "two"}])}
    data = {**HUB, "config": "small"}
    assert rows.read(data, "test") == [{"text": "one"}, {"text": "two"}]
    assert hub.asked == [("org/name", "small", COMMIT)]
    assert rows.place(data, "test", 1) == "org/name validation, row 1"


def test_another_commit_than_the_planned_one_is_refused(hub):
    """Offline the library takes what it cached last: its rows are not those of the digest."""
    hub.hash = "d" * 40
    with pytest.raises(SuiteError, match="cache holds commit dddddddddddd, the plan says ccc"):
        rows.read(HUB, "test")


def test_a_split_the_hub_does_not_have_is_one_line(hub):
    """The library's own message spans several."""
    with pytest.raises(SuiteError, match=r"^data set 'org/name', split 'train': Unknown [^\n]*$"):
        rows.read(HUB, "train")
    hub.splits = {"train": Dataset.from_list([])}
    with pytest.raises(SuiteError, match="split 'train' has no rows"):
        rows.read(HUB, "train")
    with pytest.raises(SuiteError, match="no validation split"):
        rows.read(HUB, "validation")


def cached(folder: Path, name: str, content: list[dict[str, Any]], commit: str) -> None:
    """A data set as the library leaves it in its cache after it was downloaded."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in content))
    load_dataset("json", data_files={"train": str(file)}, cache_dir=str(folder / "raw"))
    (arrow,) = (folder / "raw").rglob("json-train.arrow")
    own = folder / "cache" / f"org___{name}" / "default" / "0.0.0" / commit
    own.mkdir(parents=True)
    arrow.rename(own / f"{name}-train.arrow")
    text = (arrow.parent / "dataset_info.json").read_text()
    info = json.loads(text) | {"dataset_name": name, "config_name": "default"}
    info["splits"]["train"]["dataset_name"] = name
    (own / "dataset_info.json").write_text(json.dumps(info))


def test_data_that_was_downloaded_once_are_read_offline(tmp_path, monkeypatch):
    """From the library's real cache, if it holds the planned commit; a slice of a split too."""
    content = [{"text": f"row {number}"} for number in range(4)]
    cached(tmp_path, "lines", content, COMMIT)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    data = {"hub": "org/lines", "revision": COMMIT, "train": "train", "test": "train[50%:]"}
    assert rows.read(data, "train") == content
    assert rows.read(data, "test") == content[2:]
    with pytest.raises(SuiteError, match="holds commit cccccccccccc, the plan says dddddddddddd"):
        rows.read({**data, "revision": "d" * 40}, "train")
    with pytest.raises(SuiteError, match=r"^data set 'org/gone', split 'train': [^\n]+$"):
        rows.read({**data, "hub": "org/gone"}, "train")


def test_perplexity_of_hub_text_is_that_of_the_same_text_in_a_file(hub, foundation, tmp_path):
    """Same rows, same number, same tokens."""
    content = [{"line": "A spoon is used to eat soup."}, {"line": ""}, {"line": "Rain falls."}]
    hub.splits = {"validation": Dataset.from_list(content)}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    described = {"kind": "perplexity", "text": "line", "block": 8}
    scored = [
        prepare(described, data, foundation).evaluate(foundation.model, batch_size=4, examples=None)
        for data in (HUB, {"test": str(tmp_path / "rows.jsonl")})
    ]
    assert scored[0] == scored[1]


def test_a_malformed_hub_row_is_named(hub, foundation):
    """By data set, split and position."""
    hub.splits = {"train": Dataset.from_list([{"text": "fine"}, {"text": None}])}
    task = prepare({"kind": "perplexity"}, HUB, foundation)
    with pytest.raises(SuiteError, match="org/name train, row 1: no text in field 'text'"):
        task.training_examples()


def test_a_registered_task_takes_its_rows_from_the_hub(hub, foundation):
    """piqa's definition over what the hub gives for the split it scores."""
    row = {"goal": "To dry a plate,", "sol1": "use a towel", "sol2": "use rain", "label": 0}
    hub.splits = {"train": Dataset.from_list([row] * 3), "validation": Dataset.from_list([row] * 2)}
    data = {"hub": "org/name", "revision": COMMIT, "train": "train", "validation": "validation"}
    task = prepare({"kind": "lm_eval", "id": "piqa"}, data, foundation)
    assert len(task.training_examples()) == 3
    assert task.evaluate(foundation.model, batch_size=2, examples=None).metrics[0].n == 2


def pictures(count: int = 6, *, side: int = 12) -> Dataset:
    """Random images of an odd shape with labels below `CLASSES`."""
    draw = np.random.default_rng(0)
    sizes = [(side, side + index, 3) for index in range(count)]
    images = [Pillow.fromarray(draw.integers(0, 256, size, dtype="uint8")) for size in sizes]
    content = {"img": images, "fine_label": [index % CLASSES for index in range(count)]}
    names = ClassLabel(names=[f"class {index}" for index in range(CLASSES)])
    return Dataset.from_dict(content, Features({"img": Image(), "fine_label": names}))


def vision(architecture: str, **settings: object) -> Foundation:
    """A tiny model that takes 8x8 grey images."""
    config = {"model_args": {"img_size": 8, "in_chans": 1}} if architecture == "timm" else None
    return Foundation(
        model=tiny_model(architecture),
        kind="vision",
        timm_config=config,
        image_settings={**NEUTRAL, **settings},
    )


COLUMNS = {"kind": "image_classification", "image": "img", "label": "fine_label"}


@pytest.mark.parametrize("architecture", ["clip", "timm", "vit"])
def test_hub_images_are_brought_to_the_models_input(hub, architecture):
    """Decoded, grey if the model takes one channel, and of its size, whatever theirs is."""
    hub.splits = {"train": pictures(), "validation": pictures()}
    foundation = vision(architecture)
    task = prepare(COLUMNS, HUB, foundation)
    batch = task.collate(task.training_examples())
    assert batch.inputs["images"].shape == (6, 1, 8, 8)
    assert batch.inputs["labels"].tolist() == [0, 1, 2, 3, 4, 0]
    scored = task.evaluate(foundation.model, batch_size=4, examples=3)
    assert len(scored.items) == 3
    assert all(item["target"] == item["item"] % CLASSES for item in scored.items)


@pytest.mark.parametrize("architecture", ["timm", "vit"])
def test_the_models_own_transform_is_used(hub, architecture):
    """Its interpolation and crop, then its mean and deviation."""
    from timm.data import create_transform

    hub.splits = {"train": pictures(side=20)}
    settings = {"crop_pct": 0.5, "interpolation": "bilinear", "mean": [0.25], "std": [0.5]}
    task = prepare(COLUMNS, HUB, vision(architecture, **settings))
    expected = create_transform(
        (1, 8, 8), interpolation="bilinear", crop_pct=0.5, mean=(0.25,), std=(0.5,)
    )
    found = task.collate(task.training_examples()[2:3]).inputs["images"][0]
    image = hub.splits["train"][2]["img"].convert("L")
    assert torch.equal(found, expected(image))
    assert -0.5 <= float(found.min()) < float(found.max()) <= 1.5


def test_random_models_get_the_whole_short_side(hub):
    """Bicubic to the model's size, centre of the long side, 0 to 1."""
    hub.splits = {"train": pictures(side=8)}
    task = prepare(COLUMNS, HUB, vision("vit"))
    found = task.collate(task.training_examples()[4:5]).inputs["images"][0, 0]
    grey = np.asarray(hub.splits["train"][4]["img"].convert("L")) / 255
    assert found.numpy() == pytest.approx(grey[:, 2:10], abs=1e-6)


def test_a_square_of_the_whole_image_is_what_vit_was_made_with(hub):
    """Squashed, not cropped, as its preprocessor does: nothing of a wide image is lost."""
    hub.splits = {"train": pictures(side=8)}
    task = prepare(COLUMNS, HUB, vision("vit", crop_mode="squash", interpolation="bilinear"))
    found = task.collate(task.training_examples()[4:5]).inputs["images"][0, 0]
    image = hub.splits["train"][4]["img"].convert("L").resize((8, 8), Pillow.Resampling.BILINEAR)
    assert found.numpy() == pytest.approx(np.asarray(image) / 255, abs=1e-6)


def test_images_are_decoded_one_batch_at_a_time(hub, monkeypatch):
    """Listing what there is to tune on opens none of them."""
    hub.splits = {"train": pictures()}
    decode, opened = Image.decode_example, []

    def counting(self: Image, *given: object, **more: object) -> object:
        opened.append(self)
        return decode(self, *given, **more)

    monkeypatch.setattr(Image, "decode_example", counting)
    task = prepare(COLUMNS, HUB, vision("timm"))
    examples = task.training_examples()
    assert (len(examples), len(opened)) == (6, 0)
    task.collate(examples[:2])
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": "image"}, "no column 'image'; it has fine_label, img"),
        ({"label": "label"}, "no column 'label'"),
    ],
)
def test_a_column_that_is_not_there_is_named(hub, fields, message):
    """With those that are."""
    hub.splits = {"train": pictures()}
    with pytest.raises(SuiteError, match=message):
        prepare({**COLUMNS, **fields}, HUB, vision("timm")).training_examples()
