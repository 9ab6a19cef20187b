"""What the send box understands beside text: `/command argument`, the same as on an agent's page. Pure."""

import re
from typing import Final

from hyperhive.protocol import requests as r

COMMANDS: Final = {
    "cancel": "interrupt the running turn; its messages become dead letters",
    "compact": "compact the session now (not while a turn runs)",
    "model NAME": "use this model from the next turn on",
    "new-session": "the next turn starts without memory of the ones before",
    "help": "show the keys and these",
}
_COMMAND: Final = re.compile(r"/([a-z-]*)(?:\s+(.*))?", re.DOTALL)
_NAMES: Final = {words.split()[0]: words for words in COMMANDS}


class Fault(str):
    """Why a command was not understood, in words for who typed it."""

    __slots__ = ()


def parse(name: str, given: str) -> r.Request | Fault | None:
    """What sending this would ask of the hive; None: the help. A text that begins with `//` is sent with one."""
    text = given.strip()
    if text.startswith("//"):
        return r.Send(to=name, body=text[1:])
    found = _COMMAND.fullmatch(text)
    if found is None:
        return r.Send(to=name, body=text)
    command, argument = found.group(1), (found.group(2) or "").strip()
    if command not in _NAMES:
        return Fault(f"there is no /{command}; to send a text that begins with a slash, write two")
    takes = " " in _NAMES[command]
    if takes and not re.fullmatch(r"\S{1,200}", argument):
        return Fault(f"/{_NAMES[command]}: {COMMANDS[_NAMES[command]]}")
    if argument and not takes:
        return Fault(f"/{command} takes nothing more")
    match command:
        case "cancel":
            return r.Cancel(name=name)
        case "compact":
            return r.Compact(name=name)
        case "model":
            return r.Model(name=name, model=argument)
        case "new-session":
            return r.NewSession(name=name)
        case _:
            return None
