"""A program that speaks as `claude auth login` and `claude auth status` do; `good#code` is the one code it takes.

`install_cli_that_logs_in`: the scripted CLI with such a login, for agents that are made to need one.
"""

import sys
from pathlib import Path

from hyperhive.testing.turns import install_scripted_cli

LOGGED_OUT = "logged-out"
"""In an agent's `CLAUDE_CONFIG_DIR`: no turn of its goes well before a login has landed."""

SCRIPTED_LOGIN = """
import json, os, pathlib, sys
done = pathlib.Path(os.environ["CLAUDE_CONFIG_DIR"]) / ".credentials.json"
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({"loggedIn": done.exists(), "authMethod": "claude.ai" if done.exists() else "none"}))
    sys.exit(0 if done.exists() else 1)
assert sys.argv[1:] == ["auth", "login"], sys.argv
print("\\x1b[1mOpening browser\\x1b[0m\\n", end="", flush=True)
print("If the browser didn't open, visit: https://login.exam", end="", flush=True)
print("ple/authorize?code=true&state=x\\nPaste code here if prompted > ", end="", flush=True)
while True:
    line = sys.stdin.readline()
    if not line:
        sys.exit(1)
    if line == "good#code\\n":
        done.write_text("{}")
        print("Login successful.")
        sys.exit(0)
    print("That doesn't look like the full code.", file=sys.stderr, flush=True)
"""

_CLI = """#!/bin/sh
if [ "$1" = auth ]; then exec {python} {login} "$@"; fi
if [ -e "$CLAUDE_CONFIG_DIR/{mark}" ] && [ ! -e "$CLAUDE_CONFIG_DIR/.credentials.json" ]; then
  export HYPERHIVE_SCRIPTED="[[api-401]]"
fi
exec {scripted} "$@"
"""


def install_cli_that_logs_in(path: Path) -> Path:
    """As `install_scripted_cli`; what it needs lies beside it."""
    login = path.with_name("login.py")
    login.write_text(SCRIPTED_LOGIN)
    scripted = install_scripted_cli(path.with_name("scripted"))
    path.write_text(_CLI.format(python=sys.executable, login=login, mark=LOGGED_OUT, scripted=scripted))
    path.chmod(0o755)
    return path
