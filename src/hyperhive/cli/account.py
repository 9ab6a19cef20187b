"""The command `login`: the hive's key or token, or one agent's own login by its CLI.

A secret is read from a prompt or from standard input, never from the command line, and is never printed. A running
hive stores it; without one it goes into the account's file, where the next hive finds it.
"""

import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.link import Frames
from hyperhive.errors import BadRequest, HiveError, HiveUnreachable, TimedOut
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import Login, LoginSession
from hyperhive.terminal import visible

_LANDS_WITHIN_SECONDS = 60.0
_PROMPT = "API key, or the output of `claude setup-token` (it is not shown): "


class _StatusFrame(msgspec.Struct):
    """What is read of an agent's frames here; a frame of the agent CLI may hold anything under `status`."""

    kind: str
    status: object = None


def login(
    name: str | None = None,
    /,
    *,
    account: str = "default",
    remove: Annotated[bool, Parameter(negative="")] = False,
    code: Annotated[bool, Parameter(name="--code", negative="")] = False,
    cancel: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULTS,
) -> int:
    """Store a key or token for the hive's agents, or log one agent's CLI in by URL and code.

    Without an agent: asks for an API key or for what `claude setup-token` printed (or reads it from standard input).

    Args:
        name: an agent that logs in by itself.
        account: the name to store the key or token under.
        remove: forget that account.
        code: only read the code for a login that was started before.
        cancel: give the agent's login up.
        common: flags of every command.
    """
    session = Session(common)
    if name is not None:
        return _agent_login(session, name, only_code=code, cancel=cancel)
    if code or cancel:
        raise BadRequest(
            "--code and --cancel are about one agent's login", hint="hyperhive login NAME --code"
        )
    if remove:
        session.ask(r.Account(name=account, remove=True))
        return session.say({"account": account, "removed": True}, f"account {visible(account)} is removed")
    return _store(session, account, _read_secret(session, _PROMPT))


def _store(session: Session, account: str, secret: str) -> int:
    """Hands the secret to the hive, or, where none runs, writes the account's file."""
    kind = "token" if secret.startswith("sk-ant-oat") else "key"
    request = (
        r.Account(name=account, token=secret) if kind == "token" else r.Account(name=account, key=secret)
    )
    try:
        session.ask(request)
    except HiveUnreachable:
        _write_file(session.state_dir() / "accounts", account, secret)
        where = f"stored in {session.state_dir() / 'accounts' / account}; start the hive with `hyperhive up`"
    else:
        where = "the hive's agents use it from now on"
    return session.say(
        {"account": account, "kind": kind}, f"{kind} stored as account {visible(account)}: {where}"
    )


def _write_file(directory: Path, account: str, secret: str) -> None:
    import anyio

    from hyperhive.accounts import Accounts, check_secret, guess_kind
    from hyperhive.paths import make_private

    checked = check_secret(secret)
    make_private(directory)

    async def write() -> None:
        accounts = await Accounts.open(directory, {})
        await accounts.set(account, guess_kind(checked), checked)

    anyio.run(write)


def _read_secret(session: Session, prompt: str) -> str:
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass(prompt)
    else:
        text = sys.stdin.read(64 * 1024)
    # `claude setup-token` prints more than the token: the token is the word that looks like one.
    words = text.split()
    tokens = [word for word in words if word.startswith("sk-ant-")]
    secret = tokens[0] if tokens else text.strip()
    if not secret:
        raise BadRequest("no key or token was given", hint="paste it at the prompt, or pipe it in")
    if len(secret.split()) > 1:
        raise BadRequest("this is no key or token: it has more than one word")
    del session
    return secret


# --- one agent's own login ------------------------------------------------------------------------------------------


def _agent_login(session: Session, name: str, *, only_code: bool, cancel: bool) -> int:
    if cancel:
        session.ask(r.LoginCancel(name=name))
        return session.say({"name": name, "cancelled": True}, f"the login of {visible(name)} is given up")
    if not only_code:
        started = session.ask(r.LoginStart(name=name), timeout=120.0)
        current = started.read(Login).session
        if session.common.as_json and sys.stdin.isatty():
            return session.show(started, lambda: None)
        if current is None or current.finished:
            return _ended(session, name, current)
        session.screen.note(f"open this page and log in: {current.url or current.output}")
    text = _read_code(name)
    frames = session.dial().subscribe(name)
    answer = session.ask(r.LoginCode(name=name, code=text), timeout=120.0)
    current = answer.read(Login).session
    if current is not None and not current.finished:
        _wait_until_landed(frames, name)
    return _ended(session, name, current)


def _wait_until_landed(frames: Frames, name: str) -> None:
    """Returns when the agent's stream says that it is logged in.

    Raises:
        HiveError: it says that the login was given up; TimedOut: it says neither.
    """
    until = time.monotonic() + _LANDS_WITHIN_SECONDS
    while True:
        try:
            frame = msgspec.json.decode(frames.next(until - time.monotonic()), type=_StatusFrame)
        except TimedOut:
            raise TimedOut(
                f"the login of {name} has not landed yet", hint=f"hyperhive status {name}"
            ) from None
        if frame.kind == "status_changed" and frame.status == "online":
            return
        if frame.kind == "status_changed" and frame.status == "needs_login_idle":
            raise HiveError(f"the login of {name} did not work", hint=f"try again: hyperhive login {name}")


def _read_code(name: str) -> str:
    if sys.stdin.isatty():
        import getpass

        text = getpass.getpass("the code that the page gave (it is not shown): ")
    else:
        text = sys.stdin.readline()
    code = "".join(text.split())
    if not code:
        raise BadRequest("no code was given", hint=f"go on with `hyperhive login {name} --code`")
    return code


def _ended(session: Session, name: str, ended: LoginSession | None) -> int:
    note = ended.exit_note if ended else None
    if ended is not None and ended.finished and note:
        raise HiveError(
            f"the login of {name} did not work: {note}", hint=f"try again: hyperhive login {name}"
        )
    return session.say({"name": name, "finished": True}, f"{visible(name)} is logged in")
