"""Draw in a process of its own while the tables are made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict

from reports.figures.picture import Gallery, Picture


def drawn_aside(draw: Callable[[], Gallery]) -> Callable[[], Gallery]:
    """Start drawing; returns what waits for the pictures.

    A copy of this process draws, so that nothing has to be handed to it. Where there is no such
    thing, or it fails, drawing happens here when the pictures are waited for.
    """
    if not hasattr(os, "fork"):
        return draw
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _draw_into(writing, draw)
    os.close(writing)

    def wait() -> Gallery:
        with os.fdopen(reading, "rb") as stream:
            content = stream.read()
        _, status = os.waitpid(child, 0)
        # An error is raised again by what raised it, here, where somebody sees it.
        return _gallery(content) if status == 0 else draw()

    return wait


def _draw_into(writing: int, draw: Callable[[], Gallery]) -> None:
    """The copy: draw, write, and end without what the original would do at its end."""
    status = 1
    try:
        with os.fdopen(writing, "wb") as stream:
            stream.write(json.dumps(asdict(draw())).encode())
        status = 0
    finally:
        os._exit(status)


def _gallery(content: bytes) -> Gallery:
    drawn = json.loads(content)
    pictures = tuple(Picture(**each) for each in drawn["pictures"])
    return Gallery(pictures=pictures, note=drawn["note"])
