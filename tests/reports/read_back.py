"""Reads a table back from each format, knowing the formats and nothing of how they are written.

All four readers return the same shape, so that tests can lay the formats side by side. A reader
fails where a file holds what its format does not print as it stands.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import islice

from markdown_it import MarkdownIt
from markdown_it.token import Token

from reports.tables.cells import Cell, Number, Table

ZERO_WIDTH = "\u200b"
"""Parts what GitHub would link; no text that is printed holds one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCell:
    """What a reader sees in one cell."""

    text: str
    """Mean, spread, ratio and letters of a number."""
    mark: str = ""
    is_bold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTable:
    """What a reader sees of one table."""

    headers: list[str]
    rows: list[list[ReadCell]]
    footnotes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a spreadsheet sees: no bold, no marks, and digits without what only helps the eye."""

    headers: list[str]
    rows: list[list[str]]
    counts: list[list[tuple[str, str]]]
    """Seeds and items of every cell, empty where its column has none."""
    notes: list[str]


def expected(table: Table) -> ReadTable:
    """What every format has to show."""
    return ReadTable(
        headers=[f"{c.header} ({c.detail})" if c.detail else c.header for c in table.columns],
        rows=[[_expected_cell(cell) for cell in row] for row in table.rows],
        footnotes=list(table.footnotes),
    )


def plain(table: Table) -> Sheet:
    """What a spreadsheet has to show."""
    texts = dict(table.footnotes)
    marks = [dict.fromkeys(cell.mark for cell in row if cell.mark) for row in table.rows]
    return Sheet(
        headers=list(map(_guarded, expected(table).headers)),
        rows=[[_plain_text(cell) for cell in row] for row in table.rows],
        counts=[
            [
                _counts(cell, has_spread=any(map(_spread, column.cells)))
                for cell, column in zip(row, table.columns, strict=True)
            ]
            for row in table.rows
        ],
        notes=[_guarded("; ".join(texts[mark] for mark in found)) for found in marks]
        if table.footnotes
        else [],
    )


def _expected_cell(cell: Cell) -> ReadCell:
    is_bold = isinstance(cell, Number) and cell.is_best
    return ReadCell(text=cell.text, mark=cell.mark, is_bold=is_bold)


def _plain_text(cell: Cell) -> str:
    if isinstance(cell, Number):
        return cell.text.replace(",", "").removeprefix("+")
    return _guarded(cell.text)


def _guarded(text: str) -> str:
    """With an apostrophe where a spreadsheet would take it for a formula."""
    return re.sub(r"^(?=[=+\-@])", "'", text)


def _spread(cell: Cell) -> str:
    return cell.spread_text if isinstance(cell, Number) else ""


def _counts(cell: Cell, *, has_spread: bool) -> tuple[str, str]:
    if not isinstance(cell, Number):
        return "", ""
    found = cell.estimate
    return str(found.n) if has_spread else "", str(found.items) if found.items else ""


# ---- Markdown


def read_markdown(source: str) -> ReadTable:
    """The first table of a page and the list under it, as a GitHub-like parser sees them."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(source)
    lines: list[list[ReadCell]] = []
    footnotes: list[tuple[str, str]] = []
    in_item = False
    for position, token in enumerate(tokens):
        if token.type == "tr_open":
            lines.append([])
        elif token.type in ("th_open", "td_open"):
            lines[-1].append(_markdown_cell(tokens[position + 1]))
        elif token.type == "list_item_open":
            in_item = True
        elif token.type == "inline" and in_item:
            mark, text = re.fullmatch(r"\[([a-z]+)\] (.*)", _markdown_text(token)).groups()
            footnotes.append((mark, text))
            in_item = False
    headers = [cell.text for cell in lines[0]]
    return ReadTable(headers=headers, rows=lines[1:], footnotes=footnotes)


def _markdown_cell(token: Token) -> ReadCell:
    kinds = [child.type for child in token.children or ()]
    text, mark = _markdown_text(token), ""
    raw = token.content
    # A mark is written without backslashes, a bracket of a text with them.
    if found := re.search(r" \[([a-z]+)\]$", raw):
        mark, text = found[1], text.removesuffix(found[0])
    return ReadCell(text=text, mark=mark, is_bold="strong_open" in kinds)


def _markdown_text(token: Token) -> str:
    """The words of a line; the only markup it may hold is bold and a span around a dollar."""
    texts = []
    for child in token.children or ():
        if child.type == "html_inline":
            assert child.content in ("<span>", "</span>")
        else:
            assert child.type in ("text", "strong_open", "strong_close"), child
            texts.append(child.content)
    return "".join(texts).replace(ZERO_WIDTH, "")


# ---- LaTeX

PRINTED = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textasciigrave{}": "`",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textendash{}": "–",  # noqa: RUF001
    r"\ldots{}": "…",
    r"\allowbreak{}": "",
    r"$\pm$": "±",
    r"$\times$": "×",  # noqa: RUF001
    r"$\uparrow$": "↑",
    r"$\downarrow$": "↓",
    "$-$": "-",
    "{[}": "[",
    "{*}": "*",
    "-{}": "-",
    "'{}": "'",
    ",{}": ",",
    **{f"\\{sign}": sign for sign in "{}$&#%_"},
}
TOKEN = re.compile(
    "|".join(map(re.escape, PRINTED))
    # What TeX prints as it stands; two dashes, quotes or commas in a row become another sign.
    + r"|-(?!-)|'(?!')|,(?!,)|[^\\{}$&#%_^~`\[*',\-\n]"
)
RAISED = re.compile(r"(.*?)(?:\\textsuperscript\{([A-Za-z0-9,-]+)\})?")
BOLD = re.compile(r"\\textbf\{((?:\$-\$)?[^{}$]*)\}(.*)")


def read_latex(source: str, *, has_details: bool) -> ReadTable:
    """A file with one `table` environment, read line by line; anything not known is an error."""
    lines = (line for line in source.splitlines() if not line.startswith("%"))
    _expect(lines, r"\begin{table}", r"\centering\small")
    caption = re.fullmatch(r"\\caption\{(.*)\}", next(lines))
    assert caption
    tex_prints(caption[1])
    _expect(lines, r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%")
    spec = re.fullmatch(r"\\begin\{tabular\}\{((?:[lr]|p\{45mm\})+)\}", next(lines))
    assert spec
    columns = len(re.sub(r"p\{45mm\}", "p", spec[1]))
    _expect(lines, r"\toprule")
    head = list(_rows(lines, r"\midrule", columns))
    body = list(_rows(lines, r"\bottomrule", columns))
    _expect(lines, r"\end{tabular}}")
    footnotes = list(_latex_footnotes(lines))
    assert not list(lines)
    details = [cell.text for cell in head.pop()] if has_details else [""] * columns
    names = [
        " ".join(cell.text for cell in lines if cell.text) for lines in zip(*head, strict=True)
    ]
    return ReadTable(
        headers=[f"{n} ({d})" if d else n for n, d in zip(names, details, strict=True)],
        rows=body,
        footnotes=footnotes,
    )


def tex_prints(source: str) -> str:
    """What TeX prints of a text; fails on every command, group or sign it does not print."""
    position, texts = 0, []
    while position < len(source):
        found = TOKEN.match(source, position)
        assert found, source[position:]
        texts.append(PRINTED.get(found[0], found[0]))
        position = found.end()
    return "".join(texts)


def _expect(lines: Iterator[str], *those: str) -> None:
    assert list(islice(lines, len(those))) == list(those)


def _rows(lines: Iterator[str], end: str, columns: int) -> Iterator[list[ReadCell]]:
    for line in lines:
        if line == end:
            return
        assert line.endswith(r" \\"), line
        # TeX skips blanks at the start of a cell; an escaped ampersand is no border.
        cells = re.split(r"(?<!\\)&", f" {line.removesuffix(chr(92) * 2)}")
        assert len(cells) == columns, line
        yield [_latex_cell(cell[1:-1]) for cell in cells]
    raise AssertionError(f"no {end}")


def _latex_cell(source: str) -> ReadCell:
    text, above = RAISED.fullmatch(source).groups()
    letters = [part for part in (above or "").split(",") if part[:1].isupper()]
    marks = [part for part in (above or "").split(",") if part[:1].islower()]
    bold = BOLD.fullmatch(text)
    shown = tex_prints(bold[1]) + tex_prints(bold[2]) if bold else tex_prints(text)
    return ReadCell(text=" ".join([shown, *letters]), mark="".join(marks), is_bold=bool(bold))


def _latex_footnotes(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line == r"\end{table}":
            return
        if line == r"\par\smallskip\raggedright\footnotesize":
            continue
        mark, text = re.fullmatch(r"(?:\\textsuperscript\{([a-z]+)\} )?(.*)\\par", line).groups()
        shown = tex_prints(text)
        if mark:
            yield mark, shown
    raise AssertionError(r"no \end{table}")


# ---- CSV


def read_csv(source: str, table: Table) -> Sheet:
    """The sheet, its columns put together again under the headers of the table's columns."""
    header, *lines = csv.reader(io.StringIO(source, newline=""))
    assert {len(line) for line in lines} <= {len(header)}
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(header)
    left = list(zip(header, columns, strict=True))
    read = [_sheet_column(left, column.header) for column in table.columns]
    notes: Sequence[str] = ()
    if table.footnotes:
        name, notes = left.pop(0)
        assert name == "notes"
    assert not left
    return Sheet(
        headers=[name for name, _, _ in read],
        rows=[list(row) for row in zip(*(texts for _, texts, _ in read), strict=True)],
        counts=[list(row) for row in zip(*(counts for *_, counts in read), strict=True)],
        notes=list(notes),
    )


def _sheet_column(
    left: list[tuple[str, Sequence[str]]], header: str
) -> tuple[str, list[str], list[tuple[str, str]]]:
    """Takes a column and what belongs to it off the sheet: header, texts, counts."""
    name, main = left.pop(0)
    parts = {}
    for part in ("±", "n", "items", "×", "ties"):  # noqa: RUF001
        has = bool(left) and left[0][0] == f"{part} {header}"
        parts[part] = left.pop(0)[1] if has else [""] * len(main)
    spreads, n, items, ratios, ties = parts.values()
    texts = [
        " ".join(
            filter(None, (mean, s and f"± {s}", r and f"({r}×)", letters))  # noqa: RUF001
        )
        for mean, s, r, letters in zip(main, spreads, ratios, ties, strict=True)
    ]
    return name, texts, list(zip(n, items, strict=True))


# ---- HTML


class Page(HTMLParser):
    """The tables of a page; the words of its cells, whatever links and spans they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[ReadTable] = []
        self._open: list[str] = []
        self._start_words()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = dict(attrs).get("class") or ""
        if tag == "table":
            self.tables.append(ReadTable(headers=[], rows=[]))
        elif tag == "tr" and "tbody" in self._open:
            self.tables[-1].rows.append([])
        if tag in ("td", "th", "li"):
            self._start_words()
        self._bold |= tag in ("strong", "b")
        if tag not in ("meta", "link", "img", "br", "wbr", "input", "hr"):
            self._open.append(f"{tag}.{classes}" if tag in ("ul", "span") else tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().partition(".")[0] != tag:
            pass
        if tag in ("td", "th"):
            self._end_cell()
        elif tag == "li" and self._open and self._open[-1] == "ul.footnotes":
            self.tables[-1].footnotes.append((self._above, " ".join(self._words.split())))

    def handle_data(self, data: str) -> None:
        if "sup" in self._open:
            self._above += data
        elif "span.group" in self._open:
            self._letters += data
        else:
            self._words += data

    def _start_words(self) -> None:
        self._words, self._letters, self._above, self._bold = "", "", "", False

    def _end_cell(self) -> None:
        words = " ".join([*self._words.split(), *self._letters.split()])
        if "tbody" in self._open:
            cell = ReadCell(text=words, mark=self._above, is_bold=self._bold)
            self.tables[-1].rows[-1].append(cell)
        else:
            self.tables[-1].headers.append(words)
