"""Work in a process of its own while this one does something else."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
MANY = 2000
"""Stages of a report from which on it pays to work in two processes."""


def aside(work: Callable[[], Found]) -> Callable[[], Found]:
    """Start to work; returns what waits for the result.

    A copy of this process works, so that nothing has to be handed to it; the result must be
    picklable. Where there are no copies, or one fails, the work is done here when it is waited for.
    """
    if not hasattr(os, "fork"):
        return work
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _work_into(writing, work)
    os.close(writing)

    def wait() -> Found:
        with os.fdopen(reading, "rb") as stream:
            content = stream.read()
        _, status = os.waitpid(child, 0)
        if status != 0:
            # An error is raised again by what raised it, here, where somebody sees it.
            return work()
        found: Found = pickle.loads(content)
        return found

    return wait


def _work_into(writing: int, work: Callable[[], object]) -> None:
    """The copy: work, write, and end without what the original would do at its end."""
    status = 1
    try:
        with os.fdopen(writing, "wb") as stream:
            pickle.dump(work(), stream, protocol=pickle.HIGHEST_PROTOCOL)
        status = 0
    finally:
        os._exit(status)
