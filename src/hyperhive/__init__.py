"""HyperHive: a hive of persistent coding agents, as a typed library.

The public names, nothing else. They load on first use, so that importing `hyperhive` stays light.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    "AgentConfig": "hyperhive.config",
    "ApprovalQueue": "hyperhive.lifecycle",
    "Broker": "hyperhive.broker",
    "Bus": "hyperhive.bus",
    "Delivery": "hyperhive.protocol.types",
    "Hive": "hyperhive.host",
    "HiveConfig": "hyperhive.config",
    "HiveError": "hyperhive.errors",
    "InboxRow": "hyperhive.protocol.types",
    "Lifecycle": "hyperhive.lifecycle",
    "Receipt": "hyperhive.protocol.types",
    "TurnResult": "hyperhive.harness",
    "TurnRunner": "hyperhive.harness",
    "connect": "hyperhive.client",
}

__all__ = [
    "AgentConfig",
    "ApprovalQueue",
    "Broker",
    "Bus",
    "Delivery",
    "Hive",
    "HiveConfig",
    "HiveError",
    "InboxRow",
    "Lifecycle",
    "Receipt",
    "TurnResult",
    "TurnRunner",
    "connect",
]

if TYPE_CHECKING:
    from hyperhive.broker import Broker
    from hyperhive.bus import Bus
    from hyperhive.client import connect
    from hyperhive.config import AgentConfig, HiveConfig
    from hyperhive.errors import HiveError
    from hyperhive.harness import TurnResult, TurnRunner
    from hyperhive.host import Hive
    from hyperhive.lifecycle import ApprovalQueue, Lifecycle
    from hyperhive.protocol.types import Delivery, InboxRow, Receipt


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
