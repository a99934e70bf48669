"""Image classification: top-1 and top-5 of a model whose head has the task's classes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks import pictures
from bench.tasks.kinds import ImageClassification
from bench.tasks.pictures import Pictures
from bench.tasks.samples import content_hash, sample
from bench.tasks.task import Evaluation, Example, splits_of
from offsite import image_settings
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

if TYPE_CHECKING:
    from bench.tasks.pictures import Pixels


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


class ImageTask:
    """See the module's docstring. Images are tuned on as they are scored, without augmentation."""

    scored = "test"

    def __init__(self, parameters: ImageClassification, foundation: Foundation) -> None:
        self.parameters = parameters
        self.foundation = foundation
        self.dropped = 0
        assert foundation.image_settings is not None
        self.settings = foundation.image_settings
        self.mean = torch.tensor(self.settings["mean"]).view(-1, 1, 1)
        self.std = torch.tensor(self.settings["std"]).view(-1, 1, 1)

    def check(self) -> None:
        """Read the labels of every split, and its first image."""
        classes = self.parameters.classes or class_count(self.foundation)
        size = input_size(self.foundation)
        for split in splits_of(self.parameters.data):
            found = self._split(split)
            for row, label in enumerate(found.labels.tolist()):
                if label >= classes:
                    raise SuiteError(
                        f"{found.place(row)}: label {label} is none of {classes} classes, "
                        "counted from 0"
                    )
            first = found.pixels(0)
            if isinstance(first, Tensor) and tuple(first.shape) != size:
                raise SuiteError(
                    f"{found.place(0)}: an image of {'x'.join(map(str, first.shape))}; the "
                    f"model takes {'x'.join(map(str, size))} (channels, height, width)"
                )

    def training_examples(self) -> list[Example]:
        """Every image of the train split."""
        return self.examples("train")

    def collate(self, examples: list[Example]) -> Batch:
        """Images stacked to (N, C, H, W)."""
        images = [e["pictures"].pixels(e["position"]) for e in examples]
        labels = [e["pictures"].labels[e["position"]] for e in examples]
        inputs = {"images": self._images(images), "labels": torch.stack(labels)}
        return Batch(inputs, len(examples))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        return nn.functional.cross_entropy(
            logits(model, batch.inputs["images"]).float(), batch.inputs["labels"]
        )

    def examples(self, split: str) -> list[Example]:
        """Every image of a split."""
        found = self._split(split)
        return [{"pictures": found, "position": i} for i in range(len(found.labels))]

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """Share of images whose label is the highest score, or among the five highest."""
        found = self._split("test")
        positions = range(len(found.labels))
        # Not by what they show: not all of them fit into memory.
        chosen = sample([*map(content_hash, positions)], examples, found.labels.tolist())
        labels = found.labels[chosen]
        scores, documents = self._scores(model, found, chosen, batch_size)
        classes = scores.shape[1]
        if int(labels.max()) >= classes:
            raise SuiteError(
                f"label {int(labels.max())} in the test split; the model has {classes} "
                "classes, 0 and up"
            )
        best = min(5, classes)
        ranked = scores.topk(best, dim=1).indices
        hit = ranked == labels[:, None]
        hits = {"top1": hit[:, 0].tolist(), "top5": hit.any(dim=1).tolist()}
        items: list[dict[str, Any]] = [
            {
                "item": position,
                "doc": documents[place],
                "target": int(labels[place]),
                "prediction": int(ranked[place, 0]),
                "top1": int(hits["top1"][place]),
                "top5": int(hits["top5"][place]),
                "logits": hashlib.sha256(scores[place].numpy().tobytes()).hexdigest(),
            }
            for place, position in enumerate(chosen)
        ]
        guess = {"top1": 1 / classes, "top5": best / classes}
        metrics = [_metric(name, values, guess[name]) for name, values in hits.items()]
        return Evaluation(metrics, items, self._facts(found))

    def _facts(self, found: Pictures) -> dict[str, Any]:
        """Which split was scored, what each split is, and what labels of folders stand for."""
        named = {"classes": list(found.classes)} if found.classes else {}
        return {"scored": "test", "splits": pictures.splits(self.parameters.data), **named}

    def _split(self, split: str) -> Pictures:
        return pictures.read(self.parameters, split)

    def _images(self, pixels: Sequence[Pixels]) -> Tensor:
        """Images as the model takes them; those of a batch are all arrays, or all encoded."""
        arrays = [each for each in pixels if isinstance(each, Tensor)]
        if arrays:
            return (torch.stack(arrays).float() - self.mean) / self.std
        mode, transform = self._transform
        decoded = [each for each in pixels if not isinstance(each, Tensor)]
        return torch.stack([transform(each.convert(mode)) for each in decoded])

    @cached_property
    def _transform(self) -> tuple[str, Callable[[Any], Tensor]]:
        """The mode of image the model was made for, and timm's own way from one to its input."""
        from timm.data import create_transform, resolve_data_config

        size = input_size(self.foundation)
        settings = resolve_data_config(pretrained_cfg={**self.settings, "input_size": size})
        transform: Callable[[Any], Tensor] = create_transform(**settings, is_training=False)
        return "L" if size[0] == 1 else "RGB", transform

    def _scores(
        self, model: nn.Module, found: Pictures, chosen: Sequence[int], batch_size: int
    ) -> tuple[Tensor, list[str]]:
        """The model's scores of the chosen images, and the images' hashes."""
        device = next(model.parameters()).device
        parts, documents = [], []
        for start in range(0, len(chosen), batch_size):
            pixels = [found.pixels(i) for i in chosen[start : start + batch_size]]
            documents += [pictures.document(each) for each in pixels]
            with torch.inference_mode():
                parts.append(logits(model, self._images(pixels).to(device)).float().cpu())
        scores = torch.cat(parts)
        if not scores.isfinite().all():
            raise NonFiniteLoss("the model's scores are not finite")
        return scores, documents


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Class scores of timm's and transformers' models, which return them differently."""
    dtype = next(model.parameters()).dtype
    output = model(images.to(dtype))
    return output if isinstance(output, Tensor) else output.logits


def class_count(foundation: Foundation) -> int:
    """Classes of the model's own classifier."""
    if foundation.timm_config is None:
        count: int = foundation.model.config.num_labels  # type: ignore[union-attr, assignment]
        return count
    return int(foundation.timm_config["num_classes"])


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
