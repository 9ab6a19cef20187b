"""Commands whose requests a later version of the hive serves: they send them all the same, and print the hive's word.

So a newer hive answers them, and this one says `not_available`. `open` needs more than a request, and says it itself.
"""

from typing import Annotated

import msgspec
from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.errors import BadRequest, NotAvailable
from hyperhive.protocol import requests as r
from hyperhive.terminal import visible

Flag = Annotated[bool, Parameter(negative="")]


def pending(*, common: Common = DEFAULTS) -> int:
    """List what waits for your approval."""
    return _forward(common, r.Pending())


def show(id: int, /, *, common: Common = DEFAULTS) -> int:  # noqa: A002
    """Show one approval with its whole diff.

    Args:
        id: the approval's number.
        common: flags of every command.
    """
    return _forward(common, r.Show(id=id))


def approve(
    id: int,  # noqa: A002
    /,
    *,
    sha: str | None = None,
    diff_sha256: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Approve exactly what was shown.

    Args:
        id: the approval's number.
        sha: the commit that you saw.
        diff_sha256: the hash of the diff that you saw.
        common: flags of every command.
    """
    return _forward(common, r.Approve(id=id, sha=sha, diff_sha256=diff_sha256))


def deny(id: int, /, *, note: str | None = None, common: Common = DEFAULTS) -> int:  # noqa: A002
    """Deny an approval.

    Args:
        id: the approval's number.
        note: why; whoever asked is told.
        common: flags of every command.
    """
    return _forward(common, r.Deny(id=id, note=note))


def audit(*, limit: int = 100, before: int | None = None, common: Common = DEFAULTS) -> int:
    """List the decisions, newest first.

    Args:
        limit: how many at most.
        before: only those before this number.
        common: flags of every command.
    """
    return _forward(common, r.Audit(limit=limit, before=before))


def request_spawn(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Queue a new agent for approval.

    Args:
        name: the agent.
        common: flags of every command.
    """
    return _forward(common, r.RequestSpawn(name=name))


def rebuild(name: str, /, *, now: Flag = False, common: Common = DEFAULTS) -> int:
    """Put right whatever drifted on the host.

    Args:
        name: the agent.
        now: end the running turn at once.
        common: flags of every command.
    """
    return _forward(common, r.Rebuild(name=name, now=now))


def update(
    name: str | None = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    now: Flag = False,
    common: Common = DEFAULTS,
) -> int:
    """Rebuild an agent's approved config on the hive's current revision.

    Args:
        name: the agent.
        every: all agents that need it.
        now: end the running turn at once.
        common: flags of every command.
    """
    if (name is None) is not every:
        raise BadRequest("update takes the name of an agent, or --all")
    return _forward(common, r.UpdateAll() if name is None else r.Update(name=name, now=now))


def rollback(name: str, to: int, /, *, common: Common = DEFAULTS) -> int:
    """Deploy what was deployed under a number again.

    Args:
        name: the agent.
        to: that number.
        common: flags of every command.
    """
    return _forward(common, r.Rollback(name=name, to=to))


def reload(*, common: Common = DEFAULTS) -> int:
    """Read hive.toml again. An invalid one leaves the old in force."""
    return _forward(common, r.Reload())


def open_page(ref: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Open the dashboard.

    Args:
        ref: what to show there.
        common: flags of every command.
    """
    del ref, common
    raise NotAvailable("open is not available in this version", hint="there is no dashboard yet")


def _forward(common: Common, request: r.Request) -> int:
    session = Session(common)
    answer = session.ask(request, timeout=None)

    def render() -> None:
        fields: dict[str, object] = msgspec.json.decode(answer.raw)
        facts = {key: value for key, value in fields.items() if key not in {"ok", "req"}}
        if not facts:
            session.screen.line("done")
        for key, value in facts.items():
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            session.screen.line(f"{visible(key)}:")
            session.screen.body(text)

    return session.show(answer, render)
