"""Commands whose requests a later version of the hive serves: they send them all the same, and print the hive's word.

So a newer hive answers them, and this one says `not_available`.
"""

import msgspec

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.protocol import requests as r
from hyperhive.terminal import visible


def reload(*, common: Common = DEFAULTS) -> int:
    """Read hive.toml again. An invalid one leaves the old in force."""
    return _forward(common, r.Reload())


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
