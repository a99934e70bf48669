"""What `fit` found, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.environment import Machine
from bench.fit.probes import Row, Tried
from bench.fit.search import Limit, Undetermined
from reports.render.csv_files import render_csv
from reports.render.markdown import escape, markdown_table
from reports.tables.cells import Absent, Cell, Column, Footnotes, Table, Text, label


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One cell: a row within a budget."""

    row: Row
    budget: float
    """In GB."""
    answer: Limit | Undetermined

    def as_dict(self) -> dict[str, Any]:
        """As `fit --json` prints it."""
        labels, answer = self.row.labels, self.answer
        batch = answer.batch if isinstance(answer, Limit) else None
        tokens = batch * self.row.length if batch is not None and self.row.length else None
        return {
            "model": labels.model,
            "setting": labels.setting,
            "layout": labels.layout,
            "compression": labels.compression,
            "tuning": labels.tuning,
            "task": labels.task,
            "length": self.row.length,
            "budget_gb": self.budget,
            "batch": batch,
            "tokens": tokens,
            "next": answer.beyond if isinstance(answer, Limit) else None,
            "unconfirmed": answer.dropped if isinstance(answer, Limit) else None,
            "reason": str(answer) if isinstance(answer, Undetermined) else None,
        }


def told(tried: Tried) -> str:
    """One line for one trial."""
    labels, length = tried.row.labels, tried.row.length
    what = f"{labels.model} {_setting(tried.row)} {labels.compression} {labels.tuning}"
    size = f"batch {tried.batch}" + (f" x {length}" if length else "")
    verdict = "trains" if tried.reason is None else "out of memory"
    took = f"{tried.steps} steps, {tried.seconds:.1f} s"
    return f"{' '.join(what.split())}: {size} in {tried.budget:g} GB: {verdict} ({took})"


def fit_table(suite: str, found: Sequence[Found], notes: Sequence[str]) -> Table:
    """One line a row, one column a budget."""
    footnotes = Footnotes()
    rows = list(dict.fromkeys(each.row for each in found))
    cells = {(each.row, each.budget): _cell(each, footnotes) for each in found}
    budgets = sorted({each.budget for each in found})
    columns = [
        Column(
            header=f"{budget:g} GB",
            cells=tuple(cells[row, budget] for row in rows),
        )
        for budget in budgets
    ]
    return Table(
        name="fit",
        title=f"{suite}: largest batch (and its tokens) that trains within a memory budget",
        columns=(*_labels(rows), *columns),
        notes=tuple(notes),
        footnotes=footnotes.lettered(),
    )


def fit_notes(machine: Machine, rows: Sequence[Row], steps: int) -> list[str]:
    """How to read the table."""
    if machine.device == "cuda":
        what = f"what torch's allocator holds on the GPU ({machine.gpus[0].name})"
    else:
        what = f"the resident memory of the process on the CPU ({machine.processor})"
    notes = [
        f"Each batch trained for {steps} steps, and one more sample ran out of memory, unless a "
        "footnote says that it was not tried; where it does not fit, one sample did.",
        "FT: all blocks of the complete model train. OT: adapter blocks around an emulator.",
        f"A budget is a cap, in 10^9 bytes, on {what}, model included. It is not a smaller "
        "machine: that has other kernels and a share of its own for the driver.",
    ]
    too_long = {(row.labels.model, row.positions) for row in rows if not row.is_readable}
    return notes + [
        f"{model} was made for {positions:,} tokens: no rows of longer samples."
        for model, positions in sorted(too_long)
    ]


def markdown(table: Table) -> str:
    """The table as a page."""
    notes = "\n".join(f"- {escape(note)}" for note in table.notes)
    return f"# {escape(table.title)}\n\n{markdown_table(table)}\n\n{notes}\n"


def files(table: Table) -> dict[str, str]:
    """Name and content of every file that is written."""
    return {"fit.md": markdown(table), "fit.csv": render_csv(table)}


def _labels(rows: Sequence[Row]) -> Iterator[Column]:
    yield _column("model", [row.labels.model for row in rows])
    yield _column("setting", list(map(_setting, rows)))
    yield _column("compression", [row.labels.compression for row in rows])
    yield _column("tuning", [row.labels.tuning for row in rows])
    yield _column("length", [f"{row.length:,} tokens" if row.length else "" for row in rows])


def _setting(row: Row) -> str:
    return f"OT {row.labels.layout}" if row.labels.layout else "FT"


def _column(header: str, names: Sequence[str]) -> Column:
    return Column(header=header, cells=tuple(map(label, names)), kind="label")


def _cell(found: Found, footnotes: Footnotes) -> Cell:
    answer = found.answer
    if isinstance(answer, Undetermined):
        return Absent(word="not known", mark=footnotes.mark(str(answer)))
    remark = " ".join(_remarks(answer))
    mark = footnotes.mark(remark) if remark else ""
    if not answer.batch:
        return Text(text="does not fit", mark=mark)
    tokens = f" ({answer.batch * found.row.length:,})" if found.row.length else ""
    return Text(text=f"{answer.batch:,}{tokens}", mark=mark)


def _remarks(limit: Limit) -> Iterator[str]:
    if limit.beyond is None:
        yield f"More than {limit.batch:,} was not tried (--max-batch)."
    if limit.dropped:
        yield (
            f"Up to {limit.batch + limit.dropped:,} trained a few steps, and ran out of memory "
            "later."
        )
