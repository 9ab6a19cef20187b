"""What is deployed for an agent, as a file for a harness in a process of its own: `agents/NAME/harness/agent.json`.

The core writes it before each start of the agent, the harness reads it when it starts and when it rereads its settings.
It lies outside every box. What is in it is the deployed agent.toml, not what follows from it: the operator's settings
are the harness's own to read.
"""

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.agent_toml import AgentFile, effective
from hyperhive.config import AgentConfig
from hyperhive.errors import WorldError

HANDED: Final = "agent.json"
_MAX: Final = 1 << 20


def hand_over(directory: Path, file: AgentFile) -> None:
    """Writes it, atomically. Blocks.

    Raises:
        WorldError: it cannot be written.
    """
    temporary = directory / f".{HANDED}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(msgspec.json.encode(file))
        temporary.replace(directory / HANDED)
    except OSError as error:
        raise WorldError(f"{directory / HANDED} cannot be written: {error.strerror}") from error


def handed(directory: Path) -> AgentFile:
    """What was written last; an empty file where nothing was. Blocks.

    Raises:
        WorldError: it cannot be read.
    """
    try:
        with (directory / HANDED).open("rb") as stream:
            return msgspec.json.decode(stream.read(_MAX), type=AgentFile)
    except FileNotFoundError:
        return AgentFile()
    except (OSError, msgspec.DecodeError) as error:
        raise WorldError(f"{directory / HANDED} cannot be read: {error}") from error


class Handed:
    """An overlay (see `HiveConfig`) made of that file, as it was when `reread` was called last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = AgentFile()

    def reread(self) -> None:
        """Blocks. Raises: WorldError: as `handed`."""
        self._file = handed(self._directory)

    def overlay(self, name: str, operator: AgentConfig) -> AgentConfig:
        """What the agent runs with."""
        return effective(operator, self._file, name).config
