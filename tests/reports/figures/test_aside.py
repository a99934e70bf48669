"""Pictures are the same whether this process draws them or a copy of it."""

from __future__ import annotations

import os

import pytest

from reports.figures.aside import drawn_aside
from reports.figures.picture import Gallery, Picture

DRAWN = Gallery(
    pictures=(
        Picture(
            name="a", title="t", description="d é 模型 \u202e", svg="<svg/>" * 50_000, table="x"
        ),
    ),
    note="one left out",
)


def test_a_copy_draws():
    """What it drew comes back whole, and it was no work of this process."""
    drawn_here = []

    def draw() -> Gallery:
        drawn_here.append(os.getpid())
        return DRAWN

    assert drawn_aside(draw)() == DRAWN
    assert drawn_here == []


def test_what_fails_there_fails_here(capfd):
    """An error of the copy is seen: drawing is tried again where somebody waits."""

    def draw() -> Gallery:
        raise ZeroDivisionError

    wait = drawn_aside(draw)
    with pytest.raises(ZeroDivisionError):
        wait()


def test_a_copy_that_dies_costs_nothing_but_time():
    """Killed for want of memory, say: then this process draws."""
    original = os.getpid()

    def draw() -> Gallery:
        if os.getpid() != original:
            os._exit(9)
        return DRAWN

    assert drawn_aside(draw)() == DRAWN


def test_without_copies_of_processes_drawing_waits(monkeypatch):
    """On other systems it is done when it is asked for."""
    monkeypatch.delattr(os, "fork")
    assert drawn_aside(lambda: DRAWN)() == DRAWN


def test_a_report_of_many_stages_is_drawn_aside(monkeypatch, tmp_path):
    """And has the same pictures."""
    from reports import report as module
    from reports.results import read_plan
    from tests.reports.synthetic_store import SyntheticStore, fill

    plan = read_plan(fill(SyntheticStore(tmp_path)))
    here = module.build_report(tmp_path, plan)
    monkeypatch.setattr(module, "MANY", 3)
    there = module.build_report(tmp_path, plan)
    assert there.pictures == here.pictures
    assert here.pictures
