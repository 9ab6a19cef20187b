"""What an embedded harness needs, put together for one agent: its config, account, box, core and tools.

Owns what all embedded harnesses of the process share: the slots for turns and warm processes. Starts no harness.
"""

from collections.abc import Awaitable, Callable, Mapping

from hyperhive.accounts import Accounts, BoundAccount
from hyperhive.agent_cli import AgentClis
from hyperhive.bus import Bus
from hyperhive.clock import Clock
from hyperhive.config import HiveConfig
from hyperhive.eventlog import EventLogs
from hyperhive.harness import Harness
from hyperhive.harness.drivers.claude import Profile
from hyperhive.harness.drivers.mcp_servers import EXTRA_MCP
from hyperhive.harness.harness import HarnessSettings
from hyperhive.harness.model_gate import ModelRoutes
from hyperhive.harness.slots import Slots
from hyperhive.harness.socket_probe import SocketProbe
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.ports import Launcher, ToolServer
from hyperhive.protocol.codec import error_from
from hyperhive.protocol.dispatch import Answer
from hyperhive.protocol.events import AnyLiveEvent
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.replies import Err, Reply
from hyperhive.protocol.requests import Request

Dispatch = Callable[[Actor, Request], Awaitable[Answer]]


class EmbeddedCore:
    """Implements `harness.core.Core` in the core itself: a call of the dispatcher."""

    def __init__(self, dispatch: Dispatch, actor: Actor) -> None:
        self._dispatch = dispatch
        self._actor = actor

    async def ask(self, request: Request) -> Reply:
        """One request as this agent's harness."""
        answer = await self._dispatch(self._actor, request)
        reply = answer.reply
        if isinstance(reply, Err):
            raise error_from(reply.code, reply.message, reply.hint)
        if answer.written is not None:
            answer.written()
        return reply


class Outfitter:
    """Builds the embedded harnesses of one hive. `run` must be running for idle processes to be retired."""

    def __init__(
        self,
        *,
        config: Callable[[], HiveConfig],
        paths: Paths,
        accounts: Accounts,
        clis: AgentClis,
        logs: EventLogs,
        environ: Mapping[str, str],
        clock: Clock,
        launcher: Callable[[AgentName], Launcher],
        dispatch: Dispatch,
        tools: Callable[[Actor], ToolServer],
    ) -> None:
        self._config = config
        self._paths = paths
        self._accounts = accounts
        self._clis = clis
        self._logs = logs
        self._environ = environ
        self._clock = clock
        self._launcher = launcher
        self._dispatch = dispatch
        self._tools = tools
        file = config().file
        self._routes = ModelRoutes(SocketProbe(), environ)
        self.slots = Slots(
            max_turns=file.max_turns, max_warm=file.max_warm, idle_seconds=file.idle_seconds, clock=clock
        )

    async def run(self) -> None:
        """Keeps the slots, for ever."""
        await self.slots.run()

    def account(self, name: AgentName) -> BoundAccount:
        """The account that an agent runs under."""
        return self._accounts.bind(name, self._config().agent(name).account)

    def harness(self, name: AgentName, bus: Bus[AnyLiveEvent]) -> Harness:
        """A harness for this agent, which publishes on its bus.

        Raises:
            HiveError: its settings cannot be used (a mount is refused).
        """
        actor = Actor(name=name, role="harness", channel="embedded")
        file = self._config().file
        return Harness(
            name=name,
            core=EmbeddedCore(self._dispatch, actor),
            launcher=self._launcher(name),
            tools=self._tools(actor),
            directory=self._paths.agent_harness(name),
            profile=lambda: self._profile(name),
            accounts=self._accounts,
            clis=self._clis,
            slots=self.slots,
            routes=self._routes,
            logs=self._logs,
            environ=self._environ,
            settings=HarnessSettings(
                stuck_seconds=file.stuck_seconds,
                result_grace=file.result_grace,
                backoff_seconds=file.backoff_seconds,
                backoff_max_seconds=file.backoff_max_seconds,
                buffer=file.buffer,
            ),
            clock=self._clock,
            bus=bus,
            extra_mcp=EXTRA_MCP,
        )

    def _profile(self, name: AgentName) -> Profile:
        config = self._config()
        return Profile(
            name=name,
            role="manager" if name == MANAGER else "agent",
            config=config.agent(name),
            pronouns=config.pronouns,
        )
