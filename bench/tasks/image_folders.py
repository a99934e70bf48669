"""Image folders: one sub-folder a class, as torchvision and Hugging Face lay them out.

A label is the place of its class among the sorted names of all splits: a class that one split
lacks does not shift the others. Names with a dot in front are the file system's own and left out.
It never imports torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from bench.file_hash import file_sha256
from reports.record import canonical


def class_names(folders: Iterable[Path]) -> tuple[str, ...]:
    """The classes of all splits together, in the order of their labels."""
    return tuple(sorted({each.name for folder in folders for each in _class_folders(folder)}))


def images(folder: Path) -> list[Path]:
    """The files of every class in a fixed order; deeper folders belong to their class."""
    found = (
        Path(above, name)
        for each in _class_folders(folder)
        for above, _, names in os.walk(each, followlinks=True)
        for name in names
    )
    return sorted(path for path in found if not _is_hidden(path.relative_to(folder)))


def class_of(image: Path, folder: Path) -> str:
    """The name of the class that an image of a split's folder belongs to."""
    return image.relative_to(folder).parts[0]


def fault(folder: Path) -> str:
    """Why a folder is not one of images; empty if it is."""
    for path in sorted(folder.iterdir()):
        if not path.is_dir() and not _is_hidden(path.relative_to(folder)):
            return f"{path} is in no class; each class is a sub-folder of images"
    found = images(folder)
    if not found:
        return f"{folder} holds no images; each class is a sub-folder of them"
    return next((f"{path} is no image" for path in found if not _is_image(path)), "")


def fingerprint(folder: Path, classes: Iterable[str]) -> str:
    """The sha256 of a split: names and bytes of its files, and the classes that decide labels."""
    hashes = {path.relative_to(folder).as_posix(): file_sha256(path) for path in images(folder)}
    content = {"classes": list(classes), "files": hashes}
    return hashlib.sha256(canonical(content)).hexdigest()


def _class_folders(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if path.is_dir() and not _is_hidden(path.relative_to(folder))
    ]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_image(path: Path) -> bool:
    """Whether its first bytes are an image's; the rest is read when it is scored or tuned on."""
    from PIL import Image

    try:
        with Image.open(path):
            return True
    except OSError:
        return False
