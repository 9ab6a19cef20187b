"""What a `flake.lock` pins of the inputs that all agents of a hive share. Pure: takes what was decoded, opens nothing.

Nodes are found from the root by the names of inputs: what a node is called is Nix's affair, and changes with whatever
else is locked. A lock that is damaged pins nothing.
"""

import hashlib
import json
from typing import Final

from hyperhive.protocol.screens import MetaInput

HYPERHIVE: Final = "hyperhive"
"""The shared input; all others are its own."""


def shared_digest(lock: object) -> str:
    """Stands for everything that the shared inputs are locked to, however deep; empty where they are not locked."""
    nodes = _nodes(lock)
    first = _first(nodes)
    return _digest(nodes, first, {}) if first is not None else ""


def listed(lock: object) -> list[MetaInput]:
    """HyperHive, locked or not, and the inputs that it names itself, in order of their names."""
    nodes = _nodes(lock)
    first = _first(nodes)
    if first is None:
        return [MetaInput(name=HYPERHIVE)]
    own = [
        _told(f"{HYPERHIVE}/{name}", nodes.get(target))
        for name, target in sorted(_inputs(nodes.get(first)).items())
        if isinstance(target, str)  # a list follows another input, which is told itself
    ]
    return [_told(HYPERHIVE, nodes.get(first)), *own]


def _told(name: str, node: object) -> MetaInput:
    locked = _locked(node)
    rev, at = locked.get("rev") or locked.get("narHash"), locked.get("lastModified")
    return MetaInput(
        name=name,
        rev=rev if isinstance(rev, str) else None,
        updated_at=at if isinstance(at, int) else None,
    )


def _digest(nodes: dict[str, object], key: str, seen: dict[str, str]) -> str:
    if key not in seen:
        seen[key] = ""  # a lock that goes in a circle is damaged, and ends here
        node = nodes.get(key)
        below = {
            name: _digest(nodes, target, seen) if isinstance(target, str) else target
            for name, target in sorted(_inputs(node).items())
        }
        content = json.dumps([_locked(node), below], sort_keys=True)
        seen[key] = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
    return seen[key]


def _first(nodes: dict[str, object]) -> str | None:
    key = _inputs(nodes.get("root")).get(HYPERHIVE)
    return key if isinstance(key, str) and key in nodes else None


def _nodes(lock: object) -> dict[str, object]:
    nodes = lock.get("nodes") if isinstance(lock, dict) else None
    return nodes if isinstance(nodes, dict) else {}


def _inputs(node: object) -> dict[str, object]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _locked(node: object) -> dict[str, object]:
    locked = node.get("locked") if isinstance(node, dict) else None
    return locked if isinstance(locked, dict) else {}
