"""The shipped test kit: fakes and stand-ins that pass the same conformance suites as the real parts.

Names load on first use, so that one of them does not cost what all of them cost.
"""

from typing import TYPE_CHECKING

_HOME = {
    "FakeClock": "hyperhive.testing.clock",
    "HistoryChecker": "hyperhive.testing.checker",
}

__all__ = ["FakeClock", "HistoryChecker"]

if TYPE_CHECKING:
    from hyperhive.testing.checker import HistoryChecker as HistoryChecker
    from hyperhive.testing.clock import FakeClock as FakeClock


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
