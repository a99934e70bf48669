"""The store: whole or absent, never replaced, and safe from its own users."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bench.errors import NothingToShow, StoreError
from bench.store import Store
from reports.errors import BadRecord
from reports.record import Record, read_record

DIGEST = "ab" * 32


def record(**changes: object) -> Record:
    """A record that only says what the test needs."""
    fields: dict[str, object] = {
        "digest": DIGEST,
        "machine": "m1",
        "kind": "evaluate",
        "version": 1,
        "params": {},
        "inputs": {},
        "outcome": "ok",
    }
    return Record.model_validate(fields | changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "results")


def test_a_record_reads_back_as_it_was_written(store: Store):
    """Every field survives the way through the file."""
    written = record(facts={"layer_map": [2, 5]}, environment={"commit": "c0"})
    assert read_record(store.save_record(written)) == written


def test_a_record_is_never_replaced(store: Store):
    """The second writer of a key finds the first one's record untouched."""
    path = store.save_record(record(facts={"n": 1}))
    before = path.read_bytes()
    store.save_record(record(facts={"n": 2}))
    assert path.read_bytes() == before


def test_a_quality_record_of_another_machine_is_found_after_ones_own(store: Store):
    """Quality is reused by digest; the own machine's record comes first."""
    assert store.find(DIGEST, "m1") is None
    other = store.save_record(record(machine="m2"))
    assert store.find(DIGEST, "m1") == other
    own = store.save_record(record(machine="m1"))
    assert store.find(DIGEST, "m1") == own


def test_a_repeat_rests_on_its_own_base(store: Store):
    """Its own record first, then the base's; others are of other code."""
    first, fifth = (store.save_record(record(machine="m1", repeat=n)) for n in (0, 5))
    assert store.find(DIGEST, "m1", 7, 5) == fifth
    assert store.find(DIGEST, "m1", 7) == first
    own = store.save_record(record(machine="m1", repeat=7))
    assert store.find(DIGEST, "m1", 7, 5) == own


def test_every_changed_byte_of_a_record_is_noticed(store: Store):
    """A damaged record is an error, never a number."""
    path = store.save_record(record(facts={"value": 1.25}))
    content = path.read_bytes()
    body = content.index(b'"facts"')
    for position in range(body, body + 40):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        with pytest.raises(BadRecord):
            read_record(path)


def test_a_newer_schema_is_refused(store: Store):
    """Files of a later version are not guessed at."""
    path = store.save_record(record())
    envelope = json.loads(path.read_bytes())
    path.write_text(json.dumps({**envelope, "schema": 2}))
    with pytest.raises(BadRecord, match="schema 2; this version reads 1"):
        read_record(path)


def test_blobs_are_kept_once_under_their_hash(store: Store, tmp_path: Path):
    """Equal content is one file, whatever it was called."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
    names = {store.save_blob(tmp_path / name) for name in ("one", "two")}
    assert len(names) == 1
    assert store.blob(names.pop()).read_text() == "same"


def test_a_folder_with_other_files_does_not_become_a_store(tmp_path: Path):
    """`--results .` in a home folder must not scatter files there."""
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match="holds other files"):
        Store.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_whose_making_was_killed_is_made_again(tmp_path: Path):
    """What the first moments leave behind locks nobody out."""
    (tmp_path / "plans").mkdir()
    (tmp_path / ".STORE.json.0a1b.tmp").write_text("{")
    assert Store.create(tmp_path).root == tmp_path


def test_a_file_is_no_place_for_a_store(tmp_path: Path):
    """One line, whatever the system says."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot make results in"):
            Store.create(root)


def test_a_folder_without_a_store_is_refused_for_reading(tmp_path: Path):
    """Reading verbs say what makes results."""
    with pytest.raises(NothingToShow, match="`offsite-bench run` makes them"):
        Store.open(tmp_path)


def _hold(root: Path, pipe: Connection) -> None:
    with Store.open(root).claim(DIGEST) as held:
        pipe.send(held)
        pipe.recv()


def test_a_claim_is_exclusive_and_ends_with_its_holder(store: Store):
    """A killed runner leaves nothing to unlock."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(store.root, theirs), daemon=True
    )
    process.start()
    assert ours.recv() is True
    with store.claim(DIGEST) as held:
        assert held is False
    process.kill()
    process.join()
    with store.claim(DIGEST) as held:
        assert held is True


def test_attempts_are_listed_oldest_first(store: Store):
    """The last one is what a report names."""
    for started in ("2026-01-02", "2026-01-01"):
        store.save_attempt(record(outcome="failed", reason=started, observed={"started": started}))
    assert [a.reason for a in store.attempts(DIGEST)] == ["2026-01-01", "2026-01-02"]


def test_repeats_are_counted_on_one_machine(store: Store):
    """Speed is of one machine: two runs here and one there are not three."""
    assert store.lacks(DIGEST, "m1", 2) == [0, 1]
    store.save_record(record(repeat=0))
    store.save_record(record(repeat=1, machine="m2"))
    assert store.lacks(DIGEST, "m1", 2) == [1]
    assert store.lacks(DIGEST, "m2", 2) == [0]
    assert len(store.lacks(DIGEST, None, 2)) == 1
    store.save_record(record(repeat=1))
    assert store.lacks(DIGEST, "m1", 2) == store.lacks(DIGEST, None, 2) == []


def test_without_repeats_any_machines_record_will_do(store: Store):
    """Quality is reused by digest."""
    assert store.lacks(DIGEST, "m1", 0) == [0]
    store.save_record(record(machine="m2"))
    assert store.lacks(DIGEST, "m1", 0) == []
