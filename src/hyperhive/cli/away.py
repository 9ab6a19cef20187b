"""A word about an agent that does not run, to somebody who has just written to it."""

from hyperhive.cli.common import Session
from hyperhive.errors import HiveError, NotFound
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus


def note_if_away(session: Session, name: str) -> None:
    """Says what has to happen before this agent reads what it was sent; nothing where it runs."""
    try:
        details = session.ask(r.Status(name=name)).read(HiveStatus).agents
    except HiveError as error:  # what was asked for is done, and this is only a remark
        if error.wire_code == NotFound.code:
            session.screen.note(f"{name} is destroyed; this waits until `hyperhive restore {name}`")
    else:
        if any(not detail.view.running for detail in details):
            session.screen.note(f"{name} is stopped; this waits until `hyperhive start {name}`")
