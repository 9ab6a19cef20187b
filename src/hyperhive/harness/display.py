"""What is shown of one agent: its events on a bus and in its log, its turn state, login, model and usage.

State events are sent for transitions only. Nothing here decides anything; the loop, the runner and the login tell it.
"""

import logging
from pathlib import Path

import anyio
import msgspec

from hyperhive.bus import Bus
from hyperhive.clock import Clock, unix_seconds
from hyperhive.eventlog import EventLog, EventLogs
from hyperhive.protocol.events import (
    AnyLiveEvent,
    ModelChanged,
    Note,
    NoteSource,
    StatusChanged,
    Stream,
    TokenUsageChanged,
    TurnStateChanged,
)
from hyperhive.protocol.live import encode_live, kind_of
from hyperhive.protocol.replies import EventPage
from hyperhive.protocol.types import LoginStatus, TokenUsage, TurnStateName, WaitingReason

log = logging.getLogger(__name__)

KEEP = 256
"""Live frames kept in memory for readers that come back; older ones are in the log."""


class Display:
    """One agent's face. Used on the loop's thread; only `open`, `history` and `close` wait.

    `bus`: where events go, if that is to outlive this display; otherwise it makes one of its own, and closes it.
    """

    def __init__(
        self,
        path: Path,
        logs: EventLogs,
        clock: Clock,
        *,
        buffer: int,
        model: str,
        bus: Bus[AnyLiveEvent] | None = None,
    ) -> None:
        self.bus: Bus[AnyLiveEvent] = Bus(buffer=buffer, keep=KEEP) if bus is None else bus
        self._owns_bus = bus is None
        self._path = path
        self._logs = logs
        self._log: EventLog | None = None
        self._opening = anyio.Lock()
        self._clock = clock
        self._now: tuple[TurnStateName, WaitingReason | None] = ("idle", None)
        self._loop: tuple[TurnStateName, WaitingReason | None] = ("idle", None)
        self._runner: TurnStateName = "idle"
        self._asks_operator = False
        self.turn: int | None = None
        self.since = unix_seconds(clock)
        self.until: int | None = None
        self.status: LoginStatus = "online"
        self.model = model
        self.ctx: TokenUsage | None = None
        self.cost: TokenUsage | None = None

    @property
    def state(self) -> TurnStateName:
        """What the agent does now."""
        return self._now[0]

    @property
    def reason(self) -> WaitingReason | None:
        """What it waits for, while its state is `waiting`."""
        return self._now[1]

    async def open(self) -> None:
        """Open the event log; without one (a full disk) the stream works on without history."""
        async with self._opening:
            if self._log is None:
                self._log = await self._logs.open(self._path)

    async def close(self) -> None:
        """Write what is left, and end every reader's stream where the bus is this display's own."""
        if self._log is not None:
            await self._log.flush()
        if self._owns_bus:
            self.bus.close()

    # --- telling ----------------------------------------------------------------------------------------------------

    def emit(self, event: AnyLiveEvent) -> None:
        """Keep and broadcast one event. Never waits and never fails."""
        if isinstance(event, TokenUsageChanged):
            self.ctx = event.ctx or self.ctx
            self.cost = event.cost or self.cost
        crowded = self._log is not None and self._log.crowded
        if self._log is not None:
            optional = isinstance(event, Stream)
            eid = self._log.append(
                unix_seconds(self._clock), kind_of(event), encode_live(event), optional=optional
            )
            if eid is not None:
                event = msgspec.structs.replace(event, eid=eid)
        self.bus.publish(event)
        if self._log is not None and self._log.crowded and not crowded:
            self.note(
                "the agent CLI prints faster than its lines are kept: some are missing from the history"
            )

    def note(self, text: str, source: NoteSource | None = None) -> None:
        """A sentence for people, in the agent's stream; `source`: whose, where it is not the hive's own."""
        self.emit(Note(text=text, turn=self.turn, source=source))

    def loop_state(self, state: TurnStateName, reason: WaitingReason | None, until: float | None) -> None:
        """What the loop does. `until`: unix seconds when its waiting is over by itself."""
        self._loop = (state, reason)
        self.until = None if until is None or until == float("inf") else int(until)
        self._refresh()

    def runner_state(self, state: TurnStateName) -> None:
        """What the CLI does; it may work while the loop waits (a compaction, a background task's turn)."""
        self._runner = state
        self._refresh()

    def tool_waits(self, waits: bool) -> None:
        """Whether a tool call of the running turn waits for the operator."""
        self._asks_operator = waits
        self._refresh()

    def set_status(self, status: LoginStatus) -> None:
        """The login's state."""
        if status != self.status:
            self.status = status
            self.emit(StatusChanged(status=status))

    def set_model(self, model: str) -> None:
        """The model of the next turn."""
        if model != self.model:
            self.model = model
            self.emit(ModelChanged(model=model))

    def _refresh(self) -> None:
        now = self._loop if self._runner == "idle" else (self._runner, None)
        if self._asks_operator:
            now = ("waiting", "operator")
        if now != self._now:
            self._now = now
            self.since = unix_seconds(self._clock)
            self.emit(TurnStateChanged(state=now[0], since_unix=self.since, reason=now[1], turn=self.turn))

    # --- looking ----------------------------------------------------------------------------------------------------

    async def history(
        self,
        *,
        before: int | None,
        limit: int,
        kind: str | None,
        q: str | None,
        since: int | None = None,
        until: int | None = None,
    ) -> EventPage:
        """Events as they are on the stream, oldest first, each with its `ts` (unix seconds).

        `seq` was read before they were. Where a line of the CLI has a `ts` of its own, it keeps that.
        """
        await self.open()
        seq = self.bus.current_seq
        found = []
        if self._log:
            found = await self._log.history(
                before=before, limit=limit, kind=kind, q=q, since=since, until=until
            )
        events = []
        for row in found:
            try:
                event = msgspec.json.decode(row.payload, type=dict)
                events.append({"ts": row.ts, **event, "eid": row.eid})
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                log.warning("event_not_decoded path=%s eid=%d", self._path, row.eid)
        return EventPage(seq=seq, events=events)

    async def sweep(self) -> None:
        """Remove events older than they are kept."""
        if self._log is not None:
            await self._log.sweep(unix_seconds(self._clock))
