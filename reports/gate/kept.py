"""JSON files that people keep for the gate: read whole, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from reports.errors import ReportError

SCHEMA = 2
"""Of all of them."""
Kept = TypeVar("Kept", bound=BaseModel)


def read_kept(path: Path, model: type[Kept], what: str) -> Kept:
    """Read one.

    Args:
        path: the file.
        model: what it holds.
        what: what it is called, in a message.

    Raises:
        FileNotFoundError: there is none.
        ReportError: it is none of these, is damaged, or of a schema this version does not read.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not a {what} ({error})") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ReportError(
            f"{path}: {what} schema {schema!r}; this version reads {SCHEMA}: "
            "remove it and make it again"
        )
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or what
        raise ReportError(f"{path}: {where}: {first['msg']}") from None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
