"""Agents' own nspawn containers without a hive: a runtime, and what runs in a container in the harness's place."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from hyperhive.config import AgentConfig, HiveFile, MountSetting, Network
from hyperhive.lifecycle.runtimes import NspawnRuntime, ResourceLimits, pick_runtime, wrapper
from hyperhive.lifecycle.runtimes import nspawn_lodging as lodgings
from hyperhive.lifecycle.runtimes.base import Lodging, Marks
from hyperhive.names import AgentName, parse_agent_name
from hyperhive.paths import Paths
from parts import CLEAN_ENV, NSPAWN_BASE
from waiting import within

ALICE = parse_agent_name("alice")
LONG_SECONDS = 50.0


def end_containers(state_dir: Path) -> None:
    """Ends every container of a hive, as nobody does when a core stops. Blocks."""
    marks = Marks(Paths.of(state_dir).state_dir / "containers")
    assert wrapper.kill_marked(marks.any, wrapper.ONE_HIVE) == []


@dataclass(kw_only=True)
class NspawnWorld:
    """A checked runtime over a hive's directories."""

    paths: Paths
    runtime: NspawnRuntime
    patch: pytest.MonkeyPatch
    environ: Mapping[str, str]

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, patch: pytest.MonkeyPatch) -> AsyncIterator["NspawnWorld"]:
        """In an empty directory; leaves no container behind. What stands in for an agent CLI is never run."""
        paths = Paths.of(directory / "hive")
        await anyio.to_thread.run_sync(paths.make_hive)
        cli = directory / "claude"
        cli.write_text("#!/bin/sh\necho '2.1.328 (stand-in)'\n")
        cli.chmod(0o755)
        environ = {
            **CLEAN_ENV, "HYPERHIVE_NSPAWN_BASE": str(NSPAWN_BASE), "HYPERHIVE_CLAUDE": str(cli),
            "ANTHROPIC_API_KEY": "dummy-key-for-tests",
        }  # fmt: skip
        runtime = await pick_runtime("nspawn", paths, environ)
        assert isinstance(runtime, NspawnRuntime)
        try:
            yield cls(paths=paths, runtime=runtime, patch=patch, environ=environ)
        finally:
            await runtime.aclose()
            await anyio.to_thread.run_sync(end_containers, paths.state_dir)

    def lodging(
        self,
        *,
        network: Network = "none",
        limits: ResourceLimits | None = None,
        mounts: tuple[MountSetting, ...] = (),
    ) -> Lodging:
        """What an agent lives in."""
        return Lodging(
            config=AgentConfig(), file=HiveFile(), mounts=mounts, limits=limits or ResourceLimits(), network=network
        )  # fmt: skip

    def instead(self, *words: str) -> None:
        """What runs in containers from now on, in the place of the harness."""
        command = [*lodgings.harness_command(ALICE)[:2], *words]
        self.patch.setattr(lodgings, "harness_command", lambda _: command)

    async def inside(self, *script: str, agent: AgentName = ALICE, **made: object) -> str:
        """Runs the suite, or one shell script as the agent's program, in a container of its own; what it says."""
        self.instead("-m", "hyperhive.testing.inside_suite", *script)
        self.log(agent).unlink(missing_ok=True)
        await anyio.to_thread.run_sync(self.paths.make_agent, agent)
        await self.runtime.up(agent, self.lodging(**made))  # type: ignore[arg-type]
        with within(
            LONG_SECONDS, lambda: f"{agent}'s container does not end:\n{self.log(agent).read_text()}"
        ):
            while await self.started_as(agent) is not None:  # noqa: ASYNC110 - nobody tells of the end of another's child
                await anyio.sleep(0.05)
        return self.log(agent).read_text()

    def log(self, agent: AgentName) -> Path:
        """Of the agent's container."""
        return self.runtime.containers.log(agent)

    async def started_as(self, agent: AgentName) -> str | None:
        """What the agent's container was started as, where one runs."""
        return await self.runtime.containers.running(agent)

    def processes(self, agent: AgentName) -> list[int]:
        """The pids of all in the agent's container that its harness did not mark itself."""
        return wrapper.marked(self.runtime.containers.mark(agent))

    def keeper(self, agent: AgentName) -> int:
        """The pid of what stays with the agent's container; what watches it is its child."""
        own = [pid for pid in self.processes(agent) if "nspawn_keeper" in _text(pid, "cmdline")]
        return min(own)

    def nspawn(self, agent: AgentName) -> int:
        """The pid of nspawn itself."""
        return next(pid for pid in self.processes(agent) if _text(pid, "comm") == "systemd-nspawn\n")

    def harness(self, agent: AgentName) -> int:
        """The pid of what runs in the harness's place."""
        return next(pid for pid in self.processes(agent) if _number_inside(pid) == "2")


def _number_inside(pid: int) -> str:
    words = _text(pid, "status").partition("NSpid:")[2].split()
    return words[1] if words[1].isdigit() else ""


def _text(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
