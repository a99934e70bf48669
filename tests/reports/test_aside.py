"""A result is the same whether this process works for it or a copy of it."""

from __future__ import annotations

import os
import time
from functools import partial

import pytest

from reports.aside import MANY, aside
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

    with aside(work, MANY + 1) as wait:
        assert wait() == DRAWN
    assert worked_here == []


def test_what_fails_there_fails_here(capfd):
    """An error of the copy is seen: the work is tried again where somebody waits."""

    def work() -> Gallery:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), aside(work, MANY + 1) as wait:
        wait()


def test_a_copy_that_dies_costs_nothing_but_time():
    """Killed for want of memory, say: then this process works."""
    original = os.getpid()

    def work() -> Gallery:
        if os.getpid() != original:
            os._exit(9)
        return DRAWN

    with aside(work, MANY + 1) as wait:
        assert wait() == DRAWN


def test_few_stages_are_no_work_for_two():
    """A copy costs more than it saves."""
    with aside(os.getpid, MANY) as wait:
        assert wait() == os.getpid()


@pytest.mark.parametrize("missing", [True, False])
def test_without_a_copy_work_waits(monkeypatch, missing: bool):
    """On other systems, and where no more processes are allowed."""

    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    if missing:
        monkeypatch.delattr(os, "fork")
    else:
        monkeypatch.setattr(os, "fork", fork)
    before = len(os.listdir("/proc/self/fd"))
    with aside(os.getpid, MANY + 1) as wait:
        assert wait() == os.getpid()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_error_meanwhile_leaves_nothing_behind(monkeypatch):
    """No process that goes on, and no pipe that stays open."""
    fork, children = os.fork, []
    monkeypatch.setattr(os, "fork", lambda: children.append(fork()) or children[-1])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), aside(partial(time.sleep, 60), MANY + 1):
        raise ZeroDivisionError
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)


def test_a_report_of_many_stages_is_made_by_two(monkeypatch, tmp_path):
    """And is the same, page and all."""
    from reports import aside as module
    from reports.render import write_report
    from reports.report import build_report
    from reports.results import read_plan
    from tests.reports.synthetic_store import SyntheticStore, fill

    plan = read_plan(fill(SyntheticStore(tmp_path)))
    here = build_report(tmp_path, plan)
    monkeypatch.setattr(module, "MANY", 3)
    there = build_report(tmp_path, plan)
    assert there.pictures == here.pictures
    assert here.pictures
    write_report(here, tmp_path / "here")
    write_report(there, tmp_path / "there")
    names = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.*")]
    assert len(names) > 10
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
