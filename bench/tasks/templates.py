"""Templates of lm-eval's definitions, compiled once each.

lm-eval compiles a template anew for every row that it fills in, which takes ten times as long as
filling it in, and longer than everything else that is done to read a task.
"""

from __future__ import annotations

from functools import lru_cache

KEPT = 1000
"""Templates; a definition has three or four."""


def compile_once() -> None:
    """Have lm-eval keep the templates it compiles in this process."""
    from lm_eval.utils import env

    if not hasattr(env.from_string, "cache_info"):
        env.from_string = lru_cache(maxsize=KEPT)(env.from_string)
