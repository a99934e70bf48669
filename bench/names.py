"""Look a name up in a table, or say which names would have worked."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The one-line message for a name that is not in a table.

    >>> unknown("task", "hellaswga", ["piqa", "hellaswag"])
    "unknown task 'hellaswga'. Did you mean 'hellaswag'? Known: hellaswag, piqa."
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}."
