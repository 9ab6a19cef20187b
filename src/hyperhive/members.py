"""What the crew knows of one harness, and `Attached`: a harness in a process of its own, as the core sees it.

Its events come up its line, the core's commands go down. While it has no line nobody knows what it does: that is
shown, and told of as a crash where it lasts. Opens no socket and starts no process.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgspec

from hyperhive.background import Background
from hyperhive.bus import Bus
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import Closed, Conflict, HiveError
from hyperhive.names import AgentName
from hyperhive.protocol import replies as p
from hyperhive.protocol.events import (
    AnyLiveEvent,
    ModelChanged,
    StatusChanged,
    TokenUsageChanged,
    TurnStateChanged,
    UnknownEvent,
)
from hyperhive.protocol.harness_line import AnyHarnessCommand, Drain, Probe, Reread
from hyperhive.protocol.line import HarnessLine
from hyperhive.protocol.live import decode_live
from hyperhive.protocol.types import LoginStatus, TokenUsage, TurnStateName, WaitingReason

log = logging.getLogger(__name__)

DRAIN_ANSWER_SECONDS: Final = 3600.0
PROBE_SECONDS: Final = 600.0
CRASH_SECONDS: Final = 9.0
"""A harness whose line was lost has so long to dial again (it tries every second): a crash is told of within 10."""
REPORT_SECONDS: Final = 60.0
"""Within this a harness whose container has just come up reports for duty; a loaded machine takes its time."""


class Gist(msgspec.Struct, kw_only=True):
    """What a fleet row shows of an agent's turns. `until`: unix seconds when its waiting is over by itself."""

    state: TurnStateName = "idle"
    since: int = 0
    reason: WaitingReason | None = None
    until: int | None = None
    needs_login: bool = False
    model: str | None = None
    ctx: TokenUsage | None = None


class Attached:
    """A harness in a process of its own. Without its line (not yet, or no more) nobody knows what it does.

    Args:
        agent: whose harness.
        bus: the agent's; what comes up is published there.
        clock: paces the watch for its return.
        background: where that watch runs.
        lost: called once when its line was lost and it did not come back.
        started_by_hive: as those in containers are: without its line it waits for that, and not for the operator.
    """

    def __init__(
        self,
        agent: AgentName,
        bus: Bus[AnyLiveEvent],
        *,
        clock: Clock,
        background: Background,
        lost: Callable[[], Awaitable[None]],
        started_by_hive: bool,
    ) -> None:
        self._agent = agent
        self._bus = bus
        self._clock = clock
        self._background = background
        self._lost = lost
        self._absent: WaitingReason = "backoff" if started_by_hive else "operator"
        self._gist = Gist(state="waiting", reason=self._absent, since=unix_seconds(clock))
        self._status: LoginStatus | None = None
        self._line: HarnessLine | None = None
        self.was_attached = False
        self._watch: anyio.CancelScope | None = None

    @property
    def attached(self) -> bool:
        """Whether it has reported for duty."""
        return self._line is not None

    def attach(self, line: HarnessLine) -> None:
        """This is its line now. What it has to say of itself comes with its first events."""
        self._line = line
        self.was_attached = True
        self._stop_watching()
        self._background.spawn(lambda: self._reread(line), f"settings of {self._agent}")

    async def _reread(self, line: HarnessLine) -> None:
        """It may have outlived the core that started it, and hold settings that are in force no more."""
        try:
            await line.ask(Reread(req=0))
        except HiveError as error:
            log.warning("settings_not_reread agent=%s error=%s", self._agent, error)

    def detach(self, line: HarnessLine) -> None:
        """Its line is gone: what it does is not known any more. It dials again by itself, if it still lives."""
        if line is not self._line:
            return  # a newer one took its place before this one ended
        self._line = None
        now = unix_seconds(self._clock)
        self._tell(TurnStateChanged(state="waiting", reason=self._absent, since_unix=now))
        self._watch_for(CRASH_SECONDS)

    def expect(self) -> None:
        """It was started by the hive: one that does not report for duty in time is lost, too."""
        if self._line is None:
            self._watch_for(REPORT_SECONDS)

    def _watch_for(self, seconds: float) -> None:
        self._stop_watching()
        self._watch = self._background.spawn(
            lambda: self._wait_for_return(seconds), f"return of {self._agent}"
        )

    async def _wait_for_return(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if self._line is None:
            await self._lost()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def event(self, line: bytes) -> None:
        """One live event came up."""
        try:
            event = decode_live(line)
        except HiveError as error:
            log.warning("live_event_not_read agent=%s error=%s", self._agent, error)
            return
        if not isinstance(event, UnknownEvent):
            self._tell(event)
        elif event.kind == "lagged" and isinstance(missed := event.fields.get("missed"), int) and missed > 0:
            self._bus.skip(missed)

    def _tell(self, event: AnyLiveEvent) -> None:
        if self._see(event):
            self._bus.publish(event)

    def _see(self, event: AnyLiveEvent) -> bool:
        """Whether it says anything new: a harness that dials again tells how it stands, also where that is known."""
        before = msgspec.structs.replace(self._gist)
        match event:
            case TurnStateChanged():
                self._gist.state, self._gist.since = event.state, event.since_unix
                self._gist.reason = event.reason
            case StatusChanged():
                known, self._status = self._status, event.status
                self._gist.needs_login = event.status != "online"
                return event.status != known
            case ModelChanged():
                self._gist.model = event.model
            case TokenUsageChanged():
                self._gist.ctx = event.ctx or self._gist.ctx
                return True
            case _:
                return True
        return self._gist != before

    def gist(self) -> Gist:
        """As its events tell."""
        return self._gist

    def config_changed(self) -> None:
        """A harness of its own reads its own configuration."""

    async def handle(self, command: AnyHarnessCommand) -> p.Reply:
        """One command, over the line. A `seq` in the reply is this core's: of what its readers have seen by now.

        Raises:
            Conflict: no harness is attached.
        """
        if self._line is None:
            raise Conflict(
                f"no harness of {self._agent} has reported for duty",
                hint=f"`hyperhive agent serve {self._agent}` runs one",
            )
        seq = self._bus.current_seq
        reply = await self._line.ask(command, within=PROBE_SECONDS if isinstance(command, Probe) else 30.0)
        if isinstance(reply, p.AgentSnapshot | p.EventPage):
            return msgspec.structs.replace(reply, seq=seq)
        return reply

    async def stop(self, *, now: bool) -> None:
        """Drains it. The process itself belongs to whoever started it."""
        self._stop_watching()
        line = self._line
        if line is None:
            return
        try:
            await line.ask(Drain(req=0, now=now), within=DRAIN_ANSWER_SECONDS)
        except Closed:
            log.info("harness_left agent=%s", self._agent)
        finally:
            self._stop_watching()  # it hung up when it had ended
