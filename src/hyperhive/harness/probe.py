"""`Probe`: would the agent's CLI work as its config stands now? A process of its own is started, and runs no turn.

It comes up in the agent's box with the same flags, environment and tools as for a turn, says which MCP servers are
connected, and is ended. No model is asked: a missing login or a limit does not show here, and must not.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, Literal

import anyio
import msgspec

from hyperhive.clock import Clock
from hyperhive.errors import WorldError
from hyperhive.harness.drivers.authority import SERVER
from hyperhive.harness.drivers.claude import ClaudeDriver
from hyperhive.harness.drivers.link import CliLink
from hyperhive.harness.stream_json import Frame
from hyperhive.ports import Launcher, ToolServer

AGAIN_SECONDS: Final = 0.2
_STATUS: Final = {"subtype": "mcp_status"}


class _Server(msgspec.Struct):
    name: str = ""
    status: str = ""
    error: str | None = None


class _Servers(msgspec.Struct, rename="camel"):
    mcp_servers: list[_Server] = []


class _Watch:
    """What the process says (`link.Listener`). Its turns would be somebody else's: there are none."""

    def __init__(self) -> None:
        self.ready = anyio.Event()

    def on_frame(self, line: bytes, frame: Frame) -> None: ...

    def on_noise(self, line: bytes, size: int) -> None: ...

    def on_stderr(self, text: str) -> None: ...

    def on_answer(self, what: str) -> None:
        if what == "initialize":
            self.ready.set()

    def on_output_closed(self) -> None: ...


class Probe:
    """Probes of one agent.

    Args:
        launcher: starts programs in the agent's box.
        tools: the hive's tools for this agent.
        driver: what its CLI is started with.
        new_uuid: for a session that nothing is ever said in.
        servers: the names of the further MCP servers of its config.
    """

    def __init__(
        self,
        launcher: Launcher,
        tools: ToolServer,
        driver: ClaudeDriver,
        clock: Clock,
        new_uuid: Callable[[], str],
        servers: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._launcher = launcher
        self._tools = tools
        self._driver = driver
        self._clock = clock
        self._new_uuid = new_uuid
        self._servers = servers

    async def run(self) -> None:
        """Returns when the process came up and all its MCP servers are connected; waits for as long as it is let.

        Raises:
            HiveError: it cannot be started, ended by itself, or a server cannot be connected.
        """
        launcher = self._launcher
        command = await self._driver.prepare(launcher.box, launcher.isolation, launcher.revision)
        tools = await self._tools.open_session()
        try:
            argv = [*command.prefix, *command.argv, "--session-id", self._new_uuid()]
            child = await launcher.launch(argv, command.env, readable=command.readable)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await tools.aclose()
            raise
        watch = _Watch()
        answers: list[bytes] = []
        answered = [anyio.Event()]

        def hear(what: str, body: bytes) -> None:
            if what == "status":
                answers.append(body)
                answered[0].set()

        link = CliLink(child, tools, watch, self._clock, on_reply=hear)
        link.ask("initialize", {"subtype": "initialize", "appendSystemPrompt": command.append_prompt})
        verdict: list[str] = []

        async def look() -> None:
            await watch.ready.wait()
            while True:
                answered[0] = anyio.Event()
                link.ask("status", _STATUS)
                await answered[0].wait()
                state, trouble = judge(answers[-1], {SERVER, *self._servers()})
                if state != "pending":
                    verdict.append(trouble)
                    break
                await self._clock.sleep(AGAIN_SECONDS)
            await link.kill()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await link.serve()
            tasks.cancel_scope.cancel()
        if not verdict:
            raise WorldError(f"its CLI ended before it was ready: {link.words()}")
        if verdict[0]:
            raise WorldError(verdict[0])


def judge(answer: bytes, wanted: Collection[str]) -> tuple[Literal["well", "pending", "unwell"], str]:
    """What an answer to `mcp_status` means for the servers that there should be, and what is wrong, in words."""
    try:
        servers = msgspec.json.decode(answer, type=_Servers).mcp_servers
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "unwell", "its CLI does not say which MCP servers it has"
    broken = [one for one in servers if one.status not in {"connected", "pending"}]
    if broken:
        said = (
            f"{one.name} is {one.status or 'unknown'}" + (f" ({one.error})" if one.error else "")
            for one in broken
        )
        return "unwell", f"MCP servers are not connected: {', '.join(said)}"
    connected = {one.name for one in servers if one.status == "connected"}
    return ("well" if connected >= set(wanted) else "pending"), ""
