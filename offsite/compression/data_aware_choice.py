"""Compressions that choose blocks by what the owner's data does in them.

All look at the emulator they are given, in its place in the owner's model, so that they can
follow another compression. Hidden states are compared in float64; padding never counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from offsite.compression.calibration import Calibration, evaluating
from offsite.compression.emulator import Emulator
from offsite.compression.layer_choice import keep
from offsite.compression.methods import Angular, BlockInfluence, PerplexityGreedy
from offsite.training import Batch, NonFiniteLoss


@dataclass(frozen=True, slots=True)
class Passage:
    """One batch's way through the blocks of an emulator."""

    mask: Tensor
    """True where a position is real and not padding, (batch, positions)."""
    before: list[Tensor]
    """Hidden states that enter each block, (batch, positions, width)."""
    after: list[Tensor]
    """Hidden states that leave it. Between the two lies nothing but the block."""


def block_influence(
    emulator: Emulator, parameters: BlockInfluence, calibration: Calibration
) -> Emulator:
    """Keep the blocks with the highest Block Influence (ShortGPT, arXiv 2403.03853).

    Of equal blocks the earlier stay.

    Raises:
        NonFiniteLoss: hidden states are not finite.
    """
    scores = influences(emulator, parameters, calibration)
    ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return keep(emulator, sorted(ranked[: parameters.keep]))


def angular(emulator: Emulator, parameters: Angular, calibration: Calibration) -> Emulator:
    """Drop the run of blocks across which hidden states turn least (arXiv 2403.17887).

    Of equal runs the first goes.

    Raises:
        NonFiniteLoss: hidden states are not finite.
    """
    total = len(emulator.blocks)
    distances = run_distances(emulator, parameters, calibration)
    first = min(range(len(distances)), key=distances.__getitem__)
    length = total - parameters.keep
    return keep(emulator, [i for i in range(total) if not first <= i < first + length])


@torch.no_grad()
def perplexity_greedy(
    emulator: Emulator, parameters: PerplexityGreedy, calibration: Calibration
) -> Emulator:
    """Drop one block at a time: the one without which the loss on the corpus is lowest.

    The loss is a mean over batches, each weighed by its real tokens (images: its samples). After
    every removal all blocks that are left are tried again. Of equal blocks the first goes.

    Raises:
        NonFiniteLoss: without any single block the loss is not finite.
    """
    batches = calibration.batches(parameters.samples, parameters.seed)
    left = list(range(len(emulator.blocks)))
    with evaluating(calibration.sandwich.model, emulator.blocks):
        while len(left) > parameters.keep:
            losses = [
                _loss(emulator, [p for p in left if p != out], calibration, batches) for out in left
            ]
            if min(losses) == math.inf:
                raise NonFiniteLoss("no block can be dropped: the loss is not finite without any")
            del left[losses.index(min(losses))]
    return keep(emulator, left)


def influences(
    emulator: Emulator, parameters: BlockInfluence, calibration: Calibration
) -> list[float]:
    """Of each block 1 - mean over tokens of cos(its input, its output)."""
    totals, tokens = [0.0] * len(emulator.blocks), 0.0
    for passage in passages(emulator, parameters, calibration):
        tokens += float(passage.mask.sum())
        for place, pair in enumerate(zip(passage.before, passage.after, strict=True)):
            totals[place] += float(_cosines(*pair)[passage.mask].sum())
    return _finite([1 - total / tokens for total in totals])


def run_distances(emulator: Emulator, parameters: Angular, calibration: Calibration) -> list[float]:
    """Of each run that could be dropped the mean over tokens of arccos(cos(x, y)) / pi.

    x enters its first block and y leaves its last; all runs have as many blocks as must go. A
    run may span an adapter block, which then counts into its distance.
    """
    length = len(emulator.blocks) - parameters.keep
    if not length:
        return [0.0]
    totals, tokens = [0.0] * (parameters.keep + 1), 0.0
    for passage in passages(emulator, parameters, calibration):
        tokens += float(passage.mask.sum())
        for first in range(len(totals)):
            cosines = _cosines(passage.before[first], passage.after[first + length - 1])
            totals[first] += float(cosines[passage.mask].arccos().sum())
    return _finite([total / tokens / math.pi for total in totals])


@torch.no_grad()
def passages(
    emulator: Emulator,
    parameters: Any,  # noqa: ANN401 - any of the table's dataclasses with samples and a seed
    calibration: Calibration,
) -> Iterator[Passage]:
    """Let each batch of the corpus through the emulator, one at a time."""
    for batch in calibration.batches(parameters.samples, parameters.seed):
        before, after = [], []
        with evaluating(calibration.sandwich.model, emulator.blocks):
            call = calibration.call(batch)
            hidden = call.hidden
            for position, block, place in calibration.path(emulator):
                entering, hidden = hidden, call.through(position, block, hidden)
                if place is not None:
                    before.append(entering)
                    after.append(hidden)
        yield Passage(call.mask, before, after)


def _loss(
    emulator: Emulator, places: Sequence[int], calibration: Calibration, batches: list[Batch]
) -> float:
    """Loss with only the blocks at `places`, not copied; infinite where it is not finite."""
    rest = replace(
        emulator,
        blocks=nn.ModuleList(emulator.blocks[place] for place in places),
        layer_map=tuple(emulator.layer_map[place] for place in places),
    )
    total, weight = 0.0, 0
    for batch in batches:
        size = batch.tokens_real or batch.samples
        total += size * float(calibration.loss(rest, batch))
        weight += size
    loss = total / weight
    return loss if math.isfinite(loss) else math.inf


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    """Of the last dimension."""
    # In float32 all angles below 0.02 degrees are one, and blocks of deep models turn less.
    # Rounding takes cosines out of [-1, 1].
    return nn.functional.cosine_similarity(left.double(), right.double(), dim=-1).clamp(-1, 1)


def _finite(scores: list[float]) -> list[float]:
    if not all(map(math.isfinite, scores)):
        raise NonFiniteLoss(f"hidden states of the corpus are not finite: scores {scores}")
    return scores
