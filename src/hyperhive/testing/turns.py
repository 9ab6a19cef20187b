"""A `TurnRunner` by itself, on the scripted CLI or on a real one: for notebooks, examples and tests.

Everything is real but the hive round it: the process runtime, the driver, the link; tools are `testing.tools`'.
"""

import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread

from hyperhive.agent_cli import AgentCli
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.config import AgentConfig
from hyperhive.harness.drivers.claude import ClaudeDriver, Profile
from hyperhive.harness.runner import Timing, TurnRunner, fresh_uuid
from hyperhive.harness.sessions import SESSION_FILE, SessionFile
from hyperhive.harness.turns import UnaskedTurn
from hyperhive.lifecycle.runtimes.bwrap import BwrapRuntime
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.process import ProcessRuntime
from hyperhive.names import parse_resident
from hyperhive.paths import Paths
from hyperhive.ports import ToolServer
from hyperhive.protocol.events import AnyLiveEvent
from hyperhive.protocol.types import Delivery, TurnStateName
from hyperhive.testing.tools import LocalTools

SCRIPTED_VERSION = "2.1.328"


def message(id_: int, body: str, *, sender: str = "operator", redelivered: bool = False) -> Delivery:
    """A message as the broker would hand it out."""
    return Delivery(id=id_, sender=sender, recipient="alice", body=body, at=0, redelivered=redelivered)


def install_scripted_cli(path: Path) -> Path:
    """An executable at `path` that runs the scripted CLI with this interpreter: what HYPERHIVE_CLAUDE may name."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hyperhive.testing.scripted_cli "$@"\n')
    path.chmod(0o755)
    return path


async def _greet(_: Mapping[str, object]) -> str:
    return "you are alice\n\ninbox: 0 unread"


class TurnBench:
    """One agent called alice with everything that a `TurnRunner` needs, below a directory (an absolute path)."""

    def __init__(
        self,
        directory: Path,
        cli: AgentCli,
        *,
        environ: Mapping[str, str] | None = None,
        account: Mapping[str, str] | None = None,
        config: AgentConfig | None = None,
        role: str = "agent",
        timing: Timing | None = None,
        clock: Clock = SYSTEM_CLOCK,
        tools: ToolServer | None = None,
        boxed: bool = False,
    ) -> None:
        self.cli = cli
        self.config = config or AgentConfig()
        self.account = dict(account or {})
        self.role = role
        self.timing = timing
        self.clock = clock
        self.tools = tools or LocalTools({"whoami": _greet, "send": _greet})
        self.events: list[AnyLiveEvent] = []
        self.states: list[TurnStateName] = []
        self.unasked: list[UnaskedTurn] = []
        self.paths = Paths(directory, directory / "run")
        self.runtime: ProcessRuntime | BwrapRuntime = (BwrapRuntime if boxed else ProcessRuntime)(
            self.paths, {}
        )
        self.name = parse_resident("alice")
        self.harness_dir = self.paths.agent_harness(self.name)
        self._environ = dict(environ or {})

    @property
    def state(self) -> Path:
        """The agent's own directory, its cwd."""
        return self.paths.agent_state(self.name)

    def make_directories(self) -> None:
        """Make what a hive would have made (blocking)."""
        own = (self.harness_dir, self.state, self.paths.agent_claude(self.name))
        for place in (*own, self.paths.tools_dir(self.name), self.paths.proposed_config(self.name)):
            place.mkdir(parents=True, exist_ok=True)

    async def find_cli(self) -> AgentCli:
        """The CLI of the next turn."""
        return self.cli

    async def runner(self, *, new_uuid: Callable[[], str] = fresh_uuid, model: str = "haiku") -> TurnRunner:
        """A runner on this agent; a later one continues its session."""
        await anyio.to_thread.run_sync(self.make_directories)
        await self.runtime.check()

        driver = ClaudeDriver(
            lambda: Profile(
                name="alice", role="manager" if self.role == "manager" else "agent", config=self.config
            ),
            self.find_cli,
            self.harness_dir,
            account_env=lambda: self.account,
            environ=self._environ,
        )
        return TurnRunner(
            launcher=self.runtime.launcher(self.name, mounts=(), limits=ResourceLimits(), network="host"),
            driver=driver,
            tools=self.tools,
            session=SessionFile(self.harness_dir / SESSION_FILE, new_uuid),
            emit=self.events.append,
            model=model,
            clock=self.clock,
            timing=self.timing,
            on_state=self.states.append,
            on_unasked=self.unasked.append,
            new_uuid=new_uuid,
        )


@asynccontextmanager
async def scripted_runner() -> AsyncIterator[TurnRunner]:
    """A runner on the scripted CLI, in a directory of its own that is removed afterwards."""
    directory = Path(await anyio.to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="hyperhive-turns-")))
    try:
        program = await anyio.to_thread.run_sync(install_scripted_cli, directory / "claude")
        bench = TurnBench(directory / "hive", AgentCli(path=program, version=SCRIPTED_VERSION))
        async with await bench.runner() as runner:
            yield runner
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))
