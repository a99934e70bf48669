"""JSON Schema of a suite file, for editors: made from the classes and tables that check it."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from bench.suite.closed import LATER
from bench.suite.steps import COMPRESSIONS, TUNINGS, Table
from bench.suite.suite_file import SuiteFile
from bench.suite.task_files import fields_of, follow, read_task_file, task_files
from bench.tasks.kinds import KINDS

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema of a suite file; every object is closed."""
    schema = SuiteFile.model_json_schema()
    schema["$defs"] |= {
        "composition": _composition(_distillable(_any_step(COMPRESSIONS))),
        "distillation": _step(COMPRESSIONS, "distill", named=False),
        "compression_pattern": _composition(_any_step(COMPRESSIONS, required=())),
        "tuning": _any_step(TUNINGS),
        "tuning_pattern": _any_step(TUNINGS, required=()),
        "task": {"anyOf": [_task(kind, names) for kind, names in _tasks_by_kind().items()]},
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    text = json.dumps(schema).replace(json.dumps(LATER), json.dumps("$ref"))
    result: Schema = json.loads(text)
    return result


def _any_step(table: Table, *, required: tuple[str, ...] | None = None) -> Schema:
    """A method's name, or a method with parameters; `required` replaces what it needs."""
    steps = [_step(table, method) for method in table.rows]
    if required is not None:
        steps = [{**step, "required": list(required)} for step in steps]
    return {"anyOf": [{"enum": list(table.rows)}, *steps]}


def _step(table: Table, method: str, *, named: bool = True) -> Schema:
    """A method's parameters, with its name unless the key that holds them is its name."""
    schema = _documented(table.model(method), table.rows[method].parameters)
    name = {"method": {"const": method}} if named else {}
    required = [*name, *schema.get("required", [])]
    properties = {**name, **schema["properties"]}
    return {**schema, "title": method, "properties": properties, "required": required}


def _distillable(schema: Schema) -> Schema:
    """Any compression with parameters may say how it is distilled."""
    distill = {"distill": {"$ref": "#/$defs/distillation"}}
    return {
        "anyOf": [
            {**step, "properties": {**step["properties"], **distill}}
            if "properties" in step
            else step
            for step in schema["anyOf"]
        ]
    }


def _composition(step: Schema) -> Schema:
    return {"anyOf": [*step["anyOf"], {"type": "array", "items": step, "minItems": 1}]}


def _tasks_by_kind() -> Mapping[str, list[str]]:
    by_kind = {kind: [kind] for kind in KINDS}
    for name in task_files():
        kind, _ = follow(read_task_file(name), ("tasks", name))
        by_kind[kind].append(name)
    return by_kind


def _task(kind: str, names: list[str]) -> Schema:
    schema = _documented(fields_of(kind), KINDS[kind].parameters)
    task = {"enum": names, "description": "A kind of task, or a task file of that kind."}
    properties = {"task": task, **schema["properties"]}
    return {**schema, "title": kind, "properties": properties, "required": ["task"]}


def _documented(model: type[BaseModel], row: type) -> Schema:
    """The schema of `model`, with the docstrings of the table's dataclass it was made from."""
    schema = model.model_json_schema()
    docstrings = _field_docstrings(row)
    for name, field in schema["properties"].items():
        field.pop("title", None)
        if name in docstrings:
            field["description"] = docstrings[name]
    return {**schema, "description": inspect.getdoc(row) or ""}


def _field_docstrings(row: type) -> dict[str, str]:
    """Field name to the string that stands under it."""
    tree = ast.parse(inspect.cleandoc(inspect.getsource(row))).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
