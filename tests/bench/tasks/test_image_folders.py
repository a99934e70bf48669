"""Image folders: labels by name, a hash of names and bytes, and what is no image."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench.tasks import image_folders
from bench.tasks.data import LocalData, local_data


def picture(path: Path, shade: int) -> None:
    """A small grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 4), shade).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits; `bear` is only in the first, `dog` only in the second."""
    for number, name in enumerate(("train/bear/1.png", "train/cat/1.png", "train/cat/deep/2.png")):
        picture(tmp_path / name, 10 * number)
    picture(tmp_path / "test" / "cat" / "1.png", 100)
    picture(tmp_path / "test" / "dog" / "1.jpg", 200)
    return tmp_path


def identity(folder: Path) -> LocalData:
    """What stands for the two splits."""
    return local_data({split: folder / split for split in ("train", "test")}, None)


def test_labels_count_through_the_classes_of_all_splits(folder):
    """A class that one split lacks does not shift the others."""
    splits = [folder / "train", folder / "test"]
    assert image_folders.class_names(splits) == ("bear", "cat", "dog")
    assert image_folders.class_names(reversed(splits)) == ("bear", "cat", "dog")


def test_images_of_deeper_folders_belong_to_their_class(folder):
    """In a fixed order, class by class."""
    found = image_folders.images(folder / "train")
    named = [(image_folders.class_of(path, folder / "train"), path.name) for path in found]
    assert named == [("bear", "1.png"), ("cat", "1.png"), ("cat", "2.png")]


def test_files_of_the_system_are_no_images_and_no_classes(folder):
    """A file manager leaves some; they change neither images nor the hash."""
    before = identity(folder)
    for name in (".DS_Store", "cat/.DS_Store", ".cache/x.png", "cat/.thumbs/1.png"):
        path = folder / "train" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"system")
    assert image_folders.fault(folder / "train") == ""
    assert identity(folder) == before
    assert image_folders.class_names([folder / "train"]) == ("bear", "cat")


def test_the_hash_is_of_names_and_bytes(folder, tmp_path_factory):
    """Where the folder lies is not in it; a name and a byte are."""
    before = identity(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, elsewhere)
    assert identity(elsewhere) == before
    (elsewhere / "test" / "cat" / "1.png").rename(elsewhere / "test" / "dog" / "1.png")
    assert identity(elsewhere).of("test") != before.of("test")
    assert identity(elsewhere).of("train") == before.of("train")
    picture(folder / "train" / "cat" / "1.png", 99)
    assert identity(folder).of("train") != before.of("train")


def test_a_class_of_one_split_is_in_the_hash_of_the_other(folder):
    """It moves that one's labels, though none of its files changed."""
    before = identity(folder)
    picture(folder / "train" / "ant" / "1.png", 7)
    assert identity(folder).of("test") != before.of("test")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cat/notes.txt", r"cat/notes\.txt is no image$"),
        ("loose.png", r"loose\.png is in no class; each class is a sub-folder of images$"),
    ],
)
def test_a_file_that_is_no_image_of_a_class_is_named(folder, name, message):
    """Left out silently, it would be missed in the scores."""
    (folder / "train" / name).write_text("no pixels")
    assert re.search(message, image_folders.fault(folder / "train"))


def test_a_folder_without_images_is_said_to_be_one(tmp_path):
    """Empty classes do not help."""
    (tmp_path / "cat").mkdir()
    assert image_folders.fault(tmp_path) == (
        f"{tmp_path} holds no images; each class is a sub-folder of them"
    )
