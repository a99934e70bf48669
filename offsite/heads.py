"""The classifier of an image model: a new one for classes the model does not know."""

from __future__ import annotations

import copy

from torch import nn

from offsite.errors import NotAModel

_NAMES = ("classifier", "head")
"""What transformers and timm call the classifier of an image model."""


def renew_head(model: nn.Module, classes: int) -> None:
    """Give `model` a new linear classifier of `classes` classes, in place.

    Its weights are zero: before tuning every class is equally likely, whatever the seed.

    Raises:
        NotAModel: the model has no linear classifier.
    """
    name = _name(model)
    old = getattr(model, name)
    new = nn.Linear(old.in_features, classes, device=old.weight.device, dtype=old.weight.dtype)
    nn.init.zeros_(new.weight)
    nn.init.zeros_(new.bias)
    setattr(model, name, new)


def own_head(model: nn.Module) -> nn.Module:
    """Put a copy of the classifier in its place, so that no other model shares it; returns it.

    Raises:
        NotAModel: the model has no linear classifier.
    """
    name = _name(model)
    setattr(model, name, copy.deepcopy(getattr(model, name)))
    head: nn.Module = getattr(model, name)
    return head


def _name(model: nn.Module) -> str:
    found = [name for name in _NAMES if isinstance(getattr(model, name, None), nn.Linear)]
    if not found:
        raise NotAModel(f"{type(model).__name__} has no linear classifier")
    return found[0]
