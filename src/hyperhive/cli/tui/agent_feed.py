"""One agent as a screen follows it: its rows, what it does now, and the mail that is sent from here.

What is on its way to the hive when the hive goes away is sent again when it is back, under the same key: never lost,
never doubled. After a loss the history fills what was missed; where that is more than a page, a row says so.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hyperhive.cli.common import Session
from hyperhive.cli.link import Answer
from hyperhive.cli.tui.rows import ROWS_MAX, Row, Rows
from hyperhive.cli.tui.wires import Frame, Wires
from hyperhive.errors import Closed, HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import AgentPage, EventPage, Ok
from hyperhive.protocol.types import ContainerView

PAGE: Final = 200
_SENT_MAX: Final = 50
_STATES: Final = {
    "pending": "waits in the inbox",
    "in_flight": "is in a turn",
    "acked": "is done",
    "held": "is held: the agent may not get it yet",
    "dead": "was given up",
}


class AgentFeed:
    """What is known of one agent. `on_rows` is given what came at the end, `on_frame` its events, each once."""

    def __init__(
        self,
        session: Session,
        name: str,
        on_rows: Callable[[list[Row]], None],
        on_change: Callable[[], None],
        clock: Callable[[], float],
        on_frame: Callable[[Frame], None] = lambda _: None,
        history: int = PAGE,
    ) -> None:
        self.name = name
        self.rows = Rows()
        self.page: AgentPage | None = None
        self.view: ContainerView | None = None
        self.facts: dict[str, Any] = {}
        self.said = ""
        self.gone = False
        self.has_history = False
        """Whether the newest page of its past has come."""
        self.no_older = False
        self.wires = Wires(session, [name, "hive"], self._frame, self._up)
        self._on_rows = on_rows
        self._on_change = on_change
        self._clock = clock
        self._on_frame = on_frame
        self._history = history
        self._held: list[Frame] | None = None
        self._asking_older = False
        self._outbox: dict[str, r.Send] = {}
        self._sent: OrderedDict[int, str] = OrderedDict()

    @property
    def on_the_way(self) -> int:
        """How many messages the hive has not confirmed yet."""
        return len(self._outbox)

    # --- the hive ---------------------------------------------------------------------------------------------------

    def _up(self) -> None:
        self._held = []
        self.wires.request(r.AgentState(name=self.name), self._told_state)
        self.wires.request(r.Events(name=self.name, limit=self._history), self._told_history)
        for key in list(self._outbox):
            self._post(key)

    def _told_state(self, answer: Answer | HiveError) -> None:
        if not isinstance(answer, HiveError):
            self.page = answer.read(AgentPage)
            self.facts = {}
        self._on_change()

    def _told_history(self, answer: Answer | HiveError) -> None:
        held, self._held = self._held or [], None
        if isinstance(answer, HiveError):
            self.said = answer.message
        else:
            page = answer.read(EventPage)
            before = self.rows.last_eid
            first = next((event["eid"] for event in page.events if isinstance(event.get("eid"), int)), None)
            if before is not None and first is not None and first > before + 1:
                self.rows.gap(f"{first - before - 1} events were missed here")
            self.no_older = self.no_older or (before is None and len(page.events) < self._history)
            self._add(page.events)
            held = [
                frame for frame in held if int(frame.get("seq", 0)) > page.seq or frame.get("eid") is not None
            ]
        self._add(held)
        self.has_history = True
        self._on_change()

    def _add(self, frames: list[Frame]) -> None:
        now = self._clock()
        made: list[Row] = []
        for frame in frames:
            rows = self.rows.add(frame, None if "ts" in frame else now)
            if rows is not None:
                self._on_frame(frame)
                made += rows
        if made:
            self._on_rows(made)

    def _frame(self, stream: str, frame: Frame) -> None:
        if stream == "hive":
            self._hive_frame(frame)
        elif frame.get("kind") != "resume":
            self._note_facts(frame)
            if self._held is not None:
                if len(self._held) < ROWS_MAX:
                    self._held.append(frame)
            else:
                self._add([frame])
        self._on_change()

    def _note_facts(self, frame: Frame) -> None:
        kind = str(frame.get("kind"))
        if kind == "turn_state_changed":
            self.facts |= {key: frame.get(key) for key in ("state", "reason", "since_unix")}
        elif kind in {"model_changed", "status_changed", "token_usage_changed"}:
            self.facts |= {
                key: frame[key] for key in ("model", "status", "ctx", "cost") if frame.get(key) is not None
            }

    def _hive_frame(self, frame: Frame) -> None:
        kind = frame.get("kind")
        if kind == "container_state_changed":
            row = frame.get("container")
            if isinstance(row, dict) and row.get("name") == self.name:
                self.view = msgspec.convert(row, ContainerView)
        elif kind == "container_removed" and frame.get("name") == self.name:
            self.gone = True
            self.said = f"{self.name} is gone"
        elif kind == "message_state" and frame.get("id") in self._sent:
            number, state = int(frame["id"]), str(frame.get("state"))
            turn = f" (turn {frame['turn']})" if frame.get("turn") else ""
            note = f": {frame['note']}" if frame.get("note") else ""
            self._sent[number] = state
            self.said = f"#{number} {_STATES.get(state, state)}{turn}{note}"

    # --- what the operator does -------------------------------------------------------------------------------------

    def send(self, message: r.Send) -> None:
        """Sends it, once, also where the hive is away just now."""
        key = f"attach-{os.urandom(12).hex()}"
        self._outbox[key] = msgspec.structs.replace(message, dedupe_key=key)
        self.said = "sending ..."
        self._post(key)

    def _post(self, key: str) -> None:
        def told(answer: Answer | HiveError) -> None:
            if isinstance(answer, Closed):
                self.said = f"the hive is away; {self.on_the_way} to be sent when it is back"
                return
            self._outbox.pop(key, None)
            if isinstance(answer, HiveError):
                self.said = f"not sent: {answer.message}"
            else:
                receipt = answer.read(Ok)
                self._note_sent(receipt)
            self._on_change()

        self.wires.request(self._outbox[key], told)

    def _note_sent(self, receipt: Ok) -> None:
        number = receipt.id or 0
        self._sent[number] = "pending"
        while len(self._sent) > _SENT_MAX:
            self._sent.popitem(last=False)
        running = self.view.running if self.view else self.page.running if self.page else True
        away = "" if running else f"; {self.name} does not run: `hyperhive start {self.name}`"
        self.said = f"#{number} is in the inbox of {self.name}" + (
            f": {receipt.note}" if receipt.note else away
        )

    def ask(self, request: r.Request, done: str) -> None:
        """A command; `done`: what to say when it has worked."""

        def told(answer: Answer | HiveError) -> None:
            self.said = answer.message if isinstance(answer, HiveError) else (answer.read(Ok).note or done)
            self._on_change()

        self.wires.request(request, told)

    def older(self) -> None:
        """Asks for the page of history before the oldest event, where there may be one and it has room."""
        first = self.rows.first_eid
        if self._asking_older or self.no_older or first is None or not self.wires.up:
            return
        if len(self.rows.rows) > ROWS_MAX - PAGE:
            self.said = f"older events: hyperhive events {self.name} --before {first}"
            return

        def told(answer: Answer | HiveError) -> None:
            self._asking_older = False
            if isinstance(answer, HiveError):
                self.said = answer.message
            else:
                events = answer.read(EventPage).events
                self.no_older = len(events) < PAGE
                self.rows.add_older(events)
            self._on_change()

        self._asking_older = True
        self.wires.request(r.Events(name=self.name, before=first, limit=PAGE), told)
