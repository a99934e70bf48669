"""Ratios of rates and sizes, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from reports.statistics.ratios import ratio


def test_ratio_is_symmetric():
    """A over B is the inverse of B over A, which a ratio of plain means is not."""
    fast, slow = [100.0, 400.0], [50.0, 10.0]
    there, back = ratio(fast, slow), ratio(slow, fast)
    assert there is not None
    assert back is not None
    assert there * back == pytest.approx(1.0)
    assert there == pytest.approx(200.0 / 500.0**0.5)


def test_ratio_without_meaning_is_absent():
    """Nothing and zero have no ratio."""
    assert ratio([], [1.0]) is None
    assert ratio([1.0], [0.0]) is None
