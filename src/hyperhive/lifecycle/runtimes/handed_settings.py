"""What the core hands to a harness in a container: `hive.toml`, beside its socket, where its CLI cannot go.

How the hive behaves, and the operator's settings of this one agent; and its token, where it has one. It is written
before each start, and the harness reads it then and whenever it is told that its settings are others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from hyperhive import accounts
from hyperhive.config import AgentConfig, HiveFile
from hyperhive.lifecycle.runtimes.base import Lodging
from hyperhive.names import AgentName
from hyperhive.paths import Paths

ACCOUNTS: Final = "accounts"
"""Beside it: the agent's account, where no gateway serves its CLI."""


def settings_file(paths: Paths, agent: AgentName) -> Path:
    """Where it lies."""
    return paths.harness_dir(agent) / "hive.toml"


def hand_over(paths: Paths, agent: AgentName, lodging: Lodging) -> None:
    """Writes it, all of it or nothing. Blocks. Raises: OSError, StoreFailed: it cannot be written."""
    accounts.hand_over(paths.harness_dir(agent) / ACCOUNTS, lodging.account)
    text = settings_toml(agent, lodging.config, lodging.file)
    temporary = paths.harness_dir(agent) / ".hive.toml.new"
    temporary.write_text(text)
    temporary.replace(settings_file(paths, agent))


def settings_toml(agent: AgentName, config: AgentConfig, file: HiveFile) -> str:
    """A hive.toml with what one agent's harness needs: how the hive behaves, and this agent's settings. No secrets."""
    told = msgspec.to_builtins(file)
    for key in ("agents", "notify", "forge", "prices", "listen", "allowed_hosts", "runtime"):
        told.pop(key, None)
    told["agents"] = {agent: msgspec.to_builtins(config)}
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in told.items() if value is not None)


def toml_value(value: object) -> str:
    """A plain value as TOML; tables inline, nulls left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, Mapping):
        inner = (f"{_toml_string(key)} = {toml_value(one)}" for key, one in value.items() if one is not None)
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    raise TypeError(f"{type(value).__name__} has no place in TOML")


def _toml_string(text: str) -> str:
    escaped = "".join(
        {'"': '\\"', "\\": "\\\\"}.get(char)
        or (f"\\u{ord(char):04X}" if ord(char) < 32 or ord(char) == 127 else char)
        for char in text
    )
    return f'"{escaped}"'
