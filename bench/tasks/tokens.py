"""Token ids of many texts, kept on disk: what one stage tokenised, no other stage tokenises again.

Disposable. A text's ids are found by the tokenizer's own description and the text's hash, so
what is found is what would be made; a file that is lost or damaged costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.store import write_once

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY_BYTES = 16
"""Of a text's hash: two texts of one hash are not to be expected before there are 2**64."""
AT_ONCE = 1000
"""Texts in one call of the tokenizer, which holds more of each text than its ids."""

Ids = NDArray[np.int32]


class TokenCache:
    """What one tokenizer makes of texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, folder: Path | None) -> None:
        """`folder` is the store's `tokens/`; None where nothing is kept."""
        self.tokenizer = tokenizer
        self.folder = folder

    def encode(self, texts: Iterable[str], *, special: bool = True) -> Encodings:
        """The ids of each text, as `tokenizer(text)` gives them.

        Args:
            texts: any; equal ones are tokenised once.
            special: with what the tokenizer itself puts around a text.
        """
        missing = {_key(text): text for text in texts}
        shelf = self._shelf(special)
        if shelf is None:
            return Encodings(self._tokenised(missing, special))
        found: dict[bytes, Ids] = {}
        for path in sorted(shelf.glob("*.npz")):
            if not missing:
                break
            for key, ids in _read(path, missing).items():
                found[key] = ids
                del missing[key]
        made = self._tokenised(missing, special)
        if made:
            _write(shelf, made)
        return Encodings(found | made)

    def _tokenised(self, texts: Mapping[bytes, str], special: bool) -> dict[bytes, Ids]:
        made: list[Ids] = []
        for chosen in _chunks([*texts.values()]):
            encoded = self.tokenizer(chosen, add_special_tokens=special, verbose=False)
            made += [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]
        return dict(zip(texts, made, strict=True))

    def _shelf(self, special: bool) -> Path | None:
        """The folder of what this tokenizer makes of texts, read in this way."""
        if self.folder is None or self._description is None:
            return None
        content = json.dumps([self._description, special]).encode()
        return self.folder / hashlib.sha256(content).hexdigest()

    @cached_property
    def _description(self) -> list[Any] | None:
        """All that decides about ids; None of a tokenizer that cannot say it."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        import tokenizers

        # How the last call padded and cut is no part of it: each call says so anew.
        described = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
        splits = bool(getattr(self.tokenizer, "split_special_tokens", False))
        return [tokenizers.__version__, type(self.tokenizer).__name__, splits, described]


class Encodings:
    """Token ids by text, held as narrow arrays: a list takes ten times as much memory."""

    def __init__(self, ids: Mapping[bytes, Ids]) -> None:
        self._ids = ids

    def __contains__(self, text: str) -> bool:
        return _key(text) in self._ids

    def __getitem__(self, text: str) -> list[int]:
        ids: list[int] = self._ids[_key(text)].tolist()
        return ids


def joined(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The two texts that lm-eval tokenises of each context and continuation.

    Spaces that end a context belong to the continuation.
    """
    for context, said in pairs:
        yield context.rstrip()
        yield context + said


def _chunks(texts: list[str]) -> Iterator[list[str]]:
    return (texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE))


def _key(text: str) -> bytes:
    # JSON may hold half of a surrogate pair.
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def _read(path: Path, wanted: Mapping[bytes, str]) -> dict[bytes, Ids]:
    """The ids a file holds of wanted texts. What is no file of ours is removed."""
    try:
        # Opened here: of a damaged file numpy leaves its own open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            keys = arrays["keys"].tobytes()
            each = (keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES))
            places = {key: place for place, key in enumerate(each) if key in wanted}
            if not places:
                return {}
            found = {name: arrays[name] for name in ("keys", "ids", "ends")}
            if path.name != _name(path.parent, found):
                raise ValueError("its content is not what its name says")
    except Exception:  # there is no saying what a damaged file makes the readers raise
        path.unlink(missing_ok=True)
        return {}
    ends = found["ends"].tolist()
    starts = [0, *ends]
    # Copied: a slice would hold the whole file in memory.
    return {key: found["ids"][starts[at] : ends[at]].copy() for key, at in places.items()}


def _write(shelf: Path, made: Mapping[bytes, Ids]) -> None:
    arrays = {
        "keys": np.frombuffer(b"".join(made), dtype=np.uint8),
        "ids": np.concatenate([*made.values()]),
        "ends": np.cumsum([len(ids) for ids in made.values()]),
    }
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_once(shelf / _name(shelf, arrays), content.getvalue())


def _name(shelf: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """A file's name is the hash of what it holds, and of whose tokens they are."""
    content = hashlib.sha256(shelf.name.encode())
    for name in ("keys", "ids", "ends"):
        content.update(arrays[name].tobytes())
    return f"{content.hexdigest()}.npz"
