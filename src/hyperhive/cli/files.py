"""`hyperhive file`: what is in a file that a message refers to, or in any file of an agent."""

import base64
import sys

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.errors import BadRequest
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.terminal import visible


def file(
    what: str,
    n: int = 1,
    /,
    *,
    agent: str | None = None,
    check: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Show a file that a message refers to, or one of an agent's.

    Args:
        what: the message's number; with --agent a path, as the agent sees it.
        n: which of the message's files.
        agent: whose file it is.
        check: say only what it is.
        common: flags of every command.
    """
    if agent is None and not (what.isascii() and what.isdecimal() and len(what) < 20):
        raise BadRequest(
            f"{what[:80]!r} is no message's number", hint="for a path say whose it is: --agent NAME PATH"
        )
    message = None if agent is not None else int(what)
    path = what if agent is not None else None
    kind = r.StateFileCheck if check else r.StateFileRead
    session = Session(common)
    answer = session.ask(kind(message=message, n=n, agent=agent, path=path))
    found = answer.read(p.StateFile)

    def render() -> None:
        said = f"{found.file.path}: {found.file.kind}, {found.file.size} bytes"
        if check:
            session.screen.line(visible(said))
            return
        session.screen.note(f"{said}, cut" if found.truncated else said)
        if found.text is not None:
            session.screen.body(found.text, indent="")
        elif session.screen.tty:
            session.screen.note("it is no text; redirect the output to keep it")
        else:
            session.screen.flush()
            sys.stdout.buffer.write(base64.b64decode(found.base64 or ""))

    return session.show(answer, render)
