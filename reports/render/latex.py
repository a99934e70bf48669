"""A table as LaTeX, for a paper that loads booktabs and graphicx."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from textwrap import wrap

from reports.render.once import once
from reports.tables.cells import DASH, TIMES, Cell, Column, Number, Table

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "`": r"\textasciigrave{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # After the end of a row a star or a bracket would be taken for an option of it.
        "[": "{[}",
        "*": "{*}",
        "±": r"$\pm$",
        TIMES: r"$\times$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        DASH: r"\textendash{}",
        "…": r"\ldots{}",
        "\ufffd": "?",
    }
)
LIGATURE = re.compile(r"([-',])(?=\1)")
"""Two of them in a row would become another sign."""
NARROW = 28
"""Letters up to which a column of names is as wide as its longest; others break their lines."""
PARAGRAPH = "p{45mm}"
"""Room for that many."""
HEADER = 12
"""Letters of a line of a header: few columns of numbers are wider."""
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""A table wider than its column is made smaller; one that fits stays as it is."""


@once
def render_latex(table: Table) -> str:
    """A `table` environment: caption, booktabs rules, footnotes and notes under it."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: Table) -> Iterator[str]:
    body = list(_body(table))
    yield r"% needs \usepackage{booktabs,graphicx}"
    if not all(line.isascii() for line in body):
        yield "% has letters beyond ASCII: LuaLaTeX or XeLaTeX print those their font has"
    yield from body


def _body(table: Table) -> Iterator[str]:
    yield "\\begin{table}"
    yield "\\centering\\small"
    yield f"\\caption{{{escape(table.title)}}}"
    yield FITTED
    yield f"\\begin{{tabular}}{{{''.join(map(_alignment, table.columns))}}}"
    yield "\\toprule"
    yield from _headers(table.columns)
    if any(column.detail for column in table.columns):
        yield _row(escape(column.detail) for column in table.columns)
    yield "\\midrule"
    for row in table.rows:
        yield _row(_cell(cell) for cell in row)
    yield "\\bottomrule"
    yield "\\end{tabular}}"
    if table.footnotes or table.notes:
        yield "\\par\\smallskip\\raggedright\\footnotesize"
    for mark, text in table.footnotes:
        yield f"\\textsuperscript{{{mark}}} {escape(text)}\\par"
    for note in table.notes:
        yield f"{escape(note)}\\par"
    yield "\\end{table}"


@lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return LIGATURE.sub(r"\1{}", text.translate(ESCAPES))


def _headers(columns: Sequence[Column]) -> Iterator[str]:
    """The headers in lines of few letters, the last of each just above the rule."""
    headers = [
        wrap(column.header, HEADER, break_long_words=False, break_on_hyphens=False)
        for column in columns
    ]
    for line in range(max(map(len, headers)), 0, -1):
        yield _row(escape(words[-line]) if line <= len(words) else "" for words in headers)


def _alignment(column: Column) -> str:
    if column.right:
        return "r"
    return "l" if all(len(cell.text) <= NARROW for cell in column.cells) else PARAGRAPH


def _row(texts: Iterable[str]) -> str:
    return " & ".join(texts) + r" \\"


def _cell(cell: Cell) -> str:
    text = _number(cell) if isinstance(cell, Number) else _breakable(cell.text)
    # Capitals are the letters of ties, small ones footnotes.
    raised = [cell.group, cell.mark] if isinstance(cell, Number) else [cell.mark]
    above = ",".join(filter(None, raised))
    return f"{text}\\textsuperscript{{{above}}}" if above else text


def _number(number: Number) -> str:
    mean = escape(number.mean_text)
    if mean.startswith("-"):
        mean = f"$-${mean[1:]}"
    if number.is_best:
        mean = f"\\textbf{{{mean}}}"
    return f"{mean} {escape(number.beside_text)}".rstrip()


def _breakable(text: str) -> str:
    """A long name that may also break after a plus, a comma and an opening bracket."""
    if len(text) <= NARROW:
        return escape(text)
    return "\\allowbreak{}".join(escape(part) for part in re.split(r"(?<=[+,(])(?=\S)", text))
