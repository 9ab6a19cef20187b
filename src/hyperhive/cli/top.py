"""The commands that stay on the screen: `top`, all agents in a live table, and `attach`, one agent and a line to it.

On a terminal they are screens (package `tui`). Into a pipe, or on a terminal that cannot place a cursor, they print
plain lines, one for each thing that happens, and `attach` sends each line of its standard input.
"""

import sys
from contextlib import suppress

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.cli.tui.term import can_draw


def top(*, common: Common = DEFAULTS) -> int:
    """Watch all agents in a live table: who needs you comes first. `?` shows the keys, `q` leaves.

    Into a pipe it prints a line for each agent, and then one for each change; with --json the snapshot, and then what
    happens, as on the wire.

    Args:
        common: flags of every command.
    """
    session = Session(common)
    if common.as_json or not can_draw(session.environ):
        from hyperhive.cli.tui.plain import plain_top

        return plain_top(session)
    from hyperhive.cli.tui.agent_screen import AgentScreen
    from hyperhive.cli.tui.fleet_screen import FleetScreen
    from hyperhive.cli.tui.loop import run
    from hyperhive.cli.tui.term import Term

    def attached(name: str, write: bool) -> AgentScreen:
        over = AgentScreen(session, name, write=write)
        over.feed.wires.tick(0.0)
        return over

    screen = FleetScreen(session, attached)
    screen.wires.connect()
    with Term(session.environ) as term:
        run(term, screen)
    return 0


def attach(name: str, /, *, common: Common = DEFAULTS) -> int:
    """Watch one agent and write to it; Esc leaves the send box, `?` then shows the keys. Leaving detaches: it works on.

    Where the output is a pipe it prints a line for each thing that happens, and sends each line of standard input.

    Args:
        name: the agent.
        common: flags of every command.
    """
    session = Session(common)
    if common.as_json or not can_draw(session.environ):
        from hyperhive.cli.tui.plain import plain_attach

        return plain_attach(session, name)
    from hyperhive.cli.tui.agent_screen import AgentScreen
    from hyperhive.cli.tui.loop import run
    from hyperhive.cli.tui.term import Term

    screen = AgentScreen(session, name, write=True)
    screen.connect()
    try:
        with Term(session.environ) as term:
            run(term, screen)
    finally:
        with suppress(OSError):
            unsent = f"; {screen.feed.on_the_way} not sent" if screen.feed.on_the_way else ""
            session.screen.note(f"detached from {name}{unsent}; it goes on (hyperhive attach {name})")
    sys.stdout.flush()
    return 0
