"""The harnesses of a hive's agents: embedded ones in this process, and those that dial in by themselves.

Owns which harness serves which agent now, the agent's sockets, and what its live events tell. When an agent runs is
the lifecycle's affair (which calls `start`, and `stop` on what that gave), what a harness does is its own.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import anyio

from hyperhive.at_rest import AtRest
from hyperhive.background import Background
from hyperhive.bus import Bus
from hyperhive.clock import Clock
from hyperhive.errors import HiveError, NotFound
from hyperhive.harness import Harness
from hyperhive.harness.display import KEEP
from hyperhive.members import REPORT_SECONDS, Attached, Gist
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.protocol import replies as p
from hyperhive.protocol.events import (
    AnyLiveEvent,
    ModelChanged,
    StatusChanged,
    TokenUsageChanged,
    TurnStateChanged,
)
from hyperhive.protocol.harness_line import AnyHarnessCommand, ForgetModel, LineModel
from hyperhive.protocol.line import HarnessLine
from hyperhive.protocol.live import encode_live
from hyperhive.protocol.policy import TOOLS, Actor
from hyperhive.protocol.types import Role
from hyperhive.streams import AnySource, Source

log = logging.getLogger(__name__)

HARNESS: Final = "harness"
LOST: Final = "its harness went away and did not come back"
NEVER_CAME: Final = f"its harness did not report for duty within {REPORT_SECONDS:.0f} s"

Ended = Callable[[str | None], None]


class Listener(Protocol):
    """The agents' sockets."""

    async def listen(self, path: Path, actor: Actor) -> None: ...

    async def unlisten(self, path: Path) -> None: ...


class ModelDoors(Protocol):
    """The agents' ways to the model; see `hyperhive.gateway.Gateway`."""

    async def open(self, agent: AgentName) -> None: ...

    async def close(self, agent: AgentName) -> None: ...


class Member(Protocol):
    """One agent's harness, wherever it runs. Implements `lifecycle.harnesses.Harness`."""

    def gist(self) -> Gist: ...

    def config_changed(self) -> None: ...

    async def handle(self, command: AnyHarnessCommand) -> p.Reply: ...

    async def stop(self, *, now: bool) -> None: ...


class Embedded:
    """A harness in this process."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._stopping = False

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


class Crew:
    """Implements `lifecycle.HarnessFactory`, `handlers.Harnesses` and `protocol.line.LineListener`.

    Args:
        make: builds an agent's embedded harness, which publishes on the bus given.
        own_process: whether this agent's harness dials in by itself.
        lodges: whether the hive itself starts those, in containers.
        known: whether there is an agent of this name.
        touch: this agent's fleet row may look different.
        at_rest: answers for agents whose harness does not run.
        doors: each agent's way to the model, there for as long as its tools socket.
        buffer: how many frames a reader of an agent's stream may be behind.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        background: Background,
        clock: Clock,
        make: Callable[[AgentName, Bus[AnyLiveEvent]], Harness],
        own_process: Callable[[AgentName], bool],
        lodges: Callable[[], bool],
        known: Callable[[AgentName], bool],
        touch: Callable[[str], None],
        at_rest: AtRest,
        doors: ModelDoors,
        buffer: int,
    ) -> None:
        self._paths = paths
        self._background = background
        self._clock = clock
        self._make = make
        self._own_process = own_process
        self._lodges = lodges
        self._known = known
        self._touch = touch
        self._at_rest = at_rest
        self._doors = doors
        self._buffer = buffer
        self._members: dict[str, Member] = {}
        self._numbers: dict[str, int] = {}
        """Where the streams of removed agents ended: one of the same name goes on from there."""
        self._models: dict[str, str] = {}
        self._buses: dict[str, Bus[AnyLiveEvent]] = {}
        self.core_is_leaving = False
        """The core stops, and the agents do not: harnesses of their own work on and dial the next core."""
        self._listener: Listener | None = None

    def serve_on(self, listener: Listener) -> None:
        """Opens the agents' sockets there from now on."""
        self._listener = listener

    def find(self, name: str) -> Member | None:
        """The harness of an agent that runs."""
        return self._members.get(name)

    def source(self, name: AgentName) -> AnySource | None:
        """An agent's live events as a stream, which goes on while it is stopped; None where there is no such agent."""
        if not self._known(name):
            return None
        return Source(self._bus(name), lambda frame: encode_live(frame.event, seq=frame.seq))

    def position(self, name: AgentName) -> int:
        """The number of the newest event on an agent's stream."""
        return self._bus(name).current_seq

    def forget(self, name: str) -> None:
        """The agent was removed: whoever reads its stream is at its end."""
        bus = self._buses.pop(name, None)
        if bus is not None:
            self._numbers[name] = bus.current_seq
            bus.close()

    def _bus(self, agent: AgentName) -> Bus[AnyLiveEvent]:
        """The agent's bus, for as long as there is one of its name; no number on its stream ever comes twice."""
        bus = self._buses.get(agent)
        if bus is None:
            bus = self._buses[agent] = Bus(buffer=self._buffer, keep=KEEP)
            bus.current_seq = self._numbers.get(agent, 0)
            bus.tap(lambda event: self._touch(agent) if isinstance(event, _TELLING) else None)
        return bus

    async def ask(self, name: AgentName, command: AnyHarnessCommand) -> p.Reply:
        """One command to an agent's harness; what its files tell can be asked also while it does not run.

        Raises:
            NotFound: there is no agent of this name.
            Conflict: it does not run, and the command needs that.
            HiveError: what the harness answered.
        """
        member = self._members.get(name)
        if member is None:
            if not self._known(name):
                raise NotFound(f"there is no agent named {name}", hint="`hyperhive list` shows who there is")
            reply = await self._at_rest.handle(name, self._bus(name), command)
            if isinstance(command, LineModel):
                self._models[name] = command.model
            elif isinstance(command, ForgetModel):
                self._models.pop(name, None)
            return reply
        if isinstance(member, Attached) and not member.attached:
            answer = await self._at_rest.look(name, self._bus(name), command)
            if answer is not None:
                return answer
        return await member.handle(command)

    def model(self, name: AgentName) -> str | None:
        """The model that an agent was told to use while it did not run."""
        return self._models.get(name)

    def caution(self, name: AgentName) -> str | None:
        """What must be said of an agent that is stopped now: where its harness cannot be asked."""
        member = self._members.get(name)
        if isinstance(member, Attached) and not member.attached:
            return "its harness is not on its line: whether its process still runs is not known here"
        return None

    async def sweep(self) -> None:
        """Retention of what embedded harnesses keep; one of its own sweeps for itself. To be called hourly."""
        for member in tuple(self._members.values()):
            if isinstance(member, Embedded):
                await member.sweep()

    # --- for the lifecycle ------------------------------------------------------------------------------------------

    async def start(self, agent: AgentName, ended: Ended) -> "Membership":
        """See `HarnessFactory`."""
        self._models.pop(agent, None)
        await self._open_sockets(agent)
        try:
            if self._own_process(agent):
                self._members[agent] = self._attached(agent, ended)
            else:
                self._members[agent] = member = Embedded(self._make(agent, self._bus(agent)))
                self._background.spawn(
                    lambda: member.run(lambda why: self._ended(agent, member, ended, why)), agent
                )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close_sockets(agent)
            raise
        return Membership(self, agent, self._members[agent])

    def _attached(self, agent: AgentName, ended: Ended) -> Attached:
        async def lost() -> None:
            if self.core_is_leaving or self._members.get(agent) is not member:
                return
            await self.close_sockets(agent)  # its next life opens them anew, should it come back after all
            self._ended(agent, member, ended, LOST if member.was_attached else NEVER_CAME)

        member = Attached(
            agent,
            self._bus(agent),
            clock=self._clock,
            background=self._background,
            lost=lost,
            started_by_hive=self._lodges(),
        )
        return member

    def config_changed(self, agent: AgentName) -> None:
        """The agent's settings may be others now."""
        member = self._members.get(agent)
        if member is not None:
            member.config_changed()

    def _ended(self, agent: AgentName, member: Member, ended: Ended, reason: str | None) -> None:
        self.leave(agent, member)
        ended(reason)

    def in_turn(self, agent: AgentName) -> bool:
        """Whether a turn of this agent runs, as far as its harness has said."""
        member = self._members.get(agent)
        return member is not None and member.gist().state in {"thinking", "compacting"}

    def leave(self, agent: AgentName, member: Member) -> None:
        """This harness has ended."""
        if self._members.get(agent) is member:
            del self._members[agent]

    async def _open_sockets(self, agent: AgentName) -> None:
        if self._listener is None:
            return
        role: Role = "manager" if agent == MANAGER else "agent"
        await self.close_sockets(agent)
        await self._doors.open(agent)
        await self._listener.listen(
            self._paths.tools_socket(agent), Actor(name=agent, role=role, channel=TOOLS)
        )
        if self._own_process(agent):
            await self._listener.listen(
                self._paths.harness_socket(agent), Actor(name=agent, role="harness", channel=HARNESS)
            )

    async def close_sockets(self, agent: AgentName) -> None:
        """Nobody in the agent's box is served any more."""
        await self._doors.close(agent)
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
            member.detach(line)


class Membership:
    """What the lifecycle holds of a running harness. Implements `lifecycle.harnesses.Harness`."""

    def __init__(self, crew: Crew, agent: AgentName, member: Member) -> None:
        self._crew = crew
        self._agent = agent
        self._member = member

    def moved_in(self) -> None:
        """See `lifecycle.harnesses.Harness`."""
        if isinstance(self._member, Attached):
            self._member.expect()

    async def stop(self, *, now: bool) -> None:
        """See `lifecycle.harnesses.Harness`."""
        if not (self._crew.core_is_leaving and isinstance(self._member, Attached)):
            await self._member.stop(now=now)
        self._crew.leave(self._agent, self._member)
        await self._crew.close_sockets(self._agent)
