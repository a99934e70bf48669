"""What a model source is, without loading it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.showing import listed
from bench.sources import PENDING, resolve
from offsite.architectures import ARCHITECTURES
from offsite.published import published
from tests.bench.command import ROOT


@pytest.mark.parametrize(
    ("name", "depth", "kind"),
    [
        ("facebook/opt-1.3b", 24, "language"),
        ("gpt2-xl", 48, "language"),
        ("openai/clip-vit-large-patch14", 24, "vision"),
        ("google/vit-large-patch16-224", 24, "vision"),
        ("timm/eva_giant_patch14_224", 40, "vision"),
    ],
)
def test_a_published_configuration_is_a_source_without_a_folder(name, depth, kind, tmp_path):
    """Depth and kind are known offline, and the location holds wherever the stage runs."""
    source = resolve(f"random:{name}", tmp_path, revision=None, online=False)
    assert (source.depth, source.kind, source.revision) == (depth, kind, None)
    assert source.location == f"random:{published()[name]}"


def test_a_published_configuration_is_digested_by_what_it_says(tmp_path):
    """As a folder with the same config.json is; another file, or weights, are another digest."""

    def digest(source: str) -> str:
        return resolve(source, tmp_path, revision=None, online=False).digest

    expected = digest("random:facebook/opt-125m")
    assert digest("random:facebook/opt-1.3b") != expected
    (tmp_path / "mine").mkdir()
    config = published()["facebook/opt-125m"].read_text()
    (tmp_path / "mine" / "config.json").write_text(config)
    assert digest("random:mine") == digest("random:mine/config.json") == expected
    (tmp_path / "mine" / "config.json").write_text(config + "\n")
    assert digest("random:mine") != expected


def test_a_folder_comes_before_a_published_configuration(tmp_path):
    """A user who made a folder of that name means it."""
    folder = tmp_path / "facebook" / "opt-125m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "opt", "num_hidden_layers": 3}))
    source = resolve("random:facebook/opt-125m", tmp_path, revision=None, online=False)
    assert source.depth == 3
    assert source.location == f"random:{folder}"


def test_an_unknown_configuration_is_refused_with_the_name_that_was_meant(tmp_path):
    """One line that also says where a folder was looked for."""
    with pytest.raises(SuiteError, match=r"Did you mean 'facebook/opt-1\.3b'\?") as raised:
        resolve("random:facebook/opt-1.3", tmp_path, revision=None, online=False)
    assert str(tmp_path / "facebook" / "opt-1.3") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_depth_and_kind_are_read_for_every_architecture(name, tmp_path):
    """Also where a part of the configuration describes the blocks."""
    row = ARCHITECTURES[name]
    blocks = {"depth" if name == "timm" else "num_hidden_layers": 7}
    part = row.part or ("model_args" if name == "timm" else None)
    config = {"architecture" if name == "timm" else "model_type": name}
    config |= {part: blocks} if part else blocks
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = resolve(f"random:{tmp_path}", tmp_path, revision=None, online=False)
    assert (source.depth, source.kind) == (7, row.kind)


def test_the_list_of_models_names_what_a_suite_can_name():
    """Shipped models, published configurations and architectures, one line each."""
    models = dict(listed("models"))
    assert {f"random:{name}" for name in published()} <= models.keys()
    assert ARCHITECTURES.keys() <= models.keys()
    shipped = [name for name, line in models.items() if line.startswith("shipped")]
    assert any(name.endswith("tiny-lm") for name in shipped)
    assert all(resolve(n, Path(), revision=None, online=False).kind for n in shipped)
    assert models["random:facebook/opt-1.3b"].endswith("OPT")
    assert all("\n" not in line for line in models.values())


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local cache of the hub that knows a branch of org/lm, as the real client writes it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--org--lm"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "opt", "num_hidden_layers": 3}')
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(COMMIT)
    return snapshot


def test_a_hub_model_is_known_by_its_cached_commit(cache, tmp_path):
    """By its branch or by the commit itself; what is not cached is pending, with its branch."""
    for revision in ("v1", COMMIT):
        source = resolve("org/lm", tmp_path, revision=revision, online=False)
        assert (source.digest, source.revision) == (f"commit:org/lm@{COMMIT}", COMMIT)
        assert (source.depth, source.kind) == (3, "language")
    pending = {
        revision: resolve("org/lm", tmp_path, revision=revision, online=False)
        for revision in (None, "v2")
    }
    assert pending[None].digest == f"{PENDING}org/lm"
    assert pending["v2"].digest == f"{PENDING}org/lm@v2"
    assert (pending["v2"].depth, pending["v2"].revision) == (None, None)


def test_whether_there_is_a_tokenizer_is_known_before_anything_loads(cache, tmp_path):
    """Of a folder always; of the hub only if the cache has one; a published shape has none."""

    def has_tokenizer(source: str) -> bool | None:
        return resolve(source, tmp_path, revision=None, online=False).has_tokenizer

    shipped = ROOT / "suites" / "models" / "tiny-lm"
    assert has_tokenizer(str(shipped)) is has_tokenizer(f"random:{shipped}") is True
    assert has_tokenizer("random:facebook/opt-125m") is False
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text('{"model_type": "opt"}')
    assert has_tokenizer("random:bare") is False
    assert has_tokenizer("org/lm") is None
    (cache.parent.parent / "refs" / "main").write_text(COMMIT)
    assert has_tokenizer("org/lm") is None
    (cache / "tokenizer.json").write_text("{}")
    assert has_tokenizer("org/lm") is True
