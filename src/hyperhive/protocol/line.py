"""The line between the core and a harness in a process of its own, as the core sees it.

Ports only: the socket server implements `HarnessLine`, the hive a `LineListener` (it is handed to the server). What
goes down the line stands in `harness_line`, what comes up are replies and live events.
"""

from typing import Protocol

from hyperhive.names import AgentName
from hyperhive.protocol.harness_line import HarnessCommand
from hyperhive.protocol.replies import Reply


class HarnessLine(Protocol):
    """One attached harness.

    Contract: `ask` sends the command (its `req` is filled in by the line) and returns the harness's reply; any number
    may be under way. `close` ends the line with an error line that gives the reason; it returns at once.

    Raises:
        HiveError: what the harness answered, with its code.
        Closed: the line ended before the reply came; whether the command was carried out is unknown.
        TimedOut: no reply within `within` seconds; it may still be carried out.
    """

    @property
    def agent(self) -> AgentName: ...

    async def ask(self, command: HarnessCommand, *, within: float = 30.0) -> Reply: ...

    def close(self, reason: str) -> None: ...


class LineListener(Protocol):
    """What the hive does with its harnesses' lines.

    Contract: for one agent `attached` and `detached` alternate, also when a newer line ended the older; events come in
    the order of the harness, each as one encoded line without its newline, and may be of an unknown kind. All three
    return at once and do not raise.
    """

    def attached(self, line: HarnessLine) -> None: ...

    def event(self, line: HarnessLine, event: bytes) -> None: ...

    def detached(self, line: HarnessLine) -> None: ...
