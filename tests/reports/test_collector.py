"""The garbage collector rests only while it is told to."""

from __future__ import annotations

import gc

import pytest

from reports.collector import resting


def test_the_collector_rests_and_wakes_again():
    """Inside it is off; after, also after an error, it is on."""

    @resting()
    def fail() -> None:
        assert not gc.isenabled()
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    """Whoever turned it off has reasons; one rest inside another ends with the outer one."""
    gc.disable()
    try:
        with resting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
