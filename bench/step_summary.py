"""The report on the page of a GitHub workflow run, where GITHUB_STEP_SUMMARY asks for it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from reports.render.markdown import render_markdown
from reports.report import Report

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT = 2**20
"""Bytes GitHub takes of one step; it drops a longer summary whole."""
SECTION = re.compile(r"^(?=## )", re.MULTILINE)
LEFT_OUT = "\n*{count} more sections are left out: GitHub shows at most 1 MiB.*\n"


def add_to_step_summary(report: Report) -> str:
    """Append a report where GitHub asks for it; returns why that failed, or nothing.

    Without its pictures: files beside the summary are not shown.
    """
    if not os.environ.get(VARIABLE):
        return ""
    return append_to_step_summary(render_markdown(replace(report, pictures=()), {}) + "\n")


def append_to_step_summary(text: str) -> str:
    """Append Markdown where GitHub asks for it; returns why that failed, or nothing."""
    path = os.environ.get(VARIABLE)
    if not path:
        return ""
    try:
        with Path(path).open("ab") as stream:
            # Other commands of the step may have written before.
            stream.write(shortened(text, LIMIT - stream.tell()).encode())
    except OSError as error:
        return f"no step summary: cannot write {path}: {error.strerror}"
    return ""


def shortened(text: str, room: int) -> str:
    """The text without as many of its last sections as do not fit, and a line that says so.

    >>> text = "# Page\\n## One\\n" + 200 * "-" + "\\n## Two\\n" + 200 * "-"
    >>> shortened(text, 1000) == text
    True
    >>> shortened(text, 300).split("\\n")[-2]
    '*1 more sections are left out: GitHub shows at most 1 MiB.*'
    """
    sections = SECTION.split(text)
    sizes = [0, *accumulate(len(section.encode()) for section in sections)]
    if sizes[-1] <= room:
        return text
    for kept in reversed(range(len(sections))):
        end = LEFT_OUT.format(count=len(sections) - kept)
        if sizes[kept] + len(end) <= room:
            return "".join(sections[:kept]) + end
    return ""
