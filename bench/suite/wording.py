"""What an error repeats of a user's text: short, on one line, nothing a terminal acts on."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from bench import names

LONGEST = 60
"""Characters of a user's text that an error repeats."""
MOST_KNOWN = 100
"""Names that an error lists."""


def shown(text: str) -> str:
    """`text` cut to `LONGEST` characters, with what is not printable escaped."""
    return one_line(_cut(text))


def one_line(text: str) -> str:
    """`text` in full with what is not printable escaped: line ends, ANSI codes, bidi marks.

    >>> print(one_line("two" + chr(10) + "lines"))
    two\\nlines
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """`bench.names.unknown` for a name that a user's file may have made long or odd."""
    listed = [shown(each) for each in islice(known, MOST_KNOWN)]
    return names.unknown(kind, _cut(name), listed)


def missing(key: str, given: Iterable[str]) -> str:
    """Say that `key` is not there, or which of the keys `given` is a misspelling of it."""
    near = get_close_matches(key, list(islice(given, MOST_KNOWN)), n=1)
    return (
        f"missing; is '{shown(near[0])}' meant for it?" if near else f"missing; add '{key}: ...'."
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
