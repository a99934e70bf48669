"""Token ids on disk: those of the tokenizer, made once, whatever becomes of the files."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from bench.tasks.tokens import TokenCache
from tests.bench.command import ROOT

TEXTS = ["Rain falls from clouds.", "", "naïve — 日本語 🙂", "a" * 300, "Rain falls from clouds."]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The shipped language model's."""
    return AutoTokenizer.from_pretrained(ROOT / "suites" / "models" / "tiny-lm")


def beginning(tokenizer: Any) -> Any:
    """The same with a token before every text."""
    other = deepcopy(tokenizer)
    other.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{other.eos_token} $A", special_tokens=[(other.eos_token, other.eos_token_id)]
    )
    return other


class Counted:
    """A tokenizer that counts the texts it is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.backend_tokenizer = tokenizer.backend_tokenizer
        self.texts: list[str] = []

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.texts += texts
        return self.tokenizer(texts, **options)


def ids_of(cache: TokenCache, texts: list[str], **options: bool) -> list[list[int]]:
    """As lists, in order."""
    encoded = cache.encode(texts, **options)
    return [encoded[text] for text in texts]


@pytest.mark.parametrize("keeps", [True, False])
def test_ids_are_those_of_the_tokenizer_text_by_text(tokenizer, tmp_path, keeps):
    """Made or found, with special tokens or without, all in one folder."""
    for each in (tokenizer, beginning(tokenizer)):
        for special in (True, False, True):
            expected = [each(text, add_special_tokens=special)["input_ids"] for text in TEXTS]
            cache = TokenCache(each, tmp_path if keeps else None)
            assert ids_of(cache, TEXTS, special=special) == expected


@given(texts=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back_as_it_was_made(tokenizer, tmp_path, texts):
    """Whatever else the folder holds by then."""
    expected = [tokenizer(text)["input_ids"] for text in texts]
    assert ids_of(TokenCache(tokenizer, tmp_path), texts) == expected
    assert ids_of(TokenCache(tokenizer, tmp_path), texts) == expected


def test_a_text_is_tokenised_once(tokenizer, tmp_path):
    """In any order, with others or alone: only what nobody has seen reaches the tokenizer."""
    counted = Counted(tokenizer)
    TokenCache(counted, tmp_path).encode(TEXTS)
    assert sorted(counted.texts) == sorted(set(TEXTS))
    counted.texts.clear()
    TokenCache(counted, tmp_path).encode(TEXTS[::-1])
    TokenCache(counted, tmp_path).encode([*TEXTS[1:3], "another"])
    assert counted.texts == ["another"]


def test_many_texts_reach_the_tokenizer_a_part_at_a_time(tokenizer, tmp_path, monkeypatch):
    """Each with its own ids."""
    monkeypatch.setattr("bench.tasks.tokens.AT_ONCE", 3)
    texts = [f"Lesson {i}: rain falls from clouds {'and again ' * i}" for i in range(10)]
    expected = [tokenizer(text)["input_ids"] for text in texts]
    for _ in range(2):
        assert ids_of(TokenCache(tokenizer, tmp_path), texts) == expected


def test_padding_in_between_makes_no_other_tokenizer(tokenizer, tmp_path):
    """lm-eval pads with the tokenizer it is given; its ids stay the same."""
    counted = Counted(deepcopy(tokenizer))
    TokenCache(counted, tmp_path).encode(TEXTS)
    counted.texts.clear()
    counted.tokenizer(["a", "a a a"], padding=True, truncation=True, max_length=2)
    assert ids_of(TokenCache(counted, tmp_path), TEXTS)
    assert counted.texts == []


def test_another_tokenizer_finds_nothing_of_the_first(tokenizer, tmp_path):
    """One that differs in nothing but what it puts before a text."""
    TokenCache(Counted(tokenizer), tmp_path).encode(TEXTS)
    counted = Counted(beginning(tokenizer))
    TokenCache(counted, tmp_path).encode(TEXTS)
    assert len(counted.texts) == len(set(TEXTS))


def test_a_tokenizer_that_cannot_describe_itself_keeps_nothing(tokenizer, tmp_path):
    """Its ids could be taken for another's."""

    def plain(texts: list[str], **options: Any) -> Any:
        return tokenizer(texts, **options)

    expected = [tokenizer(text)["input_ids"] for text in TEXTS]
    assert ids_of(TokenCache(plain, tmp_path), TEXTS) == expected
    assert list(tmp_path.iterdir()) == []


def flipped(path: Path) -> None:
    """One bit of the last id changed."""
    content = bytearray(path.read_bytes())
    with np.load(path) as arrays:
        at = content.index(arrays["ids"].tobytes()) + arrays["ids"].nbytes - 4
    content[at] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    """A sound file with the same texts and other ids."""
    with np.load(path) as arrays:
        changed = {**arrays, "ids": arrays["ids"] + 1}
    path.unlink()
    np.savez(path, **changed)


def lone_array(path: Path) -> None:
    """One array, as numpy writes it alone."""
    with path.open("wb") as stream:
        np.save(stream, np.arange(3))


DAMAGE = {
    "flipped": flipped,
    "foreign": foreign,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not ours"),
    "array": lone_array,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(tokenizer, tmp_path, damage):
    """Its ids are never believed, and the next one finds what was made."""
    counted = Counted(tokenizer)
    TokenCache(counted, tmp_path).encode(TEXTS)
    (path,) = tmp_path.glob("*/*.npz")
    DAMAGE[damage](path)
    counted.texts.clear()
    expected = [tokenizer(text)["input_ids"] for text in TEXTS]
    assert ids_of(TokenCache(counted, tmp_path), TEXTS) == expected
    assert len(counted.texts) == len(set(TEXTS))
    TokenCache(counted, tmp_path).encode(TEXTS)
    assert len(counted.texts) == len(set(TEXTS))
