"""How Claude Code is started: its flags, its environment and its prompts. Starts nothing itself.

Authority is an allow-list on the command line, never a file: settings, hooks, plugins and MCP files that an agent can
write are not loaded (`--setting-sources ""`, `--strict-mcp-config`), and bypassing permissions is not among the flags.
Nothing secret goes into argv: prompts go over standard input (`initialize`), further MCP servers, whose environment may
hold keys, into a file of the harness's. The environment is built from what is named here, never inherited.
"""

import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec

from hyperhive.agent_cli import PASSED_THROUGH, PROXIES, AgentCli
from hyperhive.config import AgentConfig
from hyperhive.errors import BadRequest, HiveError
from hyperhive.harness.drivers.authority import SERVER, asking, authority
from hyperhive.harness.drivers.mcp_servers import cli_servers, read_extra
from hyperhive.harness.prompts import fill, load
from hyperhive.ports import Box
from hyperhive.safe_open import read_beneath

MEMORY_FILE: Final = "CLAUDE.md"
MEMORY_MAX: Final = 128 * 1024
NO_ISOLATION: Final = "none"

SNAPSHOT_SINCE: Final = (2, 1, 328)
"""From this version on a result names its messages' uuids, and a system prompt is recorded unless told otherwise."""

CA_FILES: Final = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
"""Of these, the box shows the file, too, where it is not among what every box shows of the machine."""
IN_EVERY_BOX: Final = (
    "/usr", "/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/pki", "/etc/ca-certificates", "/nix/store",
)  # fmt: skip


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Whose CLI it is."""

    name: str
    role: Literal["agent", "manager"] = "agent"
    config: AgentConfig = AgentConfig()
    pronouns: str = "they/them"


class ModelRoute(msgspec.Struct, frozen=True, kw_only=True):
    """How the CLI reaches the model: variables that win over all others, and what must run before it."""

    env: dict[str, str] = {}
    prefix: tuple[str, ...] = ()
    """Put before the CLI's own words: a program that ends by becoming the CLI."""
    readable: tuple[Path, ...] = ()


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Everything to start a process with, but its session. Equal commands need no new process."""

    argv: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    env: dict[str, str]
    readable: tuple[Path, ...]
    append_prompt: str
    echoes: bool
    """This version tells by echo, not in its results, which messages a turn was for."""
    version: str
    mcp_digest: str = ""
    """Of the file with the further MCP servers: the same path may hold other servers."""
    warning: str | None = None
    asks: tuple[str, ...] = ()
    """Rules of the tools that ask before they run."""
    in_force: str = ""
    """Names the mounts and limits of its box; see `hyperhive.ports.Launcher`."""

    def differs_in_prompt(self, other: "Command") -> bool:
        """Whether the two differ in nothing but the prompt."""
        return self == msgspec.structs.replace(other, append_prompt=self.append_prompt)


class ClaudeDriver:
    """Makes the command of one agent's CLI.

    Args:
        profile: read anew for every turn, so that a changed config takes effect at the next turn boundary.
        find_cli: the CLI that serves; see `hyperhive.agent_cli.AgentClis.find`.
        directory: the harness's own directory for this agent, in no box.
        account_env: the variables of the agent's account, read anew for every turn.
        route: how this CLI reaches the model, asked anew for every turn; by default with `account_env` alone.
        environ: the operator's environment; only what is named in this file is passed through.
        extra_mcp: a file with further MCP servers for every agent, read anew for every turn.
    """

    def __init__(
        self,
        profile: Callable[[], Profile],
        find_cli: Callable[[], Awaitable[AgentCli]],
        directory: Path,
        *,
        account_env: Callable[[], Mapping[str, str]] = dict,
        route: Callable[[AgentCli, Box], Awaitable[ModelRoute]] | None = None,
        environ: Mapping[str, str],
        extra_mcp: Path | None = None,
    ) -> None:
        self._extra_mcp = extra_mcp
        self._profile = profile
        self._find_cli = find_cli
        self._directory = directory
        self._account_env = account_env
        self._route = route
        self._environ = environ

    async def prepare(self, box: Box, isolation: str, in_force: str = "") -> Command:
        """What the agent's CLI is to be started with now.

        Raises:
            MissingPart: there is no usable CLI.
            BadConfig: the config says something of tools or MCP servers that cannot be done.
            WorldError: the harness's directory cannot be written.
        """
        cli = await self._find_cli()
        profile = self._profile()
        new = version_of(cli.version) >= SNAPSHOT_SINCE
        config = await anyio.to_thread.run_sync(self._with_extra_servers, profile.config)
        mcp, readable, digest = await anyio.to_thread.run_sync(self._mcp_config, config)
        certificates = await anyio.to_thread.run_sync(self._certificates)
        isolated = isolation != NO_ISOLATION
        route = ModelRoute(env=dict(self._account_env()))
        if self._route is not None:
            route = await self._route(cli, box)
        flags = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        flags += ["--setting-sources", "", "--strict-mcp-config", "--mcp-config", *mcp]
        flags += ["--system-prompt-snapshot", "off"] if new else []
        flags += [] if new else ["--replay-user-messages"]
        flags += authority(config, isolated=isolated, cwd=box.state)
        flags += asking(config, new=new)
        return Command(
            argv=(str(cli.path), *flags),
            prefix=route.prefix,
            env=self._environment(profile, box) | _no_mentions(new=new) | route.env,
            readable=(cli.path, *readable, *certificates, *route.readable),
            append_prompt=await anyio.to_thread.run_sync(_append_prompt, profile, box),
            echoes=not new,
            version=cli.version,
            asks=config.tools.ask,
            mcp_digest=digest,
            warning=cli.warning,
            in_force=in_force,
        )

    def _certificates(self) -> list[Path]:
        """The CA files that the operator's environment names and that no box shows by itself."""
        named = dict.fromkeys(Path(self._environ[name]) for name in CA_FILES if self._environ.get(name))
        return [
            path
            for path in named
            if path.is_absolute()
            and path.is_file()
            and not any(path.is_relative_to(place) for place in IN_EVERY_BOX)
        ]

    def _with_extra_servers(self, config: AgentConfig) -> AgentConfig:
        """The config with the host's further servers; of two of one name the agent's own counts."""
        return msgspec.structs.replace(config, mcp=read_extra(self._extra_mcp) | config.mcp)

    def _mcp_config(self, config: AgentConfig) -> tuple[list[str], list[Path], str]:
        """The values of `--mcp-config`, the files they name, and a digest of what is in them."""
        own = {"type": "sdk", "name": SERVER, "alwaysLoad": True}
        values = [msgspec.json.encode({"mcpServers": {SERVER: own}}).decode()]
        if not config.mcp:
            return values, [], ""
        path = self._directory / "mcp.json"
        data = cli_servers(config.mcp)
        _write_private(path, data)
        return [*values, str(path)], [path], hashlib.sha256(data).hexdigest()

    def _environment(self, profile: Profile, box: Box) -> dict[str, str]:
        passed = {name: self._environ[name] for name in PASSED_THROUGH if name in self._environ}
        passed |= {n: self._environ[n] for n in PROXIES if _has_no_userinfo(self._environ.get(n))}
        mail = f"{profile.name}@hyperhive.invalid"
        return {
            "LANG": "C.UTF-8",
            **passed,
            **profile.config.env,
            "HOME": box.state,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TMPDIR": "/tmp",  # noqa: S108 (the box's own)
            "TERM": "dumb",
            "CLAUDE_CONFIG_DIR": box.claude,
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "MCP_TIMEOUT": "30000",
            "MCP_TOOL_TIMEOUT": "3600000",
            "GIT_AUTHOR_NAME": profile.name,
            "GIT_AUTHOR_EMAIL": mail,
            "GIT_COMMITTER_NAME": profile.name,
            "GIT_COMMITTER_EMAIL": mail,
        }


def _no_mentions(*, new: bool) -> dict[str, str]:
    """What keeps the CLI from reading files that a message names with an @: it asks no permission for that.

    The older version knows only the wider switch; messages handed in during a turn still arrive under it.
    """
    return {"CLAUDE_CODE_DISABLE_FILE_MENTIONS" if new else "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1"}


def version_of(text: str) -> tuple[int, ...]:
    """`2.1.328` as numbers that compare."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _append_prompt(profile: Profile, box: Box) -> str:
    """The role's prompt, the operator's or manager's addition, and the agent's own notes (blocking)."""
    parts = [
        fill(
            load(profile.role),
            name=profile.name,
            state=box.state,
            config=box.config,
            pronouns=profile.pronouns,
        ),
        profile.config.prompt,
    ]
    try:
        memory = read_beneath(box.host_state, MEMORY_FILE, limit=MEMORY_MAX + 1)
    except HiveError as error:
        if isinstance(error, BadRequest):
            parts.append(f"({box.state}/{MEMORY_FILE} was not read: it is no regular file.)")
        memory = b""
    if memory:
        text = memory[:MEMORY_MAX].decode(errors="replace")
        cut = (
            f"\n({MEMORY_FILE} is cut here: keep it below {MEMORY_MAX // 1024} KiB.)"
            if len(memory) > MEMORY_MAX
            else ""
        )
        parts.append(f"Your own notes, from {box.state}/{MEMORY_FILE}:\n\n{text}{cut}")
    return "\n\n".join(part for part in parts if part)


def _has_no_userinfo(proxy: str | None) -> bool:
    if not proxy:
        return False
    try:
        return "@" not in urlsplit(proxy if "://" in proxy else f"//{proxy}").netloc
    except ValueError:
        return False


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    temporary.replace(path)
