"""Agents' lives: when each runs (`Lifecycle`), and what each lives in (`runtimes`)."""

from typing import TYPE_CHECKING

_HOME = {
    "MIGRATIONS": "hyperhive.lifecycle.rows",
    "ApprovalQueue": "hyperhive.lifecycle.approvals",
    "Facts": "hyperhive.lifecycle.views",
    "Harness": "hyperhive.lifecycle.harnesses",
    "HarnessFactory": "hyperhive.lifecycle.harnesses",
    "Lifecycle": "hyperhive.lifecycle.lifecycle",
    "parse_mount": "hyperhive.lifecycle.mounts",
    "pick_runtime": "hyperhive.lifecycle.runtimes",
}

__all__ = [
    "MIGRATIONS",
    "ApprovalQueue",
    "Facts",
    "Harness",
    "HarnessFactory",
    "Lifecycle",
    "parse_mount",
    "pick_runtime",
]

if TYPE_CHECKING:
    from hyperhive.lifecycle.approvals import ApprovalQueue as ApprovalQueue
    from hyperhive.lifecycle.harnesses import Harness as Harness
    from hyperhive.lifecycle.harnesses import HarnessFactory as HarnessFactory
    from hyperhive.lifecycle.lifecycle import Lifecycle as Lifecycle
    from hyperhive.lifecycle.mounts import parse_mount as parse_mount
    from hyperhive.lifecycle.rows import MIGRATIONS as MIGRATIONS
    from hyperhive.lifecycle.runtimes import pick_runtime as pick_runtime
    from hyperhive.lifecycle.views import Facts as Facts


def __getattr__(name: str) -> object:
    """Each on first use: a client that only parses a mount loads no runtime and no database."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
