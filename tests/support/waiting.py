"""Waiting with a bound: what does not happen in time fails the test, and the failure says what was waited for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio


@contextmanager
def within(seconds: float, what: Callable[[], str]) -> Iterator[None]:
    """Fails the test where what is awaited in here takes longer; `what` it was is asked then."""
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise AssertionError(f"waited {seconds:g} s in vain: {what()}")
