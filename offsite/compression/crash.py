"""CRaSh: cluster blocks that do alike, remove all but one of each cluster, share that one.

arXiv 2310.15477. Sharing restores the depth: it saves memory, and no time.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from offsite.compression.calibration import Calibration
from offsite.compression.data_aware_choice import passages
from offsite.compression.emulator import Emulator
from offsite.compression.layer_choice import keep
from offsite.compression.methods import Crash
from offsite.training import NonFiniteLoss


def crash(emulator: Emulator, parameters: Crash, calibration: Calibration) -> Emulator:
    """Keep the middle block of each of `keep` clusters; share them with those removed."""
    clusters = cluster(similarities(emulator, parameters, calibration), parameters.keep)
    kept = [places[len(places) // 2] for places in clusters]
    return share(emulator, kept) if parameters.share else keep(emulator, kept)


def similarities(emulator: Emulator, parameters: Crash, calibration: Calibration) -> Tensor:
    """Linear CKA of every two blocks' outputs, each sample's mean over its real tokens.

    Returns:
        float64, (blocks, blocks), 0 to 1.

    Raises:
        NonFiniteLoss: hidden states are not finite.
    """
    pooled: list[list[Tensor]] = [[] for _ in emulator.blocks]
    for passage in passages(emulator, parameters, calibration):
        mask = passage.mask.unsqueeze(-1)
        for outputs, hidden in zip(pooled, passage.after, strict=True):
            total = hidden.double().where(mask, 0).sum(1)
            outputs.append((total / mask.sum(1)).cpu())
    features = [torch.cat(outputs) for outputs in pooled]
    if not all(bool(each.isfinite().all()) for each in features):
        raise NonFiniteLoss("hidden states of the corpus are not finite")
    return linear_cka(features)


def linear_cka(features: list[Tensor]) -> Tensor:
    """HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) of every two of `features`.

    HSIC(x, y) = sum(HKH * HLH) with K = x x', L = y y' and H = I - 11'/samples.

    Args:
        features: each (samples, width), float64; widths may differ.

    Returns:
        (features, features); 0 where one does not vary over the samples.
    """
    grams = []
    for each in features:
        # Centred before the product: H x (H x)' is H x x' H, with less rounding.
        centred = each - each.mean(0)
        gram = (centred @ centred.T).flatten()
        grams.append(gram / gram.norm().clamp_min(torch.finfo(gram.dtype).tiny))
    stacked = torch.stack(grams)
    return stacked @ stacked.T


def cluster(alike: Tensor, count: int) -> list[list[int]]:
    """Merge adjacent clusters of blocks until `count` are left.

    Each time the pair whose facing ends are most alike: the last block of the one and the first
    of the next. Of equal pairs the first.

    Args:
        alike: (blocks, blocks).
        count: 1 to the number of blocks.
    """
    clusters = [[place] for place in range(len(alike))]
    while len(clusters) > count:
        facing = [float(alike[left[-1], right[0]]) for left, right in pairwise(clusters)]
        first = facing.index(max(facing))
        clusters[first : first + 2] = [clusters[first] + clusters[first + 1]]
    return clusters


def share(emulator: Emulator, kept: list[int]) -> Emulator:
    """Put the nearest kept block in the place of every other; between two, the later.

    Each place has a module of its own, so that key-value caches work, with the kept block's
    very parameters.
    """
    originals = dict(zip(kept, keep(emulator, kept).blocks, strict=True))
    blocks = nn.ModuleList()
    for place in range(len(emulator.blocks)):
        nearest = min(kept, key=lambda other: (abs(other - place), -other))
        original = originals[nearest]
        blocks.append(original if nearest == place else _tied(original))
    return replace(emulator, blocks=blocks)


def _tied(block: nn.Module) -> nn.Module:
    """Another module with the same parameters and buffers."""
    # What deepcopy finds in its memo it takes for a copy that is made already.
    memo: dict[int, Any] = {id(t): t for t in (*block.parameters(), *block.buffers())}
    return deepcopy(block, memo)
