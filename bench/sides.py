"""What a user compares, in one word each: a store, a suite, a commit, or several of these."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from bench.errors import BenchError, NothingToShow
from reports.compare.sides import Choice, Side, read_side, suites_in

COMMIT = re.compile(r"(.*)@([0-9a-f]{4,40})", re.DOTALL)
NAME_LENGTH = 100
FORMS = "write STORE, SUITE[.PROFILE] or STORE:SUITE[.PROFILE], and @COMMIT after it or alone"


def read_sides(texts: Sequence[str], results: Path) -> list[Side]:
    """The sides a user named, the first being the reference.

    Args:
        texts: as on the command line.
        results: where a suite or a commit without a store is looked for.

    Raises:
        BenchError: fewer than two, one twice, or a word that names nothing.
        NothingToShow: one of them has no result.
    """
    if not 2 <= len(texts) <= len(ascii_uppercase):
        known = ", ".join(suites_in(results)) or "none"
        raise BenchError(
            f"given {len(texts)} to compare, takes 2 to {len(ascii_uppercase)}; {FORMS}; "
            f"suites in {results}: {known}"
        )
    choices = [choose(text, results) for text in texts]
    for number, choice in enumerate(choices):
        if choice in choices[:number]:
            first = texts[choices.index(choice)]
            raise BenchError(f"{texts[number]!r} is {first!r} again; give two that may differ")
    sides = [
        read_side(choice, letter=letter, name=text)
        for letter, text, choice in zip(ascii_uppercase, texts, choices, strict=False)
    ]
    for side in sides:
        if not side.has_results:
            raise NothingToShow(f"no results of {side.name!r}; run it first")
    return sides


def choose(text: str, results: Path) -> Choice:
    """Which results one word means."""
    commit = ""
    what = text
    if found := COMMIT.fullmatch(text):
        what, commit = found.groups()
    if not what:
        return Choice(results=_store(results, text), commit=commit)
    store, colon, suite = what.rpartition(":")
    if colon and not _is_store(Path(what)):
        return Choice(results=_store(Path(store), text), suite=suite, commit=commit)
    return _store_or_suite(text, what, commit, results)


def folder_name(texts: Sequence[str]) -> str:
    """A folder for a comparison, of letters that mean nothing to a shell or a file system.

    >>> folder_name(["../main", "results:quickstart@3f2a"])
    'main-vs-results-quickstart-3f2a'
    """
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") for text in texts]
    name = "-vs-".join(names)
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[:NAME_LENGTH]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _store_or_suite(text: str, what: str, commit: str, results: Path) -> Choice:
    suites = suites_in(results)
    if _is_store(Path(what)):
        if what in suites:
            raise BenchError(
                f"{text!r} is a store and a suite of {results}; write ./{text} or {results}:{text}"
            )
        return Choice(results=Path(what), commit=commit)
    if what in suites:
        return Choice(results=results, suite=what, commit=commit)
    if not _is_store(results):
        raise NothingToShow(
            f"{what!r} is no store (a folder that `offsite-bench run` made), and there are no "
            f"results in {results} to look for a suite of that name"
        )
    hint = f" For a commit write @{what}." if COMMIT.fullmatch(f"@{what}") else ""
    raise BenchError(
        f"{what!r} is neither a store nor a suite of {results}.{hint} Suites there: "
        f"{', '.join(suites) or 'none'}; {FORMS}"
    )


def _is_store(folder: Path) -> bool:
    return (folder / "STORE.json").is_file()


def _store(folder: Path, text: str) -> Path:
    if not _is_store(folder):
        raise NothingToShow(f"{text!r}: no results in {folder}; `offsite-bench run` makes them")
    return folder
