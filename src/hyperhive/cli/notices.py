"""The command `notices`: what you were told of away from the screens, and whether a channel works."""

import time

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.render import ago, table
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import NoticeRows
from hyperhive.terminal import visible


def notices(*, test: str | None = None, limit: int = 50, common: Common = DEFAULTS) -> int:
    """Show what you were told of by ntfy or webhook, and how the delivery went, newest first.

    Args:
        test: send one by this channel first, whatever the hour.
        limit: how many to show.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.Notices(test=test, limit=limit), timeout=None)

    def render() -> None:
        found = answer.read(NoticeRows)
        if test is not None:
            session.screen.line(visible(f"sent a test by {test}"))
        if not found.channels:
            session.screen.line("no channels: `[notify.channels.NAME]` in hive.toml makes one")
        if not found.notices:
            session.screen.line("nothing was told yet")
            return
        now = time.time()
        rows = [(row.channel, row.state, ago(row.at, now), row.title) for row in found.notices]
        head, *lines = table(("channel", "state", "since", "what"), rows, session.screen.columns)
        session.screen.line(head)
        for row, line in zip(found.notices, lines, strict=True):
            session.screen.line(line)
            if row.error:
                session.screen.body(row.error, indent="    ")

    return session.show(answer, render)
