"""The rules of the crash watch, over times alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.lifecycle.crashes import Crashes


def test_the_first_four_crashes_in_ten_minutes_restart_at_once_and_the_fifth_does_not() -> None:
    crashes, pauses = Crashes(), []
    for now in (0.0, 100.0, 200.0, 300.0, 400.0):
        crashes, pause = crashes.crashed(now, started=now - 10)
        pauses.append(pause)
    assert pauses == [0, 0, 0, 0, 60]


def test_crashes_that_are_ten_minutes_old_do_not_count() -> None:
    crashes = Crashes()
    for now in range(0, 20_000, 200):
        crashes, pause = crashes.crashed(float(now), started=now - 10.0)
        assert pause == 0


def test_pauses_double_up_to_an_hour() -> None:
    crashes, pauses = Crashes(), []
    for _ in range(9):
        crashes, pause = crashes.failed()
        pauses.append(pause)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_ten_good_minutes_end_a_crash_loop() -> None:
    crashes, _ = Crashes((1.0, 2.0, 3.0, 4.0), 3).crashed(1000.0, started=400.0)
    assert crashes == Crashes((1000.0,))


@pytest.mark.parametrize("failures", [1, 5, 40, 2000])
def test_a_loop_that_goes_on_is_never_restarted_at_once(failures: int) -> None:
    _, pause = Crashes((), failures).crashed(5.0, started=4.0)
    assert 60 <= pause <= 3600


@given(st.lists(st.floats(0.1, 2000), min_size=1, max_size=60))
def test_never_more_than_four_restarts_at_once_in_ten_minutes(gaps: list[float]) -> None:
    """Whatever the times: an agent that keeps crashing costs little."""
    crashes, now, at_once = Crashes(), 0.0, []
    for gap in gaps:
        started, now = now, now + gap
        crashes, pause = crashes.crashed(now, started)
        if pause:
            now += pause
        else:
            at_once.append(now)
            assert sum(now - t < 600 for t in at_once) <= 5
