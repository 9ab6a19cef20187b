"""Turns of an agent's CLI, and the loop that gives it its mail. Public names load on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperhive.harness.harness import Harness
    from hyperhive.harness.runner import TurnResult, TurnRunner

__all__ = ["Harness", "TurnResult", "TurnRunner"]

_HOME = {
    "Harness": "hyperhive.harness.harness",
    "TurnResult": "hyperhive.harness.runner",
    "TurnRunner": "hyperhive.harness.runner",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module has whatever its names are)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
