"""From a suite to its stages: what has to run, in which order, under which digest. Pure.

A stage's digest covers everything that can change its number and nothing else, so stages
are shared between cases, suites and machines. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn

from bench.errors import SuiteError
from bench.sources import PENDING, Source
from bench.stages import KINDS
from bench.suite import TRAINED, CasePoint, Evaluate, Step, Suite, Task, Train, label
from bench.tasks import kinds as task_kinds
from offsite.errors import BadLayout
from reports.record import Setting, canonical

if TYPE_CHECKING:
    from bench.world import World

SCHEMA = 1
EMULATED: tuple[Setting, ...] = ("emulator_zero_shot", "emulator_finetuned", "plug_in")
"""Settings that an emulator has a part in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """How a stage's results are named in tables. Empty where a word does not apply."""

    case: str = ""
    """Set when exactly one case needs the stage."""
    model: str = ""
    layout: str = ""
    compression: str = ""
    tuning: str = ""
    task: str = ""
    seed: int | None = None
    setting: str = ""
    peer: str = ""
    """Whose training loop, where it is not ours."""
    checkpoint: int | None = None
    """Which checkpoint is plugged in, counted from 1, where it is not the one that was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One unit of work."""

    digest: str
    kind: str
    params: dict[str, Any]
    """All that can change the result, but for what enters by `inputs`. In the digest."""
    inputs: dict[str, str]
    """Role to digest: `model`, `data`, `emulator`, `tuned`, `corpus.I` of step I of a
    compression. In the digest."""
    environment: dict[str, str]
    """Minor versions and device type. In the digest."""
    locations: dict[str, Any]
    """Where the inputs that are no stages lie on this machine. Not in the digest."""
    labels: Labels
    repeats: int = 0
    """How many records it needs, all of one machine: what is measured is speed and memory. 0: one
    record will do, of any machine. Not in the digest."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Digests of the stages that have to be done before."""
        return tuple(self.inputs[role] for role in ("emulator", "tuned") if role in self.inputs)


@dataclass(slots=True)
class Plan:
    """The cases of a suite and the stages they need, each stage once and after its inputs."""

    suite: str
    profile: str | None
    cases: list[dict[str, Any]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """Models and tasks whose commit is only known to the hub; `run` asks for it first."""

    def runs(self) -> list[tuple[Stage, int]]:
        """Every stage with each of its repeats, in the order in which they run.

        First every stage once; then what is repeated, the rows of one loop next to one another,
        to and fro: there and back again a drift of the machine adds as much to one row as to
        another.
        """
        runs = [(stage, 0) for stage in self.stages]
        loops = list(dict.fromkeys(stage.labels.peer for stage in self.stages))
        by_loop = sorted(self.stages, key=lambda stage: loops.index(stage.labels.peer))
        most = max((stage.repeats for stage in self.stages), default=0)
        for repeat in range(1, most):
            again = [(stage, repeat) for stage in by_loop if repeat < stage.repeats]
            runs += reversed(again) if repeat % 2 else again
        return runs

    def waiting(self) -> set[str]:
        """Digests of the stages that rest on something pending: they will be others."""
        found: set[str] = set()
        for stage in self.stages:
            rests = any(each.startswith(PENDING) for each in stage.inputs.values())
            if rests or found.intersection(stage.needs):
                found.add(stage.digest)
        return found

    def is_same_elsewhere(self, other: Plan) -> bool:
        """Whether two plans differ in nothing but versions and device, and what follows."""
        return self._without_environment() == other._without_environment()

    def _without_environment(self) -> list[tuple[Any, ...]]:
        made = ("emulator", "tuned")
        return [
            (s.kind, s.params, s.labels, {k: v for k, v in s.inputs.items() if k not in made})
            for s in self.stages
        ]

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same plan is the same file."""
        return canonical({"schema": SCHEMA, **asdict(self)})


def run_name(digest: str, repeat: int, base: int = 0) -> str:
    """How one run of a stage is named where it is started: its digest, the repeat, its base.

    The base is the repeat of the inputs where they have none of their own.

    >>> run_name("c0ffee", 0), run_name("c0ffee", 2), run_name("c0ffee", 7, 5)
    ('c0ffee', 'c0ffee.2', 'c0ffee.7.5')
    """
    numbers = (repeat, base) if base else (repeat,) if repeat else ()
    return ".".join((digest, *map(str, numbers)))


def read_run_name(name: str) -> tuple[str, int, int]:
    """Digest, repeat and base of what `run_name` made.

    >>> read_run_name("c0ffee"), read_run_name("c0ffee.7.5")
    (('c0ffee', 0, 0), ('c0ffee', 7, 5))
    """
    digest, *numbers = name.split(".")
    repeat, base = (*map(int, numbers), 0, 0)[:2]
    return digest, repeat, base


def read_plan(content: bytes) -> Plan:
    """The plan in bytes that `Plan.to_bytes` made."""
    values = json.loads(content)
    stages = [Stage(**{**s, "labels": Labels(**s["labels"])}) for s in values["stages"]]
    return Plan(values["suite"], values["profile"], values["cases"], stages, values["pending"])


def plan(
    suite: Suite,
    world: World,
    *,
    select: Callable[[str], bool] | None = None,
    trust_remote_code: bool = False,
) -> Plan:
    """Lay out the stages of every case of `suite`.

    Args:
        suite: the checked suite.
        world: digests of models and data, versions.
        select: predicate over case names; None takes all.
        trust_remote_code: let stages run code that comes with a model; their records say so.

    Raises:
        SuiteError: a layout that does not fit its model, a task its model cannot run, or a
            selection that leaves nothing.
    """
    builder = _Builder(suite, world, trust_remote_code)
    points = [p for p in suite.cases() if select is None or select(case_name(p))]
    if not points:
        raise SuiteError(f"{suite.origin}: no case is selected; `offsite-bench plan` lists them")
    for point in points:
        builder.add(point)
    return builder.finish()


def case_name(point: CasePoint) -> str:
    """The name of a case: readable, unique in its suite, what `-k` matches.

    Adapter blocks stand before the compression: `tiny-lm/2+2/layer_drop(keep=4)/full/text/s0`.
    """
    blocks = str(point.adapter_blocks)
    parts = (point.model, blocks, label(point.compression), point.tuning.label)
    return "/".join((*parts, point.task, f"s{point.seed}"))


class _Builder:
    """Collects stages of cases; equal digests become one stage."""

    def __init__(self, suite: Suite, world: World, trust_remote_code: bool) -> None:
        self.suite = suite
        self.world = world
        self.trust_remote_code = trust_remote_code
        self.stages: dict[str, Stage] = {}
        self.needed_by: dict[str, set[str]] = {}
        self.read: set[str] = set()
        """Tasks whose data some stage reads."""
        self.cases: list[dict[str, Any]] = []

    def add(self, point: CasePoint) -> None:
        """Add a case with every stage its settings need."""
        self._check(point)
        name = case_name(point)
        lay_out: dict[Setting, Callable[[CasePoint, str], str]] = {
            "full_zero_shot": self._zero_shot,
            "emulator_zero_shot": self._emulator_zero_shot,
            "full_finetuned": self._finetuned,
            "emulator_finetuned": self._emulator_finetuned,
            "plug_in": self._plug_in,
        }
        wanted = [setting for setting in lay_out if setting in self.suite.settings]
        settings = {setting: lay_out[setting](point, name) for setting in wanted}
        case = {"name": name, **_axes(point), "settings": settings}
        is_drawn = self.suite.tasks[point.task].is_drawn
        if any(setting in EMULATED for setting in wanted) and not is_drawn:
            case["disclosure"] = self._disclose(point, name)
        self.cases.append(case)

    def finish(self) -> Plan:
        """The plan of all cases added."""
        stages = []
        for stage in self.stages.values():
            cases = self.needed_by[stage.digest]
            if len(cases) == 1:
                labels = replace(stage.labels, case=next(iter(cases)))
                stages.append(replace(stage, labels=labels))
            else:
                stages.append(stage)
        used = {case["model"] for case in self.cases}
        pending = [m for m in sorted(used) if self.world.sources[m].digest.startswith(PENDING)]
        pending += [name for name in sorted(self.read) if self.world.data[name].is_pending]
        return Plan(self.suite.name, self.suite.profile, self.cases, stages, pending)

    def _zero_shot(self, point: CasePoint, case: str) -> str:
        return self._evaluate(point, "full_zero_shot", {}, case)

    def _emulator_zero_shot(self, point: CasePoint, case: str) -> str:
        inputs = {"emulator": self._emulator(point, case)}
        return self._evaluate(point, "emulator_zero_shot", inputs, case)

    def _finetuned(self, point: CasePoint, case: str) -> str:
        """One fine-tuning a reference; a case is compared with the first."""
        digests = []
        for reference in self.suite.references:
            compared = replace(point, tuning=reference)
            inputs = {"tuned": self._train(compared, "full_finetuned", {}, case)}
            digests.append(self._scored(compared, "full_finetuned", inputs, case))
        return digests[0]

    def _emulator_finetuned(self, point: CasePoint, case: str) -> str:
        inputs = {"emulator": self._emulator(point, case), "tuned": self._tune(point, case)}
        return self._scored(point, "emulator_finetuned", inputs, case)

    def _plug_in(self, point: CasePoint, case: str) -> str:
        """The checkpoint that was chosen; beside it, with `oracle`, each for itself."""
        inputs = {"tuned": self._tune(point, case)}
        chosen = self._evaluate(point, "plug_in", inputs, case)
        for checkpoint in range(1, self._oracle(point) + 1):
            self._evaluate(point, "plug_in", inputs, case, checkpoint)
        return chosen

    def _oracle(self, point: CasePoint) -> int:
        """How many checkpoints are plugged in to find the best of them; 0 for none."""
        is_asked = self.suite.evaluate_for(point, "plug_in").oracle
        if not is_asked or "plug_in" not in self.suite.settings:
            return 0
        checkpoints = self.suite.train_for(point, "emulator_finetuned").checkpoints
        if checkpoints == 1:
            self._refuse(
                self.suite.deciding(point, "plug_in", "evaluate", "oracle"),
                f"evaluate.oracle compares checkpoints, and {case_name(point)} has one; give "
                "train.checkpoints above 1, or oracle: false",
            )
        return checkpoints

    def _scored(self, point: CasePoint, setting: Setting, inputs: dict[str, str], case: str) -> str:
        """The evaluation of what was trained, or the training where there is nothing to score."""
        if self.suite.tasks[point.task].is_drawn:
            return inputs["tuned"]
        return self._evaluate(point, setting, inputs, case)

    def _tune(self, point: CasePoint, case: str) -> str:
        inputs = {"emulator": self._emulator(point, case)}
        return self._train(point, "emulator_finetuned", inputs, case)

    def _emulator(self, point: CasePoint, case: str) -> str:
        steps = [_described(step) for step in point.compression]
        inputs = {"model": self._source(point).digest}
        locations = self._model_location(point)
        for index, step in enumerate(point.compression):
            if step.corpus is not None:
                # Whatever a suite calls it: it is the content that counts.
                task = self.suite.tasks[step.corpus]
                steps[index]["corpus"] = _task(task)
                inputs[f"corpus.{index}"] = self._data(step.corpus, "train")
                locations[f"corpus.{index}"] = self._data_location(task)
        return self._stage(
            "emulator",
            params={
                "adapter_blocks": str(point.adapter_blocks),
                "compression": steps,
                "dtype": self.suite.models[point.model].dtype,
            },
            inputs=inputs,
            locations=locations,
            labels=Labels(**self._emulator_labels(point)),
            case=case,
        )

    def _disclose(self, point: CasePoint, case: str) -> str:
        return self._stage(
            "disclose",
            params={
                "adapter_blocks": str(point.adapter_blocks),
                "dtype": self.suite.models[point.model].dtype,
            },
            inputs={
                "emulator": self._emulator(point, case),
                "model": self._source(point).digest,
            },
            locations=self._model_location(point),
            labels=Labels(**self._emulator_labels(point)),
            case=case,
        )

    def _train(self, point: CasePoint, setting: Setting, inputs: dict[str, str], case: str) -> str:
        train = self.suite.train_for(point, setting)
        task = self.suite.tasks[point.task]
        self._check_selection(point, setting, train)
        self._check_graph(point, setting, train)
        params: dict[str, Any] = {
            "dtype": self.suite.models[point.model].dtype,
            "seed": point.seed,
            "task": _task(task),
            "train": self._acting(train, setting),
            "tuning": _described(point.tuning),
        }
        # Without a choice among checkpoints the slice to choose on is never read.
        splits = {"train", train.chosen_on(task.scored)} if train.checkpoints > 1 else {"train"}
        inputs = {**inputs, "data": self._data(point.task, *sorted(splits))}
        labels: dict[str, Any] = {
            "model": point.model,
            "task": point.task,
            "seed": point.seed,
        }
        locations: dict[str, Any] = {"data": self._data_location(task)}
        ours: dict[str, Any] = {}
        if setting == "full_finetuned":
            kind = "finetune"
            inputs["model"] = self._source(point).digest
            locations |= self._model_location(point)
        else:
            kind = "tune"
            params["adapter_blocks"] = str(point.adapter_blocks)
            ours = {"keep_checkpoints": True} if self._oracle(point) else {}
            labels |= self._emulator_labels(point)
        digests = [
            self._stage(
                kind,
                params={**params, **(_of_peer(peer, params["train"]) if peer else ours)},
                inputs=inputs,
                locations=locations,
                labels=Labels(**labels, tuning=point.tuning.label, setting=setting, peer=peer),
                case=case,
                repeats=self._repeats(task),
            )
            for peer in ("", *self.suite.peers)
        ]
        first = self.stages[digests[0]].labels.task
        if task.is_drawn and first != point.task:
            self._refuse(
                ("tasks", point.task),
                f"{point.task!r} is {first!r} again, under another name: nothing tells them apart, "
                "its own train settings (overrides) neither; leave one out",
            )
        return digests[0]

    def _acting(self, train: Train, setting: Setting) -> dict[str, Any]:
        """The training settings that act on this device."""
        acting = _effective(train, setting)
        if self.world.environment["device"] != "cuda":
            acting.pop("cuda_graph", None)
        return acting

    def _repeats(self, task: Task) -> int:
        """How often a training is run for its speed and memory; 0 if that is not what matters."""
        is_timed = task.is_drawn or self.suite.repeats > 1 or bool(self.suite.peers)
        return self.suite.repeats if is_timed else 0

    def _evaluate(
        self,
        point: CasePoint,
        setting: Setting,
        inputs: dict[str, str],
        case: str,
        checkpoint: int | None = None,
    ) -> str:
        task = self.suite.tasks[point.task]
        params: dict[str, Any] = {
            "dtype": self.suite.models[point.model].dtype,
            "evaluate": _scoring(self.suite.evaluate_for(point, setting)),
            "setting": setting,
            "task": _task(task),
        }
        labels: dict[str, Any] = {"model": point.model, "task": point.task, "setting": setting}
        locations: dict[str, Any] = {"data": self._data_location(task)}
        inputs = {**inputs, "data": self._data(point.task, *task.read_to_score)}
        if "emulator" not in inputs:
            inputs["model"] = self._source(point).digest
            locations |= self._model_location(point)
        if setting not in ("full_zero_shot", "full_finetuned"):
            labels |= self._emulator_labels(point)
        if "tuned" in inputs:
            labels |= {"seed": point.seed, "tuning": point.tuning.label}
            params["tuning"] = _described(point.tuning)
            if setting != "full_finetuned":
                params["adapter_blocks"] = str(point.adapter_blocks)
        if checkpoint is not None:
            params["checkpoint"] = labels["checkpoint"] = checkpoint
        return self._stage(
            "evaluate",
            params=params,
            inputs=inputs,
            locations=locations,
            labels=Labels(**labels),
            case=case,
        )

    def _stage(
        self,
        kind: str,
        *,
        params: dict[str, Any],
        inputs: dict[str, str],
        locations: dict[str, Any],
        labels: Labels,
        case: str,
        repeats: int = 0,
    ) -> str:
        if self.trust_remote_code and "model" in inputs:
            params = {**params, "trust_remote_code": True}
        environment = dict(self.world.environment)
        if self.world.gpu and str(locations.get("model", "")).startswith("random:"):
            # Another kind of GPU draws other weights from the same seed.
            environment["gpu"] = self.world.gpu
        digest = stage_digest(kind, params, inputs, environment)
        stage = Stage(
            digest=digest,
            kind=kind,
            params=params,
            inputs=inputs,
            environment=environment,
            locations=locations,
            labels=labels,
            repeats=repeats,
        )
        self.stages.setdefault(digest, stage)
        self.needed_by.setdefault(digest, set()).add(case)
        return digest

    def _source(self, point: CasePoint) -> Source:
        return self.world.sources[point.model]

    def _model_location(self, point: CasePoint) -> dict[str, Any]:
        source = self._source(point)
        return {"model": source.location, "revision": source.revision}

    def _data(self, task: str, *splits: str) -> str:
        """What stands for the splits that a stage reads."""
        self.read.add(task)
        return self.world.data[task].of(*splits)

    def _data_location(self, task: Task) -> dict[str, str]:
        if task.builtin:
            return {"builtin": task.builtin}
        if task.hub:
            return task.hub.location(self.world.data[task.name].of(*task.splits))
        return {split: str(path) for split, path in sorted(task.files.items())}

    def _emulator_labels(self, point: CasePoint) -> dict[str, Any]:
        depth = self._source(point).depth
        blocks = "?" if depth is None else self._emulator_depth(point, depth)
        return {
            "model": point.model,
            "layout": point.adapter_blocks.layout(blocks),
            "compression": label(point.compression),
        }

    def _emulator_depth(self, point: CasePoint, depth: int) -> int:
        blocks = depth - len(point.adapter_blocks)
        for step in point.compression:
            try:
                blocks = step.parameters.depth(blocks)
            except BadLayout as error:
                sentence = f"{step.label} on {point.model!r}: {error}"
                self._refuse(point.path("compression"), sentence)
        return blocks

    def _check(self, point: CasePoint) -> None:
        """Refuse what cannot work before anything loads."""
        self._check_task(point, point.task, "task")
        for step in point.compression:
            if step.corpus is not None:
                self._check_task(point, step.corpus, "compression")
        depth = self._source(point).depth
        if depth is not None:
            try:
                point.adapter_blocks.positions(depth)
            except BadLayout as error:
                self._refuse(point.path("adapter_blocks"), f"{point.model!r}: {error}")
            self._emulator_depth(point, depth)
        self._check_training(point)
        self._check_cache(point)
        self._check_head(point)

    def _check_task(self, point: CasePoint, name: str, axis: str) -> None:
        """Refuse a task, or a corpus, that the model cannot read."""
        kind, task = self._source(point).kind, self.suite.tasks[name]
        wanted = task_kinds.KINDS[task.kind].model
        if kind and kind != wanted:
            self._refuse(
                point.path(axis),
                f"task {name!r} ({task.kind}) needs a {wanted} model; {point.model!r} is a "
                f"{kind} model",
            )
        has_tokenizer = self._source(point).has_tokenizer
        if wanted == "language" and has_tokenizer is False and not task.is_drawn:
            self._refuse(
                point.path(axis),
                f"task {name!r} ({task.kind}) reads text, and {point.model!r} has no tokenizer; "
                "give a folder that holds a config.json and a tokenizer's files (random:FOLDER)",
            )
        # A block is never cut short, as contexts of choices are; `fit` minds its own lengths.
        size, positions = getattr(task.parameters, "block", None), self._source(point).positions
        if size and positions and size > positions:
            self._refuse(
                point.path(axis),
                f"task {name!r} ({task.kind}) has blocks of {size} tokens, and {point.model!r} has "
                f"{positions} positions; give block: {positions} or less",
            )
        if axis == "compression" and ("train" not in task.splits or task.is_drawn):
            self._refuse(point.path(axis), f"corpus {name!r} has no train split to look at")
        untrained = [s for s in self.suite.settings if s not in TRAINED]
        if axis == "task" and task.is_drawn and untrained:
            self._refuse(
                ("settings",),
                f"task {name!r} ({task.kind}) is drawn at random, so nothing is scored and "
                f"{' and '.join(untrained)} would say nothing; give settings: "
                f"[{', '.join(TRAINED)}]",
            )

    def _check_training(self, point: CasePoint) -> None:
        dtype = self.suite.models[point.model].dtype
        needs: dict[Setting, Setting] = {
            "full_finetuned": "full_finetuned",
            "emulator_finetuned": "emulator_finetuned",
            "plug_in": "emulator_finetuned",
        }
        trained = {needs[setting] for setting in self.suite.settings if setting in needs}
        settings = [self.suite.train_for(point, setting) for setting in sorted(trained)]
        precisions = {train.precision for train in settings}
        task = self.suite.tasks[point.task]
        if trained and "train" not in task.splits:
            self._refuse(
                ("tasks", point.task),
                f"{point.task!r} has no train split to tune on; give data: {{train: ...}}, or only "
                "zero-shot settings",
            )
        if trained and dtype == "float16" and self.world.environment["device"] == "cpu":
            self._refuse(
                ("models", point.model, "dtype"),
                f"{point.model!r} is held in float16, which a CPU cannot train with; use "
                "dtype: bfloat16, or float32",
            )
        if dtype != "float32" and "fp32" in precisions:
            self._refuse(
                ("models", point.model, "dtype"),
                f"{point.model!r} is held in {dtype}, which train.precision fp32 cannot compute "
                "with; use precision: bf16, or dtype: float32",
            )

    def _check_selection(self, point: CasePoint, setting: Setting, train: Train) -> None:
        """Refuse to choose among checkpoints where there is nothing to choose on."""
        task = self.suite.tasks[point.task]
        if train.checkpoints == 1:
            return
        if task.is_drawn:
            self._refuse(
                self.suite.deciding(point, setting, "train", "checkpoints"),
                f"train.checkpoints: {train.checkpoints} has one chosen, and random samples "
                f"({point.task!r}, {task.kind}) say nothing of them; use checkpoints: 1",
            )
        if train.selection != "validation" or task.can_select:
            return
        scores = "scores that split" if "validation" in task.splits else "has none"
        self._refuse(
            self.suite.deciding(point, setting, "train", "selection"),
            f"train.selection: validation chooses on the validation split, and "
            f"{point.task!r} {scores}; use held_out, a slice of train",
        )

    def _check_cache(self, point: CasePoint) -> None:
        """Refuse to keep activations where something below them is trained."""
        blocks = point.adapter_blocks
        lowest = blocks.scattered[0] if blocks.scattered else 0 if blocks.bottom else 1
        is_kept = self.suite.train_for(point, "emulator_finetuned").cache_activations
        if is_kept and (lowest == 0 or point.tuning.method == "soft_prompt"):
            self._refuse(
                point.path("adapter_blocks"),
                f"train.cache_activations keeps what enters the lowest trained block, and with "
                f"{blocks} and {point.tuning.method} the model is trained from its bottom; use "
                "adapter blocks at the top alone, as in 0+2",
            )

    def _check_graph(self, point: CasePoint, setting: Setting, train: Train) -> None:
        """Refuse to record a step that decides on the host what it computes."""
        if not train.cuda_graph:
            return
        for other in ("compile", "gradient_checkpointing", "cache_activations"):
            if other in _effective(train, setting):
                self._refuse(
                    self.suite.deciding(point, setting, "train", "cuda_graph"),
                    f"train.cuda_graph: a step with train.{other} cannot be recorded; leave one of "
                    "them out",
                )

    def _check_head(self, point: CasePoint) -> None:
        classes = getattr(self.suite.tasks[point.task].parameters, "classes", None)
        untuned = [setting for setting in self.suite.settings if setting.endswith("zero_shot")]
        if classes is not None and untuned:
            self._refuse(
                ("settings",),
                f"task {point.task!r} gives the model a new classifier (classes: {classes}), which "
                f"knows nothing before tuning; leave out {' and '.join(untuned)}",
            )

    def _refuse(self, path: tuple[str | int, ...], sentence: str) -> NoReturn:
        raise SuiteError(f"{self.suite.where(*path)}: {sentence}")


def stage_digest(
    kind: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    environment: Mapping[str, str],
) -> str:
    """sha256 over all that can change a stage's result, its code version included."""
    content = {
        "environment": dict(environment),
        "inputs": dict(inputs),
        "kind": kind,
        "params": dict(params),
        "version": KINDS[kind].version,
    }
    return hashlib.sha256(canonical(content)).hexdigest()


def non_default(settings: Train | Evaluate) -> dict[str, Any]:
    """The fields that differ from their default: a new field then changes no digest."""
    default = type(settings)()
    pairs = ((name, getattr(settings, name)) for name in _names(settings))
    return {name: value for name, value in pairs if value != getattr(default, name)}


def _scoring(evaluate: Evaluate) -> dict[str, Any]:
    """The evaluation settings that move a score: what else is scored does not."""
    return {name: value for name, value in non_default(evaluate).items() if name != "oracle"}


def _effective(train: Train, setting: Setting) -> dict[str, Any]:
    """The training settings that act: epochs give way to max_steps, some are of one setting."""
    idle = {"epochs"} if train.max_steps is not None else set()
    idle |= {"cache_activations"} if setting == "full_finetuned" else {"train_all"}
    idle |= {"selection"} if train.checkpoints == 1 else set()
    return {name: value for name, value in non_default(train).items() if name not in idle}


def _of_peer(peer: str, train: dict[str, Any]) -> dict[str, Any]:
    """The parameters in which another loop's training differs: it replays no step."""
    return {"peer": peer, "train": {k: v for k, v in train.items() if k != "cuda_graph"}}


def _names(settings: Train | Evaluate) -> list[str]:
    return sorted(type(settings).model_fields)


def _described(step: Step) -> dict[str, Any]:
    """A method with its parameters that are not default."""
    return {"method": step.method, **_chosen(step.parameters)}


def _chosen(parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass of one of the tables
    """The parameters that are not default: a new one then changes no digest."""
    default = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(parameters)
    }
    given = sorted(asdict(parameters).items())
    return {name: value for name, value in given if value != default[name]}


def _task(task: Task) -> dict[str, Any]:
    """A task without the places of its files: their content enters by its hash."""
    chosen = {name: value for name, value in _chosen(task.parameters).items() if name != "data"}
    return {"kind": task.kind, **chosen}


def _axes(point: CasePoint) -> dict[str, Any]:
    """The axes of a case, as overrides match them and plans write them."""
    return {
        "model": point.model,
        "adapter_blocks": str(point.adapter_blocks),
        "compression": [_described(step) for step in point.compression],
        "tuning": _described(point.tuning),
        "task": point.task,
        "seed": point.seed,
    }
