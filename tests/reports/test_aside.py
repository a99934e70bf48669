"""A result is the same whether this process works for it or a copy of it."""

from __future__ import annotations

import os

import pytest

from reports.aside import aside
from reports.figures.picture import Gallery, Picture

DRAWN = Gallery(
    pictures=(
        Picture(
            name="a", title="t", description="d é 模型 \u202e", svg="<svg/>" * 50_000, table="x"
        ),
    ),
    note="one left out",
)


def test_a_copy_works():
    """What it made comes back whole, and it was no work of this process."""
    worked_here = []

    def work() -> Gallery:
        worked_here.append(os.getpid())
        return DRAWN

    assert aside(work)() == DRAWN
    assert worked_here == []


def test_what_fails_there_fails_here(capfd):
    """An error of the copy is seen: the work is tried again where somebody waits."""

    def work() -> Gallery:
        raise ZeroDivisionError

    wait = aside(work)
    with pytest.raises(ZeroDivisionError):
        wait()


def test_a_copy_that_dies_costs_nothing_but_time():
    """Killed for want of memory, say: then this process works."""
    original = os.getpid()

    def work() -> Gallery:
        if os.getpid() != original:
            os._exit(9)
        return DRAWN

    assert aside(work)() == DRAWN


def test_without_copies_of_processes_work_waits(monkeypatch):
    """On other systems it is done when it is asked for."""
    monkeypatch.delattr(os, "fork")
    assert aside(lambda: DRAWN)() == DRAWN


def test_a_report_of_many_stages_is_made_by_two(monkeypatch, tmp_path):
    """And is the same, page and all."""
    from reports import render
    from reports import report as module
    from reports.results import read_plan
    from tests.reports.synthetic_store import SyntheticStore, fill

    plan = read_plan(fill(SyntheticStore(tmp_path)))
    here = module.build_report(tmp_path, plan)
    monkeypatch.setattr(module, "MANY", 3)
    monkeypatch.setattr(render, "MANY", 3)
    there = module.build_report(tmp_path, plan)
    assert there.pictures == here.pictures
    assert here.pictures
    render.write_report(here, tmp_path / "here")
    render.write_report(there, tmp_path / "there")
    names = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.*")]
    assert len(names) > 10
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
