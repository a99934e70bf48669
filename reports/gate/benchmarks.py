"""What pytest-benchmark measured, as a baseline.

A file is one run of all benchmarks in a process of its own, and holds one value of each: the median
of its rounds. The rounds of a process share its layout of memory and its moment; counted as so many
runs they raise a false alarm in a third of all comparisons or more.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports.errors import ReportError
from reports.flat import flat
from reports.gate.baseline import BENCHMARK, Baseline, Measured, Run
from reports.gate.kept import SCHEMA
from reports.gate.lines import Line
from reports.record import canonical

SUITE = "pytest-benchmark"
"""Stands where other baselines have the name of their suite."""
NO_COMMIT = ("unversioned", "unknown")
"""What pytest-benchmark says where it finds none."""

OPEN = ConfigDict(extra="ignore", frozen=True)


class _Stats(BaseModel):
    model_config = OPEN

    median: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


class _Benchmark(BaseModel):
    model_config = OPEN

    group: str | None
    fullname: str
    options: dict[str, Any]
    stats: _Stats


class _Processor(BaseModel):
    model_config = OPEN

    brand_raw: str = ""
    arch: str = ""
    count: int | None = None


class _Machine(BaseModel):
    """What decides speed and is the same in every run; names and measured clocks are not in it."""

    model_config = OPEN

    system: str
    machine: str
    python_implementation: str
    python_implementation_version: str
    cpu: _Processor


class _Commit(BaseModel):
    model_config = OPEN

    id: str
    dirty: bool = False


class _File(BaseModel):
    model_config = OPEN

    machine_info: _Machine
    commit_info: _Commit
    benchmarks: Annotated[tuple[_Benchmark, ...], Field(min_length=1)]
    datetime: str

    @property
    def by_name(self) -> Mapping[str, _Benchmark]:
        return {each.fullname: each for each in self.benchmarks}


def read_benchmarks(paths: Sequence[Path]) -> Baseline:
    """A baseline of files that `pytest --benchmark-json FILE` wrote, a run each.

    Args:
        paths: the files, or folders with nothing else in `*.json`.

    Raises:
        ReportError: a file is none of those, or they are not runs of the same benchmarks, by the
            same code on the same machine.
    """
    files = [(path, _read(path)) for path in _files(paths)]
    _check_alike(files)
    runs = [file for _, file in files]
    commit, described = runs[0].commit_info.id, runs[0].machine_info.model_dump()
    return Baseline(
        schema=SCHEMA,
        suite=SUITE,
        profile=None,
        commit="" if commit in NO_COMMIT else commit,
        dirty=any(run.commit_info.dirty for run in runs),
        machine=hashlib.sha256(canonical(described)).hexdigest()[:12],
        described=described,
        measured=tuple(
            _measured([run.by_name[each.fullname] for run in runs]) for each in runs[0].benchmarks
        ),
    )


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise ReportError(f"{path}: no *.json in this folder")
        yield from found


def _read(path: Path) -> _File:
    try:
        file = _File.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise ReportError(
            f"{path}: {error.strerror}; `pytest --benchmark-json FILE` writes one"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise ReportError(
            f"{path}: not a run of pytest-benchmark: {where}: {first['msg']}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not a run of pytest-benchmark ({error})") from None
    name, count = Counter(each.fullname for each in file.benchmarks).most_common(1)[0]
    if count > 1:
        raise ReportError(f"{path}: {name} is there {count} times; a run has one value of each")
    return file


def _check_alike(files: Sequence[tuple[Path, _File]]) -> None:
    """All are runs of the same, and no two are one run."""
    (first_path, first), *others = files
    seen = {first.datetime: first_path}
    for path, file in others:
        if file.datetime in seen:
            raise ReportError(f"{path} holds the same run as {seen[file.datetime]}")
        seen[file.datetime] = path
        difference = _difference(first, file)
        if difference:
            raise ReportError(f"{path} and {first_path} are not runs of the same: {difference}")


def _difference(one: _File, other: _File) -> str:
    """In what the second is not as the first; empty if they are runs of the same."""
    names = one.by_name.keys() ^ other.by_name.keys()
    if names:
        return f"only one has {min(names)}"
    before, after = dict(_facts(one)), dict(_facts(other))
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return next((f"{name} {after.get(name)}, not {before.get(name)}" for name in changed), "")


def _facts(file: _File) -> Iterator[tuple[str, Any]]:
    yield "commit", file.commit_info.id
    yield from flat({"machine": file.machine_info.model_dump()})
    yield from flat({name: each.options for name, each in file.by_name.items()})


def _measured(runs: Sequence[_Benchmark]) -> Measured:
    first = runs[0]
    return Measured(
        line=Line(
            model="",
            tuning=first.group or "",
            task=first.fullname,
            stage=BENCHMARK,
            metric="seconds",
        ),
        unit="s",
        better="lower",
        setup={key: value for key, value in first.options.items() if value is not None},
        runs=tuple(Run(repeat=number, value=each.stats.median) for number, each in enumerate(runs)),
    )
