"""The record format: what a damaged or dishonest file cannot get past the reader."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reports.errors import BadRecord
from reports.record import Metric, Record, canonical, read_record, to_bytes

WHOLE = Record(
    digest="ab" * 32,
    machine="m",
    kind="evaluate",
    version=1,
    params={"batch_size": 8},
    inputs={},
    outcome="ok",
    metrics=(Metric(metric="perplexity", value=51.04, unit="1", better="lower"),),
)


def test_a_record_reads_back_as_it_was_written(tmp_path: Path):
    """Writing and reading change nothing, to the last digit."""
    path = tmp_path / "record.json"
    path.write_bytes(to_bytes(WHOLE))
    assert read_record(path) == WHOLE


def test_equal_records_are_equal_bytes():
    """The order in which a dictionary was filled leaves no trace in the file."""
    reordered = WHOLE.model_copy(update={"params": {"a": 1, "b": 2}})
    again = WHOLE.model_copy(update={"params": {"b": 2, "a": 1}})
    assert to_bytes(reordered) == to_bytes(again)


def test_a_changed_number_is_found(tmp_path: Path):
    """Editing a value without its checksum makes the file damaged."""
    path = tmp_path / "record.json"
    path.write_bytes(to_bytes(WHOLE).replace(b"51.04", b"41.04"))
    with pytest.raises(BadRecord, match="checksum"):
        read_record(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b'{"schema": 1}', b"\xff\xfe"])
def test_what_is_no_record_is_named(tmp_path: Path, content: bytes):
    """Any other file is refused with its path, never with a traceback of ours."""
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(BadRecord, match=r"record\.json"):
        read_record(path)


@pytest.mark.parametrize("place", [0.05, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("change", ["flip", "drop", "double", "cut"])
def test_damage_anywhere_is_found(tmp_path: Path, place: float, change: str):
    """A byte changed, lost or written twice, and a file that ends too soon, are never a record."""
    raw = to_bytes(WHOLE)
    at = int(place * len(raw))
    while raw[at : at + 1].isspace() or raw[at - 1 : at].isspace():
        at += 1  # a blank more or less between two values changes nothing
    parts = {
        "flip": raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :],
        "drop": raw[:at] + raw[at + 1 :],
        "double": raw[: at + 1] + raw[at:],
        "cut": raw[:at],
    }
    path = tmp_path / "record.json"
    path.write_bytes(parts[change])
    with pytest.raises(BadRecord, match=r"record\.json"):
        read_record(path)


def test_a_number_that_is_none_is_refused(tmp_path: Path):
    """NaN is no JSON: no record of ours holds it, whatever its checksum."""
    path = tmp_path / "record.json"
    path.write_bytes(to_bytes(WHOLE).replace(b"51.04", b"NaN"))
    with pytest.raises(BadRecord, match="not a record"):
        read_record(path)


def test_half_a_surrogate_pair_is_read_back(tmp_path: Path):
    """A reason that quotes a file name that is no text does not make the store unreadable."""
    path = tmp_path / "record.json"
    odd = WHOLE.model_copy(update={"outcome": "failed", "facts": {"path": "a\udcff"}})
    path.write_bytes(to_bytes(odd.model_copy(update={"reason": "x"})))
    assert read_record(path).facts == {"path": "a\udcff"}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_facts_read_back_to_the_last_digit(value: object):
    """Numbers of every size, texts in every script and whatever nests in them."""
    record = WHOLE.model_copy(update={"facts": {"value": value}})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_bytes(to_bytes(record))
        read = read_record(path).facts["value"]
    assert read == value


@given(st.sampled_from([None, 1, "\t"]), st.booleans())
def test_a_record_in_another_layout_is_the_same(indent: object, is_sorted: bool):
    """Its checksum is of what it holds, not of how that is laid out."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_text(json.dumps(json.loads(to_bytes(WHOLE)), indent=indent, sort_keys=is_sorted))
        assert read_record(path) == WHOLE


def test_a_newer_schema_is_refused(tmp_path: Path):
    """A field may have changed its meaning, so a newer file is not guessed at."""
    path = tmp_path / "record.json"
    envelope = json.loads(to_bytes(WHOLE)) | {"schema": 2}
    path.write_text(json.dumps(envelope))
    with pytest.raises(BadRecord, match="record schema 2; this version reads 1"):
        read_record(path)


def test_an_unknown_field_is_refused(tmp_path: Path):
    """A misspelt field is an error, also where the checksum is right."""
    body = WHOLE.model_dump(mode="json") | {"outcom": "ok"}
    checksum = hashlib.sha256(canonical(body)).hexdigest()
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"schema": 1, "sha256": checksum, "record": body}))
    with pytest.raises(BadRecord, match="outcom"):
        read_record(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_is_a_finite_number(value: float):
    """Not-finite is a failure of the stage, never a result."""
    with pytest.raises(ValidationError, match="not a finite number"):
        Metric(metric="perplexity", value=value, unit="1", better="lower")


def test_a_missing_number_needs_its_reason():
    """A value may be absent only as `unmeasured` and with a reason."""
    with pytest.raises(ValidationError, match="needs grade 'unmeasured' and a reason"):
        Metric(metric="energy_per_sample", value=None, unit="J", better="lower")
    absent = Metric(
        metric="energy_per_sample",
        value=None,
        unit="J",
        better="lower",
        grade="unmeasured",
        reason="no NVIDIA driver",
    )
    assert absent.value is None


def test_a_failure_needs_its_reason():
    """No outcome but ok stands without a reason."""
    with pytest.raises(ValidationError, match="needs a reason"):
        Record.model_validate(WHOLE.model_dump() | {"outcome": "timeout"})


def test_chance_is_optional_and_older_records_still_read(tmp_path: Path):
    """A record from before `chance` reads, checksum and all; a new one keeps its number."""
    body = WHOLE.model_dump(mode="json")
    del body["metrics"][0]["chance"]
    checksum = hashlib.sha256(canonical(body)).hexdigest()
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"schema": 1, "sha256": checksum, "record": body}))
    assert read_record(old) == WHOLE
    chosen = Metric(metric="acc", value=0.5, unit="fraction", better="higher", chance=0.25)
    new = tmp_path / "new.json"
    new.write_bytes(to_bytes(WHOLE.model_copy(update={"metrics": (chosen,)})))
    assert read_record(new).metrics[0].chance == 0.25
    with pytest.raises(ValidationError, match="chance inf is not a finite number"):
        Metric(metric="acc", value=0.5, unit="1", better="higher", chance=float("inf"))
