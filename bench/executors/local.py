"""Run stages on this machine: forked from a warm server on Linux, spawned elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol


class Executor(Protocol):
    """Where a stage starts. The stage reads its plan and writes its record by itself."""

    def run(self, results: Path, plan: str, stage: str, log: Path) -> int:
        """Run one stage to its end; its exit status, negative for a signal."""
        ...


class LocalExecutor:
    """One process a stage; use as a context manager."""

    def __init__(self) -> None:
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
        server = self._ready_server()
        request = {"results": str(results), "plan": plan, "stage": stage, "log": str(log)}
        assert server.stdin is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        self._answer(server, "pid")
        return int(self._answer(server, "status"))

    def stop(self) -> None:
        """End every process this executor started."""
        for process in (self._server, self._spawned):
            if process is not None and process.poll() is None:
                # The server's children are told by the kernel to end with it.
                process.send_signal(signal.SIGKILL)
                process.wait()
        self._server = self._spawned = None

    def _ready_server(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "bench.executors.forkserver"],
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
            self._server = None
            raise RuntimeError(f"the fork server ended with status {server.wait()}")
        return json.loads(line)[key]

    def _spawn(self, results: Path, plan: str, stage: str, log: Path) -> int:
        with log.open("ab") as stream:
            self._spawned = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", str(results), plan, stage],
                # It reads to the end of this pipe, which is when we end.
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env={**stage_environment(), "OFFSITE_BENCH_END_WITH_INPUT": "1"},
            )
        return self._spawned.wait()


def stage_environment() -> dict[str, str]:
    """What a stage's process sees: ours, with the libraries kept quiet and repeatable."""
    return {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        # Large tensors then go back to the system when they are freed. By default glibc learns
        # to keep them, and the peak of one stage differs by a third from run to run.
        "MALLOC_MMAP_THRESHOLD_": str(2**20),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "TQDM_DISABLE": "1",
        # Asking whether there is a GPU must not initialise CUDA in the process that forks.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
