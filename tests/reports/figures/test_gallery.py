"""Every picture of a report can be read, and a report has no more of them than it has room for."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.figures import gallery as module
from reports.figures.gallery import LEFT_OUT, MOST, gallery
from reports.figures.picture import Picture
from reports.report import build_report
from reports.results import read_plan
from tests.reports.figures.drawn_store import fill_drawn, many_rows, read
from tests.reports.figures.words import cut_off, overlapping
from tests.reports.synthetic_store import SyntheticStore, fill, fill_compressions, fill_published

OTHER_BLOCKS = ("1-8-1", "layer_drop(keep=8)", "full")
TINY = "commit:owner/model@0"


def drawn(folder: Path, rows: int, *, metric: str = "perplexity", long: bool = False):
    """The pictures of one model and task with so many rows."""
    store = SyntheticStore(folder)
    fill_drawn(store, [*many_rows(rows, long=long), OTHER_BLOCKS], metric=metric)
    return gallery(*read(store))


def shown(pictures: tuple[Picture, ...]) -> set[str]:
    """The kinds of pictures there are."""
    ends = ("frontier", "costs", "loss", "memory", "compressions", "positions")
    return {next((end for end in ends if f"-{end}" in p.name), "settings") for p in pictures}


@pytest.mark.parametrize(
    ("rows", "long", "metric"),
    [(3, False, "acc"), (4, True, "perplexity"), (13, False, "perplexity"), (30, True, "acc")],
)
def test_no_word_covers_another(tmp_path: Path, rows: int, long: bool, metric: str):
    """With few rows and many, short names and long, every word stands alone and inside."""
    pictures = drawn(tmp_path, rows, metric=metric, long=long).pictures
    assert shown(pictures) >= {"settings", "frontier", "costs", "loss", "memory"}
    for picture in pictures:
        assert (picture.name, overlapping(picture.svg)) == (picture.name, [])
        assert (picture.name, cut_off(picture.svg)) == (picture.name, [])


def test_every_kind_is_drawn_where_there_is_something_to_see(tmp_path: Path):
    """Rows, costs, sizes, adapter blocks, losses and samples: seven kinds."""
    found = drawn(tmp_path, 9)
    kinds = {"settings", "frontier", "costs", "loss", "memory", "compressions", "positions"}
    assert shown(found.pictures) == kinds
    assert not found.note


def test_one_row_is_no_frontier(tmp_path: Path):
    """With a single row there is nothing to compare: no plane, no compressions, no positions."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(1))
    assert shown(gallery(*read(store)).pictures) == {"settings", "loss", "memory"}


def test_a_store_without_files_has_no_curves(tmp_path: Path):
    """Records alone, as after their blobs were removed: no crash, and the other pictures."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, many_rows(3))
    for path in (tmp_path / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert shown(gallery(*read(store)).pictures) == {"settings", "frontier", "costs"}


def test_pictures_say_what_they_show(tmp_path: Path):
    """Title and description name the model and the task, and the description says more."""
    for picture in drawn(tmp_path, 4).pictures:
        assert picture.title.startswith("m on t: ")
        assert picture.description.startswith("m on t")
        assert len(picture.description) > len(picture.title)


def test_pictures_are_plain_svg_in_the_ink_of_the_page(tmp_path: Path):
    """A figure is well-formed, has no script, loads nothing, and follows light and dark."""
    for picture in drawn(tmp_path, 4).pictures:
        tree = ElementTree.fromstring(picture.svg)
        tags = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not {"script", "image", "foreignObject", "a"} & tags
        assert "currentColor" in picture.svg
        assert "prefers-color-scheme:dark" in picture.svg
        assert not re.search(r"(?:href|src)=\"(?!#)|url\((?!#)", picture.svg)


def test_pictures_are_the_same_bytes_twice(tmp_path: Path):
    """Equal results, equal files."""
    first, second = (drawn(tmp_path / name, 4).pictures for name in ("one", "two"))
    assert first == second


@pytest.mark.parametrize("fill_store", [fill, fill_compressions, fill_published])
def test_a_picture_stands_under_a_table_that_there_is(tmp_path: Path, fill_store):
    """No picture is lost because it names a table that the report does not have."""
    report = build_report(tmp_path, read_plan(fill_store(SyntheticStore(tmp_path))))
    names = {table.name for table in (*report.tables, *report.further)}
    assert report.pictures
    assert {picture.table for picture in report.pictures if picture.table} <= names


def test_pictures_of_many_rows_stand_under_their_tables(tmp_path: Path):
    """The pictures of settings, compressions and adapter blocks are beside the numbers."""
    store = SyntheticStore(tmp_path)
    fill_drawn(store, [*many_rows(9), OTHER_BLOCKS])
    report = build_report(tmp_path, read_plan(store.save_plan()))
    names = {table.name for table in report.tables}
    placed = [picture for picture in report.pictures if picture.table]
    assert shown(tuple(placed)) == {"settings", "compressions", "positions"}
    assert {picture.table for picture in placed} <= names
    assert len({picture.name for picture in report.pictures}) == len(report.pictures)


def test_a_page_has_a_bounded_number_of_pictures(tmp_path: Path):
    """All kinds of the first model and task, then kind by kind; a note says that there are more."""
    store = SyntheticStore(tmp_path)
    for task in range(12):
        fill_drawn(store, many_rows(3), task=f"t{task}", seeds=1)
    found = gallery(*read(store))
    assert len(found.pictures) == MOST
    assert found.note == LEFT_OUT
    of_first = [picture for picture in found.pictures if picture.title.startswith("m on t0:")]
    assert shown(tuple(of_first)) == {"settings", "frontier", "costs", "loss", "memory"}
    settings = [picture for picture in found.pictures if picture.name.count("-") == 1]
    assert len(settings) == MOST - len(of_first) + 1


def test_a_page_has_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where pictures are large, fewer are shown, and the note says so."""
    pictures = drawn(tmp_path / "one", 3).pictures
    two = len(pictures[0].svg) + len(pictures[1].svg)
    monkeypatch.setattr(module, "MOST_BYTES", two)
    found = drawn(tmp_path / "two", 3)
    assert found.pictures == pictures[:2]
    assert found.note == LEFT_OUT
