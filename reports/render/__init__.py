"""Write a report into a folder, every format from the same table objects."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from reports.aside import aside
from reports.collector import resting
from reports.errors import ReportError
from reports.render.csv_files import render_csv
from reports.render.html import render_html
from reports.render.latex import render_latex
from reports.render.markdown import render_markdown
from reports.report import Report
from reports.tables.cells import LONG, Table

Files = Iterator[tuple[str, str]]
"""Path below the report's folder, and content."""


@resting()
def write_report(report: Report, folder: Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write the report in the given formats, by default all of FORMATS; returns the files.

    Each file is replaced whole: somebody reading an older one never sees half of the new.

    Raises:
        ReportError: a format we do not write.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ReportError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    first, *others = formats or FORMATS
    work = partial(_written, report, folder, others)
    with aside(work, report.counts.planned) as written_aside:
        return [*_written(report, folder, [first]), *written_aside()]


def _written(report: Report, folder: Path, formats: Iterable[str]) -> list[Path]:
    return [
        _replace(folder / name, text)
        for format_name in formats
        for name, text in FORMATS[format_name](report)
    ]


def _html(report: Report) -> Files:
    yield "report.html", render_html(report)


def _markdown(report: Report) -> Files:
    names = [picture.name for picture in report.pictures]
    files = {
        name: f"figures/{file}.svg" for name, file in zip(names, _file_names(names), strict=True)
    }
    for picture in report.pictures:
        yield files[picture.name], picture.svg
    yield "report.md", render_markdown(report, files)


def _latex(report: Report) -> Files:
    return _each_table(report, "tex", render_latex)


def _csv(report: Report) -> Files:
    return _each_table(report, "csv", render_csv)


FORMATS: dict[str, Callable[[Report], Files]] = {
    "html": _html,
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
}


def _each_table(report: Report, suffix: str, render: Callable[[Table], str]) -> Files:
    tables = (*report.tables, *report.further)
    for table, file in zip(tables, _file_names([table.name for table in tables]), strict=True):
        if suffix == "tex" and len(table.rows) > LONG:
            continue
        yield f"tables/{file}.{suffix}", render(table)


def _file_names(names: Sequence[str]) -> list[str]:
    """A file name for each, made of letters that mean nothing to a shell or a file system."""
    files: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:100] or "table"
        numbered = (f"{stem}-{number}" for number in range(2, len(names) + 2))
        files.append(next(file for file in (stem, *numbered) if file.lower() not in taken))
        taken.add(files[-1].lower())
    return files


def _replace(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        # mkstemp makes private files; a report is as readable as the folder's other files.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
