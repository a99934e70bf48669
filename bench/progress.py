"""Show a run as it goes: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from bench.plan import Stage
from bench.runner import Event


def title(stage: Stage) -> str:
    """A stage in a few words: `tune lm 2-4-2 layer_drop(keep=4) lora(rank=4) text seed 0`."""
    labels = stage.labels
    what = labels.setting if stage.kind == "evaluate" else ""
    seed = "" if labels.seed is None else f"seed {labels.seed}"
    emulator = f"{labels.layout} {labels.compression}".strip()
    peer = f"by {labels.peer}" if labels.peer else ""
    kept = "" if labels.checkpoint is None else f"checkpoint {labels.checkpoint}"
    words = (stage.kind, what, labels.model, emulator, labels.tuning, labels.task, seed, peer, kept)
    return " ".join(word for word in words if word)


class Shown:
    """A run's progress on standard error; use as a context manager."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self.total = total
        self.seen = 0
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=total)

    def __enter__(self) -> Shown:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def started(self, stage: Stage, repeat: int) -> None:
        """A stage begins."""
        self.bar.update(self.task, description=f"{title(stage)}{_again(repeat)}")

    def ended(self, event: Event) -> None:
        """A stage came to an end, or was there already."""
        self.seen += 1
        self.bar.advance(self.task)
        if event.status == "reused":
            return
        failed = event.status in ("failed", "skipped")
        if failed or not self.console.is_terminal:
            reason = f": {event.reason}" if event.reason else f" in {event.seconds:.1f} s"
            what = f"{title(event.stage)}{_again(event.repeat)}{reason}"
            self.console.print(f"[{self.seen}/{self.total}] {event.status} {what}", markup=False)


def _again(repeat: int) -> str:
    """People count from 1."""
    return f" (run {repeat + 1})" if repeat else ""
