"""`agent.toml`: what may change of an agent by approval, how it joins the operator's settings, what a change means.

All of it is pure: text in, settings or one error with every fault out. What the operator alone decides is refused in
the file; what a limit of theirs takes away is cut, and said.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from hyperhive import toml_check
from hyperhive.config import (
    AgentConfig,
    Budget,
    Count,
    Limits,
    McpServer,
    Network,
    Positive,
    Size,
    Tools,
    env_faults,
    mcp_faults,
    name_faults,
    parse_size,
)
from hyperhive.errors import BadConfig
from hyperhive.toml_check import Fault

FILE: Final = "agent.toml"
FILE_MAX: Final = 256 * 1024
"""Bytes; a longer file is refused."""

Package = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}\Z", examples=["ripgrep"])]
How = Literal["live", "restart"]
LIVE: Final = frozenset({"model", "budget", "send_to", "sends_per_minute", "bytes_per_hour"})
"""What a running agent takes over as it is. Everything else is taken when its loop starts again, between two turns."""

_ALONE: Final = "is the operator's alone: it stands in hive.toml"
_OPERATORS: Final = dict.fromkeys(("account", "harness", "limits", "mounts"), _ALONE)
_WIDTH: Final[dict[Network, int]] = {"none": 0, "out": 1, "host": 2}
_PROMPT_MAX: Final = 64 * 1024


class AgentFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file as written. What stands in it goes before hive.toml's `[agents.NAME]`, within its limits."""

    model: (
        Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^\S+\Z", examples=["sonnet"])] | None
    ) = None
    prompt: Annotated[str, Meta(max_length=_PROMPT_MAX)] | None = None
    """What is added to its role's prompt."""
    network: Network | None = None
    packages: tuple[Package, ...] | None = None
    """Programs that its box has beside what every box has."""
    env: dict[str, str] = {}
    """Variables of its CLI, and of what that runs; by name beside hive.toml's."""
    mcp: dict[str, McpServer] = {}
    """Further MCP servers; by name beside hive.toml's."""
    tools: Tools = Tools()
    """`allow` goes before hive.toml's; `deny` and `ask` come on top of them."""
    budget: Budget = Budget()
    memory: Size | None = None
    """This and what follows: with how much less than its limits it is content."""
    pids: Count | None = None
    cpu: Positive | None = None
    disk: Size | None = None
    send_to: tuple[str, ...] | None = None
    sends_per_minute: Count | None = None
    bytes_per_hour: Size | None = None


class Effective(msgspec.Struct, frozen=True):
    """What an agent runs with, and what of its file was cut, each in a sentence."""

    config: AgentConfig
    cuts: tuple[str, ...] = ()


def parse(data: bytes | str | None, source: str = FILE) -> AgentFile:
    """The file, checked; no file is an empty one.

    Raises:
        BadConfig: with every fault, each as `FILE:LINE: KEY: reason`.
    """
    if isinstance(data, bytes):
        if len(data) > FILE_MAX:
            raise BadConfig([f"{source}: is longer than {FILE_MAX // 1024} KiB"])
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise BadConfig([f"{source}:{line}: is no UTF-8"]) from error
    else:
        text = data or ""
    return toml_check.parse(text, AgentFile, source, semantic=_faults, withheld=_OPERATORS)


def _faults(data: Mapping[str, object]) -> list[Fault]:
    faults: list[Fault] = [(("env", key), reason) for key, reason in env_faults(_texts(data.get("env")))]
    faults += [(("mcp", *place), reason) for place, reason in mcp_faults(data.get("mcp"))]
    faults += [(("send_to",), reason) for reason in name_faults(data.get("send_to"))]
    return faults


def _texts(table: object) -> dict[str, str]:
    return (
        {key: value for key, value in table.items() if isinstance(value, str)}
        if isinstance(table, dict)
        else {}
    )


# --- with the operator's settings -----------------------------------------------------------------------------------


def effective(operator: AgentConfig, file: AgentFile, name: str = "NAME") -> Effective:
    """What an agent runs with: its file over the operator's defaults, then cut to the operator's limits.

    Numbers: the smaller; allow-lists: what is in both; deny and ask lists: what is in either. Never wider than the
    limits, whatever the file says.
    """
    cuts: list[str] = []
    limits = operator.limits
    where = f"[agents.{name}.limits]"
    wanted = operator.packages if file.packages is None else file.packages
    packages = _within(wanted, limits.packages)
    if packages != wanted:
        cuts.append(f"packages: {_listed(set(wanted) - set(packages))} not in {where}")
    config = AgentConfig(
        model=file.model or operator.model,
        prompt=operator.prompt if file.prompt is None else file.prompt,
        account=operator.account,
        harness=operator.harness,
        network=_network(file.network or operator.network, limits, where, cuts),
        packages=packages,
        env={**operator.env, **file.env},
        mcp={**operator.mcp, **file.mcp},
        tools=_tools(operator.tools, file.tools, limits.tools, where, cuts),
        mounts=operator.mounts,
        budget=_budget(operator.budget, file.budget, limits.budget, where, cuts),
        limits=_limits(limits, file, where, cuts),
    )
    return Effective(_known(config, operator), tuple(cuts))


def _known(config: AgentConfig, operator: AgentConfig) -> AgentConfig:
    """What this module does not know of is as the operator set it."""
    ours = {field: getattr(config, field) for field in AgentConfig.__struct_fields__ if field in _MERGED}
    return msgspec.structs.replace(operator, **ours)


_MERGED: Final = frozenset(
    {"model", "prompt", "network", "packages", "env", "mcp", "tools", "budget", "limits"}
)


def _network(wanted: Network | None, limits: Limits, where: str, cuts: list[str]) -> Network | None:
    if wanted is None or wanted == "none" or wanted in limits.network:
        return wanted
    allowed = [one for one in limits.network if _WIDTH[one] < _WIDTH[wanted]]
    given: Network = max(allowed, key=_WIDTH.__getitem__, default="none")
    cuts.append(f"network: {wanted} is cut to {given}: {where} allows {_listed(limits.network)}")
    return given


def _tools(operator: Tools, file: Tools, limit: Tools, where: str, cuts: list[str]) -> Tools:
    allow = operator.allow if file.allow is None else file.allow
    if limit.allow is not None:
        wanted = allow
        allow = limit.allow if wanted is None else _rules_within(wanted, limit.allow)
        if wanted is not None and (lost := set(wanted) - set(allow)):
            cuts.append(f"tools.allow: {_listed(lost)} not in {where}")
    return Tools(
        allow=allow,
        deny=_union(operator.deny, file.deny, limit.deny),
        ask=_union(operator.ask, file.ask, limit.ask),
    )


def _rules_within(wanted: tuple[str, ...], limit: tuple[str, ...]) -> tuple[str, ...]:
    """Rules such as `Bash` and `Bash(git log:*)`: the narrower one of a pair is what is in both."""
    kept = [rule for rule in wanted if rule in limit or rule.partition("(")[0] in limit]
    kept += [rule for rule in limit if rule not in kept and rule.partition("(")[0] in wanted]
    return tuple(dict.fromkeys(kept))


def _limits(limits: Limits, file: AgentFile, where: str, cuts: list[str]) -> Limits:
    changes: dict[str, object] = {}
    for key in ("pids", "cpu", "sends_per_minute", "memory", "disk", "bytes_per_hour"):
        limit, wanted = getattr(limits, key), getattr(file, key)
        if wanted is None:
            continue
        if limit is not None and _number(wanted) > _number(limit):
            cuts.append(f"{key}: {wanted} is cut to {limit} by {where}")
        else:
            changes[key] = wanted
    if file.send_to is not None:
        changes["send_to"] = kept = _within(file.send_to, limits.send_to)
        if kept != file.send_to:
            cuts.append(f"send_to: {_listed(set(file.send_to) - set(kept))} not in {where}")
    return msgspec.structs.replace(limits, **changes)


def _budget(operator: Budget, file: Budget, limit: Budget, where: str, cuts: list[str]) -> Budget:
    values: dict[str, float | None] = {}
    for key in Budget.__struct_fields__:
        own, most = getattr(file, key), getattr(limit, key)
        wanted = getattr(operator, key) if own is None else own
        values[key] = wanted
        if wanted is not None and most is not None and wanted > most:
            values[key] = most
            cuts.append(f"budget.{key}: {wanted} is cut to {most} by {where}")
    return msgspec.convert(values, Budget)


def _number(value: float | str) -> float:
    return parse_size(value) if isinstance(value, str) else value


T = TypeVar("T")


def _within(wanted: tuple[T, ...], limit: tuple[T, ...] | None) -> tuple[T, ...]:
    return wanted if limit is None else tuple(one for one in wanted if one in limit)


def _union(*lists: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for each in lists for one in each))


def _listed(names: "tuple[str, ...] | set[str]") -> str:
    return ", ".join(sorted(names)) or "nothing"


# --- what a change means --------------------------------------------------------------------------------------------


def changes(old: AgentConfig, new: AgentConfig) -> dict[str, How]:
    """Which settings differ, and how a running agent takes each over: `live`, or by a `restart` between two turns."""
    found = [
        key
        for key in AgentConfig.__struct_fields__
        if key != "limits" and getattr(old, key) != getattr(new, key)
    ]
    found += [key for key in Limits.__struct_fields__ if getattr(old.limits, key) != getattr(new.limits, key)]
    return {key: "live" if key in LIVE else "restart" for key in dict.fromkeys(found)}


def in_words(changed: Mapping[str, How]) -> list[str]:
    """What is said of such changes beside a diff."""
    if not changed:
        return ["nothing changes for the running agent"]
    live = [key for key, how in changed.items() if how == "live"]
    restart = [key for key, how in changed.items() if how == "restart"]
    said = [f"taken over while it runs: {', '.join(live)}"] if live else []
    return said + ([f"taken by a restart between two turns: {', '.join(restart)}"] if restart else [])
