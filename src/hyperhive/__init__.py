"""HyperHive: a hive of persistent coding agents, as a typed library.

The public names, nothing else. They load on first use, so that importing `hyperhive` stays light.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "AgentConfig": "hyperhive.config",
    "Broker": "hyperhive.broker",
    "Bus": "hyperhive.bus",
    "Delivery": "hyperhive.protocol.types",
    "Hive": "hyperhive.hive",
    "HiveConfig": "hyperhive.config",
    "HiveError": "hyperhive.errors",
    "InboxRow": "hyperhive.protocol.types",
    "Lifecycle": "hyperhive.lifecycle",
    "Receipt": "hyperhive.protocol.types",
    "TurnResult": "hyperhive.harness",
    "TurnRunner": "hyperhive.harness",
    "connect": "hyperhive.client",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from hyperhive.broker import Broker as Broker
    from hyperhive.bus import Bus as Bus
    from hyperhive.client import connect as connect
    from hyperhive.config import AgentConfig as AgentConfig, HiveConfig as HiveConfig
    from hyperhive.errors import HiveError as HiveError
    from hyperhive.harness import TurnResult as TurnResult, TurnRunner as TurnRunner
    from hyperhive.hive import Hive as Hive
    from hyperhive.lifecycle import Lifecycle as Lifecycle
    from hyperhive.protocol.types import (
        Delivery as Delivery,
        InboxRow as InboxRow,
        Receipt as Receipt,
    )


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
