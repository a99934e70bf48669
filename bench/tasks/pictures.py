"""Images of a split and their labels, as the data have them: nothing here depends on a model.

They are arrays (.npz, built-in data), or encoded: image folders, parquet files, the hub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import torch
from torch import Tensor

from bench.errors import SuiteError
from bench.tasks import data, image_folders, rows
from bench.tasks.kinds import ImageClassification
from bench.tasks.task import splits_of
from reports.record import canonical

if TYPE_CHECKING:
    from PIL.Image import Image

    Pixels = Tensor | Image
    """An array (C, H, W) of floats in 0..1, or a decoded image."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of a split and their labels."""

    pixels: Callable[[int], Pixels]
    """The one at a position. Encoded ones are decoded when they are asked for: a split of large
    images does not fit into memory."""
    labels: Tensor
    place: Callable[[int], str]
    """How to find the one at a position, in a message."""
    classes: tuple[str, ...] = ()
    """What the labels stand for, where folders name it."""


def read(parameters: ImageClassification, split: str) -> Pictures:
    """The images of a split.

    Raises:
        SuiteError: no such split, or what is there is not what the task says, with its place.
    """
    if "hub" in parameters.data:
        return _of_table(rows.hub_split(parameters.data, split), parameters, split)
    arrays = data.builtin_split(parameters.data, split)
    if arrays is not None:
        images, labels = arrays
        origin = f"{parameters.data['builtin']} {split}"
        return _of_arrays(images, labels, split, lambda row: f"{origin}, row {row}")
    if split not in parameters.data:
        raise SuiteError(f"this task has no {split} split; give one under its `data`")
    path = Path(parameters.data[split])
    if path.is_dir():
        return _of_folder(path, image_folders.class_names(map(Path, parameters.data.values())))
    if path.suffix == ".parquet":
        return _of_table(_parquet(path), parameters, split)
    return _of_arrays(*_npz(path), split, partial(rows.place, parameters.data, split))


def splits(known: Mapping[str, str]) -> dict[str, str]:
    """Which rows each split is: the hub's word for them, or the name of the file or folder."""
    if "builtin" in known:
        return dict.fromkeys(splits_of(known), known["builtin"])
    is_hub = "hub" in known
    return {each: known[each] if is_hub else Path(known[each]).name for each in splits_of(known)}


def document(pixels: Pixels) -> str:
    """The sha256 of an image's pixels: the same for every model, wherever the image stands."""
    if isinstance(pixels, Tensor):
        form, content = [str(pixels.dtype), list(pixels.shape)], pixels.numpy().tobytes()
    else:
        form, content = [pixels.mode, list(pixels.size)], pixels.tobytes()
    return hashlib.sha256(canonical(form) + content).hexdigest()


def _of_arrays(
    images: Any,  # noqa: ANN401 - numpy's
    labels: Any,  # noqa: ANN401 - numpy's
    split: str,
    place: Callable[[int], str],
) -> Pictures:
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if len(images) != len(labels) or not len(images):
        raise SuiteError(f"{split} split: {len(images)} images and {len(labels)} labels")
    if not images.is_floating_point():
        raise SuiteError(f"{split} split: images are {images.dtype}; give floats in 0..1")
    if images.dim() == 3:
        images = images[:, None]
    return Pictures(images.__getitem__, _labels(labels.tolist(), place), place)


def _of_folder(folder: Path, classes: tuple[str, ...]) -> Pictures:
    paths = image_folders.images(folder)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[image_folders.class_of(path, folder)] for path in paths]

    def pixels(position: int) -> Image:
        path = paths[position]
        return _decoded({"bytes": path.read_bytes(), "path": None}, str(path))

    return Pictures(pixels, torch.tensor(labels), lambda i: str(paths[i]), classes)


def _of_table(found: Any, parameters: ImageClassification, split: str) -> Pictures:  # noqa: ANN401
    """Rows with a column of encoded images and one of labels."""
    from datasets import Image as Encoded

    known, origin = parameters.data, _origin(parameters.data, split)
    for column in (parameters.image, parameters.label):
        if column not in found.column_names:
            raise SuiteError(
                f"{origin} has no column {column!r}; it has {', '.join(sorted(found.column_names))}"
            )
    place = partial(rows.place, known, split)
    labels = _labels(list(found[parameters.label]), place)
    try:
        # They are decoded below, where an error can name the row.
        images = found.select_columns(parameters.image)
        images = images.cast_column(parameters.image, Encoded(decode=False))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise SuiteError(f"{origin}: column {parameters.image!r} holds no images") from error

    def pixels(position: int) -> Image:
        encoded = images[position][parameters.image]
        if encoded and "hub" not in known:
            # Only bytes are in the file's hash; the library would follow a path or an address.
            encoded = {"bytes": encoded["bytes"], "path": None}
        return _decoded(encoded, place(position))

    return Pictures(pixels, labels, place)


def _decoded(encoded: dict[str, Any] | None, place: str) -> Image:
    """The image in a row or a file, turned as its camera says."""
    from datasets import Image as Encoded
    from PIL import UnidentifiedImageError

    if encoded is None or not any(encoded.values()):
        raise SuiteError(f"{place}: there is no image")
    try:
        image: Image = Encoded().decode_example(encoded)
    except UnidentifiedImageError:
        raise SuiteError(f"{place}: its bytes are no image") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise SuiteError(f"{place}: its image cannot be read ({error})") from error
    return image


def _labels(found: Sequence[object], place: Callable[[int], str]) -> Tensor:
    """Labels as a tensor.

    Raises:
        SuiteError: the first row whose label is no class.
    """
    for position, label in enumerate(found):
        if not isinstance(label, int) or isinstance(label, bool) or label < 0:
            raise SuiteError(f"{place(position)}: label {label!r} is no whole number from 0")
    if not found:
        raise SuiteError(f"{place(0)}: there is no row")
    return torch.tensor(found)


def _origin(known: dict[str, str], split: str) -> str:
    return f"data set {known['hub']!r}" if "hub" in known else known[split]


def _parquet(path: Path) -> Any:  # noqa: ANN401 - untyped library
    """A file's rows, their images encoded.

    In memory: the library's own reader keeps a copy on the disk, which it knows by the file's
    name and time and not by its content.
    """
    from datasets import Dataset

    return Dataset(rows.parquet_table(path))


def _npz(path: Path) -> tuple[Any, Any]:
    import numpy as np

    if not is_zipfile(path):
        raise SuiteError(f"{path}: neither a .npz nor a .parquet file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"images", "labels"} - set(arrays.files)
            if missing:
                raise SuiteError(f"{path}: no array {' or '.join(sorted(missing))} in it")
            return arrays["images"], arrays["labels"]
    except ValueError as error:
        raise SuiteError(f"{path}: its arrays cannot be read ({error})") from error
