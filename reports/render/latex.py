"""A table as LaTeX, for a paper that loads booktabs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reports.cells import DASH, TIMES, Cell, Number, Table

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
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        TIMES: r"$\times$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        DASH: "--",
        "…": r"\ldots{}",
        "\ufffd": "?",
    }
)


def render_latex(table: Table) -> str:
    """A `table` environment: caption, booktabs rules, footnotes and notes under it."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: Table) -> Iterator[str]:
    alignment = "".join("r" if column.right else "l" for column in table.columns)
    yield "% needs \\usepackage{booktabs}"
    yield "\\begin{table}"
    yield "\\centering\\small"
    yield f"\\caption{{{escape(table.title)}}}"
    yield f"\\begin{{tabular}}{{{alignment}}}"
    yield "\\toprule"
    yield _row(escape(column.header) for column in table.columns)
    if any(column.detail for column in table.columns):
        yield _row(escape(column.detail) for column in table.columns)
    yield "\\midrule"
    for row in table.rows:
        yield _row(_cell(cell) for cell in row)
    yield "\\bottomrule"
    yield "\\end{tabular}"
    for mark, text in table.footnotes:
        yield f"\\par\\footnotesize\\textsuperscript{{{mark}}} {escape(text)}"
    for note in table.notes:
        yield f"\\par\\footnotesize {escape(note)}"
    yield "\\end{table}"


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return text.translate(ESCAPES)


def _row(texts: Iterable[str]) -> str:
    return " & ".join(texts) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if isinstance(cell, Number) and text.startswith("-"):
        text = f"$-${text[1:]}"
    return f"{text}\\textsuperscript{{{cell.mark}}}" if cell.mark else text
