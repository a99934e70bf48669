"""A training step as one launch: recorded as a CUDA graph and replayed.

At a batch of one sequence a step is thousands of small kernels, and a GPU waits for the host to
launch each of them. A recorded step is launched at once; it computes what it computed before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from offsite.errors import NotRecordable

if TYPE_CHECKING:
    from offsite.training import Batch

WARM_UP = 3
"""Steps before one is recorded: the optimizer makes its state in the first, libraries choose
their kernels in the first two."""

Shapes = dict[str, tuple[torch.Size, torch.dtype]]
Step = Callable[["Batch"], Tensor]
"""One optimizer step on a batch that is on the device; its loss, detached."""


@contextmanager
def graphed(step: Step) -> Iterator[Step]:
    """Inside the block the step given is `step`, replayed where it can be.

    The first steps run as they are. Then the first batch that has the shapes of the one before it
    is recorded; later ones of these shapes are replayed, all others run as they are, for which
    there has to be memory beside what the recorded step holds. Whatever is done inside the block
    runs on a stream of its own, which recording needs.

    Args:
        step: makes no tensor on the host from one on the device, and its optimizer is `capturable`.

    Raises:
        NotRecordable: from the step given, where `step` does what cannot be recorded. The process
            cannot use its GPU's generator any more then.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield _Graphed(step, stream)
    torch.cuda.current_stream().wait_stream(stream)


class _Graphed:
    """The step, with what was recorded of it."""

    def __init__(self, step: Step, stream: torch.cuda.Stream) -> None:
        self._step = step
        self._stream = stream
        self._seen = 0
        self._last: Shapes = {}
        """Of the batch before."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: dict[str, Tensor] = {}
        """What a replay reads: tensors that stay where they are."""
        self._loss: Tensor | None = None
        """What a replay writes."""

    def __call__(self, batch: Batch) -> Tensor:
        here, before = _shapes(batch.inputs), self._last
        self._last, self._seen = here, self._seen + 1
        if self._graph is None:
            # A shape that comes once is not worth it, as of the short last batch of an epoch.
            if self._seen <= WARM_UP or here != before:
                return self._step(batch)
            self._graph = self._record(batch)
        if here != _shapes(self._inputs):
            return self._step(batch)
        for name, tensor in self._inputs.items():
            tensor.copy_(batch.inputs[name])
        self._graph.replay()
        assert self._loss is not None
        return self._loss.clone()

    def _record(self, batch: Batch) -> torch.cuda.CUDAGraph:
        """Record a step; nothing is computed by it."""
        self._inputs = {name: tensor.clone() for name, tensor in batch.inputs.items()}
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._loss = self._step(dataclasses.replace(batch, inputs=self._inputs))
        except RuntimeError as error:
            # The end of a recording that failed fails too, and says less than what came first.
            cause = error.__context__ or error
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            raise NotRecordable(
                f"a step of this model cannot be recorded, leave cuda_graph out: {cause}"
            ) from error
        return graph


def _shapes(inputs: Mapping[str, Tensor]) -> Shapes:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in inputs.items()}
