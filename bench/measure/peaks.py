"""Peaks of one phase from several sources, the best of them, and whether they can all be true.

What the framework's tensors take is part of what its allocator holds, which is part of what
the driver charges the process, which is part of what the device lost. Where that does not
hold, something is wrong with a number (another GPU, a missed peak, a neighbour), and it says
which instead of looking clean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.measure.board import Board
from bench.measure.energy import names
from bench.measure.monitor import Sampled
from reports.record import Grade

SLACK = 32 * 2**20
"""Bytes two sources may differ by: they are read at different moments, in different pages."""
SLACK_SHARE = 0.02
"""The same, as a share of the larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """One source's figure for one phase."""

    value: int | None
    """Bytes at the highest."""
    grade: Grade
    reason: str | None = None


Sources = Mapping[str, Peak]
"""Peaks by source: host, host_sampled, allocated, reserved, accounting, process, device."""


def exact(value: int, reason: str | None = None) -> Peak:
    """A figure that missed nothing."""
    return Peak(value=value, grade="exact", reason=reason)


def unmeasured(reason: str) -> Peak:
    """No figure."""
    return Peak(value=None, grade="unmeasured", reason=reason)


def host_sampled(sampled: Sampled | str) -> Peak:
    """Resident memory, as the sampler saw it."""
    return _sampled(sampled, "rss", "resident memory")


def process_peak(sampled: Sampled | str, board: Board) -> Peak:
    """What the driver charged this process, as the sampler saw it."""
    if board.process.reason is not None:
        return unmeasured(board.process.reason)
    return _sampled(sampled, "process", "the process's memory on the GPU")


def device_peak(sampled: Sampled | str, board: Board) -> Peak:
    """What the device holds more than before this process used it.

    It is this process's only as long as nobody else comes.
    """
    if board.used_before is None:
        return unmeasured(board.why_not_used_before or "what was in use before was not read")
    total = _sampled(sampled, "device", "the device's memory")
    if total.value is None or isinstance(sampled, str):
        return total
    came = arrivals(sampled, board)
    if came:
        return unmeasured(
            f"{names(came)} came to the same GPU: what it holds more than before is not "
            "this process's alone"
        )
    rise = total.value - board.used_before
    if rise <= 0:
        return unmeasured("the device held no more than before this process used it")
    reason = f"the whole device less {board.used_before} bytes in use before; {total.reason}"
    if board.neighbours is None:
        reason += "; whether others use it cannot be seen"
    elif board.neighbours:
        reason += f"; {names(board.neighbours)} there all along may have grown or shrunk"
    return Peak(value=rise, grade="device", reason=reason)


def neighbours(sampled: Sampled | str, board: Board) -> frozenset[int]:
    """Processes on the GPU during a phase that are not this one."""
    seen = frozenset() if isinstance(sampled, str) else frozenset(sampled.pids)
    return seen - board.process.candidates


def arrivals(sampled: Sampled, board: Board) -> frozenset[int]:
    """Those of the neighbours that were not there before this process used the GPU."""
    return neighbours(sampled, board) - (board.neighbours or frozenset())


def accounting_peak(before: int | None, after: int | str) -> Peak:
    """The driver's own high-water mark, which is of the process so far.

    It is a phase's peak if the phase raised it. If not, the phase stayed at or below it.
    """
    if isinstance(after, str):
        return unmeasured(after)
    if before is None or after > before:
        return exact(after, "the driver's accounting")
    reason = f"the driver's accounting: an earlier phase's peak of {after} bytes was not passed"
    return unmeasured(reason)


def gpu_process(sources: Sources, context: int | None) -> tuple[Peak, list[str]]:
    """What the process took on the GPU by the best source, and what does not fit together.

    `context` is what it takes on top of what its framework reserves, if that is known.
    """
    best = _best(sources)
    broken = violations(sources, context)
    if best.value is None or not broken:
        return best, broken
    least = [best.value]
    reserved = sources["reserved"].value
    if reserved is not None:
        # The framework knows its own peak, so the process took that at the least.
        least.append(reserved + (context or 0))
    reason = "; ".join(filter(None, (best.reason, *broken)))
    return Peak(value=max(least), grade="bounded", reason=reason), broken


def violations(sources: Sources, context: int | None) -> list[str]:
    """Relations between the sources that do not hold, each with what that means."""
    allocated, reserved, accounting, process, device = (
        sources[name].value for name in ("allocated", "reserved", "accounting", "process", "device")
    )
    whole = None if reserved is None else reserved + (context or 0)
    driver = process if accounting is None else accounting
    relations = [
        ("allocated <= reserved", allocated, reserved, "the framework's counters disagree"),
        (
            "reserved <= process",
            whole,
            driver,
            "a peak fell between two samples, or this is another GPU's or process's number",
        ),
        (
            "reserved <= device",
            whole if driver is None else None,
            device,
            "a peak fell between two samples, a neighbour gave memory back, or it is another GPU",
        ),
        (
            "process <= device",
            process,
            device,
            "a neighbour gave memory back, or the process or the GPU is another one",
        ),
        (
            "sampled <= accounting",
            process,
            accounting,
            "the driver's accounting is of another process",
        ),
    ]
    return [
        f"{relation} does not hold ({smaller} > {larger} bytes): {meaning}"
        for relation, smaller, larger, meaning in relations
        if smaller is not None and larger is not None and _exceeds(smaller, larger)
    ]


def checked_host(sources: Sources) -> Peak:
    """The host's peak, in doubt where the sampler saw more."""
    host, seen = sources["host"], sources["host_sampled"].value
    if host.value is None or seen is None or not _exceeds(seen, host.value):
        return host
    doubt = f"the sampler saw {seen} bytes: the peak was set back during the phase"
    reason = "; ".join(filter(None, (host.reason, doubt)))
    return replace(host, value=seen, grade="bounded", reason=reason)


def _best(sources: Sources) -> Peak:
    """Accounting, the process, the device: the first that has a number."""
    order = [sources[name] for name in ("accounting", "process", "device")]
    for peak in order:
        if peak.value is not None:
            return peak
    # Sources that fail together have one reason.
    return unmeasured("; ".join(dict.fromkeys(peak.reason or "" for peak in order)))


def _sampled(sampled: Sampled | str, source: str, what: str) -> Peak:
    """The highest sample of one source."""
    if isinstance(sampled, str):
        return unmeasured(sampled)
    if source not in sampled.peaks:
        return unmeasured(sampled.missing.get(source, f"no sample of {what}"))
    gap = sampled.longest_gap * 1000
    reason = (
        f"{what}, highest of {sampled.counts[source]} samples: "
        f"a peak shorter than {gap:.0f} ms may be missed"
    )
    if source in sampled.missing:
        reason += f"; some samples failed: {sampled.missing[source]}"
    return Peak(value=int(sampled.peaks[source]), grade="bounded", reason=reason)


def _exceeds(smaller: int, larger: int) -> bool:
    """Whether what should be the smaller is larger, by more than two sources may differ."""
    return smaller - larger > max(SLACK, SLACK_SHARE * larger)
