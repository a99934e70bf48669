"""Image classification: top-1 and top-5 of a model whose head has the task's classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks import data, rows
from bench.tasks.kinds import ImageClassification
from bench.tasks.task import Evaluation, Example, subset
from offsite import image_settings
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

SELECTION_BATCH = 64


def prepare(parameters: ImageClassification, foundation: Foundation) -> ImageTask:
    """The task for one model's input size and normalisation of pixels.

    Raises:
        SuiteError: the model's folder does not say how its pixels are normalised.
    """
    if foundation.image_settings is None:
        raise SuiteError(
            f"the model's folder does not say how its pixels are normalised; add "
            f"{image_settings.FILES[0]} (transformers) or pretrained_cfg with mean and std to "
            "config.json (timm)"
        )
    return ImageTask(parameters, foundation)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The images of a split, as the model takes them, and their labels."""

    image: Callable[[int], Tensor]
    """The one at a position. Those of the hub are decoded when they are asked for: a split of
    large images does not fit into memory."""
    labels: Tensor


class ImageTask:
    """See the module's docstring. Images are tuned on as they are scored, without augmentation."""

    def __init__(self, parameters: ImageClassification, foundation: Foundation) -> None:
        self.parameters = parameters
        self.foundation = foundation
        self.dropped = 0
        assert foundation.image_settings is not None
        self.settings = foundation.image_settings
        self.mean = torch.tensor(self.settings["mean"]).view(-1, 1, 1)
        self.std = torch.tensor(self.settings["std"]).view(-1, 1, 1)

    def training_examples(self) -> list[Example]:
        """Every image of the train split."""
        pictures = self._split("train")
        return [{"pictures": pictures, "position": i} for i in range(len(pictures.labels))]

    def collate(self, examples: list[Example]) -> Batch:
        """Images stacked to (N, C, H, W)."""
        images = [e["pictures"].image(e["position"]) for e in examples]
        labels = [e["pictures"].labels[e["position"]] for e in examples]
        inputs = {"images": torch.stack(images), "labels": torch.stack(labels)}
        return Batch(inputs, len(examples))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        return nn.functional.cross_entropy(
            logits(model, batch.inputs["images"]).float(), batch.inputs["labels"]
        )

    def selection_loss(self, model: nn.Module) -> float:
        """Mean cross-entropy on the validation split."""
        pictures = self._split("validation")
        chosen = range(len(pictures.labels))
        scores = self._scores(model, pictures, chosen, SELECTION_BATCH)
        return float(nn.functional.cross_entropy(scores, pictures.labels))

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """Share of images whose label is the highest score, or among the five highest."""
        pictures = self._split("test")
        chosen = subset(len(pictures.labels), examples)
        labels = pictures.labels[chosen]
        scores = self._scores(model, pictures, chosen, batch_size)
        classes = scores.shape[1]
        if int(labels.max()) >= classes:
            raise SuiteError(
                f"label {int(labels.max())} in the test split; the model has {classes} "
                "classes, 0 and up"
            )
        best = min(5, classes)
        ranked = scores.topk(best, dim=1).indices == labels[:, None]
        hits = {"top1": ranked[:, 0].tolist(), "top5": ranked.any(dim=1).tolist()}
        items: list[dict[str, Any]] = [
            {"item": position, "target": int(label), "top1": int(one), "top5": int(five)}
            for position, label, one, five in zip(
                chosen, labels.tolist(), hits["top1"], hits["top5"], strict=True
            )
        ]
        guess = {"top1": 1 / classes, "top5": best / classes}
        metrics = [_metric(name, values, guess[name]) for name, values in hits.items()]
        return Evaluation(metrics, items)

    def _split(self, split: str) -> Pictures:
        if "hub" in self.parameters.data:
            return self._from_hub(split)
        arrays = data.builtin_split(self.parameters.data, split)
        if arrays is None:
            arrays = _from_file(self.parameters.data, split)
        images, labels = (torch.as_tensor(array) for array in arrays)
        _check_images(images, labels, split)
        _check_labels(labels, split)
        if images.dim() == 3:
            images = images[:, None]
        normalised = (images.float() - self.mean) / self.std
        return Pictures(normalised.__getitem__, labels.long())

    def _from_hub(self, split: str) -> Pictures:
        found = rows.hub_split(self.parameters.data, split)
        image, label = self.parameters.image, self.parameters.label
        for column in (image, label):
            if column not in found.column_names:
                raise SuiteError(
                    f"data set {self.parameters.data['hub']!r} has no column {column!r}; it has "
                    f"{', '.join(sorted(found.column_names))}"
                )
        labels = torch.as_tensor(list(found[label]))
        _check_labels(labels, split)
        mode, transform = self._transform()

        def pixels(position: int) -> Tensor:
            tensor: Tensor = transform(found[position][image].convert(mode))
            return tensor

        return Pictures(pixels, labels.long())

    def _transform(self) -> tuple[str, Callable[[Any], Tensor]]:
        """The mode of image the model was made for, and timm's own way from one to its input."""
        from timm.data import create_transform, resolve_data_config

        size = input_size(self.foundation)
        settings = resolve_data_config(pretrained_cfg={**self.settings, "input_size": size})
        transform: Callable[[Any], Tensor] = create_transform(**settings, is_training=False)
        return "L" if size[0] == 1 else "RGB", transform

    def _scores(
        self, model: nn.Module, pictures: Pictures, chosen: Sequence[int], batch_size: int
    ) -> Tensor:
        device = next(model.parameters()).device
        parts = []
        for start in range(0, len(chosen), batch_size):
            images = torch.stack([pictures.image(i) for i in chosen[start : start + batch_size]])
            with torch.inference_mode():
                parts.append(logits(model, images.to(device)).float().cpu())
        scores = torch.cat(parts)
        if not scores.isfinite().all():
            raise NonFiniteLoss("the model's scores are not finite")
        return scores


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Class scores of timm's and transformers' models, which return them differently."""
    dtype = next(model.parameters()).dtype
    output = model(images.to(dtype))
    return output if isinstance(output, Tensor) else output.logits


def input_size(foundation: Foundation) -> tuple[int, int, int]:
    """Channels, height and width of the images a model takes."""
    if foundation.timm_config is None:
        return image_settings.input_size(foundation.model.config)
    # What the model was built with; its pretrained_cfg may be of another size.
    given = foundation.timm_config.get("model_args") or {}
    pretrained: Any = getattr(foundation.model, "pretrained_cfg", None) or {}
    usual = pretrained.get("input_size") or (3, 224, 224)
    channels, side = given.get("in_chans", usual[0]), given.get("img_size", usual[1:])
    height, width = (side, side) if isinstance(side, int) else side
    return channels, height, width


def _check_images(images: Tensor, labels: Tensor, split: str) -> None:
    """Refuse arrays that would be scored as something else than they are."""
    if len(images) != len(labels) or not len(images):
        raise SuiteError(f"{split} split: {len(images)} images and {len(labels)} labels")
    if not images.is_floating_point():
        raise SuiteError(f"{split} split: images are {images.dtype}; give floats in 0..1")


def _check_labels(labels: Tensor, split: str) -> None:
    if labels.is_floating_point() or int(labels.min()) < 0:
        raise SuiteError(f"{split} split: labels must be whole numbers from 0")


def _from_file(files: dict[str, str], split: str) -> tuple[Any, Any]:
    import numpy as np

    path = files.get(split)
    if path is None:
        raise SuiteError(f"this task has no {split} split; give one under its `data`")
    with np.load(path, allow_pickle=False) as arrays:
        missing = {"images", "labels"} - set(arrays.files)
        if missing:
            raise SuiteError(f"{path}: no array {' or '.join(sorted(missing))} in it")
        return arrays["images"], arrays["labels"]


def _metric(name: str, hits: list[bool], guess: float) -> Metric:
    share = sum(hits) / len(hits)
    return Metric(
        metric=name,
        value=share,
        unit="fraction",
        better="higher",
        stderr=math.sqrt(share * (1 - share) / max(1, len(hits) - 1)),
        n=len(hits),
        chance=guess,
        phase="evaluate",
    )
