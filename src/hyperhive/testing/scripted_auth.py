"""The login of the scripted CLI: `auth login`, `auth status` and `auth logout`, as far as the hive can see them.

A login prints a URL, reads a code from standard input (any with a `#` in it is taken) and leaves a credentials file;
keys and tokens in the environment count as logged in, too. Turns of the scripted CLI need none of it. No network, no
account: the URL leads nowhere.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

URL = "https://login.invalid/oauth/authorize?code=true&state=scripted"
CREDENTIALS = ".credentials.json"
KEYS = {"ANTHROPIC_API_KEY": "api_key", "CLAUDE_CODE_OAUTH_TOKEN": "oauth_token"}


def auth(words: list[str], config_dir: Path, environ: Mapping[str, str] = os.environ) -> int:
    """Carry out `auth WORDS`; the exit code."""
    credentials = config_dir / CREDENTIALS
    match words[:1]:
        case ["status"]:
            return _status(credentials, environ)
        case ["login"]:
            return _login(credentials)
        case ["logout"]:
            credentials.unlink(missing_ok=True)
            sys.stdout.write("Successfully logged out.\n")
            return 0
    sys.stderr.write(f"error: unknown command 'auth {' '.join(words)}'\n")
    return 1


def _status(credentials: Path, environ: Mapping[str, str]) -> int:
    by_key = next((method for name, method in KEYS.items() if environ.get(name)), None)
    method = by_key or ("claude.ai" if credentials.exists() else "none")
    sys.stdout.write(json.dumps({"loggedIn": method != "none", "authMethod": method}) + "\n")
    return 0 if method != "none" else 1


def _login(credentials: Path) -> int:
    sys.stdout.write(f"If the browser didn't open, visit: {URL}\nPaste code here if prompted > ")
    sys.stdout.flush()
    for line in sys.stdin:
        if "#" in line:
            credentials.parent.mkdir(parents=True, exist_ok=True)
            credentials.write_text(json.dumps({"scripted": True}))
            sys.stdout.write("Login successful.\n")
            return 0
        sys.stderr.write("That doesn't look like the full code: it has a # in it.\n")
        sys.stderr.flush()
    return 1
