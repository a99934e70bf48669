"""A report as one HTML file that asks nothing of the network.

It is whole without its script, which only sorts, filters, copies and shows where a number comes
from without leaving the table.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import takewhile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.figures.picture import Picture
from reports.provenance import Place, Source
from reports.render.csv_files import render_csv
from reports.render.latex import render_latex
from reports.render.markdown import markdown_table
from reports.report import Report
from reports.tables.appendix import STAGES
from reports.tables.cells import DASH, TIMES, Cell, Number, Table, Text, one_line

FOLDER = Path(__file__).parent
SHORT = 28
"""Letters up to which a name stays on one line: a layout never breaks at its hyphens."""
WIDE = 14
"""From more columns on a table is printed smaller."""


Origin = tuple[str, tuple[Place, ...]]
"""An anchor, and the places to be reached by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A main table with what stands under it."""

    anchor: str
    table: Table
    notes: tuple[str, ...]
    others: tuple[Table, ...]
    """The same settings in other metrics."""
    pictures: tuple[Picture, ...]


def render_html(report: Report) -> str:
    """The whole report. Free text is escaped; the page forbids itself what it has not."""
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    origins = _origins(report)
    sections = _sections(report)
    elsewhere = {STAGES, *(other.name for section in sections for other in section.others)}
    details = [table for table in report.further if table.name not in elsewhere]
    shown = [table for section in sections for table in (section.table, *section.others)]
    text = (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            sections=sections,
            figures=[picture for picture in report.pictures if _stands_alone(picture, report)],
            details=details,
            copies=_copies([*shown, *details]),
            anchors={stages: anchor for stages, (anchor, _) in origins.items()},
            origins={anchor: places for anchor, places in origins.values() if len(places) > 1},
            style=Markup(style),
            style_hash=_csp_hash(style),
            script=Markup(script),
            script_hash=_csp_hash(script),
        )
    )
    return text.lstrip()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["wide"] = lambda table: len(table.columns) > WIDE
    environment.filters["shown"] = _shown
    environment.filters["source"] = _source
    environment.filters["worded"] = _worded
    environment.filters["data_url"] = _data_url
    environment.filters["one_line"] = one_line
    environment.filters["naming_columns"] = _naming_columns
    return environment


def _origins(report: Report) -> dict[tuple[str, ...], Origin]:
    """Where the link of a number goes, by its stages: to their place, or to a list of places."""
    found: dict[tuple[str, ...], Origin] = {(): ("", ())}
    lists: dict[tuple[str, ...], str] = {}
    for cell in _cells((*report.tables, *report.further)):
        if isinstance(cell, Text) or cell.sources in found:
            continue
        places = report.provenance.places_of(cell.sources)
        anchors = tuple(place.anchor for place in places)
        anchor = anchors[0] if anchors else ""
        if len(anchors) > 1:
            anchor = lists.setdefault(anchors, f"o{len(lists) + 1}")
        found[cell.sources] = (anchor, places)
    return found


def _cells(tables: Iterable[Table]) -> Iterator[Cell]:
    return (cell for table in tables for column in table.columns for cell in column.cells)


def _sections(report: Report) -> list[Section]:
    return [
        Section(
            anchor=f"t{number}",
            table=table,
            notes=report.own_notes(table),
            others=tuple(other for other in report.further if _replaces(other, table)),
            pictures=tuple(each for each in report.pictures if each.table == table.name),
        )
        for number, table in enumerate(report.tables, start=1)
    ]


def _replaces(other: Table, table: Table) -> bool:
    """Whether a table shows the same settings in another metric."""
    subjects = ((each.model, each.task) for each in (other, table))
    return bool(other.metric and table.metric) and len(set(subjects)) == 1


def _stands_alone(picture: Picture, report: Report) -> bool:
    return picture.table not in {table.name for table in report.tables}


def _naming_columns(table: Table) -> int:
    """How many columns from the left name a row: all labels before its first other column."""
    labels = list(takewhile(lambda column: column.kind == "label", table.columns))
    return len(labels) if len(labels) < len(table.columns) else 1


def _copies(tables: Sequence[Table]) -> str:
    """Every table as the other formats have it: JSON, packed, as it is longer than the page."""
    texts = {
        "Markdown": [markdown_table(table) for table in tables],
        "LaTeX": [render_latex(table) for table in tables],
        "CSV": [render_csv(table) for table in tables],
    }
    packed = gzip.compress(json.dumps(texts).encode(), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode()


def _shown(cell: Cell, anchors: Mapping[tuple[str, ...], str]) -> Markup:
    """A cell with the link to where it comes from. No macro: there are tens of thousands."""
    anchor = "" if isinstance(cell, Text) else anchors[cell.sources]
    if isinstance(cell, Number):
        shown = _number(cell, anchor)
    elif isinstance(cell, Text):
        shown = _breakable(cell.text) if len(cell.text) > SHORT else escape(cell.text)
    else:
        shown = f'<span class="absent">{_linked(escape(cell.text), anchor)}</span>'
    mark = f"<sup>{escape(cell.mark)}</sup>" if cell.mark else ""
    # Of a number the mark belongs to the mean and stands before what is beside it.
    beside = _beside(cell) if isinstance(cell, Number) else ""
    return Markup(shown + mark + beside)


def _number(number: Number, anchor: str) -> str:
    mean = escape(number.mean_text)
    counts = " ".join(str(count) for count in (number.estimate.n, number.estimate.items) if count)
    return _linked(
        f"<strong>{mean}</strong>" if number.is_best else mean, anchor, f' data-n="{counts}"'
    )


def _beside(number: Number) -> str:
    spread, ratio = escape(number.spread_text), escape(number.ratio_text)
    group = f' <span class="group">{escape(number.group)}</span>' if number.group else ""
    small = f" <small>± {spread}{group}</small>" if spread else group
    return f"{small} <small>({ratio}{TIMES})</small>" if ratio else small


def _linked(shown: str, anchor: str, attributes: str = "") -> str:
    return f'<a href="#{anchor}"{attributes}>{shown}</a>' if anchor else shown


def _breakable(text: str) -> str:
    """A name that may also break after a plus, a comma and an opening bracket.

    The style sheet knows by the last `<wbr>` that it is long.
    """
    return re.sub(r"([+,(])(?=\S)|$", r"\1<wbr>", escape(text))


def _worded(header: str) -> Markup:
    """A header that breaks between its words and not at a hyphen."""
    return Markup(escape(header).replace(" ", " <wbr>"))


def _source(source: Source) -> Markup:
    """The cells of a stage: no macro either, there are as many as stages."""
    outcome = f"{source.outcome}: {source.reason}" if source.reason else source.outcome
    texts = (source.seed or DASH, outcome, source.seconds, source.items)
    files = [f'<a href="{escape(each.address)}">{escape(each.name)}</a>' for each in source.files]
    if not source.logs:
        files.append("no log kept")
    return Markup("".join(f"<td>{cell}</td>" for cell in (*map(escape, texts), ", ".join(files))))


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _data_url(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
