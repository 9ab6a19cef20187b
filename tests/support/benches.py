"""A whole harness on a real Broker, a real runtime and a CLI of the test's choice: for tests of the harness."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from broker_core import BrokerCore
from hyperhive.accounts import Accounts
from hyperhive.agent_cli import AgentClis
from hyperhive.broker import Broker, Limits
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.config import AgentConfig
from hyperhive.eventlog import EventLogs
from hyperhive.harness import Harness
from hyperhive.harness.drivers.claude import Profile
from hyperhive.harness.harness import HarnessSettings
from hyperhive.harness.slots import Slots
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.process import ProcessRuntime
from hyperhive.names import AgentName, parse_resident
from hyperhive.paths import Paths
from hyperhive.protocol.events import AnyLiveEvent, TurnStateChanged
from hyperhive.protocol.replies import Reply
from hyperhive.testing.tools import LocalTools

LIMIT = 30.0
"""Seconds of real time until a test gives up."""


class Bench:
    """What several harnesses share, and the harness of `alice` on it."""

    def __init__(
        self, paths: Paths, broker: Broker, accounts: Accounts, logs: EventLogs, clock: Clock
    ) -> None:
        self.paths = paths
        self.name = parse_resident("alice")
        self.broker = broker
        self.accounts = accounts
        self.logs = logs
        self.clock = clock
        self.config = AgentConfig()
        self.settings = HarnessSettings()
        self.environ: dict[str, str] = {}
        self.slots = Slots(max_turns=4, max_warm=8, idle_seconds=600, clock=clock)
        self.runtime = ProcessRuntime(paths, {})
        self.cores: dict[str, BrokerCore] = {}

    def harness(self, agent: str = "alice", **changes: Any) -> Harness:
        """A harness that nobody runs yet. A second one of the same agent is that agent's next life."""
        name = parse_resident(agent)
        core = self.cores.setdefault(agent, BrokerCore(self.broker, agent))
        parts: dict[str, Any] = {
            "name": agent,
            "core": core,
            "launcher": self.runtime.launcher(name, mounts=(), limits=ResourceLimits(), network="host"),
            "tools": LocalTools({"send": self._send(agent), "recv": self._recv(core)}),
            "directory": self.paths.agent_harness(name),
            "profile": lambda: Profile(name=agent, config=self.config),
            "accounts": self.accounts,
            "clis": AgentClis(self.environ, None),
            "slots": self.slots,
            "logs": self.logs,
            "environ": self.environ,
            "settings": self.settings,
            "clock": self.clock,
            "random": lambda: 0.0,
        }
        return Harness(**(parts | changes))

    @asynccontextmanager
    async def running(self, harness: Harness) -> AsyncIterator[Harness]:
        """The harness at work; drained at the end unless it has ended before."""
        async with anyio.create_task_group() as group:
            group.start_soon(harness.run)
            yield harness
            harness.drain(now=True)
            with anyio.fail_after(LIMIT):
                await harness.ended()

    async def send(self, body: str, to: str = "alice", **fields: Any) -> int:
        """Mail from the operator."""
        return (await self.broker.send("operator", to, body, **fields)).id

    async def acked(self, message: int) -> bool:
        def look(connection: Any) -> bool:
            row = connection.execute("SELECT acked_at FROM messages WHERE id = ?", (message,)).fetchone()
            return row is not None and row[0] is not None

        return await self.broker.store.read(look)

    def _send(self, agent: str) -> Callable[[Mapping[str, Any]], Any]:
        async def send(arguments: Mapping[str, Any]) -> str:
            receipt = await self.broker.send(agent, arguments["to"], arguments["body"])
            return f"sent as {receipt.id}\n\ninbox: 0 unread"

        return send

    @staticmethod
    def _recv(core: BrokerCore) -> Callable[[Mapping[str, Any]], Any]:
        async def recv(arguments: Mapping[str, Any]) -> str:
            return f"took {await core.tool_recv(arguments.get('max', 1))}\n\ninbox: 0 unread"

        return recv


@asynccontextmanager
async def bench(
    tmp_path: Path,
    *,
    clock: Clock = SYSTEM_CLOCK,
    environ: Mapping[str, str] | None = None,
    agents: int = 1,
    limits: Limits | None = None,
) -> AsyncIterator[Bench]:
    """A bench below `tmp_path`; `environ` is the operator's environment (HYPERHIVE_CLAUDE and what is passed on)."""

    def lay_out() -> Paths:
        paths = Paths.of(tmp_path / "state", tmp_path / "run")
        paths.make_hive()
        names: list[AgentName] = [parse_resident(name) for name in ("alice", "bob", "cat")[:agents]]
        for name in names:
            paths.make_agent(name)
        return paths

    paths = await anyio.to_thread.run_sync(lay_out)
    accounts = await Accounts.open(paths.accounts, {})
    logs = EventLogs()
    async with Broker.open(paths.database, limits=limits) as broker:
        made = Bench(paths, broker, accounts, logs, clock)
        made.environ.update(environ or {})
        await made.runtime.check()
        async with anyio.create_task_group() as group:
            group.start_soon(made.slots.run)
            try:
                yield made
            finally:
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await made.runtime.aclose()
                    await logs.aclose()


class Watch:
    """The events of one harness from now on, as they come."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.events: list[AnyLiveEvent] = []
        self._subscription = harness.bus.subscribe()

    async def until(self, found: Callable[[AnyLiveEvent], bool], within: float = LIMIT) -> AnyLiveEvent:
        """The next event for which `found` holds."""
        with anyio.fail_after(within):
            async for frame in self._subscription:
                event = frame.event  # type: ignore[union-attr]
                self.events.append(event)
                if found(event):
                    return event
        raise AssertionError("the stream ended")

    async def state(self, state: str, reason: str | None = None) -> AnyLiveEvent:
        """Wait until the agent comes into this state."""
        return await self.until(
            lambda event: (
                isinstance(event, TurnStateChanged) and (event.state, event.reason) == (state, reason)
            )
        )

    def of(self, kind: type[msgspec.Struct]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


async def ask(harness: Harness, command: type[msgspec.Struct], **fields: Any) -> Reply:
    """What the core's line would ask."""
    return await harness.handle(command(req=1, **fields))  # type: ignore[arg-type]
