"""Verbs of the gate: keep a baseline, judge the code against it, and know the machine's noise."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.planned import lay_out
from bench.cli.program import (
    DEFAULT_RESULTS,
    INCOMPLETE,
    AsJson,
    Profile,
    Results,
    Select,
    Sets,
    SuiteName,
    app,
    print_json,
    print_lines,
)
from reports.gate.rules import MOST_PAIRS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.plan import Plan
    from bench.store import Store
    from reports.gate.baseline import Baseline
    from reports.gate.evidence import Verdict
    from reports.gate.noise import Noise

    Repeats = Callable[[Plan, Store, int], tuple[int, ...]]

REGRESSED = 4
UNDECIDED = 5
RUNS = 5

BaselineFile = Annotated[
    Path, typer.Option("--baseline", metavar="FILE", help="The baseline, a JSON file for git.")
]
Runs = Annotated[
    int | None,
    typer.Option(
        "--runs",
        metavar="N",
        min=1,
        show_default=str(RUNS),
        help="How often what is timed is run, each a process.",
    ),
]
OptionalSuite = Annotated[
    str | None, typer.Argument(metavar="SUITE", help="Built-in suite or a YAML file.")
]
Benchmarks = Annotated[
    list[Path] | None,
    typer.Option(
        "--from-benchmarks",
        metavar="FILE",
        help="Instead of a suite: what pytest --benchmark-json wrote, a file or folder of files, "
        "each the one run of a process; again for more.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit 5 where something could not be told.")]
Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML as well.")
]

baseline_app = typer.Typer(
    help="Keep what a suite measures, to judge later code against it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(baseline_app, name="baseline")


@baseline_app.command("save")
def save(
    baseline: BaselineFile,
    suite: OptionalSuite = None,
    benchmarks: Benchmarks = None,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    runs: Runs = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores", help="Scores alone: no speed or memory, which are a machine's own."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a suite with this code, or read benchmarks, and keep every run in a file for git."""
    from bench.store import Store, write_replacing
    from reports.gate.benchmarks import read_benchmarks

    given = [*_options(profile, sets, select), *["--runs"] * bool(runs), *["--scores"] * scores]
    _check_source(suite, benchmarks, given)
    _check_place(baseline)
    if suite is None:
        found = read_benchmarks(benchmarks or ())
    else:
        planned = lay_out(suite, profile, sets, select, online=True)
        store = Store.create(results)
        # Before hours are spent: it may be of another version.
        noise = None if scores else _noise(store)
        found = _measured(planned, store, runs or RUNS, quiet=as_json)
        found = found.of_scores() if noise is None else found.with_noise(noise)
    _check_measured(found)
    write_replacing(baseline, found.to_bytes())
    if as_json:
        print_json({"baseline": str(baseline), "lines": len(found.measured)})
    else:
        commit = found.commit[:12] or "not known"
        print(f"{baseline}: {len(found.measured)} lines, commit {commit}")  # noqa: T201
    _warn(each.text for each in found.missing)
    if found.missing:
        raise typer.Exit(INCOMPLETE)


@baseline_app.command("show")
def show(
    baseline: Annotated[Path, typer.Argument(metavar="FILE")], as_json: AsJson = False
) -> None:
    """Say what a baseline holds."""
    from reports.gate.baseline import read_baseline
    from reports.gate.output import baseline_table
    from reports.render.terminal import print_tables

    found = read_baseline(baseline)
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
        return
    print_tables([baseline_table(found)], sys.stdout)
    _warn(each.text for each in found.missing)


@app.command()
def check(
    baseline: BaselineFile,
    suite: OptionalSuite = None,
    benchmarks: Benchmarks = None,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    runs: Runs = None,
    strict: Strict = False,
    junit: Junit = None,
    as_json: AsJson = False,
) -> None:
    """Measure a suite with this code, or read benchmarks, and judge them against a baseline.

    Only runs of this very code count; what is missing is run first. Exit status 4: something got
    worse; 3: something is missing; 5 with --strict: something could not be told.
    """
    from bench.errors import BenchError
    from bench.store import Store
    from reports.gate.baseline import read_baseline
    from reports.gate.benchmarks import read_benchmarks
    from reports.gate.judge import judge

    given = [*_options(profile, sets, select), *["--runs"] * bool(runs)]
    _check_source(suite, benchmarks, given)
    _check_place(junit)
    was = read_baseline(baseline)
    if was.is_of_benchmarks != (suite is None):
        what = "benchmarks" if was.is_of_benchmarks else was.suite
        raise BenchError(f"{baseline} is a baseline of {what}; save one of what is to be judged")
    if suite is None:
        now = read_benchmarks(benchmarks or ())
        verdicts = judge(was, now)
    else:
        planned = lay_out(suite, profile, sets, select, online=True)
        _check_suite(baseline, was, planned)
        store = Store.create(results)
        # Scores are the same however often one trains.
        count = runs or (1 if was.only_scores else RUNS)
        noise = None if was.only_scores else _noise(store)
        now = _measured(planned, store, count, quiet=as_json)
        now = now.of_scores() if was.only_scores else now
        verdicts = judge(was, now, _known(noise, was, now))
    commit = was.commit[:12] or "code of no known commit"
    _tell(verdicts, f"{now.suite} against {commit}", junit, as_json=as_json)
    _exit(verdicts, strict=strict)


@app.command()
def calibrate(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=4, help="Runs of every timed stage.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Run the same code again and again, to learn how noisy this machine is.

    Runs of one call are a session, and sessions of one day are one. From the third day on `check`
    knows how far the machine drifts in between.
    """
    from bench.environment import facts
    from bench.gate.fresh import unused_repeats
    from bench.store import Store, write_replacing
    from reports.gate.noise import Session, Values
    from reports.gate.output import noise_table
    from reports.render.terminal import print_tables

    planned = lay_out(suite, profile, sets, select, online=True)
    store = Store.create(results)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    noise = _noise(store)
    found = _measured(planned, store, runs, quiet=as_json, repeats_of=unused_repeats)
    _check_measured(found)
    lines = tuple(
        Values(
            line=each.line,
            setup=each.measured_how,
            values=tuple(run.value for run in each.runs),
        )
        for each in found.measured
        if each.line.stage != "evaluate"
    )
    session = Session(started=started, commit=str(facts()["commit"]), lines=lines)
    noise = noise.with_sessions([session])
    path = _noise_path(store)
    write_replacing(path, noise.to_bytes())
    if as_json:
        print_json({"noise": str(path), "sessions": len(noise.sessions)})
    else:
        print_tables([noise_table(noise)], sys.stdout)
        print(f"noise: {path}")  # noqa: T201
    _warn(each.text for each in found.missing)


@app.command()
def ab(
    suite: SuiteName,
    base: Annotated[
        str, typer.Option("--base", metavar="REV", help="A branch, a tag or a commit.")
    ],
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    pairs: Annotated[
        int,
        typer.Option("--pairs", metavar="N", min=20, help="At most so many fresh pairs of a line."),
    ] = MOST_PAIRS,
    strict: Strict = False,
    junit: Junit = None,
    as_json: AsJson = False,
) -> None:
    """Run a base revision and the code that is here in turn, and judge the one against the other.

    Works on noisy and shared machines: what the machine does meanwhile is done to both. Each side
    has a worktree and an environment of its own. Eight pairs of runs for every line, then many
    fresh ones for those that do not pass.
    """
    from bench.gate.arms import arms
    from bench.gate.turns import compare_arms
    from bench.runner import stop_on_signals
    from bench.store import Store

    _check_place(junit)
    lay_out(suite, profile, sets, select, online=True)
    store = Store.create(results)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    asked = [suite_argument(suite), *_options(profile, sets, select)]
    noise = _noise(store)
    stop_on_signals()
    with arms(base, store.root / "ab" / stamp) as sides:
        for side in sides:
            _say(f"{side.name} ({side.commit[:12]}): the suite once")
            side.run([*asked, "--json"])
        verdicts = compare_arms(sides, noise, _say, pairs)
    title = f"{suite}: {sides[1].commit[:12]} against {sides[0].commit[:12]}"
    _tell(verdicts, title, junit, as_json=as_json)
    _exit(verdicts, strict=strict)


def _check_source(suite: str | None, benchmarks: list[Path] | None, options: Sequence[str]) -> None:
    """Either a suite, with its options, or benchmarks.

    Raises:
        BenchError: neither or both.
    """
    from bench.errors import BenchError

    if suite is None and not benchmarks:
        raise BenchError("give a SUITE, or --from-benchmarks FILE for each run of pytest-benchmark")
    if suite is not None and benchmarks:
        raise BenchError(
            f"{suite!r} beside --from-benchmarks: give a SUITE or benchmarks; every further file "
            "needs --from-benchmarks before it"
        )
    if benchmarks and options:
        raise BenchError(f"{options[0]} is of a suite; --from-benchmarks has none")


def _known(noise: Noise | None, was: Baseline, now: Baseline) -> Noise | None:
    """What was calibrated here and, on the machine of the baseline, what that holds."""
    if noise and was.noise and was.machine == now.machine:
        return noise.with_sessions(was.noise.sessions)
    return noise


def _check_suite(path: Path, was: Baseline, planned: Plan) -> None:
    """Whether the baseline is of this suite, before it is run.

    Raises:
        BenchError: it is of another one, or of another profile.
    """
    from bench.errors import BenchError

    names = [
        f"{suite} --profile {profile}" if profile else suite
        for suite, profile in ((was.suite, was.profile), (planned.suite, planned.profile))
    ]
    if names[0] != names[1]:
        raise BenchError(f"{path} is a baseline of {names[0]}, not of {names[1]}; give the same")


def _check_place(path: Path | None) -> None:
    """Whether a file can be written there, before hours are spent on what it is to hold.

    Raises:
        BenchError: it cannot.
    """
    from bench.errors import BenchError

    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}; name a file in a folder of yours") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        why = "a folder" if path.is_dir() else "its folder cannot be written"
        raise BenchError(f"{path}: {why}; name a file in a folder of yours")


def _check_measured(found: Baseline) -> None:
    """Whether there is anything to keep.

    Raises:
        NothingToShow: all of it failed.
    """
    from bench.errors import NothingToShow

    if not found.measured:
        why = "; ".join(dict.fromkeys(each.why for each in found.missing))
        raise NothingToShow(f"nothing was measured: {why or 'the suite has nothing to judge'}")


def suite_argument(name: str) -> str:
    """A suite as a process in another folder finds it."""
    path = Path(name)
    return str(path.resolve()) if path.is_file() else name


def _options(profile: str | None, sets: list[str] | None, select: str | None) -> list[str]:
    options = ["--profile", profile] if profile else []
    options += [part for each in sets or () for part in ("--set", each)]
    return options + (["-k", select] if select else [])


def _measured(
    planned: Plan,
    store: Store,
    runs: int,
    *,
    quiet: bool,
    repeats_of: Repeats | None = None,
) -> Baseline:
    """The suite as this code runs it."""
    from bench.cli.planned import saved
    from bench.environment import this_machine
    from bench.executors.local import LocalExecutor
    from bench.gate.fresh import free_repeats, fresh_runs, measure, records_of
    from bench.progress import Shown
    from bench.runner import check_tasks, stop_on_signals
    from reports.gate.baseline import gather
    from reports.results import read_plan

    stop_on_signals()
    repeats = (repeats_of or free_repeats)(planned, store, runs)
    with (
        LocalExecutor() as executor,
        Shown(len(fresh_runs(planned, repeats)), quiet=quiet) as shown,
    ):
        check_tasks(planned, store, executor)
        measure(planned, store, executor, repeats, on_start=shown.started, on_event=shown.ended)
    return gather(
        records_of(store, read_plan(saved(store, planned)), repeats),
        suite=planned.suite,
        profile=planned.profile,
        machine=this_machine().fingerprint,
        repeats=len(repeats),
    )


def _noise_path(store: Store) -> Path:
    from bench.environment import this_machine

    return store.root / "noise" / f"{this_machine().fingerprint}.json"


def _noise(store: Store) -> Noise:
    from bench.environment import this_machine
    from reports.gate.noise import read_noise

    return read_noise(_noise_path(store), this_machine().fingerprint)


def _tell(verdicts: list[Verdict], title: str, junit_file: Path | None, *, as_json: bool) -> None:
    """Terminal or JSON; JUnit, annotations and step summary where they are asked for."""
    from bench.step_summary import append_to_step_summary
    from reports.gate.output import as_values, junit, verdict_table, workflow_commands
    from reports.render.markdown import markdown_table
    from reports.render.terminal import print_tables

    table = verdict_table(verdicts, title)
    if junit_file:
        junit_file.write_text(junit(verdicts, title), encoding="utf-8")
    _warn(filter(None, [append_to_step_summary(f"## {table.title}\n\n{markdown_table(table)}\n")]))
    if as_json:
        print_json(as_values(verdicts))
        return
    print_tables([table], sys.stdout)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print_lines(workflow_commands(verdicts))


def _exit(verdicts: list[Verdict], *, strict: bool) -> None:
    words = {each.word for each in verdicts}
    if "REGRESSED" in words:
        raise typer.Exit(REGRESSED)
    if "MISSING" in words or not words:
        raise typer.Exit(INCOMPLETE)
    if strict and "INCONCLUSIVE" in words:
        raise typer.Exit(UNDECIDED)


def _say(line: str) -> None:
    print(f"offsite-bench: {line}", file=sys.stderr)  # noqa: T201


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        _say(f"warning: {line}")
