"""What a suite file may say. Field names are the YAML keys, so the file reads like these classes.

Where a field is a list, a single value will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, MinLen
from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from bench.suite.closed import AnyNumber, Closed, Fault, Many, Reads
from bench.suite.steps import COMPRESSIONS, TUNINGS, Step, StepPattern, read_compression
from bench.suite.task_files import TaskEntry
from bench.suite.wording import unknown
from offsite import layout
from offsite.compression.methods import METHODS
from offsite.errors import BadLayout
from offsite.layout import AdapterBlocks
from reports.record import SETTINGS, Setting

TRAINED: tuple[Setting, ...] = ("full_finetuned", "emulator_finetuned")
"""Settings that train."""

AXES = ("model", "adapter_blocks", "compression", "tuning", "task", "seed")
"""In the order in which a matrix is written out: the last changes fastest."""

Peer = Literal["trainer", "authors"]
"""Loops of bench/peers."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=100)]
"""Safe as the name of a folder."""
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$", max_length=100)]
"""Safe in a table and in a file name once its slashes are replaced."""


def _blocks(value: object) -> AdapterBlocks:
    if not isinstance(value, str):
        raise Fault("it must be bottom+top adapter blocks, as in 2+2, or positions, as in '0,5,9'")
    try:
        blocks = layout.read(value)
    except BadLayout as error:
        raise Fault(str(error)) from None
    if not len(blocks):
        raise Fault("0+0 leaves nothing to tune; at least one side needs a block, as in 0+2")
    return blocks


def _composition(value: object) -> tuple[Step, ...]:
    steps: list[Step] = []
    for index, each in enumerate(_COMPRESSIONS.validate_python(value)):
        for step in each:
            is_packed = any(earlier.method == "quantize" for earlier in steps)
            if is_packed and not METHODS[step.method].takes_packed:
                raise Fault(
                    f"{step.method} cannot follow quantize, which packs the weights; put it before",
                    index,
                )
            steps.append(step)
    return tuple(steps)


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    seen: set[int] = set()
    for index, seed in enumerate(seeds):
        if seed in seen:
            raise Fault(f"the seed {seed} is given twice; a seed is one sample", index)
        seen.add(seed)
    return seeds


def _version(schema: int) -> int:
    if schema != 1:
        raise Fault(f"schema {schema} is of another version; this one reads schema: 1")
    return schema


def _composition_pattern(value: object) -> StepPattern | tuple[StepPattern, ...]:
    if isinstance(value, tuple):
        return _STEP_PATTERNS.validate_python(value)
    return COMPRESSIONS.read_pattern(value)


Blocks = Annotated[
    AdapterBlocks,
    PlainValidator(_blocks),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,3}(\+[0-9]{1,3}|(,[0-9]{1,3})+,?)$"}),
]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Seeds = Annotated[Many[Seed], AfterValidator(_distinct)]
Compression = Annotated[tuple[Step, ...], Reads(read_compression, "compression")]
_COMPRESSIONS: TypeAdapter[tuple[tuple[Step, ...], ...]] = TypeAdapter(Many[Compression])
Composition = Annotated[tuple[Step, ...], Reads(_composition, "composition")]
"""A compression, or several of them applied in order."""
Tuning = Annotated[Step, Reads(TUNINGS.read, "tuning")]
TuningPattern = Annotated[StepPattern, Reads(TUNINGS.read_pattern, "tuning_pattern")]
CompressionPattern = Annotated[
    StepPattern | tuple[StepPattern, ...],
    Reads(_composition_pattern, "compression_pattern"),
]
_STEP_PATTERNS: TypeAdapter[tuple[StepPattern, ...]] = TypeAdapter(
    Annotated[
        tuple[Annotated[StepPattern, Reads(COMPRESSIONS.read_pattern, "step_pattern")], ...],
        Len(1),
    ]
)


class ModelSpec(Closed):
    """A foundation model."""

    source: Annotated[str, MinLen(1)]
    """Hub id (`org/name`), folder (relative to the suite), `timm:NAME`, or `random:CONFIG` for
    random weights of the shape in a folder's config.json, or of a published model that
    `list models` names (no download)."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the weights are stored in, whatever they were saved in."""
    revision: Annotated[str, MinLen(1)] | None = None
    """Commit, branch or tag of a hub model; without it the newest commit."""


class Pattern(Closed):
    """Matches cases: every axis named has one of the values given.

    A compression or tuning matches if all keys given are equal. A compression pattern that is a
    mapping matches a composition if any step does; a list within the list, if all steps do.
    """

    model: Many[str] | None = None
    adapter_blocks: Many[Blocks] | None = None
    compression: Many[CompressionPattern] | None = None
    tuning: Many[TuningPattern] | None = None
    task: Many[str] | None = None
    seed: Many[Seed] | None = None

    def matches(self, axes: Mapping[str, object]) -> bool:
        """Whether the case with these values is meant. An axis it does not have never matches."""
        return all(
            axis in axes and any(_fits(each, axes[axis]) for each in alternatives)
            for axis in self.model_fields_set
            if (alternatives := getattr(self, axis)) is not None
        )


def _fits(wanted: object, value: object) -> bool:
    if isinstance(wanted, StepPattern):
        steps = value if isinstance(value, tuple) else (value,)
        return any(wanted.matches(step) for step in steps)
    if isinstance(wanted, tuple) and isinstance(value, tuple) and isinstance(value[0], Step):
        return len(wanted) == len(value) and all(map(_fits, wanted, value))
    return wanted == value


class Include(Closed):
    """A product of its own, added after `exclude`. What it leaves out comes from the matrix."""

    model: Many[str] | None = None
    adapter_blocks: Many[Blocks] | None = None
    compression: Many[Composition] | None = None
    tuning: Many[Tuning] | None = None
    task: Many[str] | None = None
    seed: Seeds | None = None


class Matrix(Closed):
    """Cases: the product of its six axes."""

    model: Many[str]
    """Names in `models`."""
    adapter_blocks: Many[Blocks]
    """Trainable blocks at the bottom and the top, `2+2`; or their positions, `0,5,18,23`."""
    compression: Many[Composition]
    """How the emulator is made; a list within the list is a composition, applied in order.
    `distill` in any of them trains what is made up to there to imitate the middle."""
    tuning: Many[Tuning]
    """How the trainable blocks are trained."""
    task: Many[str]
    """Names in `tasks`, or of files in suites/tasks."""
    seed: Seeds
    """Of initialisation and order, never of a split or the scored items."""
    include: AnyNumber[Include] = ()
    exclude: AnyNumber[Pattern] = ()


class Train(Closed):
    """How the trainable blocks are trained, in every setting that trains."""

    optimizer: Literal["adamw"] = "adamw"
    learning_rate: Annotated[float, Gt(0)] = 5e-5
    head_learning_rate: Annotated[float, Gt(0)] | None = None
    """Of a new classifier (a task's `classes`); null for `learning_rate`."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Of the learning rate, after the warm-up."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    epochs: Annotated[float, Gt(0)] = 1.0
    max_steps: Annotated[int, Ge(1)] | None = None
    """Wins over `epochs`, as in the Hugging Face Trainer."""
    batch_size: Annotated[int, Ge(1)] = 8
    grad_clip: Annotated[float, Gt(0)] | None = 1.0
    """Largest norm of the gradient; null for no clipping."""
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoints: Annotated[int, Ge(1)] = 1
    """Kept, evenly spaced, and scored on the selection slice; the best is plugged in."""
    selection: Literal["held_out", "validation", "paper"] = "held_out"
    """What the selection slice is: a tenth of the train split, which is then not trained on (500
    examples at most, the same ones for every seed); the validation split; or, as in the paper, the
    split that is scored, which reports then say."""
    train_all: bool = False
    """Full fine-tuning also trains embeddings, final norm and head."""
    compile: bool = False
    """Compile the blocks (torch.compile): fewer and larger kernels, after some seconds of compiling
    in every stage."""
    cache_activations: bool = False
    """Where no adapter block is at the bottom (0+b): keep what enters the lowest trained block, for
    every example, and compute what lies below in the first epoch only. Not for full fine-tuning."""
    group_by_length: bool = False
    """Batches of samples of like length: little padding, and an order a little less random."""
    gradient_checkpointing: bool = False
    """Compute a block's inner activations again in the backward pass: less memory, more time."""
    cuda_graph: bool = False
    """On a GPU, record a step as a CUDA graph (of the first batch after the third with the shape of
    the one before) and replay it for batches of that shape, so that no kernel waits for the host to
    launch it; others run as usual, in memory of their own. Idle on a CPU. Not with `compile`,
    `gradient_checkpointing` or `cache_activations`, nor for BLOOM, which asks the host."""
    memory_cap: Annotated[float, Gt(0)] | None = None
    """GB (10^9 bytes) that the process may hold while it trains, model included; more is out of
    memory. What a step costs at best is then not measured, which would take memory outside it."""

    def chosen_on(self, scored: str) -> str:
        """The split that holds the selection slice, of a task that scores the split `scored`."""
        return {"held_out": "train", "validation": "validation", "paper": scored}[self.selection]


class Evaluate(Closed):
    """How a model is scored."""

    batch_size: Annotated[int, Ge(1)] = 16
    examples: Annotated[int, Ge(1)] | None = None
    """Score only so many: a sample by content, stratified by the right answer; null for all."""
    oracle: bool = False
    """Plug in every checkpoint (`train.checkpoints`), to show how good the best would have been.
    A diagnostic: nobody who tunes with an emulator could choose it."""


class When(Pattern):
    """A pattern that may also name settings."""

    setting: Many[Setting] | None = None


class Override(Closed):
    """Other values where `when` matches; later overrides win."""

    when: When
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _acts(self) -> Override:
        """Refuse training settings for settings in which nothing is trained."""
        settings = self.when.setting
        if self.train.model_fields_set and settings and not set(settings) & set(TRAINED):
            raise Fault(
                f"nothing is trained in {' and '.join(settings)}; name {' or '.join(TRAINED)} "
                "(what plug_in plugs in was tuned in emulator_finetuned)",
                "train",
            )
        return self


def _profile(values: dict[str, Any]) -> dict[str, Any]:
    known = [key for key in SuiteFile.known_keys() if key != "profiles"]
    for key in values:
        if key not in known:
            raise Fault(unknown("key", key, known), key, on_key=True)
    return values


Profile = Annotated[
    dict[str, Any],
    AfterValidator(_profile),
    WithJsonSchema({"type": "object", "propertyNames": {"not": {"const": "profiles"}}}),
]
Entry = Annotated[TaskEntry, Reads(TaskEntry.model_validate, "task")]


class SuiteFile(Closed):
    """A suite: what to compare, on what, and how."""

    schema_version: Annotated[int, AfterValidator(_version), WithJsonSchema({"const": 1})] = Field(
        alias="schema"
    )
    """Version of this format."""
    name: Name
    """Names the report's folder."""
    models: Annotated[dict[Key, ModelSpec], Len(1)]
    tasks: dict[Key, Entry] = Field(default_factory=dict)
    """Tasks of this suite, by name; the ones that come along need no entry."""
    matrix: Many[Matrix]
    settings: Many[Setting] = SETTINGS
    """The paper's settings that are run and shown."""
    references: Many[Tuning] = (TUNINGS.read("full"),)
    """Tunings for which the complete model is fine-tuned too."""
    peers: AnyNumber[Peer] = ()
    """Other training loops that train every row too, to be compared with ours in speed and memory:
    a plain Hugging Face Trainer, and the loop of the paper's authors."""
    repeats: Annotated[int, Ge(1), Le(1000)] = 1
    """How often each training is run, in a process of its own; to and fro, so that a machine that
    drifts does not favour a row."""
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    overrides: AnyNumber[Override] = ()
    profiles: dict[Name, Profile] = Field(default_factory=dict)
    """By name, what `--profile NAME` lays over the suite: mappings merge, the rest replaces."""
