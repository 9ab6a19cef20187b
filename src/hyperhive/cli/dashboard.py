"""The command `open`: a link to the dashboard of a running hive, which logs one browser in.

It is printed rather than handed to a browser: a program's arguments can be read by everybody on the machine, agents of
the runtime `process` among them, and whoever has the link is the operator.
"""

import re
from typing import Final

import msgspec

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.errors import BadRequest
from hyperhive.protocol import requests as r
from hyperhive.terminal import visible

PAGES: Final = frozenset(
    {
        "agents", "approvals", "audit", "config", "dead", "inbox", "logs", "messages", "meta", "needs-you", "questions",
        "search", "sessions", "stats",
    }
)  # fmt: skip
_REF: Final = re.compile(r"[a-z0-9][A-Za-z0-9/_.#?=&%-]*")


def open_page(ref: str | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Print a link to the dashboard that logs one browser in, once, within ten minutes.

    Args:
        ref: the page to show there: an agent's name, or a page as `approvals/3`, `questions/7`, `stats`.
        common: flags of every command.
    """
    session = Session(common)
    answer = session.ask(r.LoginLink(ref=None if ref is None else page_of(ref)))

    def render() -> None:
        session.screen.line(visible(msgspec.json.decode(answer.raw)["url"]))

    return session.show(answer, render)


def page_of(ref: str) -> str:
    """The path of the page that is meant.

    Raises:
        BadRequest: none can be.
    """
    text = ref.removeprefix("/")
    if not _REF.fullmatch(text):
        raise BadRequest(f"{ref[:80]!r} is no page", hint="an agent's name, or a page as approvals/3")
    return f"/{text}" if re.split(r"[/?#]", text)[0] in PAGES else f"/agents/{text}"
