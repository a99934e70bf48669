"""Render a table once, however often its text is asked for."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from reports.tables.cells import Table


def once(render: Callable[[Table], str]) -> Callable[[Table], str]:
    """The same, remembered as long as the table lives: its text is a file and is in the page."""
    made: WeakKeyDictionary[Table, str] = WeakKeyDictionary()

    def rendered(table: Table) -> str:
        if table not in made:
            made[table] = render(table)
        return made[table]

    rendered.__doc__ = render.__doc__
    return rendered
