"""Run stages on this machine: forked from a warm server on Linux, spawned elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

PYTHON = (sys.executable, "-P")
"""-P: a folder called bench in the working folder must not be taken for ours."""


class Executor(Protocol):
    """Where a stage starts. The stage reads its plan and writes its record by itself."""

    def run(self, results: Path, plan: str, stage: str, log: Path) -> int:
        """Run one stage to its end; its exit status, negative for a signal."""
        ...


class ServerEnded(Exception):
    """The fork server closed its output."""


class LocalExecutor:
    """One process a stage; use as a context manager."""

    def __init__(self, python: Sequence[str] = PYTHON) -> None:
        self.python = python
        self._forks = sys.platform == "linux"
        self._server: subprocess.Popen[str] | None = None
        self._spawned: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def run(self, results: Path, plan: str, stage: str, log: Path) -> int:
        """Run one stage to its end; its exit status, negative for a signal."""
        if not self._forks:
            return self._spawn(results, plan, stage, log)
        request = {"results": str(results), "plan": plan, "stage": stage, "log": str(log)}
        try:
            server = self._ready_server()
            assert server.stdin is not None
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            self._answer(server, "pid")
            return int(self._answer(server, "status"))
        except (BrokenPipeError, ServerEnded):
            # It costs this stage; the next one gets a new server.
            assert self._server is not None
            self._server.wait()
            return self.stop() or 1

    def stop(self) -> int:
        """End every process this executor started; the exit status of the last."""
        status = 0
        for process in (self._server, self._spawned):
            if process is None:
                continue
            # The server's children are told by the kernel to end with it.
            process.kill()
            status = process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
        self._server = self._spawned = None
        return status

    def _ready_server(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [*self.python, "-m", "bench.executors.forkserver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=stage_environment(),
                # Ctrl-C is the runner's to handle.
                start_new_session=True,
            )
            self._answer(self._server, "ready")
        return self._server

    def _answer(self, server: subprocess.Popen[str], key: str) -> Any:  # noqa: ANN401 - JSON
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise ServerEnded
        return json.loads(line)[key]

    def _spawn(self, results: Path, plan: str, stage: str, log: Path) -> int:
        with log.open("ab") as stream:
            self._spawned = subprocess.Popen(
                [*self.python, "-m", "bench.worker", str(results), plan, stage],
                # It reads to the end of this pipe, which is when we end.
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**stage_environment(), "OFFSITE_BENCH_END_WITH_INPUT": "1"},
            )
        self._spawned.wait()
        return self.stop()


def _close(pipe: IO[Any]) -> None:
    # What was still to be written has no reader any more.
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def stage_environment() -> dict[str, str]:
    """What a stage's process sees: ours, with the libraries kept quiet and repeatable."""
    return {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "TQDM_DISABLE": "1",
        # Asking whether there is a GPU must not initialise CUDA in the process that forks.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
