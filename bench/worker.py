"""`python -m bench.worker RESULTS PLAN STAGE`: do one stage and write its record.

STAGE is a digest, or DIGEST.N for its repeat N, or DIGEST.N.M where what it needs is repeat M;
`tasks` has the rows of the plan's tasks checked instead.

The process ends when the stage does, whatever happens in it: peak memory is clean, and a
crash costs one stage. Exit status 0 means a record was written; 3, that the stage did not
succeed and an attempt says why. Anything else is for the runner to explain.
"""

from __future__ import annotations

import datetime
import importlib
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from bench import preflight
from bench.environment import this_machine
from bench.measure.memory import MemoryMeter
from bench.plan import Stage, read_plan, read_run_name
from bench.stages import KINDS
from bench.stages.outcome import FAILED, describe
from bench.stages.work import StageResult, Work, write_rows
from bench.store import Store
from reports.record import Outcome, Record

OUT_OF_GPU_MEMORY = re.compile(
    "CUDA (driver )?error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
)
"""What libraries say that do not go through torch's allocator."""
OUT_OF_HOST_MEMORY = re.compile(
    "DefaultCPUAllocator: |std::bad_alloc|Cannot allocate memory|^could not create a primitive$"
)
"""torch, C++, the system, and oneDNN when it gets no scratch memory."""


def main(arguments: list[str]) -> int:
    """Do the stage; returns the exit status."""
    results, plan_name, run = arguments
    digest, repeat, base = read_run_name(run)
    store = Store.open(Path(results))
    plan = read_plan(store.read_plan(plan_name))
    if run == preflight.STAGE:
        from bench.tasks.checking import check

        return check(plan, store)
    stage = next(s for s in plan.stages if s.digest == digest)
    started = datetime.datetime.now(datetime.UTC).isoformat()
    clock = time.perf_counter()
    scratch = Path(tempfile.mkdtemp(prefix="offsite-bench-"))
    memory = MemoryMeter()
    memory.floor()
    memory.start_sampler(this_machine().cores)
    try:
        settle(stage, threads=this_machine().threads)
        if stage.environment["device"] == "cuda":
            from bench.measure.cuda import CudaMemory

            memory.use_gpu(CudaMemory())
        work = Work(stage, store, this_machine().fingerprint, scratch, memory, repeat, base)
        module, _, name = KINDS[stage.kind].function.partition(":")
        result: StageResult = getattr(importlib.import_module(module), name)(work)
        line = write_rows(scratch / "memory.jsonl", memory.timeline())
        files = {**result.files, "memory.jsonl": line}
        blobs = {name: store.save_blob(path) for name, path in files.items()}
        outcome: Outcome = "ok"
        reason = None
    except Exception as error:  # every failure is an outcome with a reason
        traceback.print_exc()
        result, blobs = StageResult(), {}
        outcome, reason = classify(error)
    finally:
        memory.close()
        shutil.rmtree(scratch, ignore_errors=True)
    observed = {
        "started": started,
        "seconds": time.perf_counter() - clock,
        "pid": os.getpid(),
        "base": base,
    }
    record = describe(stage, outcome, reason, observed, repeat=repeat).model_copy(
        update={
            "metrics": (*result.metrics, *memory.metrics) if outcome == "ok" else (),
            "blobs": blobs,
            "facts": {**result.facts, "memory": memory.facts()},
        }
    )
    # Validates what model_copy does not.
    record = Record.model_validate(record.model_dump())
    if outcome == "ok":
        store.save_record(record)
        return 0
    store.save_attempt(record)
    return FAILED


def settle(stage: Stage, *, threads: int) -> None:
    """Fix threads, generators and algorithms, so that a stage repeats to the last digit."""
    import numpy as np
    import torch

    seed = int(stage.params.get("seed", 0))
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    if stage.environment["device"] == "cpu":
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory before it has written it; filling it costs every step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def classify(error: Exception) -> tuple[Outcome, str]:
    """Outcome and one-line reason of an exception."""
    import torch

    from offsite.training import NonFiniteLoss

    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError) or OUT_OF_GPU_MEMORY.search(text):
        return "oom_gpu", text
    if isinstance(error, MemoryError) or OUT_OF_HOST_MEMORY.search(text):
        return "oom_host", text or "the machine has no more memory"
    if isinstance(error, NonFiniteLoss):
        return "invalid", text
    return "failed", f"{type(error).__name__}: {text}"


def end_with_input() -> None:
    """End this process when its standard input does, which is when its runner ended."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(FAILED + 1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    if os.environ.get("OFFSITE_BENCH_END_WITH_INPUT") == "1":
        end_with_input()
    sys.exit(main(sys.argv[1:]))
