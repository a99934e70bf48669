"""Sides of a comparison: what is matched, subtracted, listed, named and ranked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.compare.changes import BY_SEED, OTHER_ITEMS, Difference
from reports.compare.report import Comparing, as_values, compare, comparison_report
from reports.compare.sides import Choice, read_side
from reports.errors import ReportError
from reports.render import write_report
from reports.statistics import ties
from reports.statistics.intervals import Scores
from reports.tables.cells import Absent, Number, Table, Text
from tests.reports.revisions import FIRST, ITEMS, SECOND, Revision, write_revision
from tests.reports.synthetic_store import SyntheticStore, perplexity

WRONG = 20
SECOND_REVISION = Revision(name="second", commit=SECOND)


def compared_revisions(root: Path, *revisions: Revision) -> Comparing:
    """Each revision in a store of its own."""
    sides = []
    for letter, revision in zip("ABCD", revisions, strict=False):
        write_revision(root / letter, revision)
        choice = Choice(results=root / letter)
        sides.append(read_side(choice, letter=letter, name=f"store-{letter}"))
    return compare(sides)


def changed(**changes: object) -> Revision:
    """The second revision, which differs so."""
    return Revision(**{"name": "second", "commit": SECOND, **changes})  # type: ignore[arg-type]


def quality(found: Comparing, setting: str, tuning: str = "full") -> Difference:
    """The one difference of a setting."""
    (tables,) = found.differences
    (only,) = [
        each
        for each in tables
        if each.row.role == setting and each.row.treatment.tuning in ("", tuning)
    ]
    return only


def table(found: Comparing, name: str) -> Table:
    """A table of the report by the end of its name."""
    report = comparison_report(found)
    (only,) = [each for each in report.tables if each.name.endswith(name)]
    return only


def column(of: Table, header: str) -> list[str]:
    """The texts of a column."""
    (only,) = [each for each in of.columns if each.header == header]
    return [cell.text for cell in only.cells]


def test_a_known_difference_is_found(tmp_path: Path):
    """Twenty of 400 items lost in every seed are 5 points, told from zero; the rest is equal."""
    found = compared_revisions(tmp_path, Revision(), changed(wrong=WRONG))
    lost = quality(found, "plug_in")
    assert lost.estimate is not None
    assert lost.estimate.mean == pytest.approx(-WRONG / ITEMS)
    assert (lost.estimate.n, lost.estimate.items) == (3, ITEMS)
    assert lost.estimate.half_width is not None
    assert 0 < lost.estimate.half_width < WRONG / ITEMS
    assert lost.corrected is not None
    assert lost.corrected < 0.001
    assert not lost.is_for_better
    for setting in ("full_zero_shot", "emulator_zero_shot", "full_finetuned"):
        same = quality(found, setting)
        assert same.estimate is not None
        # Items that are all alike say nothing of their spread.
        assert (same.estimate.mean, same.estimate.half_width, same.corrected) == (0.0, None, 1.0)


def test_the_table_says_it_in_points(tmp_path: Path):
    """Both values, their difference with its sign, and a probability that is never 0."""
    found = compared_revisions(tmp_path, Revision(), changed(wrong=WRONG))
    shown = table(found, "-differences")
    place = column(shown, "setting").index("plug-in")
    one, other = (float(column(shown, header)[place].split()[0]) for header in "AB")
    assert one - other == pytest.approx(5.0, abs=0.11)
    assert column(shown, "B-A")[place].startswith("-5.0 ± ")
    assert column(shown, "p")[place] == "< 0.001"
    assert "2 of 7 differences; 0 for the better, 2 for the worse." in " ".join(shown.notes)
    assert f"over {ITEMS} items or 3 seeds and {ITEMS} items" in " ".join(shown.notes)


def test_holm_corrects_over_the_whole_table(tmp_path: Path):
    """With three sides there are twice as many differences to be wrong about."""
    two = compared_revisions(tmp_path / "two", Revision(), changed(wrong=2))
    third = changed(name="third", wrong=0)
    three = compared_revisions(tmp_path / "three", Revision(), changed(wrong=2), third)
    (of_two,), (of_three,) = two.differences, three.differences
    for tables, count in ((of_two, 7), (of_three, 14)):
        least = min(tables, key=lambda each: each.probability or 1.0)
        assert least.letter == "B"
        assert least.probability is not None
        assert least.corrected == pytest.approx(min(count * least.probability, 1.0))
        assert len(tables) == count
    assert [each.letter for each in three.sides] == ["A", "B", "C"]


def test_items_in_another_order_are_not_paired(tmp_path: Path):
    """Only the seeds are then in common, and a footnote says so."""
    found = compared_revisions(tmp_path, Revision(), changed(wrong=WRONG, is_shuffled=True))
    lost = quality(found, "plug_in")
    assert lost.estimate is not None
    assert (lost.estimate.n, lost.estimate.items) == (3, None)
    assert lost.caveats == (BY_SEED,)
    whole = quality(found, "full_zero_shot")
    assert whole.probability is None
    shown = table(found, "-differences")
    assert column(shown, "p")[0] == "not known"
    assert BY_SEED in dict(shown.footnotes).values()


def test_other_items_are_not_subtracted(tmp_path: Path):
    """A score of 100 items says nothing against one of 400."""
    found = compared_revisions(tmp_path, Revision(), changed(items=100))
    both = quality(found, "plug_in")
    assert (both.spread, both.reason) == (None, OTHER_ITEMS)
    assert set(column(table(found, "-differences"), "B-A")) == {"undefined"}


def test_what_one_side_lacks_is_listed(tmp_path: Path):
    """A tuning and a seed that the second side has not: rows and seeds by name."""
    found = compared_revisions(tmp_path, Revision(), changed(tunings=("full",), seeds=(0, 1)))
    listed = {
        (each.row.role, each.row.treatment.tuning): (each.seeds, each.letters)
        for each in found.only
    }
    assert listed == {
        ("full_finetuned", "full"): ((2,), ("A",)),
        ("emulator_finetuned", "full"): ((2,), ("A",)),
        ("plug_in", "full"): ((2,), ("A",)),
        ("emulator_finetuned", "lora(rank=4)"): ((0, 1, 2), ("A",)),
        ("plug_in", "lora(rank=4)"): ((0, 1, 2), ("A",)),
    }
    shown = table(found, "only-on")
    assert column(shown, "seeds") == ["2", "2", "2", "0, 1, 2", "0, 1, 2"]
    assert set(column(shown, "not on")) == {"B"}
    assert quality(found, "plug_in").caveats == ("over the 2 seeds that both have",)
    assert any("5 rows or seeds" in each for each in comparison_report(found).warnings)


def test_rows_without_a_peer_on_the_reference_are_listed_too(tmp_path: Path):
    """What only the second side has is neither subtracted nor dropped."""
    found = compared_revisions(tmp_path, changed(tunings=("full",)), Revision())
    assert {each.letters for each in found.only} == {("B",)}
    assert {each.row.treatment.tuning for each in found.only} == {"lora(rank=4)"}
    (tables,) = found.differences
    assert {each.row.treatment.tuning for each in tables} == {"", "full"}


def test_a_row_that_a_third_side_lacks_says_so(tmp_path: Path):
    """Its cells are not blank."""
    third = changed(name="third", tunings=("full",))
    shown = table(compared_revisions(tmp_path, Revision(), SECOND_REVISION, third), "-differences")
    lora = column(shown, "tuning").index("lora(rank=4)")
    assert column(shown, "C")[lora] == "not there"
    assert column(shown, "C-A")[lora] == "not known"


def test_a_failure_is_a_word_with_its_reason(tmp_path: Path):
    """A row that failed on one side is there: it is no row that only the other has."""
    found = compared_revisions(tmp_path, Revision(), changed(failed="lora(rank=4)"))
    assert found.only == ()
    shown = table(found, "-differences")
    rows = list(zip(*(column(shown, h) for h in ("setting", "tuning", "B", "B-A")), strict=True))
    assert ("plug-in", "lora(rank=4)", "oom_gpu", "not known") in rows
    assert any("9.1 GiB of 8 GiB" in text for _, text in shown.footnotes)


def test_speed_is_compared_run_by_run_on_one_machine(tmp_path: Path):
    """A tenth slower in every run is a ratio of 0.9, whatever the seeds differ by."""
    found = compared_revisions(tmp_path, Revision(), changed(speed=0.9))
    (ratios,) = found.ratios
    speeds = [each.ratio for each in ratios if each.metric == "throughput_tokens_real"]
    assert len(speeds) == 3
    for each in speeds:
        assert each is not None
        assert (each.ratio, each.low, each.high) == pytest.approx((0.9, 0.9, 0.9))
        assert each.n == 3
    shown = table(found, "-costs")
    assert column(shown, "B/A") == ["0.900", "1.000"] * 3
    assert column(shown, "cost")[:2] == ["throughput, tokens/s ↑", "process memory, MiB ↓"]


def test_speed_of_another_machine_is_refused(tmp_path: Path):
    """Quality is compared, speed and memory are not, and why stands below."""
    found = compared_revisions(tmp_path, Revision(), changed(machine="elsewhere"))
    assert quality(found, "plug_in").estimate is not None
    (ratios,) = found.ratios
    assert {each.ratio for each in ratios} == {None}
    assert {each.reason.partition(":")[0] for each in ratios} == {"other machine"}
    shown = table(found, "-costs")
    assert set(column(shown, "B/A")) == {"other machine"}
    assert any("elsewhere" in text for _, text in shown.footnotes)


def test_of_several_machines_the_shared_one_is_shown(tmp_path: Path):
    """A side that ran on two machines is compared on the one the other side has."""
    for machine in ("zz-shared", "aa-own"):
        write_revision(tmp_path / "A", Revision(machine=machine))
    write_revision(tmp_path / "B", changed(machine="zz-shared"))
    sides = [
        read_side(Choice(results=tmp_path / letter), letter=letter, name=letter) for letter in "AB"
    ]
    found = compare(sides)
    assert [each.machine for each in found.sides] == ["zz-shared", "zz-shared"]
    assert all(each.ratio for ratios in found.ratios for each in ratios)


def test_other_settings_and_data_are_named(tmp_path: Path):
    """Path, both values, and which stages; a setting a record does not name is the default."""
    second = changed(train={"learning_rate": 0.01, "max_steps": 5}, data="e" * 64)
    found = compared_revisions(tmp_path, Revision(), second)
    named = {each.what: (each.values, len(each.stages)) for each in found.differing}
    assert named["train.learning_rate"] == ({"A": "0.001", "B": "0.01"}, 9)
    assert named["train.max_steps"] == ({"A": "default", "B": "5"}, 9)
    assert named["input data"][0] == {"A": "d" * 64, "B": "e" * 64}
    assert len(named) == 3
    shown = table(found, "what-differs")
    assert "3 finetune, 6 tune" in column(shown, "stages")
    (warning,) = comparison_report(found).warnings
    assert "train.learning_rate" in warning


def test_settings_that_differ_alike_are_one_line(tmp_path: Path):
    """Also where a side lacks some of the stages: what the others say of them is the same."""
    second = changed(train={"learning_rate": 0.01})
    third = changed(name="third", failed="lora(rank=4)", seeds=(0, 1))
    (only,) = compared_revisions(tmp_path, Revision(), second, third).differing
    assert only.values == {"A": "0.001", "B": "0.01", "C": "0.001"}
    assert len(only.stages) == 9


def test_equal_settings_are_not_named(tmp_path: Path):
    """Another commit alone is what is compared."""
    found = compared_revisions(tmp_path, Revision(), SECOND_REVISION)
    assert found.differing == ()
    assert comparison_report(found).warnings == ()


def test_of_two_results_with_one_label_the_newest_counts(tmp_path: Path):
    """The older ones are counted, not averaged in, whichever plan is read first."""
    for newest in (FIRST, SECOND):
        root = tmp_path / newest
        for revision in (Revision(), SECOND_REVISION):
            month = "02" if revision.commit == newest else "01"
            write_revision(root, replace(revision, started=f"2026-{month}-01T00:00:00Z"))
        side = read_side(Choice(results=root), letter="A", name="both")
        commits = {record.environment["commit"] for record in side.records}
        assert (commits, side.older) == ({newest}, 27)
        found = compare([side, side])
        assert any("27 older results" in each for each in comparison_report(found).warnings)


def test_a_row_has_only_seeds_that_were_made_as_its_newest_one(tmp_path: Path):
    """A suite run again in part, with another learning rate: no mean of old and new."""
    store = SyntheticStore(tmp_path)
    row = {"model": "m", "task": "t", "layout": "1-1", "compression": "c", "tuning": "full"}
    for rate, done, month in ((5e-5, 3, "01"), (1e-3, 1, "02")):
        observed = {"started": f"2026-{month}-01T00:00:00Z", "seconds": 1.0}
        for seed in range(3):
            tune = store.plan("tune", seed=seed, revision=rate, **row)
            plug_in = store.plan("evaluate", setting="plug_in", seed=seed, revision=rate, **row)
            if seed < done:
                params = {"train": {"learning_rate": rate}, "seed": seed}
                store.save(store.record(tune, "tune", params=params, observed=observed))
                score = perplexity(40.0 if rate == 5e-5 else 20.0)
                made = {"inputs": {"tune": tune}, "observed": observed}
                store.save(store.record(plug_in, "evaluate", *score, **made))
    store.save_plan()
    for choice, unrun in (
        (Choice(results=tmp_path), {}),
        (Choice(results=tmp_path, suite=store.suite), {1: [], 2: []}),
    ):
        side = read_side(choice, letter="A", name="both")
        scored = [run for run in side.runs if run.planned.kind == "evaluate"]
        values = {
            run.planned.labels.seed: [record.metrics[0].value for record in run.records]
            for run in scored
        }
        assert values == {0: [20.0], **unrun}
        assert side.older == 6


def test_a_commit_is_chosen_by_its_first_letters(tmp_path: Path):
    """Two revisions in one store are two sides."""
    write_revision(tmp_path, Revision())
    write_revision(tmp_path, changed(wrong=WRONG))
    sides = [
        read_side(Choice(results=tmp_path, commit=commit[:6]), letter=letter, name=commit)
        for letter, commit in zip("AB", (FIRST, SECOND), strict=True)
    ]
    lost = quality(compare(sides), "plug_in")
    assert lost.estimate is not None
    assert lost.estimate.mean == pytest.approx(-WRONG / ITEMS)
    assert [side.older for side in sides] == [0, 0]


def test_an_unclear_commit_is_refused(tmp_path: Path):
    """Letters that begin two commits, or none: the error lists what is there."""
    write_revision(tmp_path, Revision(commit="abcd1" + 35 * "0"))
    write_revision(tmp_path, changed(commit="abcd2" + 35 * "0"))
    for prefix, words in (("abcd", "begins several commits"), ("ffff", "begins no commit")):
        with pytest.raises(ReportError, match=words) as error:
            read_side(Choice(results=tmp_path, commit=prefix), letter="A", name="x")
        assert "abcd10000000, abcd20000000" in str(error.value)


def test_a_suite_and_a_profile_are_chosen_by_name(tmp_path: Path):
    """Only the stages of its plans; a name that is not there lists those that are."""
    write_revision(tmp_path, Revision())
    write_revision(tmp_path, changed(profile="smoke", seeds=(0,)))
    side = read_side(Choice(results=tmp_path, suite="pair.smoke"), letter="A", name="x")
    assert {run.planned.labels.seed for run in side.runs} == {None, 0}
    with pytest.raises(ReportError, match=r"there: pair, pair\.smoke"):
        read_side(Choice(results=tmp_path, suite="pear"), letter="A", name="x")


def test_a_leaderboard_ranks_all_rows_with_their_ties(tmp_path: Path):
    """Best first; rows that cannot be told apart share their places, a clear loser has one."""
    found = compared_revisions(tmp_path, Revision(tunings=("full",)), changed(wrong=80))
    (board,) = found.boards
    assert board.entrants[0].sides == ("A",)
    ranks = [(rank.first, rank.last) for rank in board.ranks if rank]
    assert ranks == [(1, 1), (2, 3), (2, 3)]
    shown = table(found, "leaderboard-choices")
    assert column(shown, "rank") == ["1", "2–3", "2–3"]  # noqa: RUF001
    (plug_in,) = [each for each in shown.columns if each.header == "plug-in"]
    assert [cell.group for cell in plug_in.cells if isinstance(cell, Number)] == ["A", "B", "B"]
    assert column(shown, "throughput")[0].startswith("1,007")
    assert column(shown, "raw leak")[0] != "not known"


def test_a_long_leaderboard_has_ranks_without_letters(monkeypatch: pytest.MonkeyPatch):
    """Ties that would take more letters than anybody reads, and exponentially many of them."""
    rows = 40
    apart = np.zeros((rows, rows), dtype=bool)
    for place in range(0, rows, 2):
        apart[place, place + 1] = apart[place + 1, place] = True
    monkeypatch.setattr(ties, "_told_apart", lambda _: apart)
    found = ties.ranks([Scores(values={0: float(-row)}) for row in range(rows)], "higher")
    assert {rank.letters for rank in found} == {""}
    assert [(rank.first, rank.last) for rank in found[:3]] == [(1, 39), (2, 40), (1, 39)]
    assert [rank.is_best for rank in found[:3]] == [True, False, True]


def test_a_result_that_sides_share_is_ranked_once(tmp_path: Path):
    """The same stage with the same numbers in two stores is one row of both."""
    found = compared_revisions(tmp_path, Revision(), Revision())
    (board,) = found.boards
    assert [row.sides for row in board.entrants] == [("A", "B"), ("A", "B")]


def test_equal_scores_at_another_speed_are_rows_of_their_own(tmp_path: Path):
    """What two machines or two commits are compared for."""
    found = compared_revisions(tmp_path, Revision(tunings=("full",)), Revision(speed=0.5))
    (board,) = found.boards
    assert sorted(row.sides for row in board.entrants) == [("A",), ("B",), ("B",)]
    shown = table(found, "leaderboard-choices")
    speeds = dict(zip(column(shown, "side"), column(shown, "throughput"), strict=True))
    assert speeds["A"].startswith("1,007")
    assert not speeds["B"].startswith("1,007")


def test_a_leaderboard_names_unequal_budgets(tmp_path: Path):
    """Who trained longer did not win by that alone; equal budgets are no news."""
    longer = changed(steps=120, tunings=("full",))
    found = compared_revisions(tmp_path / "unequal", Revision(), longer)
    (note,) = [note for note in table(found, "leaderboard-choices").notes if "budget" in note]
    assert note == (
        "Unequal training budgets. B owner-lm 2-4-2 layer_drop(keep=4) full: 120 steps of 8 out of "
        "96 examples (10 epochs), learning rate 0.001. all other rows: 60 steps of 8 out of "
        "96 examples (5 epochs), learning rate 0.001."
    )
    found = compared_revisions(tmp_path / "equal", Revision(), changed())
    assert not any("budget" in note for note in table(found, "leaderboard-choices").notes)


def test_rows_scored_on_other_data_are_not_ranked(tmp_path: Path):
    """As many items of another file are other items."""
    found = compared_revisions(tmp_path, Revision(), changed(data="e" * 64, tunings=("full",)))
    shown = table(found, "leaderboard-choices")
    ranks = dict(zip(column(shown, "side"), column(shown, "rank"), strict=True))
    assert ranks["B"] == "not ranked"


def test_rows_scored_on_other_items_are_not_ranked(tmp_path: Path):
    """They stay in the table, without a rank."""
    second = changed(items=100, tunings=("full",))
    found = compared_revisions(tmp_path, Revision(), second)
    shown = table(found, "leaderboard-choices")
    sides = dict(zip(column(shown, "side"), column(shown, "rank"), strict=True))
    assert sides["B"] == "not ranked"
    assert sides["A"] != "not ranked"
    assert OTHER_ITEMS in dict(shown.footnotes).values()


def test_values_for_machines_have_everything(tmp_path: Path):
    """Exact counts, nothing rounded, no NaN, whatever is missing."""
    second = changed(tunings=("full",), wrong=WRONG, speed=0.5)
    values = as_values(compared_revisions(tmp_path, Revision(), second))
    again = json.loads(json.dumps(values, allow_nan=False))
    assert {name: len(each) for name, each in again.items()} == {
        "sides": 2,
        "differences": 5,
        "ratios": 4,
        "only": 2,
        "differing": 0,
        "leaderboards": 1,
        "warnings": 1,
    }
    (lost,) = [each for each in again["differences"] if each["setting"] == "plug_in"]
    assert lost["difference"] == pytest.approx(lost["value"] - lost["reference"])
    assert lost["low"] < lost["difference"] < lost["high"] < 0
    assert (lost["side"], lost["pairs"], lost["items"]) == ("B", 3, ITEMS)
    assert again["sides"][1]["commits"] == [SECOND]
    assert again["sides"][1]["stages"] == {"planned": 18, "ok": 18, "failed": 0, "not run": 0}
    assert [len(board["rows"]) for board in again["leaderboards"]] == [3]


def test_the_report_is_written_in_every_format(tmp_path: Path):
    """A comparison is a report like any other."""
    found = compared_revisions(tmp_path, Revision(), changed(wrong=WRONG, machine="elsewhere"))
    written = write_report(comparison_report(found), tmp_path / "out")
    names = {path.name for path in written}
    assert {"report.html", "report.md", "sides.csv", "leaderboard-choices.tex"} <= names
    for path in written:
        if path.name in ("report.html", "report.md", "owner-lm-choices-acc-differences.csv"):
            assert "-5.0" in path.read_text()


def test_no_row_in_common_is_said(tmp_path: Path):
    """Two models have nothing to subtract, and still a leaderboard where they share a task."""
    write_revision(tmp_path / "A", Revision())
    write_revision(tmp_path / "B", SECOND_REVISION)
    for path in (tmp_path / "B" / "plans").iterdir():
        path.write_text(path.read_text().replace("owner-lm", "other-lm"))
    sides = [
        read_side(Choice(results=tmp_path / letter), letter=letter, name=letter) for letter in "AB"
    ]
    found = compare(sides)
    assert (found.differences, found.ratios) == ((), ())
    assert len(found.only) == 14
    shown = table(found, "only-on")
    assert column(shown, "setting") == ["all rows", "all rows"]
    assert column(shown, "rows") == ["7", "7"]
    assert any("no row in common" in each for each in comparison_report(found).warnings)
    (board,) = found.boards
    assert {row.comparison.model for row in board.entrants} == {"owner-lm", "other-lm"}


def test_words_of_cells_are_cells(tmp_path: Path):
    """No cell of any table is blank: a dash, a word or a number."""
    third = changed(name="third", failed="full", machine="elsewhere", seeds=(0,))
    found = compared_revisions(tmp_path, Revision(), SECOND_REVISION, third)
    for each in comparison_report(found).tables:
        for cell in (cell for row in each.rows for cell in row):
            assert isinstance(cell, Text | Number | Absent)
            assert cell.text
