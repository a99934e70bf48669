"""lm-eval's templates are compiled once, and say what they said."""

from __future__ import annotations

from lm_eval import utils

from bench.tasks.templates import compile_once


def test_a_template_is_compiled_once_and_filled_in_anew(monkeypatch):
    """However often it is asked for, and however many tasks ask lm-eval to keep it."""
    monkeypatch.setattr(
        utils.env, "from_string", utils.env.__class__.from_string.__get__(utils.env)
    )
    compiled = []
    monkeypatch.setattr(
        utils.env,
        "compile",
        lambda *a, **b: compiled.append(a) or type(utils.env).compile(utils.env, *a, **b),
    )
    compile_once()
    compile_once()
    said = [utils.apply_template("It is {{what}}.", {"what": what}) for what in ("hot", "cold")]
    assert said == ["It is hot.", "It is cold."]
    assert len(compiled) == 1
