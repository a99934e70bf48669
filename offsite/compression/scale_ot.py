"""ScaleOT (arXiv 2412.09812): the least important blocks become small harmonizers.

The definition is second-hand. Where it is silent, `scale_ot` says what is done here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from offsite.architectures import Architecture
from offsite.blocks import roles
from offsite.compression.calibration import Calibration, evaluating, frozen, refuse_float16
from offsite.compression.channels import Made, exchanged, floor_of, matrix_of, once
from offsite.compression.emulator import Emulator
from offsite.compression.low_rank import of_rank
from offsite.compression.methods import ScaleOt
from offsite.training import Batch, NonFiniteLoss

GROUP = 4
"""Neighbouring blocks among which about half are replaced in a draw."""
DRAWS = 3
"""Networks that are compared in one step of the scores."""
SCORE_RATE = 1.0
"""Learning rate of the scores. The second-hand definition gives none."""


class Harmonizer(nn.Module):
    """x + U relu(D x) in the place of a block; nothing but x while U is zero.

    Args:
        width: of hidden states.
        rank: outputs of D.
        layer_idx: its number in the model, as the library's blocks have one.
        returns_tuple: the model's loop unpacks what a block returns.
        attention_type: of the block that was here, for loops that read it from blocks.
        device: of the tensors.
    """

    kind = "harmonizer"

    def __init__(
        self,
        width: int,
        rank: int,
        *,
        layer_idx: int,
        returns_tuple: bool = False,
        attention_type: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.returns_tuple = returns_tuple
        self.attention_type = attention_type
        self.down = nn.Linear(width, rank, bias=False, device=device)
        self.up = nn.Linear(rank, width, bias=False, device=device)

    def forward(
        self,
        hidden_states: Tensor,
        *args: Any,  # noqa: ANN401 - whatever the model passes to a block
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor | tuple[Tensor]:
        """Hidden states (batch, positions, width) to the same; it ignores all else but a cache."""
        inputs = hidden_states.to(self.down.weight.dtype)
        change = self.up(torch.relu(self.down(inputs)))
        for value in (*args, *kwargs.values()):
            if type(value).__name__.endswith("Cache"):
                self._hold_place(value, hidden_states)
        output = hidden_states + change.to(hidden_states.dtype)
        return (output,) if self.returns_tuple else output

    def _hold_place(self, cache: Any, hidden: Tensor) -> None:  # noqa: ANN401 - transformers' Cache
        """Tell a key-value cache of the positions, with one number each.

        Models read the length of what is cached off one block, which this may be: the first,
        or the first of its attention type.
        """
        batch, positions, _ = hidden.shape
        nothing = hidden.new_zeros((batch, 1, positions, 1))
        cache.update(nothing, nothing, self.layer_idx)

    def description(self) -> dict[str, Any]:
        """Its size, and what the model expects of a block in its place."""
        return {
            "width": self.down.in_features,
            "rank": self.down.out_features,
            "layer_idx": self.layer_idx,
            "returns_tuple": self.returns_tuple,
            "attention_type": self.attention_type,
        }

    @classmethod
    def empty(cls, **description: Any) -> Self:  # noqa: ANN401 - as `description` gave them
        """A harmonizer on the meta device, its tensors to be assigned."""
        return cls(**description, device="meta")


def scale_ot(emulator: Emulator, parameters: ScaleOt, calibration: Calibration) -> Emulator:
    """Learn which blocks matter, replace the others, lower the rank of attention in those kept.

    Every block has a score s, from 0, and a harmonizer. A draw adds logistic noise to the
    scores and keeps, in each group of four neighbours, those not below the group's median (a
    group of one is kept above 0, so with probability sigmoid(s)): the published rule, "keep
    where sigmoid(s) >= group median", does not say what is random in it. `steps` times, on
    two batches of the corpus:

    1. the harmonizers of one draw take a step of AdamW on the loss of the model so drawn;
    2. three draws are compared: with L_j a loss, r_j = exp(-L_j) - mean exp(-L), p = sigmoid(s)
       and mask_j 1 where a block is kept, s += SCORE_RATE x sum_j r_j p (1 - p) mask_j.

    Then floor(replace x blocks) blocks of the lowest scores become their harmonizers, and each
    attention matrix that stays gets rank floor(attention_keep x smaller side): as two factors
    where those are smaller than the matrix, else as one matrix of that rank. Where query, key
    and value are one matrix, it has one rank.

    Raises:
        OffsiteError: an attention matrix is no plain one any more; or the model is held in
            float16.
        NonFiniteLoss: a loss was NaN or infinite.
    """
    refuse_float16(calibration.sandwich.model, "scale_ot")
    count = floor_of(parameters.replace * len(emulator.blocks))
    replaced: dict[int, nn.Module] = {}
    if count:
        with evaluating(calibration.sandwich.model, emulator.blocks):
            harmonizers, scores = _learn(emulator, parameters, calibration)
        lowest = sorted(range(len(scores)), key=lambda place: scores[place])[:count]
        replaced = {place: harmonizers[place] for place in lowest}

    def reduced(block: nn.Module) -> nn.Module:
        return _with_rank(emulator.architecture, block, parameters.attention_keep)

    made: Made = {}
    blocks = [
        replaced[place] if place in replaced else once(made, block, reduced)
        for place, block in enumerate(emulator.blocks)
    ]
    return replace(emulator, blocks=nn.ModuleList(blocks))


def draw(scores: Tensor, generator: torch.Generator) -> Tensor:
    """True for each block that is kept in one draw, (blocks,): see `scale_ot`."""
    uniform = torch.rand(scores.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    noisy = scores + torch.logit(uniform)
    # quantile() takes the mean of the two middle ones: two of four are kept, one of two.
    return torch.cat(
        [
            group >= (group.quantile(0.5) if len(group) > 1 else 0.0)
            for group in torch.split(noisy, GROUP)
        ]
    )


def scores_after(scores: Tensor, losses: Tensor, masks: Tensor) -> Tensor:
    """The scores, (blocks,), after one comparison of draws.

    Args:
        scores: before.
        losses: of each draw, (draws,).
        masks: which blocks each draw kept, (draws, blocks).
    """
    probability = scores.sigmoid()
    rewards = torch.exp(-losses)
    advantage = rewards - rewards.mean()
    change = (advantage[:, None] * masks).sum(0) * probability * (1 - probability)
    return scores + SCORE_RATE * change


def _learn(
    emulator: Emulator, parameters: ScaleOt, calibration: Calibration
) -> tuple[list[Harmonizer], list[float]]:
    generator = torch.Generator().manual_seed(parameters.seed)
    batches = _batches(calibration, parameters)
    harmonizers, dtype = _harmonizers(
        emulator, parameters.rank, calibration, next(batches), generator
    )
    optimizer = torch.optim.AdamW(
        [p for h in harmonizers for p in h.parameters()],
        lr=parameters.learning_rate,
        weight_decay=0.0,
    )
    scores = torch.zeros(len(harmonizers))

    def loss_of(mask: Tensor, batch: Batch) -> Tensor:
        chosen = [
            block if kept else harmonizer
            for block, harmonizer, kept in zip(emulator.blocks, harmonizers, mask, strict=True)
        ]
        loss = calibration.loss(replace(emulator, blocks=nn.ModuleList(chosen)), batch)
        if not torch.isfinite(loss):
            raise NonFiniteLoss(f"scale_ot's loss is {float(loss.detach())}")
        return loss

    with frozen(calibration.sandwich.model), frozen(emulator.blocks), torch.enable_grad():
        for _ in range(parameters.steps):
            loss = loss_of(draw(scores, generator), next(batches))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            masks = torch.stack([draw(scores, generator) for _ in range(DRAWS)])
            batch = next(batches)
            with torch.no_grad():
                losses = torch.stack([loss_of(mask, batch).float().cpu() for mask in masks])
            scores = scores_after(scores, losses, masks)
    return [harmonizer.to(dtype).eval() for harmonizer in harmonizers], scores.tolist()


def _harmonizers(
    emulator: Emulator,
    rank: int,
    calibration: Calibration,
    batch: Batch,
    generator: torch.Generator,
) -> tuple[list[Harmonizer], torch.dtype]:
    """One for each block, in float32 to train, and the type of the model's hidden states."""
    call = calibration.call(batch)
    position, block, _ = calibration.path(emulator)[0]
    rest, named = call.arguments[position]
    with torch.no_grad():
        returns_tuple = isinstance(block(call.hidden, *rest, **named), tuple)
    width = call.hidden.shape[-1]
    order = calibration.sandwich.order(emulator.layer_map)
    numbers = [number for number, (_, place) in enumerate(order) if place is not None]
    made = []
    for block, number in zip(emulator.blocks, numbers, strict=True):
        harmonizer = Harmonizer.empty(
            width=width,
            rank=rank,
            layer_idx=number,
            returns_tuple=returns_tuple,
            attention_type=getattr(block, "attention_type", None),
        )
        # As nn.Linear draws it, from a generator of our own.
        down = (2 * torch.rand((rank, width), generator=generator) - 1) / math.sqrt(width)
        harmonizer.down.weight = nn.Parameter(down.to(call.hidden.device))
        harmonizer.up.weight = nn.Parameter(call.hidden.new_zeros((width, rank)).float())
        made.append(harmonizer)
    return made, call.hidden.dtype


def _batches(calibration: Calibration, parameters: ScaleOt) -> Iterator[Batch]:
    device = next(calibration.sandwich.model.parameters()).device
    for batch in calibration.corpus.batches(parameters.batch_size, parameters.seed):
        yield batch.to(device)


def _with_rank(architecture: Architecture, block: nn.Module, keep: float) -> nn.Module:
    """A copy of `block` whose attention matrices have `keep` of their rank."""
    found = roles(architecture, block)
    attention = found.attention | found.attention_out if keep < 1 else {}
    return exchanged(
        block,
        {name: of_rank(linear, _rank(linear, keep)) for name, linear in attention.items()},
    )


def _rank(linear: nn.Module, keep: float) -> int:
    shape: Sequence[int] = matrix_of(linear).shape
    return max(1, floor_of(keep * min(shape)))
