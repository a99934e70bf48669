"""Train an emulator to imitate the middle it stands in for (arXiv 2302.04870, section 4.3).

Only the emulator's blocks train, held in float32 and stored again in the types they had.
Neither they nor the owner's model drop anything out: a student with dropout would learn to
be the mean of many, and is used as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from offsite.compression.calibration import (
    Calibration,
    evaluating,
    frozen,
    hidden_of,
    real_positions,
    refuse_float16,
)
from offsite.compression.emulator import Emulator
from offsite.compression.layers import Described
from offsite.compression.methods import Distill
from offsite.compression.quantization import refuse_quantized
from offsite.training import Batch, Recipe, accelerated, train

Place = int | Literal["logits"]
"""Where a run is looked at: behind the block of this position in the foundation model, or at
the model's output."""


def distill(emulator: Emulator, parameters: Distill, calibration: Calibration) -> Emulator:
    """Train the emulator's blocks on lm_weight x LM + kd_weight x KD + logit_weight x KL.

    LM is the corpus's own loss with the emulator in the middle, KD is `hidden_distance`, KL is
    `divergence`. The owner's model runs only where a weight needs it, and no further than it
    must. Blocks that share parameters still do; weights that a compression set to zero stay
    zero.

    Raises:
        OffsiteError: weights are packed by `quantize`, and cannot be trained; or the model is
            held in float16.
        NonFiniteLoss: the loss, or a weight, became NaN or infinite.
    """
    refuse_quantized(emulator, "distill before quantize")
    refuse_float16(calibration.sandwich.model, "distill")
    student = replace(emulator, blocks=deepcopy(emulator.blocks))
    stored = [(p, p.dtype, p.requires_grad) for p in student.blocks.parameters()]
    for parameter, _, _ in stored:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    lesson = Lesson(student, parameters, calibration)
    recipe = Recipe(
        learning_rate=parameters.learning_rate,
        steps=parameters.steps,
        weight_decay=parameters.weight_decay,
        schedule=parameters.schedule,
        warmup_steps=parameters.warmup_steps,
        precision=parameters.precision,
    )
    owner = calibration.sandwich.model
    with (
        frozen(owner),
        evaluating(owner),
        # Teacher and student by the same kernels: rounding is nothing to learn.
        accelerated(owner, recipe),
        pruned_stay_zero(student.blocks),
        in_float32(student.blocks, next(owner.parameters()).dtype),
    ):
        train(
            _InEvaluation(student.blocks),
            calibration.corpus.batches(parameters.batch_size, parameters.seed),
            recipe,
            loss_of=lambda _, batch: lesson.loss(batch),
        )
    for parameter, dtype, requires_grad in stored:
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(requires_grad)
    return student


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a student is to learn from the owner's model."""

    student: Emulator
    parameters: Distill
    calibration: Calibration

    def loss(self, batch: Batch) -> Tensor:
        """The weighted sum for one batch, float32; its gradient is the student's."""
        weights = self.parameters
        teacher = self._run_teacher(batch)
        own, student = self._run_student(batch)
        terms = []
        if own is not None:
            terms.append(weights.lm_weight * own.float())
        if weights.kd_weight:
            distances = []
            for ours, theirs in self.pairs():
                states = hidden_of(student[ours])
                mask = real_positions(batch, states)
                distances.append(hidden_distance(hidden_of(teacher[theirs]), states, mask))
            terms.append(weights.kd_weight * torch.stack(distances).mean())
        if weights.logit_weight:
            logits = logits_of(student["logits"])
            kl = divergence(logits_of(teacher["logits"]), logits, real_positions(batch, logits))
            terms.append(weights.logit_weight * kl)
        return torch.stack(terms).sum()

    def pairs(self) -> list[tuple[int, int]]:
        """Behind which block the student is compared, and behind which the teacher, by position.

        The last pair is the end of the middle. The others, if `layerwise`, are one for each
        block of the emulator: what leaves it should be what enters the block that follows in
        the emulator, so it is compared with the teacher just before the position of that
        block. A block thus answers for itself and for those dropped behind it.
        """
        path = self.calibration.path(self.student)
        ends = [position for position, _, _ in path]
        pairs = [(ends[-1], self.calibration.sandwich.middle_positions[-1])]
        if self.parameters.layerwise:
            steps = zip(path, ends[1:], strict=False)
            pairs[:0] = [
                (ours, following - 1) for (ours, _, place), following in steps if place is not None
            ]
        return pairs

    @torch.no_grad()
    def _run_teacher(self, batch: Batch) -> dict[Place, Any]:
        """What the owner's model puts out where it is compared; it runs no further."""
        wanted = {theirs for _, theirs in self.pairs()} if self.parameters.kd_weight else set()
        blocks = self.calibration.sandwich.blocks
        places: dict[Place, nn.Module] = {position: blocks[position] for position in wanted}
        if self.parameters.logit_weight:
            places["logits"] = self.calibration.sandwich.model
        if not places:
            return {}
        last: Place = "logits" if "logits" in places else max(wanted)
        return self._run(self.calibration.sandwich.model, batch, places, last)[1]

    def _run_student(self, batch: Batch) -> tuple[Tensor | None, dict[Place, Any]]:
        """The corpus's loss with the student, and what it puts out where it is compared."""
        view = self.calibration.view(self.student)
        wanted = {ours for ours, _ in self.pairs()} if self.parameters.kd_weight else set()
        path = self.calibration.path(self.student)
        places: dict[Place, nn.Module] = {at: block for at, block, _ in path if at in wanted}
        if self.parameters.logit_weight:
            places["logits"] = view
        last = None if self.parameters.lm_weight else list(places)[-1]
        return self._run(view, batch, places, last)

    def _run(
        self, model: nn.Module, batch: Batch, places: Mapping[Place, nn.Module], last: Place | None
    ) -> tuple[Tensor | None, dict[Place, Any]]:
        """Run the corpus's loss, keep what leaves `places`; stop after `last`, without a loss."""
        seen: dict[Place, Any] = {}

        def look(place: Place) -> Callable[[nn.Module, Any, Any], None]:
            def note(_: nn.Module, __: object, output: object) -> None:
                seen[place] = output
                if place == last:
                    raise _SeenEnough

            return note

        handles = [module.register_forward_hook(look(place)) for place, module in places.items()]
        try:
            return self.calibration.corpus.loss_of(model, batch), seen
        except _SeenEnough:
            return None, seen
        finally:
            for handle in handles:
                handle.remove()


def hidden_distance(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """mean(((t - s) / rms(t))^2) over real tokens, rms(t) = sqrt(mean(t^2)) over the same.

    Without padding the authors' loss. They call the rms `std`, though no mean is subtracted,
    and let padding in.

    Args:
        teacher: (batch, positions, width).
        student: the same.
        mask: True where a position is real, (batch, positions).

    Returns:
        A scalar, float32.
    """
    real = mask.unsqueeze(-1)
    target = teacher.float().where(real, 0)
    error = target - student.float().where(real, 0)
    # Both means are over the same elements, whose count cancels.
    return error.square().sum() / target.square().sum()


def divergence(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax teacher || softmax student) in nats, the mean over real tokens.

    Args:
        teacher: logits, (batch, positions, vocabulary) or (batch, classes).
        student: the same.
        mask: True where a row counts: the shape of the logits without the last dimension.

    Returns:
        A scalar, float32.
    """
    log_t, log_s = (logits.float().log_softmax(-1) for logits in (teacher, student))
    rows = (log_t.exp() * (log_t - log_s)).sum(-1)
    return rows.where(mask, 0).sum() / mask.sum()


def logits_of(output: Any) -> Tensor:  # noqa: ANN401 - a model's output, of either library
    """The logits of what a model returned."""
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


@contextmanager
def pruned_stay_zero(blocks: nn.Module) -> Iterator[None]:
    """Inside the block single weights that are zero get no gradient, and so stay zero.

    A weight without gradient does not move: AdamW's momentum and its decay of a zero are zero.
    A replacement module's matrix that is zero in all places was not pruned but begins there.
    """
    # By identity: a replacement's matrices may lie in linears within it.
    begin = {id(p) for m in blocks.modules() if isinstance(m, Described) for p in m.parameters()}
    handles = []
    for weight in blocks.parameters():
        alive = weight.detach() != 0
        begins = id(weight) in begin and not bool(alive.any())
        if weight.dim() > 1 and not begins and not bool(alive.all()):
            hook = weight.register_hook(lambda grad, alive=alive: grad * alive)  # type: ignore[no-untyped-call]
            handles.append(hook)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def in_float32(blocks: nn.ModuleList, outside: torch.dtype) -> Iterator[None]:
    """Inside the block float32 `blocks` run in a model of the type `outside`."""

    def enter(_: nn.Module, args: object, named: object) -> Any:  # noqa: ANN401 - as torch has it
        return _cast(args, torch.float32), _cast(named, torch.float32)

    def leave(_: nn.Module, args: object, output: object) -> object:
        return _cast(output, outside)

    handles = []
    for block in blocks if outside != torch.float32 else ():
        handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(block.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _cast(value: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - arguments of any block
    """The same value with its floating-point tensors, at any depth, in `dtype`."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(_cast(each, dtype) for each in value)
    if isinstance(value, dict):
        return {key: _cast(each, dtype) for key, each in value.items()}
    return value


class _InEvaluation(nn.Module):
    """Holds what is trained, and lets no one switch its dropout on."""

    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class _SeenEnough(Exception):
    """All that is compared is seen: the rest of the run would be for nothing."""
