"""What the operator has set: `hive.toml`, the environment, and the defaults of the specification.

One error lists every fault of a file, each with its line. Nothing here reads a file that an agent can write, and
nothing guesses: a value is what was written or the default, or the file is refused.
"""

import os
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args
from zoneinfo import available_timezones

import msgspec
from msgspec import Meta

from hyperhive import toml_check
from hyperhive.errors import BadConfig, Conflict, InvalidName
from hyperhive.names import parse_principal, parse_resident
from hyperhive.toml_check import Fault

RuntimeName = Literal["auto", "process", "bwrap", "nspawn", "nixos-container"]
Network = Literal["none", "out", "host"]
MatterKind = Literal["question", "tool", "approval", "login", "failed", "dead", "deploy", "limit"]

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Size = Annotated[str, Meta(pattern=r"^[1-9][0-9]*[KMGT]?\Z", examples=["16M", "4G"])]

DEFAULT_MODEL = "haiku"
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_FORBIDDEN_ENV = re.compile(
    r"LD_.*|NODE_OPTIONS|BASH_ENV|GIT_.*|ANTHROPIC_.*|CLAUDE_.*|.*_PROXY|PATH|HOME|TMPDIR|TERM|DISABLE_.*|MCP_.*",
    re.IGNORECASE,
)
_QUIET = r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z"
_LISTEN = re.compile(r"(?:[^\s:]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_MCP_KEY = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse_size(text: str) -> int:
    """Bytes of a size such as `4G` (powers of 1024)."""
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a configuration file: every key is known, or the file is refused."""


class Settings(_Section, frozen=True, kw_only=True):
    """How the hive behaves. Times are seconds."""

    idle_seconds: Positive = 600.0
    """How long a CLI process without a turn is kept warm."""
    max_warm: Annotated[int, Meta(ge=0)] = 8
    """How many CLI processes without a turn may stay warm at once."""
    max_turns: Annotated[int, Meta(ge=0)] = 0
    """How many turns may run at once. 0: two for each core, at most as many as memory holds at 300 MB each."""
    backoff_seconds: Positive = 5.0
    """The pause after a failed turn; it doubles with each further one."""
    backoff_max_seconds: Positive = 300.0
    """The longest such pause."""
    stuck_seconds: Positive = 600.0
    """A turn without output for so long, while no tool is open, is interrupted."""
    result_grace: Positive = 10.0
    """How long a CLI may live on after a result that should have been its last."""
    drain_seconds: Positive = 900.0
    """How long a running turn may go on when its agent is stopped."""
    health_seconds: Positive = 120.0
    """How long a new configuration may take to be well, before the one before it is put back."""
    up_seconds: Annotated[float, Meta(ge=0)] | None = None
    """How long an agent must have been up on it for that; unless set 1, and 5 where agents live in containers."""
    dead_after: Count = 5
    """After so many turns that a message may itself have made fail, it becomes a dead letter."""
    buffer: Count = 256
    """Events that a slow reader may be behind before it loses some."""
    sends_per_minute: Count = 60
    """Messages and questions of one agent; after a pause as many at once."""
    bytes_per_hour: Size = "16M"
    """Their bodies together, likewise."""
    inbox_cap: Count = 1000
    """Messages that may wait in one inbox; the hive's own news come all the same."""
    open_questions: Count = 20
    """Questions of one agent that are not answered yet."""
    open_reminders: Count = 20
    """Reminders of one agent that are still to come."""
    reminder_gap_seconds: Count = 60
    """The least time between two of these."""
    hop_limit: Count = 64
    """Messages that follow one from the other; beyond that they are held and the operator is asked. A release grants as
    many again."""
    pair_rate: Count = 20
    """Messages of one such chain between the same two agents within `pair_seconds`, likewise."""
    pair_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 600
    """See `pair_rate`."""
    tool_ttl_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    """A tool call that waits so long for your permission is denied."""


class Budget(_Section, frozen=True, kw_only=True):
    """What may be spent before turns pause and the operator is asked."""

    tokens_per_hour: Count | None = None
    tokens_per_day: Count | None = None
    cost_per_hour: Positive | None = None
    cost_per_day: Positive | None = None


class Price(_Section, frozen=True, kw_only=True):
    """What a model's tokens cost, in US dollars a million."""

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]
    cache_write: Annotated[float, Meta(ge=0)]
    cache_read: Annotated[float, Meta(ge=0)]


class Tools(_Section, frozen=True, kw_only=True):
    """Tools that an agent may use, may not use, or must ask the operator for."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()


class Limits(_Section, frozen=True, kw_only=True):
    """What no proposal can lift."""

    network: tuple[Network, ...] = ("none", "out", "host")
    budget: Budget = Budget()
    memory: Size = "4G"
    pids: Count = 512
    cpu: Positive = 2.0
    disk: Size = "10G"
    send_to: tuple[str, ...] | None = None
    """The agents that it may write to or ask; all where it is not set. The operator can always be written to."""
    sends_per_minute: Count | None = None
    """As the setting of the same name, where this is the smaller one; so `bytes_per_hour`."""
    bytes_per_hour: Size | None = None
    packages: tuple[str, ...] | None = None
    """The packages that it may have; all where it is not set."""
    tools: Tools = Tools()
    """`allow`: no other tool is ever allowed; `deny` and `ask` come on top of what the agent has."""


class McpServer(_Section, frozen=True, kw_only=True):
    """One more MCP server for an agent's CLI."""

    command: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    allowedTools: tuple[str, ...] = ()  # noqa: N815 (the name in the file)


class MountSetting(_Section, frozen=True, kw_only=True):
    """A directory of the operator's, shown to an agent below /workspace."""

    source: str
    target: str
    mode: Literal["ro", "rw"] = "ro"


class AgentConfig(_Section, frozen=True, kw_only=True):
    """Everything that can be set of one agent. `mounts`, `account` and `limits` are the operator's alone."""

    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    prompt: str = ""
    account: str = "default"
    harness: Literal["embedded", "own"] = "embedded"
    """`own`: the agent's harness is a process of its own (`hyperhive agent serve`), which reports for duty."""
    network: Network | None = None
    packages: tuple[str, ...] = ()
    env: dict[str, str] = {}
    mcp: dict[str, McpServer] = {}
    tools: Tools = Tools()
    mounts: tuple[MountSetting, ...] = ()
    budget: Budget = Budget()
    """The agent's own, within what `limits` leaves it."""
    limits: Limits = Limits()


class NotifyChannel(_Section, frozen=True, kw_only=True):
    """One way to reach the operator away from the screens."""

    kind: Literal["ntfy", "webhook"]
    url: Annotated[str, Meta(pattern=r"^https?://[^/@\s]+(/\S*)?\Z", examples=["https://ntfy.sh/my-topic"])]
    """ntfy: the topic's address. webhook: where to POST to. Without user or password."""
    token_file: str | None = None
    """A file whose first line is sent as bearer token."""
    template: str | None = None
    """webhook: the JSON to send, with {title} {text} {agent} {kind} {state} {key} inside its strings."""
    matters: tuple[MatterKind, ...] = get_args(MatterKind)
    """What to tell of."""
    mute: tuple[str, ...] = ()
    """Agents not to tell of."""
    after_seconds: Annotated[float, Meta(ge=0)] = 120.0
    """How long to wait whether it is settled at a screen. Failures are told at once."""
    resolved: bool = True
    """Say so when what was told of was settled elsewhere."""


class Notify(_Section, frozen=True, kw_only=True):
    """How the operator is told of what waits."""

    quiet_hours: Annotated[str, Meta(pattern=_QUIET, examples=["22:00-07:00"])] | None = None
    """`22:00-07:00`: what comes up meanwhile is told at their end."""
    time_zone: str | None = None
    """Of the quiet hours, as `Europe/Berlin`; the host's without it."""
    also_quiet: tuple[MatterKind, ...] = get_args(MatterKind)
    """What the quiet hours hold for; the rest is told at any hour."""
    channels: dict[str, NotifyChannel] = {}


class ForgeSetting(_Section, frozen=True, kw_only=True):
    """A Forgejo or Gitea server that gets a copy of every agent's configuration, with its history and decisions."""

    url: Annotated[str, Meta(pattern=r"^https?://[^/@\s]+(/\S*)?\Z", examples=["https://git.example.org"])]
    """The server's own address, without user or password."""
    user: str
    """Whose token it is."""
    token_file: str
    """A file whose first line is an access token that may make organisations and write repositories."""
    org: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,38}\Z")] = "agent-configs"
    """The organisation that the repositories are in; made, private, where it is missing."""


class HiveFile(Settings, frozen=True, kw_only=True):
    """`hive.toml` as written: the settings at the top, then one table an agent."""

    listen: str = "127.0.0.1:7000"
    """Where the operator's pages are served, as HOST:PORT; port 0: a free one. Loopback unless you say otherwise."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names that browsers may reach the pages by, as they stand in the address bar: `hive.my-net.ts.net`,
    `localhost:8080`. localhost, 127.0.0.1, [::1] and what `listen` says are always among them, each with the port."""
    page_ports: tuple[str, ...] = ()
    """Agents whose page is also at the root of a port of its own: 7100 + a hash of the name, and `list --json` says it.
    Two that have the same port are refused here."""
    runtime: RuntimeName = "auto"
    nspawn_base: Annotated[str, Meta(pattern=r"^/", examples=["/var/lib/base"])] | None = None
    """The root file system that containers of the runtime nspawn share; else `nspawn/base` in the state directory."""
    pronouns: str = "they/them"
    auto_update: bool = True
    """Agents that another revision of the hive built are built anew when it starts; else they are told of."""
    budget: Budget = Budget()
    """Of all agents together."""
    prices: dict[str, Price] = {}
    """By the beginning of the model's name; they go before the list that the hive has."""
    notify: Notify = Notify()
    forge: ForgeSetting | None = None
    agents: dict[str, AgentConfig] = {}

    @property
    def host(self) -> str:
        """The address part of `listen`, without brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of `listen`."""
        return int(self.listen.rpartition(":")[2])


class HiveConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a hive needs to know at start: the file, and what the environment or flags set over it."""

    file: HiveFile = HiveFile()
    source: Path | None = None
    """Where the file is, or would be."""
    state_dir: Path
    run_dir: Path
    runtime: RuntimeName = "auto"
    serving: bool = False
    """Whether this is the daemon's, for which `auto` means more."""
    claude: str | None = None
    host: str = "127.0.0.1"
    port: int = 7000
    pages: bool = False
    """Whether the operator's pages are served, at `host` and `port` (0: a free one)."""
    exact: bool = False
    """Whether that port was asked for: where it was not and is taken, a free one does as well."""
    pronouns: str = "they/them"
    overlay: Callable[[str, AgentConfig], AgentConfig] | None = None
    """Gives what an agent runs with: the operator's settings and what was deployed for it."""

    def agent(self, name: str) -> AgentConfig:
        """What is in force for one agent."""
        return self.operators(name) if self.overlay is None else self.overlay(name, self.operators(name))

    def operators(self, name: str) -> AgentConfig:
        """The operator's settings of one agent; the defaults where there are none."""
        return self.file.agents.get(name) or AgentConfig()


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_hive_file(text: str, source: str = "hive.toml") -> HiveFile:
    """The file, checked.

    Raises:
        BadConfig: with every fault, each as `FILE:LINE: KEY: reason`.
    """
    return toml_check.parse(text, HiveFile, source, semantic=_semantic_faults)


def load(
    environ: Mapping[str, str],
    *,
    serve: bool = False,
    state_dir: Path | None = None,
    run_dir: Path | None = None,
    runtime: str | None = None,
    port: int | None = None,
    pages: bool = False,
) -> HiveConfig:
    """The configuration of a hive that starts now. Arguments (flags) win over `environ`, that over the file.

    Args:
        serve: the daemon's places (`/etc`, `/var/lib`, `/run`) rather than the user's, where nothing else is said.
        port: of the operator's pages; 0: a free one.
        pages: whether those are served.

    Raises:
        BadConfig: with every fault of file and environment.
    """
    source = config_path(environ, serve=serve)
    file = read_file(source)
    faults: list[str] = []
    state = state_dir or state_directory(environ, serve=serve)
    chosen = runtime or environ.get("HYPERHIVE_RUNTIME") or file.runtime
    if chosen not in get_args(RuntimeName):
        faults.append(f"HYPERHIVE_RUNTIME: {chosen!r} is none of {', '.join(get_args(RuntimeName))}")
    asked = environ.get("HIVE_DASHBOARD_PORT", "") if port is None else str(port)
    if asked and not (asked.isascii() and asked.isdecimal() and int(asked) <= 65535):
        faults.append(f"{'--port' if port is not None else 'HIVE_DASHBOARD_PORT'}: {asked!r} is no port")
    if faults:
        raise BadConfig(faults)
    return HiveConfig(
        file=file,
        source=source,
        state_dir=state,
        run_dir=run_dir or run_directory(environ, state, serve=serve),
        runtime=msgspec.convert(chosen, RuntimeName),
        serving=serve,
        claude=environ.get("HYPERHIVE_CLAUDE") or None,
        host=file.host,
        port=int(asked) if asked else file.port,
        pages=pages,
        exact=serve or bool(asked) or file.listen != HiveFile().listen,
        pronouns=environ.get("HIVE_OPERATOR_PRONOUNS") or file.pronouns,
    )


def read_file(source: Path) -> HiveFile:
    """The file at `source`; the defaults where there is none.

    Raises:
        BadConfig: with every fault.
    """
    try:
        return parse_hive_file(source.read_text(encoding="utf-8"), str(source))
    except FileNotFoundError:
        return HiveFile()
    except (OSError, UnicodeError) as error:
        raise BadConfig([f"{source}: cannot be read: {error}"]) from error


def config_path(environ: Mapping[str, str], *, serve: bool = False) -> Path:
    """Where `hive.toml` is looked for: the first of variable, user's file (if there), daemon's or user's place."""
    if named := environ.get("HYPERHIVE_CONFIG"):
        return Path(named)
    users = _xdg(environ, "XDG_CONFIG_HOME", ".config") / "hyperhive" / "hive.toml"
    return Path("/etc/hyperhive/hive.toml") if serve and not users.exists() else users


def state_directory(environ: Mapping[str, str], *, serve: bool = False) -> Path:
    """Where the hive keeps its state."""
    if named := environ.get("HYPERHIVE_STATE_DIR"):
        return Path(named).absolute()
    if serve:
        return Path("/var/lib/hyperhive")
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "hyperhive"


def run_directory(environ: Mapping[str, str], state: Path, *, serve: bool = False) -> Path:
    """Where the hive puts its sockets."""
    if named := environ.get("HYPERHIVE_RUN_DIR"):
        return Path(named).absolute()
    if serve:
        return Path("/run/hyperhive")
    runtime_dir = environ.get("XDG_RUNTIME_DIR")
    return Path(runtime_dir) / "hyperhive" if runtime_dir else state / "run"


def _xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    named = environ.get(variable)
    return Path(named) if named else Path(environ.get("HOME") or Path.home()) / below_home


def doubts(file: HiveFile, agents: Collection[str]) -> list[str]:
    """What is valid and perhaps not meant, or will not work. Looks at the files that are named, so it blocks.

    Args:
        agents: those that there are.
    """
    found = [
        f"[agents.{name}]: there is no agent of this name yet" for name in file.agents if name not in agents
    ]
    named = {f"notify.channels.{name}": channel.token_file for name, channel in file.notify.channels.items()}
    named["forge"] = None if file.forge is None else file.forge.token_file
    for place, path in named.items():
        if path is not None and not os.access(path, os.R_OK):
            found.append(f"{place}: its token_file {path} cannot be read")
    return found


# --- checking ---------------------------------------------------------------------------------------------------------


def page_port(name: str) -> int:
    """The port of an agent's own, where it has one: the same for the same name on any machine."""
    return 7100 + zlib.crc32(name.encode()) % 900


def page_port_clash(name: str, names: Sequence[str], dashboard: int | None) -> str | None:
    """What has the port of this agent's own already, in words; None: nothing in the hive, or it has no such port.

    Args:
        name: the agent.
        names: who has such a port (`page_ports`).
        dashboard: the port that the operator's pages are served on, where they are.
    """
    if name not in names:
        return None
    port = page_port(name)
    if port == dashboard:
        return "the dashboard"
    return next((other for other in names if other != name and page_port(other) == port), None)


def check_page_ports(names: Sequence[str], dashboard: int | None, of: Sequence[str] | None = None) -> None:
    """Whether these agents (`of`; all of `names` where it is None) can have the ports of their own.

    Raises:
        Conflict: another agent's or the dashboard's is the same, wherever that is served.
    """
    for name in names if of is None else of:
        if (other := page_port_clash(name, names, dashboard)) is not None:
            raise Conflict(
                f"{name} has the port {page_port(name)} of its own (page_ports in hive.toml), and so has {other}",
                hint="leave one out of page_ports, or serve the dashboard on another port",
            )


def _page_port_faults(names: object, listen: object) -> list[Fault]:
    """Ports that cannot all be had are refused here, before any agent is made or built anew."""
    faults: list[Fault] = []
    taken = {str(listen).rpartition(":")[2]: "`listen`"}
    for place, name in enumerate(names if isinstance(names, list) else ()):
        try:
            port = str(page_port(parse_resident(name))) if isinstance(name, str) else None
        except InvalidName as error:
            faults.append((("page_ports", str(place)), error.message))
            continue
        if port in taken:
            faults.append(
                (("page_ports", str(place)), f"{name} has the port {port}, and so has {taken[port]}")
            )
        elif port is not None:
            taken[port] = str(name)
    return faults


def _semantic_faults(data: Mapping[str, object]) -> list[Fault]:
    """What a value's type does not say. Looks only at what has the right type; the rest is a fault already."""
    faults: list[Fault] = []
    listen = data.get("listen", "")
    if "listen" in data and isinstance(listen, str):
        if not _LISTEN.fullmatch(listen):
            faults.append((("listen",), "expected HOST:PORT"))
        elif int(listen.rpartition(":")[2]) > 65535:
            faults.append((("listen",), "there is no port above 65535"))
    hosts = data.get("allowed_hosts", [])
    for place, host in enumerate(hosts if isinstance(hosts, list) else ()):
        if isinstance(host, str) and not _HOST.fullmatch(host):
            faults.append(
                (("allowed_hosts", str(place)), "expected HOST or HOST:PORT, without https:// and path")
            )
    faults += _page_port_faults(data.get("page_ports", []), listen)
    faults += _notify_faults(data.get("notify", {}))
    agents = data.get("agents", {})
    for name, agent in agents.items() if isinstance(agents, dict) else ():
        try:
            parse_resident(name)
        except InvalidName as error:
            faults.append((("agents", name), error.message))
        env = agent.get("env", {}) if isinstance(agent, dict) else {}
        texts = (
            {key: value for key, value in env.items() if isinstance(value, str)}
            if isinstance(env, dict)
            else {}
        )
        faults += [(("agents", name, "env", key), reason) for key, reason in env_faults(texts)]
        limits = agent.get("limits", {}) if isinstance(agent, dict) else {}
        send_to = limits.get("send_to") if isinstance(limits, dict) else None
        faults += [(("agents", name, "limits", "send_to"), reason) for reason in name_faults(send_to)]
        mcp = agent.get("mcp") if isinstance(agent, dict) else None
        faults += [(("agents", name, "mcp", *place), reason) for place, reason in mcp_faults(mcp)]
    return faults


def name_faults(names: object) -> list[str]:
    """What is wrong with a list of whom an agent may write to."""
    faults = []
    for name in names if isinstance(names, list) else ():
        try:
            parse_principal(str(name))
        except InvalidName as error:
            faults.append(error.message)
    return faults


def mcp_faults(mcp: object) -> list[Fault]:
    """What is wrong with a table of further MCP servers, by its keys."""
    faults: list[Fault] = []
    for key, server in mcp.items() if isinstance(mcp, dict) else ():
        if key == "hyperhive":
            faults.append(((key,), "is the hive's own server"))
        elif not _MCP_KEY.fullmatch(key):
            faults.append(((key,), "a server's name has letters, digits, '-' and single '_' only"))
        if isinstance(server, dict) and server.get("command") == "":
            faults.append(((key, "command"), "is empty"))
    return faults


def _notify_faults(notify: object) -> list[Fault]:
    if not isinstance(notify, dict):
        return []
    faults: list[Fault] = []
    zone = notify.get("time_zone")
    if isinstance(zone, str) and zone not in available_timezones():
        faults.append((("notify", "time_zone"), f"{zone!r} is no time zone"))
    hours = notify.get("quiet_hours")
    if isinstance(hours, str) and len(set(hours.split("-"))) == 1:
        faults.append((("notify", "quiet_hours"), "begin and end are the same"))
    channels = notify.get("channels", {})
    for name, channel in channels.items() if isinstance(channels, dict) else ():
        template = channel.get("template") if isinstance(channel, dict) else None
        if not isinstance(template, str):
            continue
        try:
            msgspec.json.decode(template)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            faults.append((("notify", "channels", name, "template"), f"is no JSON: {error}"))
    return faults


def env_faults(env: Mapping[str, str]) -> list[tuple[str, str]]:
    """What an agent's `env` may not set, with the reason."""
    faults = []
    for key, value in env.items():
        if not _ENV_NAME.fullmatch(key):
            faults.append((key, "no name of a variable"))
        elif _FORBIDDEN_ENV.fullmatch(key):
            faults.append((key, "is set by the hive itself, or would change which code runs"))
        elif "\0" in value:
            faults.append((key, "has a NUL character"))
    return faults
