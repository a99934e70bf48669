"""The local executor: what a dead server costs, and whose code it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.executors.local import LocalExecutor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux")


def test_a_killed_server_costs_one_stage(tmp_path: Path):
    """The stage has the server's status, and the next one gets a new server."""
    with LocalExecutor() as executor:
        server = executor._ready_server()
        server.kill()
        server.wait()
        assert executor.run(tmp_path, "plan", "stage", tmp_path / "a.log") == -9
        # A worker that finds no store fails by itself: the server that ran it is a new one.
        assert executor.run(tmp_path, "plan", "stage", tmp_path / "b.log") == 1
        assert "no results in" in (tmp_path / "b.log").read_text()


def test_a_folder_called_bench_is_not_taken_for_ours(tmp_path: Path, monkeypatch):
    """Stages run the installed code, whatever lies in the working folder."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(tmp_path)
    with LocalExecutor() as executor:
        assert executor.run(tmp_path, "plan", "stage", tmp_path / "a.log") == 1
