"""Work in a process of its own while this one does something else."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Found = TypeVar("Found")
MANY = 2000
"""Stages of a report beyond which it pays to work in two processes."""


@contextmanager
def aside(work: Callable[[], Found], stages: int) -> Iterator[Callable[[], Found]]:
    """Start to work; what is given waits for the result, and the work ends with the block.

    A copy of this process works, so that nothing has to be handed to it; the result must be
    picklable. Where stages are few, no copy is to be had, or it fails, the work is done here when
    it is waited for.
    """
    if stages <= MANY:
        yield work
        return
    try:
        reading, child = _started(work)
    except OSError:  # too many processes or open files
        yield work
        return
    status: int | None = None
    with os.fdopen(reading, "rb") as stream:

        def wait() -> Found:
            nonlocal status
            content = stream.read()
            status = _ended(child)
            if status != 0:
                # An error is raised again by what raised it, here, where somebody sees it.
                return work()
            found: Found = pickle.loads(content)
            return found

        try:
            yield wait
        finally:
            if status is None:
                os.kill(child, signal.SIGKILL)
                _ended(child)


def _started(work: Callable[[], object]) -> tuple[int, int]:
    """The pipe to read the result from, and the process that makes it.

    Raises:
        OSError: there is no such thing, or none is left.
    """
    if not hasattr(os, "fork"):
        raise OSError("no copies of processes")
    reading, writing = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _work_into(writing, work)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return reading, child


def _ended(child: int) -> int:
    """Its status, once it has ended."""
    return os.waitpid(child, 0)[1]


def _work_into(writing: int, work: Callable[[], object]) -> None:
    """The copy: work, write, and end without what the original would do at its end."""
    status = 1
    try:
        with os.fdopen(writing, "wb") as stream:
            pickle.dump(work(), stream, protocol=pickle.HIGHEST_PROTOCOL)
        status = 0
    finally:
        os._exit(status)
