"""docs/reference/cli.md: every command as its own `--help` prints it, from the table of commands."""

import io

from cyclopts import App
from rich.console import Console

from hyperhive.cli.app import COMMANDS, SUMMARY, Command, build
from hyperhive.cli.exits import EXIT_CODES
from render_types import table

WIDTH = 100


def _help(app: App, *words: str) -> str:
    out = io.StringIO()
    app.help_print(
        list(words), console=Console(file=out, width=WIDTH, color_system=None, force_terminal=False)
    )
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def _command(app: App, command: Command) -> str:
    words = [command.name] if command.target else [command.name, "serve"]
    alias = f"\n\nAlso `{command.alias}`." if command.alias else ""
    return f"### hyperhive {' '.join(words)}{alias}\n\n```text\n{_help(app, *words)}\n```"


def _exit_codes() -> str:
    by_code: dict[int, list[str]] = {}
    for code, number in EXIT_CODES.items():
        by_code.setdefault(number, []).append(f"`{code}`")
    rows = [(str(number), ", ".join(by_code[number])) for number in sorted(by_code)]
    return table(("exit code", "error codes"), [("0", ""), ("1", "every other code"), *rows])


def render() -> str:
    """The page."""
    app = build()
    if not isinstance(app, App):
        raise TypeError("hyperhive.cli.app.build gives no cyclopts application")
    groups = "\n\n".join(
        f"## {title}\n\n" + "\n\n".join(_command(app, command) for command in commands)
        for title, commands in COMMANDS.items()
    )
    return f"""# Command line

{SUMMARY}

Every command takes `--json` (objects as on the wire), `--state-dir` and `--run-dir`. A command whose request this
version does not serve yet says so and exits with 1.

{groups}

## Exit codes

{_exit_codes()}
"""
