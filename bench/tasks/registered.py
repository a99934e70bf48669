"""Multiple-choice tasks registered in lm-eval, tuned and scored by lm-eval's own definition."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bench.errors import SuiteError
from bench.tasks.data import scored_split
from bench.tasks.kinds import LmEval
from bench.tasks.language import ChoiceTask, Row
from offsite.models import Foundation

ROWS_ONLY = {
    "training_split": None,
    "validation_split": None,
    "test_split": "test",
    "fewshot_split": None,
    "fewshot_config": None,
    "num_fewshot": 0,
}
"""Laid over a definition: whatever split is asked for, lm-eval sees it as the one to score."""


def prepare(parameters: LmEval, foundation: Foundation) -> ChoiceTask:
    """The task of a definition over the suite's data, for one model's tokenizer."""
    manager = _manager(parameters.id)
    _check(parameters, manager.task_index[parameters.id].cfg or {})

    def define(found: list[Row]) -> Any:  # noqa: ANN401 - untyped library
        from datasets import Dataset

        data = Dataset.from_list(found)
        laid_over = {**ROWS_ONLY, "custom_dataset": lambda **_: {"test": data}}
        # Through a group, because only its members take their definition from the registry.
        group = {"group": "one", "task": [{"task": parameters.id, **laid_over}]}
        task = manager.load(group)["tasks"][parameters.id]
        # Else it would read the rows again each time it is asked for them.
        task.dataset = {"test": task.eval_docs}
        task.config.process_docs = None
        return task

    return ChoiceTask(parameters.id, define, parameters.data, parameters.length, foundation)


def _manager(name: str) -> Any:  # noqa: ANN401 - untyped library
    """lm-eval's task manager, knowing at least this task."""
    import lm_eval.tasks

    # Scanning all definitions takes seconds; most lie in a file of their own name.
    folder = Path(lm_eval.tasks.__file__).parent
    near = sorted({str(path.parent) for path in folder.glob(f"*/{name}.yaml")})
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


def _check(parameters: LmEval, definition: dict[str, Any]) -> None:
    """Refuse what this kind cannot run, and data whose scored split is not the definition's."""
    found = definition.get("output_type", "no output_type of its own")
    if found != "multiple_choice":
        raise SuiteError(
            f"lm-eval task {parameters.id!r} has {found}; kind lm_eval runs those with output_type "
            "multiple_choice"
        )
    scores = "test" if definition.get("test_split") else "validation"
    given = scored_split(parameters.data)
    if given != scores:
        change = "leave test out of" if given == "test" else "add test to"
        raise SuiteError(
            f"lm-eval scores the {scores} split of {parameters.id!r}; {change} its `data`"
        )
