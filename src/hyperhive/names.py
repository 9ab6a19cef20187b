"""Names of principals: what a valid agent name is, and who is not an agent.

Parsing is the only way to get an `AgentName`; below the edge nothing handles a raw, unchecked name.
This file knows nothing of paths or sockets beyond the length limit that the kernel sets on them.
"""

import os
import re
from pathlib import Path
from typing import Final, NewType

from hyperhive.errors import InvalidName, PathTooLong

AgentName = NewType("AgentName", str)
MessageId = NewType("MessageId", int)

OPERATOR: Final = AgentName("operator")
MANAGER: Final = AgentName("manager")
SYSTEM: Final = AgentName("system")

RESERVED: Final = frozenset({"operator", "manager", "system", "hive", "root", "all"})
"""Names that nobody may give to an agent; `manager` is the one reserved name that an agent bears."""

PRINCIPALS: Final = frozenset({OPERATOR, MANAGER, SYSTEM})

AGENT_NAME_PATTERN: Final = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_AGENT_NAME = re.compile(AGENT_NAME_PATTERN)

SOCKET_PATH_MAX_BYTES: Final = 107
"""Linux `sun_path` holds 108 bytes with the terminating NUL (unix(7))."""


def parse_agent_name(text: str) -> AgentName:
    """The name of an ordinary agent, checked.

    Raises:
        InvalidName: not a full match of `AGENT_NAME_PATTERN`, or reserved.
    """
    if _AGENT_NAME.fullmatch(text) is None:
        raise InvalidName(
            text, "a name is 1 to 63 of a-z, 0-9 and '-', starts with a letter and ends without '-'"
        )
    if text in RESERVED:
        raise InvalidName(text, "this name is reserved")
    return AgentName(text)


def parse_resident(text: str) -> AgentName:
    """The name of anyone who lives in a runtime: an ordinary agent or the manager.

    Raises:
        InvalidName: as `parse_agent_name`, except that `manager` is accepted.
    """
    return MANAGER if text == MANAGER else parse_agent_name(text)


def parse_principal(text: str) -> AgentName:
    """The name of anyone who can send or be written to: `operator`, `manager`, `system` or an agent.

    Raises:
        InvalidName: none of these.
    """
    return AgentName(text) if text in PRINCIPALS else parse_agent_name(text)


def check_socket_path(path: Path) -> Path:
    """The same path, if the kernel can bind it.

    Raises:
        PathTooLong: longer than `SOCKET_PATH_MAX_BYTES`.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES:
        raise PathTooLong(str(path), SOCKET_PATH_MAX_BYTES)
    return path
