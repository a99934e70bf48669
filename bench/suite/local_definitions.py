"""A task definition in lm-eval's format, in a file of the suite's own.

What stages get is its content: where the file lies changes no result. It can run no code of its
own: functions (`!function`) are refused, as all tags are.
"""

from __future__ import annotations

from pathlib import Path

from bench.errors import SuiteError
from bench.suite.checking import refuse
from bench.suite.yaml_reader import read_file
from reports.record import canonical

SUFFIXES = (".yaml", ".yml")
"""What tells a file from a name that lm-eval knows."""


def read_definition(path: Path) -> str:
    """The definition in a file, and in what it includes, as JSON.

    Raises:
        SuiteError: one line, at the place in the file.
    """
    whole = _with_included(path, ())
    if not isinstance(whole.get("task"), str):
        raise SuiteError(f"{path}: task: missing; give the task's name, as lm-eval has it")
    return canonical(whole).decode()


def _with_included(path: Path, above: tuple[Path, ...]) -> dict[str, object]:
    node = read_file(path, str(path))
    if not isinstance(node.value, dict):
        refuse(node.place, (), "it must be a mapping (key: value), a task of lm-eval")
    own: dict[str, object] = {key: each.plain() for key, each in node.value.items()}
    if "include" not in own:
        return own
    included, place = own.pop("include"), node.value["include"].place
    if not isinstance(included, str):
        refuse(place, ("include",), "it must be the path of one file")
    base = (path.parent / included).resolve()
    if base in (path.resolve(), *above):
        refuse(place, ("include",), "a circle; one of the files must include none")
    return {**_with_included(base, (*above, path.resolve())), **own}
