"""Next-token losses without the logits: the head is applied to a part of the positions at a time.

At a small depth the vocabulary is most of a step's memory: logits of all positions, their
softmax and their gradient are several copies of batch x length x vocabulary. Here the gradient
with respect to the hidden states is computed with the loss, part by part, and only for positions
that are scored. It is the same number of products as the usual way (chunked losses are known from
Liger Kernel, arXiv 2410.10989).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100
"""Label of a position that is not scored: the libraries' convention."""
SCORED = "scored"
"""What a batch calls the positions that are."""
PART = {"cpu": 256, "cuda": 2048}
"""Positions of one part, by device: enough for a full product, and few for their logits."""


def next_token_loss(
    model: PreTrainedModel,
    input_ids: Tensor,
    labels: Tensor,
    *,
    attention_mask: Tensor | None = None,
    scored: Tensor | None = None,
) -> Tensor:
    """Mean negative log-likelihood of the next tokens, in nats.

    Args:
        model: a causal language model.
        input_ids: (batch, length).
        labels: (batch, length); the label at a position is predicted by the one before it.
        attention_mask: (batch, length), 0 at padding; None where there is none.
        scored: positions in the flattened (batch, length - 1) whose next token counts, those
            with a label. A host that knows them saves a device from being asked.

    Returns:
        A scalar; it can be differentiated once.
    """
    targets = labels[:, 1:].flatten()
    if scored is None:
        scored = (targets != IGNORED).nonzero().flatten()
    states, head = _up_to_head(model, {"input_ids": input_ids, "attention_mask": attention_mask})
    hidden, targets = _chosen(states, targets, scored)
    is_trained = torch.is_grad_enabled() and hidden.requires_grad
    if not (is_trained and isinstance(head, nn.Linear)):
        return nn.functional.cross_entropy(head(hidden).float(), targets)
    loss: Tensor = _HeadLoss.apply(hidden, head.weight, head.bias, targets)  # type: ignore[no-untyped-call]
    return loss


def next_token_scores(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], places: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-likelihoods of tokens that may come next, in nats, and whether each is the likeliest.

    Args:
        model: a causal language model; nothing is kept for a backward pass.
        inputs: what it is called with, (batch, length) `input_ids` among it.
        places: (tokens,) positions in the flattened (batch, length) that predict; one may be
            there several times.
        targets: (tokens,) what is asked of each.

    Returns:
        Two tensors of shape (tokens,): float32 and boolean.
    """
    asked, rows = torch.unique(places, return_inverse=True)
    states, head = _up_to_head(model, inputs)
    states = states.flatten(0, 1).index_select(0, asked)
    of_target = torch.empty(len(targets), dtype=torch.float32, device=states.device)
    likeliest = torch.empty_like(targets)
    size = PART[states.device.type]
    for start in range(0, len(asked), size):
        logits = head(states[start : start + size]).float()
        here = ((rows >= start) & (rows < start + size)).nonzero().flatten()
        local = rows[here] - start
        of_target[here] = logits[local, targets[here]] - logits.logsumexp(1)[local]
        likeliest[here] = logits.argmax(1)[local]
    return of_target, likeliest == targets


def _chosen(states: Tensor, targets: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of (batch, length, ...) that predict a token that counts, and those tokens."""
    rows = states[:, :-1].flatten(0, 1)
    if len(scored) == len(rows):
        return rows, targets
    return rows.index_select(0, scored), targets.index_select(0, scored)


def _up_to_head(
    model: PreTrainedModel, inputs: Mapping[str, Tensor | None]
) -> tuple[Tensor, nn.Module]:
    """What enters the head, (batch, length, width), and the head: a linear one.

    Of a model with another head, its logits and the identity.
    """
    name = _plain_head(model)
    if name is None:
        return model(**inputs, use_cache=False).logits, nn.Identity()
    head: nn.Linear = getattr(model, name)
    with _without_head(model, name):
        return model(**inputs, use_cache=False).logits, head


def _plain_head(model: PreTrainedModel) -> str | None:
    """The name of a head that is one linear layer and all there is after the last norm."""
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        return None
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return None
    return next((name for name, child in model.named_children() if child is head), None)


@contextmanager
def _without_head(model: nn.Module, name: str) -> Iterator[None]:
    """Let `model` return, as its logits, what enters its head."""
    head = getattr(model, name)
    setattr(model, name, nn.Identity())
    try:
        yield
    finally:
        setattr(model, name, head)


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of a linear head, with the gradients computed along the way."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
    ) -> Tensor:
        """Shapes: hidden (tokens, width), weight (vocabulary, width), targets (tokens,)."""
        device = hidden.device.type
        is_mixed = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if is_mixed else hidden.dtype
        with torch.autocast(device, enabled=False):
            trained = tuple(ctx.needs_input_grad[1:3])
            loss, gradients = _loss_and_gradients(hidden, weight, bias, targets, dtype, trained)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """The saved gradients times what the loss is multiplied with."""
        hidden, weight, bias = ctx.saved_tensors
        scaled = [None if each is None else each * grad for each in (hidden, weight, bias)]
        return (*scaled, None)


def _loss_and_gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    dtype: torch.dtype,
    trained: tuple[bool, ...],
) -> tuple[Tensor, tuple[Tensor, Tensor | None, Tensor | None]]:
    """The mean loss, and its gradients for hidden states, weight and bias (None if frozen)."""
    count, matrix = len(targets), weight.to(dtype)
    total = hidden.new_zeros((), dtype=torch.float32)
    to_hidden = torch.empty_like(hidden)
    to_weight = torch.zeros_like(weight, dtype=torch.float32) if trained[0] else None
    to_bias = (
        torch.zeros_like(bias, dtype=torch.float32) if trained[1] and bias is not None else None
    )
    size = min(max(count, 1), PART[hidden.device.type])
    # One room for the logits of every part and what becomes of them: fresh memory is slow.
    room = torch.empty(size, len(matrix), dtype=torch.float32, device=hidden.device)
    for start in range(0, count, size):
        part = slice(start, start + size)
        states, right = hidden[part].to(dtype), targets[part]
        rows = torch.arange(len(right), device=right.device)
        share = room[: len(right)]
        if dtype == torch.float32:
            torch.mm(states, matrix.t(), out=share)
        else:
            share.copy_(states @ matrix.t())
        if bias is not None:
            share += bias
        top, said = share.amax(1, keepdim=True), share[rows, right]
        sums = share.sub_(top).exp_().sum(1, keepdim=True)
        total += (sums.log() + top).sum() - said.sum()
        share.div_(sums)
        share[rows, right] -= 1
        wrong = share.to(dtype)
        to_hidden[part] = wrong @ matrix
        if to_weight is not None:
            to_weight += wrong.t() @ states
        if to_bias is not None:
            to_bias += share.sum(0)
    # The mean is taken of the small gradients, not of every share.
    return total / count, (
        to_hidden.div_(count),
        None if to_weight is None else to_weight.div_(count).to(weight.dtype),
        None if to_bias is None or bias is None else to_bias.div_(count).to(bias.dtype),
    )
