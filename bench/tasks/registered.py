"""Tasks that lm-eval defines, or a file in its format, tuned and scored by that definition."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from bench.errors import SuiteError
from bench.tasks import rows
from bench.tasks.data import scored_split
from bench.tasks.documents import ROWS, Row
from bench.tasks.kinds import LmEval
from bench.tasks.language import METRICS, ChoiceTask
from offsite.models import Foundation

ROWS_ONLY = {
    "training_split": None,
    "validation_split": None,
    "test_split": ROWS,
    "fewshot_split": None,
    "fewshot_config": None,
    "num_fewshot": 0,
}
"""Laid over a definition: whatever split is asked for, lm-eval sees it as the one to score."""

OUTPUT_TYPES = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")

FIELD = re.compile(r"\{(\w+)\}")
"""In an id: the field of a row that says which definition reads it."""

PLAIN_NAME = re.compile(r"[\w.-]+")
"""A name that a file can have, and that is no pattern."""

PAPER_LEAVES_OUT = {
    **dict.fromkeys(
        ("arc_challenge", "arc_easy", "hellaswag", "openbookqa", "piqa", "sciq"),
        # Scored after a space, and tuned without one.
        " ",
    ),
    "webqs": "",
}
"""How the paper's training text differs from lm-eval's: what it lacks before the answer."""


def prepare(parameters: LmEval, foundation: Foundation, tokens: Path | None = None) -> ChoiceTask:
    """The task of a definition over the suite's data, for one model's tokenizer."""
    definitions = _Definitions(parameters)
    return ChoiceTask(
        definitions,
        parameters.data,
        parameters.length,
        foundation,
        tokens,
        left_out=_paper_leaves_out(definitions.id) if parameters.prompt == "paper" else "",
    )


def _paper_leaves_out(name: str) -> str:
    if name == "race":
        raise SuiteError(
            "prompt: paper asks one question about an article, and a row of 'race' holds several; "
            "use task race_questions"
        )
    if name not in PAPER_LEAVES_OUT:
        known = ", ".join(PAPER_LEAVES_OUT)
        raise SuiteError(f"prompt: paper is not known for {name!r}, only for {known}")
    return PAPER_LEAVES_OUT[name]


class _Source(Protocol):
    """Where definitions are."""

    def config(self, name: str) -> dict[str, Any]:
        """The definition of that name, functions in it by name.

        Raises:
            SuiteError: there is none.
        """
        ...

    def build(self, name: str, laid_over: dict[str, Any]) -> Any:  # noqa: ANN401
        """lm-eval's task of that definition with some of its fields replaced."""
        ...


class _Definitions:
    """The definitions that a task's `id` stands for: one, or one for each value of a field."""

    def __init__(self, parameters: LmEval) -> None:
        self.parameters = parameters
        self.id = parameters.id
        self.source: _Source = _Registered()
        if parameters.id.startswith('{"'):
            self.source = local = _Local(parameters.id)
            self.id = local.name
        self.known: set[str] = set()
        """Names that were looked up and can be run."""
        self.pool: list[Row] = []
        """The rows that few-shot examples are drawn from, once they were read."""
        if not FIELD.search(self.id):
            self._look_up(self.id)

    def name_of(self, row: Row) -> str:
        """The name of the definition that reads this row."""
        for field in FIELD.findall(self.id):
            if not isinstance(row.get(field), str):
                raise SuiteError(f"no text in field {field!r}, which the id {self.id!r} names")
        name = FIELD.sub(lambda found: str(row[found[1]]), self.id)
        self._look_up(name)
        return name

    def over(self, name: str, found: list[Row], *, is_scored: bool) -> Any:  # noqa: ANN401
        """lm-eval's task of that name over these rows."""
        from datasets import Dataset

        splits = {ROWS: Dataset.from_list(found)}
        laid_over = {**ROWS_ONLY, "custom_dataset": lambda **_: splits}
        if is_scored and self.parameters.fewshot:
            split = _fewshot_split(self.source.config(name)) or "train"
            splits[split] = Dataset.from_list(self._examples(name))
            laid_over |= {"training_split": split, "num_fewshot": self.parameters.fewshot}
            if "test" not in self.parameters.data:
                # Whether a text is kept out of its own examples hangs on which split is scored.
                laid_over |= {"test_split": None, "validation_split": ROWS}
            # Its own settings stay: which split, and how examples are drawn and written.
            del laid_over["fewshot_split"], laid_over["fewshot_config"]
        task = self.source.build(name, laid_over)
        # Else it would read the rows again each time it is asked for them.
        task.dataset = {ROWS: task.task_docs}
        task.config.process_docs = None
        return task

    def _examples(self, name: str) -> list[Row]:
        """The rows that few-shot examples of this definition are drawn from."""
        split = self._pool_split(self.source.config(name))
        self.pool = self.pool or rows.read(self.parameters.data, split)
        found = [row for row in self.pool if self.name_of(row) == name]
        if len(found) < self.parameters.fewshot:
            raise SuiteError(
                f"fewshot: {self.parameters.fewshot} needs as many rows for {name!r}, and the "
                f"{split} split has {len(found)}"
            )
        return found

    def _pool_split(self, config: dict[str, Any]) -> str:
        """Which of the suite's splits few-shot examples are drawn from."""
        data, wanted = self.parameters.data, _fewshot_split(config)
        keys = {"train": "training_split", "validation": "validation_split", "test": "test_split"}
        splits = [
            split
            for split, key in keys.items()
            if wanted and split in data and wanted in (config.get(key), data[split])
        ]
        split = splits[0] if splits else "train"
        if split == scored_split(data):
            raise SuiteError(
                f"lm-eval draws the few-shot examples of {self.id!r} from the split that it "
                "scores; use fewshot: 0"
            )
        return split

    def _look_up(self, name: str) -> None:
        """Refuse what this kind cannot run, and data whose scored split is not the definition's."""
        if name in self.known:
            return
        config = self.source.config(name)
        _check_output(name, config, self.parameters.fewshot)
        scores = "test" if config.get("test_split") else "validation"
        given = scored_split(self.parameters.data)
        if given != scores:
            change = "leave test out of" if given == "test" else "add test to"
            raise SuiteError(f"lm-eval scores the {scores} split of {name!r}; {change} its `data`")
        self.known.add(name)


def _fewshot_split(config: dict[str, Any]) -> str | None:
    """The split that a definition draws its few-shot examples from, if it says so."""
    split: str | None = (config.get("fewshot_config") or {}).get("split")
    return split or config.get("fewshot_split")


def _check_output(name: str, config: dict[str, Any], fewshot: int) -> None:
    found = config.get("output_type", "no output_type of its own")
    if found not in OUTPUT_TYPES:
        raise SuiteError(
            f"lm-eval task {name!r} has {found}; kind lm_eval runs those with output_type "
            f"{' or '.join(OUTPUT_TYPES)}"
        )
    metrics = [str(each.get("metric")) for each in config.get("metric_list") or []]
    if metrics and not set(metrics) & set(METRICS):
        raise SuiteError(
            f"lm-eval task {name!r} is scored by {', '.join(metrics)}; kind lm_eval knows "
            f"{', '.join(METRICS)}"
        )
    if fewshot and found == "loglikelihood_rolling":
        raise SuiteError(f"lm-eval task {name!r} scores whole texts; use fewshot: 0")


class _Registered:
    """The definitions that are registered in lm-eval."""

    def __init__(self) -> None:
        self.managers: dict[str, Any] = {}

    def config(self, name: str) -> dict[str, Any]:
        if name not in self.managers:
            near = (each for each in self.managers.values() if name in each.task_index)
            self.managers[name] = next(near, None) or _manager(name)
        config: dict[str, Any] = self.managers[name].task_index[name].cfg or {}
        return config

    def build(self, name: str, laid_over: dict[str, Any]) -> Any:  # noqa: ANN401
        # Through a group, because only its members take their definition from the registry.
        group = {"group": "one", "task": [{"task": name, **laid_over}]}
        return self.managers[name].load(group)["tasks"][name]


class _Local:
    """The definition in a file of the suite, whose content is the task's id."""

    def __init__(self, content: str) -> None:
        from lm_eval.config.task import TaskConfig

        self.content: dict[str, Any] = json.loads(content)
        self.name = str(self.content["task"])
        unknown = sorted(self.content.keys() - {field.name for field in fields(TaskConfig)})
        if unknown:
            raise SuiteError(
                f"the definition of {self.name!r} has a key {unknown[0]!r}, which lm-eval does not "
                "know"
            )

    def config(self, name: str) -> dict[str, Any]:
        return self.content

    def build(self, name: str, laid_over: dict[str, Any]) -> Any:  # noqa: ANN401
        from lm_eval.api.task import ConfigurableTask

        return ConfigurableTask(config={**self.content, **laid_over})


def _manager(name: str) -> Any:  # noqa: ANN401 - untyped library
    """lm-eval's task manager, knowing at least this task."""
    import lm_eval.tasks

    # Scanning all definitions takes seconds; most lie in a file or a folder of their own name.
    folder = Path(lm_eval.tasks.__file__).parent
    patterns = (f"*/{name}.yaml", f"{name}/*.yaml", f"*/{name}/*.yaml", f"*/*/{name}.yaml")
    found = (path for pattern in patterns for path in folder.glob(pattern))
    near = sorted({str(path.parent) for path in found}) if PLAIN_NAME.fullmatch(name) else []
    manager = lm_eval.tasks.TaskManager(include_path=near, include_defaults=False)
    if name not in manager.task_index:
        manager = lm_eval.tasks.TaskManager()
    if name not in manager.task_index:
        # It knows more than ten thousand.
        near = get_close_matches(name, manager.all_subtasks, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise SuiteError(
            f"unknown lm-eval task {name!r}.{hint} `lm-eval ls subtasks` lists all of them."
        )
    return manager
