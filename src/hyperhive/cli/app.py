"""Every command, in one table: its name, where it lives, and its line in the help.

Modules are imported when their command runs, and the overview is printed from the table itself: a command pays for
its own imports only. Nothing here does anything.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hyperhive import __version__

if TYPE_CHECKING:
    from hyperhive.cli.help import TwoColumns

SUMMARY: Final = "Runs a hive of coding agents that write to each other and to you, and lose nothing."


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `target` is `module:function` below `hyperhive.cli`; `alias` is not listed by the help."""

    name: str
    target: str
    help: str
    alias: str = ""


COMMANDS: Final[dict[str, tuple[Command, ...]]] = {
    "Hive": (
        Command("up", "serve:up", "Run a hive in this terminal until Ctrl-C."),
        Command("serve", "serve:serve", "Run the hive as a service: logs only."),
        Command("demo", "demo:demo", "Watch a hive of scripted agents; no account, no network."),
        Command("status", "fleet:status", "Show the hive, or one agent, and what is not isolated or enforced."),
        Command("doctor", "doctor:doctor", "Check what a hive needs here; --install-cli gets the agent CLI."),
        Command("login", "account:login", "Store a key or token, or log one agent's CLI in."),
        Command("service", "service:service", "Install or remove the systemd service."),
        Command("backup", "backup:backup", "Write everything that the hive keeps into one file."),
        Command("restore-backup", "backup:restore_backup", "Put a backup back, with the hive stopped."),
        Command("notices", "notices:notices", "Show what you were told of by ntfy or webhook; --test a channel."),
        Command("reload", "later:reload", "Read hive.toml again."),
    ),
    "Agents": (
        Command("list", "fleet:list_agents", "List the agents and what they are doing.", alias="ls"),
        Command("spawn", "fleet:spawn", "Create an agent and start it."),
        Command("start", "fleet:start", "Start a stopped agent."),
        Command("kill", "fleet:kill", "Stop an agent, or all; a running turn ends first.", alias="stop"),
        Command("restart", "fleet:restart", "Stop and start an agent."),
        Command("destroy", "fleet:destroy", "Remove an agent; its state is kept unless --purge."),
        Command("restore", "fleet:restore", "Bring a destroyed agent back."),
        Command("model", "turns:model", "Change an agent's model."),
        Command("cancel", "turns:cancel", "Interrupt an agent's running turn."),
        Command("compact", "turns:compact", "Compact an agent's session."),
        Command("new-session", "turns:new_session", "Start a new session with an agent's next turn."),
        Command("request-spawn", "approvals:request_spawn", "Queue a new agent for approval."),
        Command("rebuild", "approvals:rebuild", "Put right whatever drifted on the host."),
        Command("update", "approvals:update", "Rebuild on the hive's current revision."),
        Command("config", "finding:config", "Show an agent's config: deployed, proposed and in force."),
        Command("rollback", "approvals:rollback", "Deploy an earlier configuration again."),
        Command("budget", "budget:budget", "Show what was spent, on what, and set today's limit."),
        Command("tool-rules", "tool_rules:tool_rules", "List or revoke what is always allowed."),
    ),
    "Mail": (
        Command("send", "mail:send", "Write to an agent; --wait until it was worked."),
        Command("inbox", "mail:inbox", "Read what agents wrote to you; --done puts it away."),
        Command("file", "files:file", "Show a file that a message refers to, or one of an agent's."),
        Command("messages", "finding:messages", "List everybody's messages and what has become of them."),
        Command("search", "finding:search", "Find messages, tool calls and decisions by text."),
        Command("drop", "mail:drop", "Take back a message of yours that nobody has read yet."),
        Command("dead", "mail:dead", "List the dead letters; requeue or drop them."),
        Command("ask", "questions:ask", "Ask an agent a question."),
        Command("questions", "questions:questions", "List the questions that wait for you."),
        Command("answer", "questions:answer", "Answer a question."),
        Command("remind", "reminders:remind", "Have a message come back later."),
        Command("reminders", "reminders:reminders", "List the reminders still to come; --cancel takes one back."),
    ),
    "Approvals": (
        Command("pending", "approvals:pending", "List what waits for your approval.", alias="approvals"),
        Command("show", "approvals:show", "Show one approval with its whole diff."),
        Command("approve", "approvals:approve", "Approve exactly what was shown."),
        Command("deny", "approvals:deny", "Deny an approval."),
        Command("audit", "approvals:audit", "List the decisions."),
    ),
    "Watching": (
        Command("logs", "logs:logs", "Print the log of an agent or of the hive; -f follows."),
        Command("events", "watch:events", "Print what happens in the hive or in one agent."),
        Command("turns", "turns:turns", "List an agent's turns."),
        Command("stats", "turns:stats", "Show an agent's turn statistics."),
        Command("digest", "finding:digest", "Say what has happened since a while ago."),
        Command("top", "top:top", "Watch the agents in a live table."),
        Command("attach", "top:attach", "Watch one agent and write to it."),
        Command("open", "dashboard:open_page", "Print a link that opens the dashboard."),
    ),
    "Inside containers": (Command("agent", "", "Run an agent's harness: `agent serve`."),),
}  # fmt: skip


def overview() -> str:
    """What `hyperhive --help` prints."""
    lines = ["Usage: hyperhive COMMAND [OPTIONS]", "", SUMMARY]
    for group, commands in COMMANDS.items():
        lines += ["", f"{group}:"]
        lines += [f"  {command.name:<15} {command.help}" for command in commands]
    return "\n".join(
        [
            *lines,
            "",
            "Every command takes --json, --state-dir and --run-dir; `hyperhive COMMAND --help` says the rest.",
            "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 no hive reachable, 6 timed out.",
            "",
        ]
    )


def known(name: str) -> bool:
    """Whether there is a command of this name or alias."""
    return any(
        name in (command.name, command.alias) for commands in COMMANDS.values() for command in commands
    )


def names() -> list[str]:
    """The names of all commands, in the order of the help."""
    return [command.name for commands in COMMANDS.values() for command in commands]


def build(*, only: str | None = None, for_help: bool = True) -> object:
    """The cyclopts application, all commands lazy.

    Args:
        only: a command's name or alias; the others are left out, and their cost with them.
        for_help: whether a help may be printed: the formatter brings imports of its own.
    """
    from cyclopts import App, Group

    formatter = _formatter() if for_help else None
    app = App(name="hyperhive", help=SUMMARY, help_formatter=formatter, version=__version__)
    for order, (title, commands) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=order)
        for command in commands:
            if only not in {None, command.name, command.alias}:
                continue
            if not command.target:
                agent = App(name=command.name, help=command.help, help_formatter=formatter, group=group)
                agent.command(
                    "hyperhive.cli.serve:agent_serve", name="serve", help="Run one agent's harness."
                )
                app.command(agent)
                continue
            target = f"hyperhive.cli.{command.target}"
            app.command(target, name=command.name, help=command.help, group=group)
            if command.alias:
                app.command(target, name=command.alias, help=command.help, show=False)
    return app


def _formatter() -> "TwoColumns":
    from hyperhive.cli.help import TwoColumns

    return TwoColumns()
