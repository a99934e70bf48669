"""Images from folders, parquet files and arrays, against images drawn here."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bench.errors import SuiteError
from bench.tasks import image_folders
from bench.tasks.kinds import ImageClassification
from bench.tasks.pictures import document, read, splits
from bench.tasks.task import prepare
from offsite.models import load_model
from tests.bench.command import ROOT

SHADES = {"train": {"ant": 30, "cat": 60}, "test": {"cat": 90, "dog": 120}}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Two splits of one image a class, each of one shade."""
    for split, classes in SHADES.items():
        for name, shade in classes.items():
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (16, 8), (shade,) * 3).save(tmp_path / split / name / "1.png")
    return {split: str(tmp_path / split) for split in SHADES}


def encoded(shade: int) -> bytes:
    """A PNG file of one shade."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 8), (shade,) * 3).save(stream, "PNG")
    return stream.getvalue()


def parquet(path: Path, columns: dict[str, Any]) -> dict[str, str]:
    """A file with these columns as every split."""
    pq.write_table(pa.table(columns), path)
    return dict.fromkeys(("train", "test"), str(path))


def shades(data: dict[str, str], split: str, **fields: str) -> list[tuple[int, int]]:
    """Label and shade of every image of a split."""
    found = read(ImageClassification(data=data, **fields), split)
    pixels = [found.pixels(i).getpixel((0, 0))[0] for i in range(len(found.labels))]
    return list(zip(found.labels.tolist(), pixels, strict=True))


def test_labels_of_folders_are_those_of_all_splits(folders):
    """`cat` is 1 in both, though the test split has no `ant`."""
    assert shades(folders, "train") == [(0, 30), (1, 60)]
    assert shades(folders, "test") == [(1, 90), (2, 120)]
    assert read(ImageClassification(data=folders), "test").classes == ("ant", "cat", "dog")


def test_an_image_that_breaks_off_is_named(folders):
    """Its first bytes are an image's: only decoding shows it."""
    path = Path(folders["train"]) / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:50])
    found = read(ImageClassification(data=folders), "train")
    with pytest.raises(SuiteError, match=r"cat/1\.png: its image cannot be read"):
        found.pixels(1)


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_a_parquet_file_holds_bytes_or_the_hubs_struct(tmp_path, form):
    """Both are what people have."""
    images: list[Any] = [encoded(shade) for shade in (30, 60)]
    if form == "struct":
        images = [{"bytes": each, "path": None} for each in images]
    data = parquet(tmp_path / "two.parquet", {"image": images, "label": [3, 0]})
    assert shades(data, "test") == [(3, 30), (0, 60)]


def test_columns_of_a_parquet_file_can_be_named(tmp_path):
    """As those of the hub."""
    data = parquet(tmp_path / "two.parquet", {"img": [encoded(9)], "kind": [2]})
    assert shades(data, "test", image="img", label="kind") == [(2, 9)]


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no column": ({"picture": [b""], "label": [0]}, r"no column 'image'; it has label, picture"),
    "label": ({"image": [encoded(1)] * 2, "label": [0, -1]}, r"label -1 is no whole number"),
    "text label": ({"image": [encoded(1)], "label": ["cat"]}, r"label 'cat' is no whole number"),
    "no label": ({"image": [encoded(1)] * 2, "label": [0, None]}, r"label None is no whole number"),
    "no image": ({"image": [encoded(1), None], "label": [0, 0]}, r"there is no image$"),
    "other bytes": ({"image": [encoded(1), b"text"], "label": [0, 0]}, r"its bytes are no image$"),
    "half an image": (
        {"image": [encoded(1), encoded(1)[:50]], "label": [0, 0]},
        r"its image cannot be read \(",
    ),
    "numbers": ({"image": [1], "label": [0]}, r"column 'image' holds no images"),
    "no row": (
        {"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())},
        "there is no row",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_row_is_named(case, tmp_path):
    """By file and row, where it is one row's fault."""
    columns, message = MALFORMED[case]
    data = parquet(tmp_path / "bad.parquet", columns)
    place = r"bad\.parquet:2: " if len(columns["label"]) > 1 else r"bad\.parquet"
    with pytest.raises(SuiteError, match=place) as caught:
        shades(data, "test")
    assert caught.match(message)


def test_a_file_is_read_anew_though_its_time_is_the_old_one(tmp_path):
    """A copy that is known by name and time would be another file's."""
    for shade in (30, 60):
        data = parquet(tmp_path / "one.parquet", {"image": [encoded(shade)], "label": [0]})
        os.utime(tmp_path / "one.parquet", (0, 0))
        assert shades(data, "test") == [(0, shade)]


def test_a_path_in_a_parquet_file_is_not_followed(tmp_path):
    """What it leads to is not in the file's hash, and may not even be on this machine."""
    (tmp_path / "secret.png").write_bytes(encoded(5))
    there = [{"bytes": None, "path": str(tmp_path / "secret.png")}]
    data = parquet(tmp_path / "paths.parquet", {"image": there, "label": [0]})
    with pytest.raises(SuiteError, match=r"paths\.parquet:1: there is no image"):
        shades(data, "test")


@pytest.mark.parametrize("name", ["text.csv", "text.npz", "text.parquet"])
def test_a_file_of_another_kind_is_named(name, tmp_path):
    """One line, not the library's own."""
    (tmp_path / name).write_text("a,b\n")
    with pytest.raises(SuiteError, match=name):
        read(ImageClassification(data={"test": str(tmp_path / name)}), "test")


def test_a_document_is_known_by_its_pixels(folders, tmp_path):
    """The same in every file, another for other pixels or another shape."""
    data = parquet(tmp_path / "two.parquet", {"image": [encoded(60), encoded(61)], "label": [0, 0]})
    one, other = (read(ImageClassification(data=data), "test").pixels(i) for i in (0, 1))
    same = read(ImageClassification(data=folders), "train").pixels(1)
    assert document(one) == document(same) != document(other)
    array = torch.zeros(1, 4, 6)
    assert document(array) == document(array.clone()) != document(array.view(1, 6, 4))
    assert document(array) != document(array + 1)


def test_splits_are_told_without_where_they_lie(folders):
    """A record says the same on every machine."""
    assert splits(folders) == {"train": "train", "test": "test"}
    hub = {"hub": "o/n", "config": "c", "train": "train[:85%]", "test": "validation"}
    assert splits(hub) == {"train": "train[:85%]", "test": "validation"}
    assert set(splits({"builtin": "digits_pair_sum"}).values()) == {"digits_pair_sum"}


def test_folders_arrays_and_parquet_are_the_same_images_to_a_model(folders, tmp_path):
    """Of the model's own size nothing is resized, so the three agree to the last bit."""
    foundation = load_model(ROOT / "suites" / "models" / "tiny-vit")
    shade = np.array([30, 60], dtype="float32")[:, None, None] / 255
    np.savez(tmp_path / "two.npz", images=np.tile(shade, (1, 8, 16)), labels=[0, 1])
    images = [encoded(30), encoded(60)]
    rows = parquet(tmp_path / "two.parquet", {"image": images, "label": [0, 1]})
    arrays = dict.fromkeys(("train", "test"), str(tmp_path / "two.npz"))
    batches = [
        task.collate(task.training_examples()).inputs
        for task in (
            prepare({"kind": "image_classification"}, data, foundation)
            for data in (folders, rows, arrays)
        )
    ]
    for batch in batches[1:]:
        assert torch.equal(batch["images"], batches[0]["images"])
        assert torch.equal(batch["labels"], batches[0]["labels"])


def test_real_photographs_are_the_same_from_folders_and_from_a_parquet_file(tmp_path):
    """JPEG files of CIFAR-10's classes: the same pixels under the same labels."""
    home = os.environ.get("OFFSITE_BENCH_DATA")
    if not home:
        pytest.skip("OFFSITE_BENCH_DATA is not set: no real data")
    with np.load(Path(home) / "cifar10" / "test.npz", allow_pickle=False) as arrays:
        ends, jpeg, labels, classes = (arrays[k] for k in ("offset", "jpeg", "label", "classes"))
    chosen = range(0, len(labels), 10)
    images = [jpeg[ends[i] : ends[i + 1]].tobytes() for i in chosen]
    for number, (label, image) in enumerate(zip(labels[chosen], images, strict=True)):
        path = tmp_path / "test" / classes[label] / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    rows = parquet(tmp_path / "rows.parquet", {"image": images, "label": labels[chosen]})
    assert image_folders.fault(tmp_path / "test") == ""
    found = [
        read(ImageClassification(data=data), "test")
        for data in ({"test": str(tmp_path / "test")}, rows)
    ]
    seen = [
        sorted((int(label), document(each.pixels(i))) for i, label in enumerate(each.labels))
        for each in found
    ]
    assert len(seen[0]) == 100
    assert seen[0] == seen[1]
