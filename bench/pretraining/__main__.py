"""The command line of the recipe."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from bench import pretraining
from bench.pretraining.corpus import SOURCES, python_runs, read_corpus
from bench.pretraining.language import LanguageRecipe, pretrain_language
from bench.pretraining.rows import write_rows
from bench.pretraining.vision import VisionRecipe, pretrain_vision


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pretraining", description=(pretraining.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("what", choices=["language", "vision", "rows"])
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    parser.add_argument("--compile", action="store_true", help="language: needs a C++ compiler")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps = {} if chosen.steps is None else {"steps": chosen.steps}
    if chosen.what == "language":
        corpus = read_corpus(SOURCES, forbidden=python_runs())
        pretrain_language(chosen.output, LanguageRecipe(compile=chosen.compile, **steps), corpus)
    elif chosen.what == "vision":
        pretrain_vision(chosen.output, VisionRecipe(**steps))
    else:
        write_rows(chosen.output)


if __name__ == "__main__":
    main()
