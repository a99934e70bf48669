"""`-k EXPR`: choose cases by parts of their names, joined with and, or, not, parentheses."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from bench.errors import SuiteError

WORD = re.compile(r"\s*(\(|\)|'[^']*'|[^\s()']+(?:\([^\s()]*\)[^\s()']*)*)")
OPERATORS = {"and", "or", "not", "(", ")"}


def parse(expression: str) -> Callable[[str], bool]:
    """A predicate over case names.

    Words match anywhere in a name; a word may hold a label's own parentheses.

    >>> chosen = parse("layer_drop(keep=4) and not lora")
    >>> chosen("tiny-lm/2+2/layer_drop(keep=4)/full/text/s0")
    True
    >>> chosen("tiny-lm/2+2/layer_drop(keep=4)/lora(rank=4)/text/s0")
    False
    """
    words: list[str] = []
    parts = []
    for token in WORD.findall(expression):
        if token in OPERATORS:
            parts.append(token)
        else:
            parts.append(f"_{len(words)}")
            words.append(token.strip("'"))
    try:
        tree = ast.parse(" ".join(parts), mode="eval").body
        _evaluate(tree, {f"_{i}": False for i in range(len(words))})
    except (SyntaxError, KeyError, TypeError):
        raise SuiteError(
            f"-k {expression!r}: not an expression; write parts of case names joined with "
            "and, or, not, as in -k 'lora and not vit'"
        ) from None
    return lambda name: _evaluate(tree, {f"_{i}": word in name for i, word in enumerate(words)})


def _evaluate(node: ast.expr, truth: dict[str, bool]) -> bool:
    if isinstance(node, ast.BoolOp):
        values = [_evaluate(value, truth) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _evaluate(node.operand, truth)
    if isinstance(node, ast.Name):
        return truth[node.id]
    raise TypeError(type(node).__name__)
