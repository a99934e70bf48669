"""Image classification: top-1 and top-5 of a model whose head has the task's classes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks import data
from bench.tasks.kinds import ImageClassification
from bench.tasks.task import Evaluation, Example, subset
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

SELECTION_BATCH = 64


def prepare(parameters: ImageClassification, foundation: Foundation) -> ImageTask:
    """The task for one model's normalisation of pixels."""
    return ImageTask(parameters, foundation)


class ImageTask:
    """See the module's docstring."""

    def __init__(self, parameters: ImageClassification, foundation: Foundation) -> None:
        self.parameters = parameters
        settings = (foundation.timm_config or {}).get("pretrained_cfg") or {}
        self.mean = torch.tensor(settings.get("mean", (0.0,))).view(-1, 1, 1)
        self.std = torch.tensor(settings.get("std", (1.0,))).view(-1, 1, 1)

    def training_examples(self) -> list[Example]:
        """Every image of the train split."""
        images, labels = self._split("train")
        return [{"image": i, "label": c} for i, c in zip(images, labels, strict=True)]

    def collate(self, examples: list[Example]) -> Batch:
        """Images stacked to (N, C, H, W)."""
        inputs = {
            "images": torch.stack([e["image"] for e in examples]),
            "labels": torch.stack([e["label"] for e in examples]),
        }
        return Batch(inputs, len(examples))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        return nn.functional.cross_entropy(
            logits(model, batch.inputs["images"]).float(), batch.inputs["labels"]
        )

    def selection_loss(self, model: nn.Module) -> float:
        """Mean cross-entropy on the validation split."""
        images, labels = self._split("validation")
        scores = self._scores(model, images, SELECTION_BATCH)
        return float(nn.functional.cross_entropy(scores, labels))

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """Share of images whose label is the highest score, or among the five highest."""
        images, labels = self._split("test")
        chosen = subset(len(images), examples)
        images, labels = images[chosen], labels[chosen]
        scores = self._scores(model, images, batch_size)
        if int(labels.max()) >= scores.shape[1]:
            raise SuiteError(
                f"label {int(labels.max())} in the test split; the model has {scores.shape[1]} "
                "classes, 0 and up"
            )
        ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices == labels[:, None]
        hits = {"top1": ranked[:, 0].tolist(), "top5": ranked.any(dim=1).tolist()}
        items: list[dict[str, Any]] = [
            {"item": position, "target": int(label), "top1": int(one), "top5": int(five)}
            for position, label, one, five in zip(
                chosen, labels.tolist(), hits["top1"], hits["top5"], strict=True
            )
        ]
        return Evaluation([_metric(name, values) for name, values in hits.items()], items)

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        arrays = data.builtin_split(self.parameters.data, split)
        if arrays is None:
            arrays = _from_file(self.parameters.data, split)
        images, labels = (torch.as_tensor(array) for array in arrays)
        _check(images, labels, split)
        if images.dim() == 3:
            images = images[:, None]
        return (images.float() - self.mean) / self.std, labels.long()

    def _scores(self, model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
        device = next(model.parameters()).device
        with torch.inference_mode():
            parts = [
                logits(model, images[start : start + batch_size].to(device)).float().cpu()
                for start in range(0, len(images), batch_size)
            ]
        scores = torch.cat(parts)
        if not scores.isfinite().all():
            raise NonFiniteLoss("the model's scores are not finite")
        return scores


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Class scores of timm's and transformers' models, which return them differently."""
    dtype = next(model.parameters()).dtype
    output = model(images.to(dtype))
    return output if isinstance(output, Tensor) else output.logits


def _check(images: Tensor, labels: Tensor, split: str) -> None:
    """Refuse arrays that would be scored as something else than they are."""
    if len(images) != len(labels) or not len(images):
        raise SuiteError(f"{split} split: {len(images)} images and {len(labels)} labels")
    if not images.is_floating_point():
        raise SuiteError(f"{split} split: images are {images.dtype}; give floats in 0..1")
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


def _metric(name: str, hits: list[bool]) -> Metric:
    share = sum(hits) / len(hits)
    return Metric(
        metric=name,
        value=share,
        unit="fraction",
        better="higher",
        stderr=math.sqrt(share * (1 - share) / max(1, len(hits) - 1)),
        n=len(hits),
        phase="evaluate",
    )
