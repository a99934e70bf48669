"""What `plan`, `status` and `list` print, as lines and rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from bench.plan import Plan
from bench.progress import title
from bench.store import Store


def plan_lines(plan: Plan, done: set[str]) -> Iterator[str]:
    """Every case and stage, `*` before those that are there already, and a summary."""
    yield f"{len(plan.cases)} cases"
    for case in plan.cases:
        yield f"  {case['name']}"
    yield f"{len(plan.stages)} stages (* has a record already)"
    waiting = plan.waiting()
    for stage in plan.stages:
        digest = "pending" if stage.digest in waiting else stage.digest[:12]
        times = f" ({stage.repeats} runs)" if stage.repeats > 1 else ""
        yield f"{'*' if stage.digest in done else ' '} {digest:12}  {title(stage)}{times}"
    kinds = Counter(s.kind for s in plan.stages if s.digest not in done)
    to_do = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "nothing"
    yield f"to do: {to_do}; reused: {len(done)}"
    for name in plan.pending:
        yield f"pending: the hub is asked for the commit of {name!r} when the run starts"


def status_rows(store: Store, plan: Plan) -> list[dict[str, Any]]:
    """One row a stage: done, failed (with the last attempt's reason) or to do."""
    rows = []
    for stage in plan.stages:
        state, reason = "done", ""
        missing = store.lacks(stage.digest, None, stage.repeats)
        if missing:
            attempts = store.attempts(stage.digest)
            state = "failed" if attempts else "to do"
            reason = f"{attempts[-1].outcome}: {attempts[-1].reason}" if attempts else ""
            if len(missing) < stage.repeats:
                reason = f"{len(missing)} of {stage.repeats} runs are missing. {reason}".strip()
        rows.append(
            {"digest": stage.digest, "stage": title(stage), "state": state, "reason": reason}
        )
    return rows


def status_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """What is not done, and the counts."""
    for row in rows:
        if row["state"] != "done":
            reason = f"  {row['reason']}" if row["reason"] else ""
            yield f"{row['state']:7} {row['digest'][:12]}  {row['stage']}{reason}"
    counts = Counter(row["state"] for row in rows)
    yield ", ".join(f"{counts[state]} {state}" for state in ("done", "failed", "to do"))


def listed(what: str) -> list[tuple[str, str]]:
    """Names and one-line summaries of one kind of thing a suite can name."""
    if what == "compressions":
        from offsite.compression.methods import METHODS

        return [(name, method.summary) for name, method in sorted(METHODS.items())]
    if what == "tunings":
        from offsite.tuning_methods import METHODS as TUNINGS

        return [(name, method.summary) for name, method in sorted(TUNINGS.items())]
    if what == "suites":
        from bench.suite import builtin_suites

        return [(name, _comment(f"{name}.yaml")) for name in builtin_suites()]
    if what == "tasks":
        from bench.tasks.kinds import KINDS

        kinds = [(name, f"(kind) {kind.summary}") for name, kind in sorted(KINDS.items())]
        files = sorted(p.name for p in (resources.files("suites") / "tasks").iterdir())
        names = [name.removesuffix(".yaml") for name in files if name.endswith(".yaml")]
        return [*((name, _comment(f"tasks/{name}.yaml")) for name in names), *kinds]
    return _models()


def _models() -> list[tuple[str, str]]:
    """The shipped models, what can be drawn, and the architectures any other model may have."""
    from bench.sources import model_type
    from offsite.architectures import ARCHITECTURES
    from offsite.published import published

    models = Path(str(resources.files("suites") / "models"))
    shipped = []
    for folder in sorted(path.parent for path in models.rglob("config.json")):
        if any(folder.glob("*.safetensors")):
            shipped.append((str(folder), "shipped: a source as it stands"))
        else:
            shipped.append((f"random:{folder}", "shipped: tiny shapes, random weights"))
    drawn = []
    for name, path in sorted(published().items()):
        row = ARCHITECTURES[model_type(json.loads(path.read_text()))]
        drawn.append((f"random:{name}", f"published shapes, random weights; {row.name}"))
    return [
        *shipped,
        *drawn,
        *((name, f"architecture: {row.name}; {row.kind}") for name, row in ARCHITECTURES.items()),
    ]


def _comment(path: str) -> str:
    """The first sentence of a data file's opening comment."""
    lines = []
    for line in (resources.files("suites") / path).read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")
