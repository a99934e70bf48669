"""Compute what lies below the lowest trained block once, and not again in every epoch.

With no adapter block at the bottom (layout 0-m-b) nothing that is trained comes before the top
blocks, so what enters them for an example never changes: it is kept, and a later step starts
there. What runs below has no dropout then, in any epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offsite.blocks import get_blocks, with_blocks
from offsite.compression.calibration import evaluating
from offsite.errors import NothingToCache
from offsite.training import Batch

Loss = Callable[[nn.Module, Batch], Tensor]


class ActivationCache:
    """A loss that starts at the lowest trained block; pass it to `offsite.train` as `loss_of`.

    Batches must name their examples. What enters the block is kept on the device it is on.
    """

    def __init__(self, model: nn.Module, loss_of: Loss) -> None:
        """Raises NothingToCache if something before the top blocks is trained."""
        blocks = list(get_blocks(model))
        first = lowest_trained(model)
        self._loss_of = loss_of
        self._below, self._entrance = blocks[first - 1], blocks[first]
        self._replay = _Replay(blocks[0])
        self._upper = with_blocks(
            model,
            [self._replay, *blocks[first:]],
            origins=range(first - 1, len(blocks)),
            renumber=False,
        )
        self._kept: dict[int, Tensor] = {}

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch; `model` is the one this was made for."""
        assert batch.examples is not None, "a batch does not say which examples it holds"
        if not all(example in self._kept for example in batch.examples):
            self._keep(model, batch)
        rows = [self._kept[example] for example in batch.examples]
        # A batch is padded to its longest example; what stands at padding reaches no loss.
        self._replay.hidden = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return self._loss_of(self._upper, batch)

    @property
    def bytes(self) -> int:
        """What is kept."""
        return sum(each.numel() * each.element_size() for each in self._kept.values())

    def _keep(self, model: nn.Module, batch: Batch) -> None:
        """Run the lower part once over a batch."""

        def note(module: nn.Module, args: object, output: object) -> None:
            self._replay.is_tuple = isinstance(output, tuple)

        def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            raise _Entered(args[0] if args else kwargs["hidden_states"])

        handles = [
            self._below.register_forward_hook(note),
            self._entrance.register_forward_pre_hook(stop, with_kwargs=True),
        ]
        try:
            with torch.no_grad(), evaluating(model):
                self._loss_of(model, batch)
            raise AssertionError("the lowest trained block was not run")
        except _Entered as entered:
            hidden = entered.hidden
        finally:
            for handle in handles:
                handle.remove()
        for example, row, length in zip(
            batch.examples or (), hidden, _lengths(batch, hidden), strict=True
        ):
            self._kept[example] = row[:length].clone()


def lowest_trained(model: nn.Module) -> int:
    """Position of the lowest block with anything to train.

    Raises:
        NothingToCache: it is the first, or something before the blocks is trained.
    """
    blocks = list(get_blocks(model))
    trained = [any(p.requires_grad for p in block.parameters()) for block in blocks]
    first = trained.index(True) if any(trained) else len(blocks)
    inside = {id(p) for block in blocks for p in block.parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    inside |= {id(p) for p in head.parameters()} if head is not None else set()
    outside = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in inside]
    below = [name for name in outside if not name.startswith(_AFTER)]
    if not 0 < first < len(blocks) or below:
        what = below[0] if below else "the first block" if first == 0 else "no block"
        raise NothingToCache(
            f"activations are kept below the lowest trained block, and here {what} is trained; "
            "leave the bottom without adapter blocks, as in 0+2"
        )
    return first


_AFTER = ("classifier", "head", "lm_head", "embed_out")
"""What stands behind the blocks and may be trained too."""


def _lengths(batch: Batch, hidden: Tensor) -> Sequence[int]:
    mask = batch.inputs.get("attention_mask")
    if mask is None:
        return [hidden.shape[1]] * len(hidden)
    found: list[int] = mask.sum(1).tolist()
    return found


class _Entered(Exception):
    """The lowest trained block is about to run."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class _Replay(nn.Module):
    """Stands where the blocks below were, and gives what they gave."""

    hidden: Tensor

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        # Some models ask a block which attention it wants, and take a tuple from it.
        self.attention_type = getattr(block, "attention_type", None)
        self.is_tuple = False

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:  # noqa: ANN401 - a block's
        """Whatever comes in."""
        return (self.hidden,) if self.is_tuple else self.hidden
