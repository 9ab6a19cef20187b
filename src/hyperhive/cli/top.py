"""The commands that stay on the screen: `top` draws all agents again and again, `attach` is one agent and a line to it.

Plain text and no keys but Ctrl-C, so that both work over ssh, in tmux and under NO_COLOR.
"""

import sys
import threading
import time
from typing import Final

import msgspec

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.fleet import print_agents
from hyperhive.cli.frames import agent_line
from hyperhive.cli.render import clock, plural
from hyperhive.errors import BadRequest, HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus, Ok

_HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"
_SHORTEST_SECONDS: Final = 0.2


def top(*, interval: float = 2.0, common: Common = DEFAULTS) -> int:
    """Watch the agents in a live table, until Ctrl-C.

    Args:
        interval: seconds between two looks.
        common: flags of every command.
    """
    if interval < _SHORTEST_SECONDS:
        raise BadRequest(f"--interval takes at least {_SHORTEST_SECONDS} seconds")
    session = Session(common)
    while True:
        answer = session.ask(r.Status())
        if common.as_json:
            session.screen.json(answer.raw)
        else:
            _draw(session, answer.read(HiveStatus))
        session.screen.flush()
        time.sleep(interval)


def _draw(session: Session, status: HiveStatus) -> None:
    screen, hive = session.screen, status.hive
    if screen.tty:
        screen.raw(_HOME_AND_CLEAR)
    working = sum(detail.view.state == "working" for detail in status.agents)
    waiting = sum(detail.view.state in {"needs_you", "failed"} for detail in status.agents)
    mail = plural(hive.operator_unread, "message")
    screen.line(
        f"{clock(time.time())}  {plural(len(status.agents), 'agent')}, {working} working, "
        f"{waiting} waiting for you; {mail} for you"
    )
    screen.line()
    shown = sys.maxsize if not screen.tty else max(1, screen.rows - 4)
    print_agents(session, [detail.view for detail in status.agents], limit=shown)


def attach(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Watch one agent, and write to it: each line that you type is a message. Ctrl-C leaves.

    Args:
        name: the agent.
        common: flags of every command.
    """
    session = Session(common)
    frames = session.dial().subscribe(name)
    typing = threading.Thread(target=_send_lines, args=(Session(common), name), daemon=True)
    typing.start()
    if not common.as_json:
        session.screen.note(f"watching {name}; type a line to write to it, Ctrl-C leaves")
    while True:
        line = frames.next()
        if common.as_json:
            session.screen.json(line)
        else:
            frame: dict[str, object] = msgspec.json.decode(line)
            text = agent_line(frame, session.screen.columns - 10)
            if text is not None:
                session.screen.line(f"{session.screen.paint(clock(time.time()), 'dim')}  {text}")
        session.screen.flush()


def _send_lines(session: Session, name: str) -> None:
    """Reads what is typed until the input ends; a thread of its own, with a line to the hive of its own."""
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            receipt = session.ask(r.Send(to=name, body=line.rstrip("\n"))).read(Ok)
            session.screen.note(f"message {receipt.id} is in the inbox of {name}")
        except HiveError as error:
            session.screen.error(error.message, error.hint)
