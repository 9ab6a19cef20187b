"""The harnesses of a hive's agents: embedded ones in this process, and those that dial in by themselves.

Owns which harness serves which agent now, the agent's sockets, and what its live events tell. When an agent runs is
the lifecycle's affair (which calls `start`, and `stop` on what that gave), what a harness does is its own.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import anyio
import msgspec

from hyperhive.background import Background
from hyperhive.bus import Bus
from hyperhive.errors import Closed, Conflict, HiveError
from hyperhive.harness import Harness
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.protocol import replies as p
from hyperhive.protocol.events import (
    AnyLiveEvent,
    ModelChanged,
    StatusChanged,
    TokenUsageChanged,
    TurnStateChanged,
    UnknownEvent,
)
from hyperhive.protocol.harness_line import AnyHarnessCommand, Drain
from hyperhive.protocol.line import HarnessLine
from hyperhive.protocol.live import decode_live, encode_live
from hyperhive.protocol.policy import TOOLS, Actor
from hyperhive.protocol.types import Role, TokenUsage, TurnStateName, WaitingReason
from hyperhive.streams import AnySource, Source

log = logging.getLogger(__name__)

HARNESS: Final = "harness"
DRAIN_ANSWER_SECONDS: Final = 3600.0

Ended = Callable[[str | None], None]


class Listener(Protocol):
    """The agents' sockets."""

    async def listen(self, path: Path, actor: Actor) -> None: ...

    async def unlisten(self, path: Path) -> None: ...


class Gist(msgspec.Struct, kw_only=True):
    """What a fleet row shows of an agent's turns. `until`: unix seconds when its waiting is over by itself."""

    state: TurnStateName = "idle"
    since: int = 0
    reason: WaitingReason | None = None
    until: int | None = None
    needs_login: bool = False
    model: str | None = None
    ctx: TokenUsage | None = None


class Member(Protocol):
    """One agent's harness, wherever it runs. Implements `lifecycle.harnesses.Harness`."""

    @property
    def source(self) -> AnySource:
        """Its live events, as a stream."""
        ...

    def gist(self) -> Gist: ...

    def config_changed(self) -> None: ...

    async def handle(self, command: AnyHarnessCommand) -> p.Reply: ...

    async def stop(self, *, now: bool) -> None: ...


class Embedded:
    """A harness in this process."""

    def __init__(self, harness: Harness, touch: Callable[[], None]) -> None:
        self._harness = harness
        self._stopping = False
        harness.bus.tap(lambda event: touch() if isinstance(event, _TELLING) else None)

    @property
    def source(self) -> AnySource:
        """Its live events."""
        return Source(self._harness.bus, lambda frame: encode_live(frame.event, seq=frame.seq))

    def gist(self) -> Gist:
        """As it is now."""
        shown = self._harness.display
        return Gist(
            state=shown.state,
            since=shown.since,
            reason=shown.reason,
            until=shown.until,
            needs_login=shown.status != "online",
            model=shown.model,
            ctx=shown.ctx,
        )

    def config_changed(self) -> None:
        """Taken at the next turn boundary."""
        self._harness.changed()

    async def run(self, ended: Ended) -> None:
        """The loop, in a task of the crew's; tells `ended` when nobody had asked for its end."""
        reason = "its loop ended by itself"
        try:
            await self._harness.run()
        except HiveError as error:
            reason = str(error)
        except Exception as error:  # supervisor: one agent's loop must not end the others'
            log.exception("harness_failed agent=%s", self._harness.name)
            reason = f"a bug in its harness: {type(error).__name__}"
        if not self._stopping:
            ended(reason)

    async def handle(self, command: AnyHarnessCommand) -> p.Reply:
        """One command of the core's."""
        return await self._harness.handle(command)

    async def sweep(self) -> None:
        """Retention of its events and turn statistics."""
        await self._harness.sweep()

    async def stop(self, *, now: bool) -> None:
        """Ends the loop after its turn, or at once; returns when it has ended."""
        self._stopping = True
        self._harness.drain(now=now)
        await self._harness.ended()


_TELLING: Final = (TurnStateChanged, StatusChanged, ModelChanged, TokenUsageChanged)
"""Events that a fleet row shows something of."""


class Attached:
    """A harness in a process of its own: commands go down its line, its events come up."""

    def __init__(self, agent: AgentName, touch: Callable[[], None]) -> None:
        self._agent = agent
        self._touch = touch
        self._gist = Gist()
        self._bus: Bus[AnyLiveEvent] = Bus()
        self._line: HarnessLine | None = None
        self._stopping = False

    @property
    def attached(self) -> bool:
        """Whether it has reported for duty."""
        return self._line is not None

    def attach(self, line: HarnessLine) -> None:
        """This is its line now. What it has to say of itself comes with its first events."""
        self._line = line

    def detach(self) -> None:
        """Its line is gone; the harness dials again by itself, if it still lives."""
        self._line = None

    def event(self, line: bytes) -> None:
        """One live event came up."""
        try:
            event = decode_live(line)
        except HiveError as error:
            log.warning("live_event_not_read agent=%s error=%s", self._agent, error)
            return
        if isinstance(event, UnknownEvent):
            return
        self._see(event)
        self._bus.publish(event)

    def _see(self, event: AnyLiveEvent) -> None:
        match event:
            case TurnStateChanged():
                self._gist.state, self._gist.since, self._gist.reason = (
                    event.state,
                    event.since_unix,
                    event.reason,
                )
            case StatusChanged():
                self._gist.needs_login = event.status != "online"
            case ModelChanged():
                self._gist.model = event.model
            case TokenUsageChanged():
                self._gist.ctx = event.ctx or self._gist.ctx
            case _:
                return
        self._touch()

    @property
    def source(self) -> AnySource:
        """Its live events, numbered anew by this core."""
        return Source(self._bus, lambda frame: encode_live(frame.event, seq=frame.seq))

    def gist(self) -> Gist:
        """As its events tell."""
        return self._gist

    def config_changed(self) -> None:
        """A harness of its own reads its own configuration."""

    async def handle(self, command: AnyHarnessCommand) -> p.Reply:
        """One command, over the line.

        Raises:
            Conflict: no harness is attached.
        """
        if self._line is None:
            raise Conflict(
                f"no harness of {self._agent} has reported for duty",
                hint=f"`hyperhive agent serve {self._agent}` runs one",
            )
        return await self._line.ask(command)

    async def stop(self, *, now: bool) -> None:
        """Drains it. The process itself belongs to whoever started it."""
        line = self._line
        if line is None:
            return
        try:
            await line.ask(Drain(req=0, now=now), within=DRAIN_ANSWER_SECONDS)
        except Closed:
            log.info("harness_left agent=%s", self._agent)


class Crew:
    """Implements `lifecycle.HarnessFactory`, `handlers.Harnesses` and `protocol.line.LineListener`.

    Args:
        make: builds an agent's embedded harness.
        own_process: whether this agent's harness dials in by itself.
        touch: this agent's fleet row may look different.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        background: Background,
        make: Callable[[AgentName], Harness],
        own_process: Callable[[AgentName], bool],
        touch: Callable[[str], None],
    ) -> None:
        self._paths = paths
        self._background = background
        self._make = make
        self._own_process = own_process
        self._touch = touch
        self._members: dict[str, Member] = {}
        self.core_is_leaving = False
        """The core stops, and the agents do not: harnesses of their own work on and dial the next core."""
        self._listener: Listener | None = None

    def serve_on(self, listener: Listener) -> None:
        """Opens the agents' sockets there from now on."""
        self._listener = listener

    def find(self, name: str) -> Member | None:
        """The harness of an agent that runs."""
        return self._members.get(name)

    async def ask(self, name: AgentName, command: AnyHarnessCommand) -> p.Reply:
        """One command to an agent's harness.

        Raises:
            Conflict: the agent does not run.
            HiveError: what the harness answered.
        """
        member = self._members.get(name)
        if member is None:
            raise Conflict(f"{name} does not run", hint=f"`hyperhive start {name}` starts it")
        return await member.handle(command)

    async def sweep(self) -> None:
        """Retention of what embedded harnesses keep; one of its own sweeps for itself. To be called hourly."""
        for member in tuple(self._members.values()):
            if isinstance(member, Embedded):
                await member.sweep()

    # --- for the lifecycle ------------------------------------------------------------------------------------------

    async def start(self, agent: AgentName, ended: Ended) -> "Membership":
        """See `HarnessFactory`."""

        def touch() -> None:
            self._touch(agent)

        await self._open_sockets(agent)
        try:
            if self._own_process(agent):
                self._members[agent] = Attached(agent, touch)
            else:
                self._members[agent] = member = Embedded(self._make(agent), touch)
                self._background.spawn(
                    lambda: member.run(lambda why: self._ended(agent, member, ended, why)), agent
                )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close_sockets(agent)
            raise
        return Membership(self, agent, self._members[agent])

    def config_changed(self, agent: AgentName) -> None:
        """The agent's settings may be others now."""
        member = self._members.get(agent)
        if member is not None:
            member.config_changed()

    def _ended(self, agent: AgentName, member: Member, ended: Ended, reason: str | None) -> None:
        self.leave(agent, member)
        ended(reason)

    def leave(self, agent: AgentName, member: Member) -> None:
        """This harness has ended."""
        if self._members.get(agent) is member:
            del self._members[agent]

    async def _open_sockets(self, agent: AgentName) -> None:
        if self._listener is None:
            return
        role: Role = "manager" if agent == MANAGER else "agent"
        await self.close_sockets(agent)
        await self._listener.listen(
            self._paths.tools_socket(agent), Actor(name=agent, role=role, channel=TOOLS)
        )
        if self._own_process(agent):
            await self._listener.listen(
                self._paths.harness_socket(agent), Actor(name=agent, role="harness", channel=HARNESS)
            )

    async def close_sockets(self, agent: AgentName) -> None:
        """Nobody in the agent's box is served any more."""
        if self._listener is not None:
            await self._listener.unlisten(self._paths.tools_socket(agent))
            await self._listener.unlisten(self._paths.harness_socket(agent))

    # --- lines of harnesses in processes of their own ---------------------------------------------------------------

    def attached(self, line: HarnessLine) -> None:
        """See `LineListener`."""
        member = self._members.get(line.agent)
        if isinstance(member, Attached):
            member.attach(line)
            self._touch(line.agent)
        else:
            line.close(f"{line.agent} has no harness of its own here")

    def event(self, line: HarnessLine, event: bytes) -> None:
        """See `LineListener`."""
        member = self._members.get(line.agent)
        if isinstance(member, Attached):
            member.event(event)

    def detached(self, line: HarnessLine) -> None:
        """See `LineListener`."""
        member = self._members.get(line.agent)
        if isinstance(member, Attached):
            member.detach()
            self._touch(line.agent)


class Membership:
    """What the lifecycle holds of a running harness. Implements `lifecycle.harnesses.Harness`."""

    def __init__(self, crew: Crew, agent: AgentName, member: Member) -> None:
        self._crew = crew
        self._agent = agent
        self._member = member

    async def stop(self, *, now: bool) -> None:
        """See `lifecycle.harnesses.Harness`."""
        if not (self._crew.core_is_leaving and isinstance(self._member, Attached)):
            await self._member.stop(now=now)
        self._crew.leave(self._agent, self._member)
        await self._crew.close_sockets(self._agent)
