"""Settings every test needs before torch is imported."""

from __future__ import annotations

import os

# Several threads on busy cores make tiny models 5 to 17 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", NO_COLOR="1"
)

from offsite.models import ensure_torchvision

ensure_torchvision()
