"""Which tools an agent's CLI has, which run unasked and which ask: the flags that say so, and nothing else.

Everything is a list on the command line, never a file that an agent could write. `deny` outweighs `ask`, and `ask`
outweighs `allow`: what is marked never runs unasked, and is never denied for want of somebody to ask.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from hyperhive.config import AgentConfig, Tools
from hyperhive.errors import BadConfig
from hyperhive.harness.permissions import rule_name

SERVER: Final = "hyperhive"
QUESTION_TOOL: Final = "AskUserQuestion"
"""Asks a human at a terminal; without one it would be answered with nothing. `ask` takes its place."""

BUILT_IN: Final = (
    "Task", "Agent", "Bash", "BashOutput", "KillShell", "CronCreate", "CronDelete", "CronList", "Edit",
    "EnterWorktree", "ExitWorktree", "Glob", "Grep", "LSP", "ListAgents", "Monitor", "NotebookEdit", "Read",
    "ReportFindings", "ScheduleWakeup", "SendMessage", "Skill", "TaskCreate", "TaskGet", "TaskList", "TaskOutput",
    "TaskStop", "TaskUpdate", "TodoWrite", "ToolSearch", "WebFetch", "WebSearch", "Workflow", "Write",
)  # fmt: skip
"""The built-in tools of the supported versions, but the one that asks a human at a terminal. A new version's new tools
are not used before they stand here."""

UNISOLATED: Final = ("Read", "Grep", "Edit")
"""What an agent may use that no runtime holds in."""

_RULE: Final = re.compile(r"[A-Za-z0-9_*-]+(\(.*\))?", re.DOTALL)


def unasked_tools(*, isolated: bool) -> tuple[str, ...]:
    """The built-in tools that run unasked where the config names none."""
    return BUILT_IN if isolated else UNISOLATED


def caution(tools: Tools, *, isolated: bool) -> str | None:
    """What must be said of an agent whose tools ask while it may run programs unasked."""
    rules = unasked_tools(isolated=isolated) if tools.allow is None else tools.allow
    stopped = {*tools.ask, *tools.deny}
    if not tools.ask or "Bash" in stopped or "Bash" not in map(rule_name, rules):
        return None
    return "This steers, it does not confine: Bash runs unasked here, and what asks can be got round by it."


def authority(config: AgentConfig, *, isolated: bool, cwd: str) -> list[str]:
    """The flags for which tools there are, and which run unasked."""
    tools = config.tools
    rules = list(tools.allow if tools.allow is not None else unasked_tools(isolated=isolated))
    there = {rule_name(rule) for rule in (*rules, *tools.ask)}
    # Without a box a bare file tool means: below the agent's own directory.
    allowed = [f"{rule}(/{cwd}/**)" if not isolated and rule in UNISOLATED else rule for rule in rules]
    allowed = [*allowed, f"mcp__{SERVER}"]
    allowed += [
        f"mcp__{key}__{pattern}" for key, server in config.mcp.items() for pattern in server.allowedTools
    ]
    return [
        *("--tools", ",".join(name for name in BUILT_IN if name in there)),
        *("--allowedTools", ",".join(allowed)),
        *("--disallowedTools", ",".join([QUESTION_TOOL, *tools.deny])),
    ]


def asking(config: AgentConfig, *, new: bool) -> list[str]:
    """The flags for what asks, and whom.

    Where nothing is marked nobody is there to be asked, and what would ask is denied: by the CLI itself, or (`new` is
    false) by its host.

    Raises:
        BadConfig: a rule would mark nothing, so that what was meant would run unasked.
    """
    rules = config.tools.ask
    faults = [f"tools.ask: {fault}" for rule in rules if (fault := _fault(rule, config.mcp)) is not None]
    if faults:
        raise BadConfig(faults)
    if not rules:
        return ["--permission-prompts", "none"] if new else []
    settings = msgspec.json.encode({"permissions": {"ask": rules}}).decode()
    return ["--permission-prompt-tool", "stdio", "--settings", settings]


def _fault(rule: str, servers: Iterable[str]) -> str | None:
    """Why this rule marks nothing, if so."""
    name = rule_name(rule)
    if not _RULE.fullmatch(rule):
        return f"{rule!r} is no rule such as WebFetch, Bash(git push:*) or mcp__KEY__*"
    if name.startswith("mcp__"):
        key = name.split("__")[1]
        return None if key in {SERVER, *servers} else f"{rule!r}: there is no MCP server {key!r}"
    return None if name in BUILT_IN else f"{rule!r}: there is no tool {name!r} here"
