"""Energy of the CPU packages: Linux's powercap counters (RAPL of Intel and AMD).

The counters wrap around after some 260 kJ, half an hour of a busy server, so they are read
often and the differences are added up. The sampler does that, and imports this: no heavy
imports here.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

from bench.measure.unavailable import Unavailable

POWERCAP = "/sys/class/powercap"


class Rapl:
    """All packages of the machine together."""

    def __init__(self, root: str = POWERCAP) -> None:
        self._root = root
        self._last: dict[str, int] = {}
        self._microjoules = 0

    def joules(self) -> float:
        """Joules since the first call. Raises Unavailable.

        Right as long as the calls are closer together than a counter's turn.
        """
        for package in self._packages():
            now = _read(package, "energy_uj")
            used = now - self._last.get(package, now)
            if used < 0:
                used += _read(package, "max_energy_range_uj")
            self._last[package] = now
            self._microjoules += used
        return self._microjoules / 1e6

    def _packages(self) -> Iterator[str]:
        # intel-rapl:0 is a package and intel-rapl:0:1 a part of it; AMD's have the same names.
        found = sorted(glob.glob(os.path.join(self._root, "intel-rapl:*")))
        packages = [path for path in found if os.path.basename(path).count(":") == 1]
        if not packages:
            raise Unavailable(f"no energy counter of the CPU (RAPL) under {self._root}")
        yield from packages


def _read(package: str, name: str) -> int:
    path = os.path.join(package, name)
    try:
        with open(path) as stream:
            return int(stream.read())
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
