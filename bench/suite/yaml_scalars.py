"""What an unquoted scalar means in YAML 1.2, and which ones are better quoted."""

from __future__ import annotations

import math
import re

Scalar = None | bool | int | float | str
MAX_DIGITS = 18


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar, as YAML 1.2's core schema has it.

    Raises:
        ValueError: YAML versions read it differently, or it is no finite number.

    >>> resolve("2e-5"), resolve("2+2"), resolve("~")
    (2e-05, '2+2', None)
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"has more than {MAX_DIGITS} digits: quote it or write it as 1e20")
        return int(text)
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            raise ValueError("is too large for a number: quote it or write a smaller one")
        return float(text)
    for pattern, remedy in _AMBIGUOUS:
        if pattern.fullmatch(text):
            raise ValueError(
                f"is read differently by different YAML versions: quote it or {remedy}"
            )
    return text


_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_AMBIGUOUS = [
    (re.compile(pattern, re.IGNORECASE), remedy)
    for pattern, remedy in (
        ("yes|no|on|off|true|false", "write true or false"),
        ("null", "write null"),
        (r"[-+]?0[xob][0-9a-f_]+", "write it in decimal"),
        (r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?(e[-+]?[0-9]+)?", "leave out the underscores"),
        (r"[-+]?0[0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?", "leave out the leading zeros"),
        (r"[-+]?[0-9]+(:[0-9]{1,2})+(\.[0-9]*)?", "write one number"),
        (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([t ].*)?", "write something that is no date"),
        (r"[-+]?\.(inf|nan)", "write a finite number"),
    )
]
