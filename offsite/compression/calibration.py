"""What the owner's model does with the owner's data: hidden states, losses and their inputs.

Compressions that look at data get a `Calibration`. It runs the owner's model and never
changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from offsite.blocks import get_blocks
from offsite.errors import OffsiteError
from offsite.head_loss import SCORED
from offsite.training import Batch

if TYPE_CHECKING:
    from offsite.compression.emulator import Emulator
    from offsite.sandwich import Sandwich

BATCH_SIZE = 8
"""Samples that a calibration runs at a time."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Data of the model owner's: batches, and the model's loss on one."""

    batches: Callable[[int, int], Iterator[Batch]]
    """Called with a batch size and a seed of the order; endless."""
    loss_of: Callable[[nn.Module, Batch], Tensor]
    """Mean loss of a batch. It runs the model without a key-value cache."""
    samples: int | None = None
    """How many there are before they repeat; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Call:
    """One batch as it reaches the blocks from the first of the middle on."""

    batch: Batch
    hidden: Tensor
    """Hidden states that enter the first middle block, (batch, positions, width)."""
    arguments: Mapping[int, tuple[tuple[Any, ...], dict[str, Any]]]
    """By position in the foundation model, what a block is called with beside hidden states."""

    @property
    def mask(self) -> Tensor:
        """True where a position is real and not padding, (batch, positions)."""
        return real_positions(self.batch, self.hidden)

    def through(self, position: int, block: nn.Module, hidden: Tensor) -> Tensor:
        """What `block` makes of `hidden` in the place of the foundation's block `position`."""
        rest, named = self.arguments[position]
        return hidden_of(block(hidden, *rest, **named))


@dataclass(frozen=True, slots=True)
class Calibration:
    """A cut model and the corpus to look at it with."""

    sandwich: Sandwich
    corpus: Corpus

    def batches(self, samples: int, seed: int, *, batch_size: int = BATCH_SIZE) -> list[Batch]:
        """`samples` samples of the corpus in the order of `seed`, on the model's device.

        None of them comes twice: a corpus of fewer gives all it has.
        """
        device = next(self.sandwich.model.parameters()).device
        left = samples if self.corpus.samples is None else min(samples, self.corpus.samples)
        found = []
        for batch in self.corpus.batches(batch_size, seed):
            found.append(first_of(batch, left).to(device))
            left -= found[-1].samples
            if not left:
                return found
        raise OffsiteError(f"the corpus ends {left} samples before the {samples} asked for")

    def calls(self, batches: list[Batch]) -> list[Call]:
        """Each batch as it reaches the middle of the owner's model."""
        return [self.call(batch) for batch in batches]

    @torch.no_grad()
    def call(self, batch: Batch) -> Call:
        """One batch as it reaches the middle of the owner's model, which runs no further."""
        blocks = get_blocks(self.sandwich.model)
        middle = self.sandwich.middle_positions
        seen: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        first: list[Tensor] = []

        def note(position: int, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            named = dict(named)
            hidden, rest = (args[0], args[1:]) if args else (named.pop("hidden_states"), ())
            if any(type(value).__name__.endswith("Cache") for value in (*rest, *named.values())):
                # A block would add to it each time it runs.
                raise ValueError("the corpus's loss must run the model with use_cache=False")
            if position == middle[0]:
                first.append(hidden)
            seen[position] = rest, named
            if position == middle[-1]:
                raise _ReachedTheEnd

        watched = range(middle[0], middle[-1] + 1)
        handles = [
            blocks[position].register_forward_pre_hook(
                lambda _, args, named, position=position: note(position, args, named),
                with_kwargs=True,
            )
            for position in watched
        ]
        try:
            self.corpus.loss_of(self.sandwich.model, batch)
        except _ReachedTheEnd:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return Call(batch, first[0], seen)

    def path(self, emulator: Emulator) -> list[tuple[int, nn.Module, int | None]]:
        """The blocks a call runs through, from the first to the last of the emulator.

        Returns:
            For each its position in the foundation model, the block, and its place in the
            emulator (None for an adapter block between scattered ones).
        """
        originals = get_blocks(self.sandwich.model)
        steps = [
            (position, originals[position] if place is None else emulator.blocks[place], place)
            for position, place in self.sandwich.order(emulator.layer_map)
        ]
        middle = self.sandwich.middle_positions
        return [step for step in steps if middle[0] <= step[0] <= middle[-1]]

    def view(self, emulator: Emulator) -> nn.Module:
        """The owner's model with `emulator` in the middle; shares everything, to run only."""
        from offsite.sandwich import view

        return view(self.sandwich, emulator)

    def loss(self, emulator: Emulator, batch: Batch) -> Tensor:
        """The model's mean loss on a batch with `emulator` in its middle."""
        return self.corpus.loss_of(self.view(emulator), batch)


def real_positions(batch: Batch, states: Tensor) -> Tensor:
    """Which rows of hidden states or logits are real and not padding; images have no padding.

    Args:
        batch: what was run.
        states: (batch, positions, width), or (batch, classes) of an image model.

    Returns:
        bool, the shape of `states` without the last dimension.
    """
    given = batch.inputs.get("attention_mask")
    if given is None:
        return torch.ones(states.shape[:-1], dtype=torch.bool, device=states.device)
    return given.bool()


def through_all(
    calls: Sequence[Call], position: int, block: nn.Module, hidden: Sequence[Tensor]
) -> list[Tensor]:
    """`Call.through` for every call; `hidden` is what enters the block, for each."""
    return [
        call.through(position, block, states) for call, states in zip(calls, hidden, strict=True)
    ]


def show_inputs(
    modules: Iterable[nn.Module],
    position: int,
    block: nn.Module,
    calls: Sequence[Call],
    hidden: Sequence[Tensor],
    see: Callable[[nn.Module, Tensor], None],
) -> None:
    """Run `block` over the calls and show `see` what enters each of `modules`, linears in it.

    `see` gets the module and its inputs at real positions, (tokens, in).
    """
    real = torch.tensor(True)

    def show(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(module, inputs[0].flatten(0, -2)[real])

    handles = [module.register_forward_pre_hook(show) for module in modules]
    try:
        for call, states in zip(calls, hidden, strict=True):
            real = call.mask.flatten()
            call.through(position, block, states)
    finally:
        for handle in handles:
            handle.remove()


def first_of(batch: Batch, samples: int) -> Batch:
    """The first `samples` of a batch; all of it if it has no more."""
    if samples >= batch.samples:
        return batch
    # Where the scored positions are is of the whole batch; it can be found out again.
    inputs = {name: t[:samples] for name, t in batch.inputs.items() if name != SCORED}
    mask = inputs.get("attention_mask")
    shape = next(iter(inputs.values())).shape
    is_text = batch.tokens_padded is not None
    padded = shape[0] * shape[1] if is_text else None
    real = int(mask.sum()) if is_text and mask is not None else padded
    return Batch(inputs, samples, real, padded)


def scored(batch: Batch) -> int:
    """How many terms the mean loss of a batch is over: labelled tokens, or samples.

    Labels of a position that is not scored are -100, as in the libraries; a batch without
    labels is scored at every real token.
    """
    labels = batch.inputs.get("labels")
    if labels is None:
        return batch.tokens_real or batch.samples
    # The first position has nothing before it that could predict it.
    return len(labels) if labels.dim() == 1 else int((labels[:, 1:] != -100).sum())


def refuse_float16(model: nn.Module, method: str) -> None:
    """Raise OffsiteError if `model` is held in float16, in which small gradients become zero."""
    if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
        raise OffsiteError(
            f"{method} needs gradients, and float16 loses the small ones; "
            "hold the model in bfloat16 or float32"
        )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside the block no parameter of `module` asks for a gradient."""
    marked = [p for p in module.parameters() if p.requires_grad]
    for parameter in marked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in marked:
            parameter.requires_grad_(True)


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Inside the block no part of `modules` trains: dropout would make every look another one."""
    training = [each for module in modules for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True


def hidden_of(output: Any) -> Tensor:  # noqa: ANN401 - a block's output: a tensor or a tuple
    """The hidden states of a block's output, which some libraries wrap in a tuple."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


class _ReachedTheEnd(Exception):
    """The last block of the middle is about to run: all is seen."""
