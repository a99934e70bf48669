"""A report as one HTML file that asks nothing of the network and runs no script."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.cells import Absent, Number, Text
from reports.report import Report

FOLDER = Path(__file__).parent
SHORT = 28
"""Letters up to which a name stays on one line: a layout never breaks at its hyphens."""


def render_html(report: Report) -> str:
    """The whole report. Free text is escaped; the page forbids itself what it has not."""
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["number"] = lambda cell: isinstance(cell, Number)
    environment.tests["absent"] = lambda cell: isinstance(cell, Absent)
    environment.tests["short"] = lambda cell: isinstance(cell, Text) and len(cell.text) <= SHORT
    environment.filters["breakable"] = _breakable
    environment.filters["data_url"] = _data_url
    page = environment.get_template("report.html.j2")
    text = page.render(report=report, style=Markup(style), style_hash=_csp_hash(style))
    return text.lstrip()


def _breakable(text: str) -> Markup:
    """A name that may also break after a plus, a comma and an opening bracket."""
    return Markup(re.sub(r"([+,(])(?=\S)", r"\1<wbr>", str(escape(text))))


def _csp_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _data_url(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
