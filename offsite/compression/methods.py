"""The table of compressions: name, one line, parameters, and where the function is.

Everything that needs to know which compressions exist reads this table: suite checking,
the JSON Schema, `list compressions`, did-you-mean. It never imports torch; the function
itself ('module:function') is imported when an emulator is built.

Parameters that several methods have mean the same in each: `keep` is what stays (blocks, or a
share), `ratio` the share that goes, `corpus` the name of the task whose training split is looked
at, `samples` how much of it, `seed` what a method draws with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen

from offsite.errors import BadLayout

Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Share = Annotated[float, Gt(0), Le(1)]
Samples = Annotated[int, Ge(1)]
CorpusName = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What every method's parameters offer."""

    def __post_init__(self) -> None:
        check_limits(self)
        self.check()

    def check(self) -> None:
        """Raise BadLayout for values that are each right and do not go together."""

    def depth(self, middle: int) -> int:
        """How many blocks the emulator of a middle of `middle` blocks has.

        Raises:
            BadLayout: the method cannot do that middle, with what it could.
        """
        return middle


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDrop(Parameters):
    """Keep evenly spaced blocks of the middle, or random or named ones, and drop the rest."""

    keep: Annotated[int, Ge(1)] | None = None
    """How many blocks stay. Evenly spaced ones (2 or more) include the first and the last."""
    choose: Literal["uniform", "random"] = "uniform"
    rounding: Literal["nearest-even", "floor"] = "nearest-even"
    """Of evenly spaced positions: as the authors' code rounds, or as FederatedScope's."""
    seed: Seed = 0
    """Of the random choice."""
    blocks: Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)] | None = None
    """Instead of `keep`: positions in the middle, from 0, in order."""

    def check(self) -> None:
        """Refuse values that do not go together."""
        if (self.keep is None) == (self.blocks is None):
            raise BadLayout("layer_drop needs either keep: COUNT or blocks: [POSITIONS]")
        if self.blocks and sorted(set(self.blocks)) != list(self.blocks):
            raise BadLayout(f"blocks {list(self.blocks)} must be in order, each once")
        if self.blocks and (self.choose, self.rounding) != ("uniform", "nearest-even"):
            raise BadLayout("blocks: [POSITIONS] are chosen already; leave out choose and rounding")
        if self.seed and self.choose != "random":
            raise BadLayout("seed is of choose: random; leave it out")
        if self.keep == 1 and self.choose == "uniform":
            raise BadLayout("evenly spaced blocks are 2 or more; keep: 1 needs choose: random")

    def depth(self, middle: int) -> int:
        """As many as are kept or named."""
        if self.blocks is None:
            return _kept(self.keep or 0, middle, least=1 if self.choose == "random" else 2)
        if self.blocks[-1] >= middle:
            raise BadLayout(
                f"block {self.blocks[-1]} is not among the {middle} middle blocks; "
                f"positions go from 0 to {middle - 1}"
            )
        return len(self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptByData(Parameters):
    """What every choice of blocks has that looks at data."""

    keep: Annotated[int, Ge(1)]
    corpus: CorpusName
    samples: Samples = 128
    seed: Seed = 0

    def depth(self, middle: int) -> int:
        """As many as are kept."""
        return _kept(self.keep, middle)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfluence(KeptByData):
    """Keep the blocks that turn their input most (ShortGPT's Block Influence)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Angular(KeptByData):
    """Drop the run of consecutive blocks across which hidden states turn least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityGreedy(KeptByData):
    """Drop, one at a time, the block whose removal raises the loss on the corpus least."""

    samples: Samples = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(KeptByData):
    """Cluster adjacent blocks by CKA, keep one of each cluster, share it (CRaSh)."""

    keep: Annotated[int, Ge(1)]
    """Clusters, and so blocks that are stored."""
    share: bool = True
    """Removed blocks reuse the nearest kept one: saves memory, and no time."""
    samples: Samples = 512

    def depth(self, middle: int) -> int:
        """The whole middle when blocks are shared, else as many as are kept."""
        kept = _kept(self.keep, middle)
        return middle if self.share else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class MagnitudePrune(Parameters):
    """Zero the smallest weights of every matrix; stored dense."""

    ratio: Annotated[float, Ge(0), Lt(1)]
    scope: Literal["tensor", "row", "global"] = "tensor"
    """Among which weights the smallest are sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NofM(Parameters):
    """Keep the `n` largest of every `m` consecutive weights of a row (2:4); stored dense."""

    n: Annotated[int, Ge(1)] = 2
    m: Annotated[int, Ge(2)] = 4
    """What is left at the end of a row counts as filled up with zeros."""

    def check(self) -> None:
        """Refuse values that do not go together."""
        if self.n >= self.m:
            raise BadLayout(f"n_m keeps n of m weights; n {self.n} must be below m {self.m}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanda(Parameters):
    """Zero the weights with the smallest |weight| x input norm in every row; stored dense."""

    ratio: Annotated[float, Ge(0), Lt(1)] = 0.5
    corpus: CorpusName
    samples: Samples = 128
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FfnPrune(Parameters):
    """Drop whole feed-forward channels by the norm of their weights (FedPFT); shapes shrink."""

    ratio: Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Parameters):
    """Store weights in few bits, really packed; they are expanded when they compute."""

    format: Literal["rtn", "nf4", "int8"] = "rtn"
    """Rounding to the nearest of 2**bits levels per group; QLoRA's 4-bit quantiles; 8 bits per
    output row."""
    bits: Annotated[int, Ge(2), Le(8)] = 4
    """Of `rtn`."""
    group: Annotated[int, Ge(8)] = 128
    """Weights of a row that share a scale, in `rtn`; nf4 has blocks of 64."""

    def check(self) -> None:
        """Refuse values that do not go together."""
        if self.format != "rtn" and (self.bits, self.group) != (4, 128):
            raise BadLayout(
                f"bits and group are for format: rtn; {self.format} has "
                + ("4 bits in blocks of 64" if self.format == "nf4" else "8 bits and whole rows")
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRtn(Parameters):
    """Round weights as the authors' code does: per tensor, no clamp; stored dense."""

    bits: Annotated[int, Ge(1), Le(8)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank(Parameters):
    """Replace matrices by two factors (SVD), weighted by activations where a corpus is given."""

    keep: Share
    """Parameters of the two factors over those of the matrix."""
    only: Literal["all", "attention"] = "all"
    """Which matrices; attention alone is ScaleOT's selective rank compression."""
    corpus: CorpusName | None = None
    """Activation-aware SVD (SVD-LLM): the error is weighed by the inputs seen here."""
    samples: Samples = 128
    seed: Seed = 0

    def check(self) -> None:
        """Refuse values that do not go together."""
        if self.corpus is None and (self.samples, self.seed) != (128, 0):
            raise BadLayout("samples and seed are of a corpus; leave them out, or give one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOt(Parameters):
    """Replace the least important blocks by small harmonizers, then compress attention."""

    replace: Annotated[float, Ge(0), Lt(1)] = 0.5
    """Share of the middle's blocks that become harmonizers."""
    attention_keep: Share = 1.0
    """Of the rank of attention matrices in the blocks that stay; 1 leaves them."""
    rank: Annotated[int, Ge(1)] = 64
    """Width of a harmonizer."""
    corpus: CorpusName
    steps: Annotated[int, Ge(1)] = 200
    """Alternating steps of harmonizers and block scores."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    batch_size: Annotated[int, Ge(1)] = 8
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GradOt(Parameters):
    """Choose ranks of attention and channels of feed-forward layers that preserve gradients."""

    attention_keep: Share = 0.5
    """Share of attention matrices' parameters that stays."""
    ffn_keep: Share = 0.5
    """Share of feed-forward channels that stays."""
    attention_weight: Annotated[float, Ge(0)] = 1.0
    ffn_weight: Annotated[float, Ge(0)] = 1.0
    """Lambda of the privacy term, for each kind of layer."""
    corpus: CorpusName
    samples: Samples = 128
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill(Parameters):
    """Train the emulator to imitate the middle, on top of any other compression."""

    corpus: CorpusName
    steps: Annotated[int, Ge(1)]
    kd_weight: Annotated[float, Ge(0)] = 30.0
    """Of the distance of hidden states after the middle, over the teacher's RMS."""
    lm_weight: Annotated[float, Ge(0)] = 1.0
    """Of the task's own loss on the corpus."""
    logit_weight: Annotated[float, Ge(0)] = 0.0
    """Of the divergence of the complete models' output distributions (KL)."""
    layerwise: bool = False
    """Compare hidden states after every block of the emulator, not only the last."""
    learning_rate: Annotated[float, Gt(0)] = 1e-4
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_steps: Annotated[int, Ge(0)] = 0
    batch_size: Annotated[int, Ge(1)] = 8
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Seed = 0

    def check(self) -> None:
        """Refuse values that do not go together."""
        if not (self.kd_weight or self.lm_weight or self.logit_weight):
            raise BadLayout("distill needs a weight above 0: kd_weight, lm_weight or logit_weight")
        if self.layerwise and not self.kd_weight:
            raise BadLayout("layerwise distances have the weight kd_weight; it must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Parameters):
    """Keep the whole middle as it is: the control that must lose nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomInit(Parameters):
    """Draw all weights of the middle anew: the control that gives nothing away."""

    seed: Seed = 0


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    parameters: type[Parameters]
    function: str
    """'module:function', called as `function(emulator, parameters) -> Emulator`; with a
    `Calibration` (None where `corpus` is None) as third if the parameters have a `corpus`."""
    experimental: str = ""
    """Why results with this method are not the authors': shown in lists and reports."""
    takes_packed: bool = False
    """Whether it may follow `quantize`: it moves whole blocks and changes no weight."""

    @property
    def summary(self) -> str:
        """The first line of the parameters' docstring, and what is experimental about it."""
        line = (self.parameters.__doc__ or "").splitlines()[0]
        return f"{line} [experimental: {self.experimental}]" if self.experimental else line


SECOND_HAND = "definition second-hand"

METHODS: dict[str, Method] = {
    "angular": Method(Angular, "offsite.compression.data_aware_choice:angular", takes_packed=True),
    "block_influence": Method(
        BlockInfluence, "offsite.compression.data_aware_choice:block_influence", takes_packed=True
    ),
    "crash": Method(Crash, "offsite.compression.crash:crash", takes_packed=True),
    "distill": Method(Distill, "offsite.distillation:distill"),
    "ffn_prune": Method(FfnPrune, "offsite.compression.channels:ffn_prune"),
    "grad_ot": Method(GradOt, "offsite.compression.grad_ot:grad_ot", SECOND_HAND),
    "identity": Method(Identity, "offsite.compression.layer_choice:identity", takes_packed=True),
    "layer_drop": Method(
        LayerDrop, "offsite.compression.layer_choice:layer_drop", takes_packed=True
    ),
    "low_rank": Method(LowRank, "offsite.compression.low_rank:low_rank"),
    "magnitude_prune": Method(MagnitudePrune, "offsite.compression.pruning:magnitude_prune"),
    "n_m": Method(NofM, "offsite.compression.pruning:n_m"),
    "paper-rtn": Method(PaperRtn, "offsite.compression.quantization:paper_rtn"),
    "perplexity_greedy": Method(
        PerplexityGreedy,
        "offsite.compression.data_aware_choice:perplexity_greedy",
        takes_packed=True,
    ),
    "quantize": Method(Quantize, "offsite.compression.quantization:quantize"),
    "random_init": Method(RandomInit, "offsite.compression.layer_choice:random_init"),
    "scale_ot": Method(ScaleOt, "offsite.compression.scale_ot:scale_ot", SECOND_HAND),
    "wanda": Method(Wanda, "offsite.compression.pruning:wanda"),
}


def check_limits(parameters: Parameters) -> None:
    """Raise BadLayout for the first value beyond what its type says.

    A suite's values are checked when it is read; this is for those given in Python.
    """
    for name, hint in get_type_hints(type(parameters), include_extras=True).items():
        value = getattr(parameters, name)
        if isinstance(value, str | tuple | None):
            continue
        for limit in _limits(hint):
            sentence = _beyond(value, limit)
            if sentence:
                raise BadLayout(f"{name} is {value}; it must be {sentence}")


def _limits(hint: Any) -> list[object]:  # noqa: ANN401 - a type
    inner = [limit for each in get_args(hint) for limit in _limits(each)]
    return [*getattr(hint, "__metadata__", ()), *inner]


def _beyond(value: Any, limit: object) -> str:  # noqa: ANN401 - a number
    """What `value` must be and is not; empty if it is."""
    match limit:
        case Ge(ge=bound) if value < bound:
            return f"at least {bound}"
        case Gt(gt=bound) if value <= bound:
            return f"above {bound}"
        case Le(le=bound) if value > bound:
            return f"at most {bound}"
        case Lt(lt=bound) if value >= bound:
            return f"below {bound}"
    return ""


def _kept(keep: int, middle: int, *, least: int = 1) -> int:
    if not least <= keep <= middle:
        raise BadLayout(
            f"cannot keep {keep} of the {middle} middle blocks; {least} to {middle} would work"
        )
    return keep
