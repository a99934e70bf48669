"""The one exception of everything that measures."""

from __future__ import annotations


class Unavailable(Exception):
    """A source cannot be read; the message is the reason a record gives."""
