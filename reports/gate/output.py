"""Verdicts for those who read them: people, and the programs that people let read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reports.gate.baseline import Baseline, Measured
from reports.gate.evidence import Verdict, Word
from reports.gate.lines import Line
from reports.gate.noise import Noise
from reports.gate.rules import rule_of
from reports.junit import Case, junit_xml
from reports.statistics.intervals import Part
from reports.tables.cells import NOT_APPLICABLE, Cell, Column, Table, Text, label, one_line

ORDER: tuple[Word, ...] = ("REGRESSED", "MISSING", "INCONCLUSIVE", "IMPROVED", "PASS")
"""What has to be looked at comes first."""
LEVELS: dict[Word, str] = {
    "REGRESSED": "error",
    "MISSING": "error",
    "INCONCLUSIVE": "warning",
    "IMPROVED": "notice",
}
"""Of GitHub's annotations; what passed needs none."""


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many of each.

    >>> summary([])
    'nothing was judged'
    """
    counts = Counter(each.word for each in verdicts)
    found = [f"{counts[word]} {word}" for word in ORDER if counts[word]]
    return ", ".join(found) or "nothing was judged"


def ordered(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The worst first, else as they came."""
    return sorted(verdicts, key=lambda each: ORDER.index(each.word))


def verdict_table(verdicts: Sequence[Verdict], title: str) -> Table:
    """One row a line."""
    rows = ordered(verdicts)
    columns: tuple[tuple[str, list[Cell]], ...] = (
        ("verdict", [Text(text=each.word) for each in rows]),
        ("what", [label(_place(each.line)) for each in rows]),
        ("metric", [label(each.line.metric) for each in rows]),
        ("loss", [_loss(each, each.loss) for each in rows]),
        ("could be seen", [_loss(each, each.detectable) for each in rows]),
        ("why", [label(each.sentence) for each in rows]),
    )
    return Table(
        name="verdicts",
        title=one_line(f"{title}: {summary(verdicts)}"),
        columns=_columns(columns),
        notes=(
            "Loss: positive is worse. Could be seen: the smallest loss that would have been called "
            "a regression nearly always.",
        ),
    )


def baseline_table(baseline: Baseline) -> Table:
    """What a baseline holds: one row a line."""
    rows = baseline.measured
    columns: tuple[tuple[str, list[Cell]], ...] = (
        ("what", [label(_place(each.line)) for each in rows]),
        ("metric", [label(each.line.metric) for each in rows]),
        ("runs", [label(_runs(each)) for each in rows]),
        ("items", [label(_items(each)) for each in rows]),
        ("mean", [label(_mean(each)) for each in rows]),
    )
    when = f"{baseline.suite}, commit {baseline.commit[:12] or 'not known'}"
    when += " + local changes" * baseline.dirty
    return Table(
        name="baseline",
        title=one_line(f"{when}, machine {baseline.machine}"),
        columns=_columns(columns),
        notes=tuple(_noise_note(baseline.noise)),
    )


def _noise_note(noise: Noise | None) -> Iterator[str]:
    if noise is not None:
        count = len(noise.sessions)
        yield f"With what {count} session{'s' * (count > 1)} of calibration said of its machine."


def noise_table(noise: Noise) -> Table:
    """How far a machine differs from itself, line by line."""
    known = dict.fromkeys(
        (each.line, each.setup) for session in noise.sessions for each in session.lines
    )
    columns: tuple[tuple[str, list[Cell]], ...] = (
        ("what", [label(_place(line)) for line, _ in known]),
        ("metric", [label(line.metric) for line, _ in known]),
        ("measured", [label(setup) for _, setup in known]),
        ("sessions", [label(str(noise.count(*each))) for each in known]),
        ("within a session", [_percent(noise.within(*each)) for each in known]),
        ("between days", [_percent(_deviation(noise.drift(*each))) for each in known]),
    )
    return Table(
        name="noise",
        title=one_line(f"Machine {noise.machine} against itself"),
        columns=_columns(columns),
        notes=(
            "Within a session: standard deviation of a run. Between days: of the difference of "
            "two days; known from the third on. Measured: one text for one way to measure a line; "
            "of other batch sizes and the like nothing is known.",
        ),
    )


def _columns(columns: Sequence[tuple[str, Sequence[Cell]]]) -> tuple[Column, ...]:
    """Columns of words, of which `what` names the row."""
    return tuple(
        Column(header=header, cells=tuple(cells), kind="label" if header == "what" else "verdict")
        for header, cells in columns
    )


def _runs(measured: Measured) -> str:
    seeds = {run.seed for run in measured.runs}
    count = str(len(measured.runs))
    return f"{count} of {len(seeds)} seeds" if len(seeds) > 1 else count


def _items(measured: Measured) -> str:
    counts = sorted({run.items.count for run in measured.runs if run.items is not None})
    return ", ".join(f"{count:,}" for count in counts)


def _mean(measured: Measured) -> str:
    mean = sum(run.value for run in measured.runs) / len(measured.runs)
    unit = "" if measured.unit == "1" else f" {measured.unit}"
    return f"{mean:,.4g}{unit}"


def _percent(deviation: float | None) -> Cell:
    return NOT_APPLICABLE if deviation is None else Text(text=f"{100 * deviation:.2f} %")


def _deviation(part: Part | None) -> float | None:
    return None if part is None else math.sqrt(part.variance)


def as_values(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """For JSON: losses are fractions of items, or natural logarithms of ratios."""
    return [
        {
            **each.line.model_dump(),
            "verdict": each.word,
            "reason": each.sentence,
            "loss": each.loss,
            "detectable": each.detectable,
            "probability": each.probability,
            "more_runs": each.more_runs,
            "anew": each.anew,
        }
        for each in ordered(verdicts)
    ]


def junit(verdicts: Sequence[Verdict], suite: str) -> str:
    """JUnit XML: regressions and missing lines fail, what cannot be told is skipped."""
    return junit_xml(suite, [_case(each) for each in ordered(verdicts)])


def _case(verdict: Verdict) -> Case:
    name = f"{_place(verdict.line)}: {verdict.line.metric}"
    if verdict.word in ("REGRESSED", "MISSING"):
        return Case(name=name, outcome="failure", message=verdict.sentence, type=verdict.word)
    if verdict.word == "INCONCLUSIVE":
        return Case(name=name, outcome="skipped", message=verdict.sentence)
    return Case(name=name)


def workflow_commands(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """GitHub's annotations: one workflow command for each line that did not pass."""
    for each in ordered(verdicts):
        if each.word in LEVELS:
            title = _property(f"{each.word}: {each.line.metric}")
            said = _data(f"{_place(each.line)}: {each.sentence}")
            yield f"::{LEVELS[each.word]} title={title}::{said}"


def _place(line: Line) -> str:
    parts = (line.model, line.layout, line.compression, line.tuning, line.task)
    what = line.setting or line.stage
    by = f"by {line.peer}" if line.peer else ""
    return one_line(" ".join(filter(None, (*parts, what, by))))


def _loss(verdict: Verdict, loss: float | None) -> Cell:
    return NOT_APPLICABLE if loss is None else Text(text=rule_of(verdict.line.metric).text(loss))


def _data(text: str) -> str:
    return one_line(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
