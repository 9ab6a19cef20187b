"""Small things that tests of turns share: waiting for what a turn shows, and looking into what was asked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec

from hyperhive.agent_cli import AgentCli
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.config import AgentConfig
from hyperhive.harness.runner import Timing, TurnRunner
from hyperhive.ports import ToolServer
from hyperhive.protocol.events import Note, Stream
from hyperhive.testing.fake_anthropic import FakeAnthropic
from hyperhive.testing.turns import TurnBench

KEY = {"ANTHROPIC_API_KEY": "dummy-key-for-tests"}


class Benches:
    """Makes benches and runners, and closes the runners in the end."""

    def __init__(self, directory: Path, cli: AgentCli, api: FakeAnthropic | None) -> None:
        self.directory = directory
        self.cli = cli
        self.environ: dict[str, str] = {}
        if api is not None:
            self.environ = {
                "ANTHROPIC_BASE_URL": api.url,
                "CLAUDE_CODE_MAX_RETRIES": "0",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            }
        self._runners: list[TurnRunner] = []

    def bench(
        self,
        *,
        account: Mapping[str, str] = KEY,
        environ: Mapping[str, str] | None = None,
        config: AgentConfig | None = None,
        timing: Timing | None = None,
        clock: Clock = SYSTEM_CLOCK,
        tools: ToolServer | None = None,
        boxed: bool = False,
    ) -> TurnBench:
        return TurnBench(
            self.directory / "hive",
            self.cli,
            environ={**self.environ, **(environ or {})},
            account=account,
            config=config,
            timing=timing or Timing(result_grace=5.0),
            clock=clock,
            tools=tools,
            boxed=boxed,
        )

    async def runner(self, bench: TurnBench) -> TurnRunner:
        runner = await bench.runner()
        self._runners.append(runner)
        return runner

    async def aclose(self) -> None:
        for runner in self._runners:
            await runner.aclose()

    def with_flags(self, *flags: str) -> None:
        """From now on the CLI gets these flags as well."""
        script = self.directory / "claude-with-flags"
        script.write_text(f'#!/bin/sh\nexec "{self.cli.path}" {" ".join(flags)} "$@"\n')
        script.chmod(0o755)
        self.cli = AgentCli(path=script, version=self.cli.version)


def frames(bench: TurnBench) -> list[dict[str, Any]]:
    """The stream-json lines so far."""
    return [msgspec.json.decode(event.line) for event in bench.events if isinstance(event, Stream)]


def notes(bench: TurnBench) -> list[str]:
    """The notes so far."""
    return [event.text for event in bench.events if isinstance(event, Note)]


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `holds()` is true, looking again each time the loop has gone round."""
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 (what it waits for happens in threads and other processes)
            await anyio.sleep(0.005)


async def tool_is_open(bench: TurnBench, name: str) -> None:
    """Wait until the model has called this tool."""
    await until(
        lambda: any(
            name in str(f.get("message")) and "tool_use" in str(f.get("message")) for f in frames(bench)
        )
    )


def told(api: FakeAnthropic) -> str:
    """All that the model was told in the newest request."""
    return str(api.requests[-1]["body"]["messages"])


def gone(pid: int) -> bool:
    """Whether the process has ended (one that only waits to be reaped has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] == b"Z"
    except FileNotFoundError:
        return True
