"""Further MCP servers of an agent: from its config, and from a file of the host's; and what the CLI is told of them.

The CLI starts them itself, in the agent's box and as the agent. They would inherit its whole environment, so what
authenticates the CLI is blanked for them; a server that needs a secret gets it by its own `env`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.config import McpServer, mcp_faults
from hyperhive.errors import BadConfig

EXTRA_MCP: Final = Path("/etc/hyperhive/extra-mcp.json")
"""Servers for every agent whose harness runs where this file is."""
CREDENTIALS: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")

_DECODER: Final = msgspec.json.Decoder(dict[str, McpServer])


def read_extra(path: Path | None) -> dict[str, McpServer]:
    """The servers in that file; none where there is no such file (blocking).

    Raises:
        BadConfig: it cannot be read, or is no map from names to servers.
    """
    if path is None:
        return {}
    try:
        servers = _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig([f"{path}: {error}"]) from error
    faults = [
        f"{path}: {'.'.join(place)}: {reason}" for place, reason in mcp_faults(msgspec.to_builtins(servers))
    ]
    if faults:
        raise BadConfig(faults)
    return servers


def cli_servers(servers: Mapping[str, McpServer]) -> bytes:
    """These servers as a file for the CLI's `--mcp-config`."""
    told = {
        key: {
            "type": "stdio",
            "command": one.command,
            "args": one.args,
            "env": {**dict.fromkeys(CREDENTIALS, ""), **one.env},
        }
        for key, one in servers.items()
    }
    return msgspec.json.encode({"mcpServers": told})
