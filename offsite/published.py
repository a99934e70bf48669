"""Published configurations that come along, so that `random:NAME` needs no download. No torch.

Each file of `configurations/` is what a hub model's config.json says about architecture and
shapes; its name is the model's, with `--` for the slash.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).with_name("configurations")
_OLDEST = "openai-community/"


def published() -> dict[str, Path]:
    """Every configuration by the names of its model on the hub."""
    files = {p.stem.replace("--", "/", 1): p for p in sorted(_FOLDER.glob("*.json"))}
    # The hub knows its oldest models by a name without an organisation too.
    oldest = {n.removeprefix(_OLDEST): p for n, p in files.items() if n.startswith(_OLDEST)}
    return files | oldest
