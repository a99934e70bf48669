"""What stands for hub data in digests, with and without the hub."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.datasets_hub import HubData, identity
from bench.errors import SuiteError
from bench.sources import PENDING
from bench.suite import load_suite, task_files
from bench.suite.task_files import SPLITS
from bench.world import look_up
from tests.bench.command import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIQA = HubData(repository="baber/piqa", splits={"train": "train", "validation": "validation"})
SUITE = f"""\
schema: 1
name: hub
models: {{lm: {{source: {ROOT / "suites" / "models" / "tiny-lm"}}}}}
matrix:
  {{model: lm, adapter_blocks: 2+2, compression: {{method: identity}}, tuning: full, seed: 0,
    task: [TASKS]}}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local cache of the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A hub that knows one commit and leaves its name in the cache, as the real client does."""
    questions = []

    def snapshot_download(repository: str, *, revision: str, **options: object) -> str:
        assert options == {"repo_type": "dataset", "allow_patterns": ".gitattributes"}
        questions.append((repository, revision))
        remember(cache, repository, revision)
        return str(cache / "snapshots" / COMMIT)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return questions


def remember(cache: Path, repository: str, revision: str) -> None:
    """What the client writes when it has resolved a branch."""
    reference = cache / f"datasets--{repository.replace('/', '--')}" / "refs" / revision
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)


def test_without_cache_and_hub_it_is_pending():
    """Planning works offline; no stage runs under such a digest."""
    found = identity(PIQA, online=False)
    assert found.is_pending
    assert found.of(*SPLITS) == "pending:baber/piqa?train=train&validation=validation"
    assert identity(replace(PIQA, revision="v1"), online=False).of("train") == (
        "pending:baber/piqa@v1?train=train"
    )


def test_the_local_cache_tells_the_commit(cache, asked):
    """Then the hub is not asked, also when a run starts."""
    remember(cache, "baber/piqa", "main")
    assert identity(PIQA, online=False).of("train") == f"commit:baber/piqa@{COMMIT}?train=train"
    assert identity(PIQA, online=True) == identity(PIQA, online=False)
    assert asked == []


def test_the_hub_is_asked_once_and_the_cache_remembers(asked):
    """After a run, `plan`, `status` and `report` find its stages offline."""
    known = identity(PIQA, online=True)
    assert not known.is_pending
    assert known.of(*SPLITS) == f"commit:baber/piqa@{COMMIT}?train=train&validation=validation"
    assert identity(PIQA, online=False) == known
    assert asked == [("baber/piqa", "main")]


def test_a_full_commit_needs_neither(asked):
    """A suite that pins its data plans and runs the same everywhere."""
    pinned = HubData(repository="a/b", revision=COMMIT, config="x", splits={"test": "test[:5%]"})
    assert identity(pinned, online=True).of("test") == (
        f"commit:a/b@{COMMIT}?config=x&test=test[:5%]"
    )
    assert asked == []


def test_a_split_is_known_without_the_others():
    """More rows to tune on are no other rows to score."""
    more = replace(PIQA, splits={**PIQA.splits, "train": "train[:50%]"})
    one, other = (identity(each, online=False) for each in (PIQA, more))
    assert (
        one.of("validation") == other.of("validation") == "pending:baber/piqa?validation=validation"
    )
    assert one.of("train") != other.of("train")
    assert one.of("train", "test") == one.of("train")


def test_config_and_splits_are_part_of_it():
    """Two tasks may take other rows of one commit."""
    others = [
        HubData(repository="a/b", config=config, splits=splits)
        for config in (None, "x")
        for splits in ({"test": "test"}, {"test": "validation"}, {"validation": "test"})
    ]
    assert len({identity(each, online=False).of(*SPLITS) for each in others}) == 6


def test_a_stage_is_told_the_commit_not_the_branch():
    """A branch may have moved when the stage starts."""
    hub = HubData(repository="a/b", config="x", revision="main", splits={"test": "t", "train": "s"})
    told = {"hub": "a/b", "config": "x", "train": "s", "test": "t"}
    assert hub.location(f"commit:a/b@{COMMIT}?config=x") == {**told, "revision": COMMIT}
    assert hub.location("pending:a/b?config=x") == told
    assert hub.location(f"pending:a/b@{COMMIT}?config=x") == told


def test_what_the_hub_says_is_one_line(monkeypatch):
    """Its client raises errors of many kinds and lines."""

    def snapshot_download(*args: object, **options: object) -> str:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(
        SuiteError, match=r"^the hub does not give data set 'baber/piqa': no route$"
    ):
        identity(PIQA, online=True)


def test_the_real_client_offline_is_one_line_too():
    """HF_HUB_OFFLINE is set in tests."""
    with pytest.raises(SuiteError, match=r"^the hub does not give data set 'baber/piqa': [^\n]+$"):
        identity(PIQA, online=True)


def test_a_world_has_the_identity_of_every_task(tmp_path, asked):
    """Hub data as commits, the rest by content; a refusal is at the task's data."""
    path = tmp_path / "hub.yaml"
    path.write_text(SUITE.replace("TASKS", "piqa, pydoc_topics"))
    suite = load_suite(str(path))
    offline = look_up(suite, online=False).data
    assert offline["piqa"].of("train").startswith(f"{PENDING}baber/piqa?")
    assert offline["pydoc_topics"].of("test").startswith("sha256:")
    assert not offline["pydoc_topics"].is_pending
    assert look_up(suite, online=True).data["piqa"] == identity(PIQA, online=False)


def test_data_the_hub_does_not_give_are_refused_at_their_place(tmp_path):
    """File, line and column of the task file that names them."""
    path = tmp_path / "hub.yaml"
    path.write_text(SUITE.replace("TASKS", "piqa"))
    with pytest.raises(SuiteError, match=r"tasks/piqa\.yaml:5:7: the hub does not give data set"):
        look_up(load_suite(str(path)), online=True)


def test_every_task_that_comes_along_is_looked_up_offline_without_heavy_imports(tmp_path):
    """`plan` scans no definitions and loads neither lm-eval nor datasets."""
    path = tmp_path / "hub.yaml"
    path.write_text(SUITE.replace("TASKS", ", ".join(task_files.task_files())))
    program = (
        "import sys; from bench.suite import load_suite; from bench.world import look_up\n"
        f"world = look_up(load_suite({str(path)!r}), online=False)\n"
        f"assert len(world.data) == {len(task_files.task_files())}\n"
        "heavy = {'torch', 'lm_eval', 'datasets', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
