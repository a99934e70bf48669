"""A process with the heavy imports done that forks a child per stage (Linux).

Reads one JSON object a line: {"results", "plan", "stage", "log"}. Answers
{"stage", "pid"} when the child runs and {"stage", "status"} when it ended. A forked child
starts in 0.01 s; a new interpreter needs seconds to import torch and transformers.

It ends with its parent, and its children end with it, however the parent ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the input ends."""
    die_with_parent(os.getppid())
    import_heavy()
    answer({"ready": True})
    for line in sys.stdin:
        serve(json.loads(line))


def serve(request: dict[str, str]) -> None:
    """Fork a child for one stage and wait for it."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError("CUDA is initialised in the fork server; a forked child cannot use it")
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_worker(request, parent)
    answer({"stage": request["stage"], "pid": pid})
    _, status = os.waitpid(pid, 0)
    answer({"stage": request["stage"], "status": os.waitstatus_to_exitcode(status)})


def _be_worker(request: dict[str, str], parent: int) -> None:
    """The child: output to the log, do the stage, leave without the parent's clean-up."""
    status = 1
    try:
        die_with_parent(parent)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from bench.worker import main as work

        status = work([request["results"], request["plan"], request["stage"]])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Not sys.exit: the parent's buffers and exit handlers are not the child's.
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before the call.
        os._exit(1)


def import_heavy() -> None:
    """Import what stages use, once."""
    import torch  # noqa: F401

    from offsite.models import ensure_torchvision

    ensure_torchvision()
    import datasets  # noqa: F401
    import lm_eval  # noqa: F401
    import peft  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import timm  # noqa: F401
    from lm_eval.models.huggingface import HFLM  # noqa: F401
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    import bench.stages.emulator
    import bench.stages.evaluate
    import bench.tasks.language
    import bench.tasks.perplexity
    import bench.tasks.vision
    import bench.worker  # noqa: F401


def answer(message: dict[str, object]) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
