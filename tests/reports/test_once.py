"""A table's text is made once, and long tables are left to spreadsheets."""

from __future__ import annotations

from pathlib import Path

from reports.render import write_report
from reports.render.markdown import render_markdown
from reports.render.once import once
from reports.report import build_report
from reports.results import read_plan
from reports.tables import cells
from reports.tables.cells import Table
from tests.reports.synthetic_store import SyntheticStore, fill


def test_rendered_once():
    """Asked twice, made once; another table with the same content is another."""
    made = []

    def render(table: Table) -> str:
        made.append(table.name)
        return table.title

    remembered = once(render)
    tables = [Table(name=name, title="t", columns=()) for name in "aa"]
    assert [remembered(table) for table in (*tables, *tables)] == ["t"] * 4
    assert made == ["a", "a"]


def test_long_tables_are_in_the_csv_files_alone(monkeypatch, tmp_path: Path):
    """Markdown says where they are; LaTeX has no file; the page and the CSV file have them."""
    plan = read_plan(fill(SyntheticStore(tmp_path / "store")))
    for module in ("reports.render.markdown", "reports.render"):
        monkeypatch.setattr(f"{module}.LONG", 20)
    report = build_report(tmp_path / "store", plan)
    (stages,) = [table for table in report.further if table.name == "stages"]
    assert len(stages.rows) > 20
    names = {path.name for path in write_report(report, tmp_path / "report")}
    assert "stages.csv" in names
    assert "stages.tex" not in names
    assert f"{len(stages.rows)} rows: they are in the CSV file." in render_markdown(report, {})
    assert cells.LONG == 1000
