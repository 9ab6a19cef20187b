"""A NixOS host that is not there: the fake programs over a directory, and a runtime that uses them.

Whatever a test leaves running in a container is ended with it.
"""

import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from hyperhive.config import AgentConfig, HiveFile, MountSetting, Network
from hyperhive.lifecycle.repos import Repos
from hyperhive.lifecycle.runtimes import ResourceLimits
from hyperhive.lifecycle.runtimes.base import Lodging
from hyperhive.lifecycle.runtimes.nixos_conf import parse_conf
from hyperhive.lifecycle.runtimes.nixos_container import NixosContainerRuntime
from hyperhive.names import AgentName, parse_agent_name
from hyperhive.paths import Paths
from hyperhive.testing import fake_nixos

ALICE = parse_agent_name("alice")


@dataclass
class FakeHost:
    """The fake machine, driven by hand as a user of it would."""

    root: Path
    programs: Path

    @classmethod
    def make(
        cls,
        directory: Path,
        init: Sequence[str] = ("sleep", "infinity"),
        env: Mapping[str, str] | None = None,
    ) -> "FakeHost":
        """In an empty directory."""
        host = cls(directory / "host", directory / "bin")
        fake_nixos.install(host.programs, host.root, init, env)
        host.root.mkdir()
        return host

    @property
    def environ(self) -> dict[str, str]:
        """With the fake programs before all others."""
        return {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HYPERHIVE_FLAKE": "path:/etc/hyperhive/flake",
            "HYPERHIVE_NIXOS_ROOT": str(self.root),
        }

    def run(self, *words: str, program: str = "nixos-container") -> subprocess.CompletedProcess[str]:
        """One command, to its end. Blocks."""
        return subprocess.run(
            [self.programs / program, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
            env=self.environ,
        )

    def conf(self, name: str) -> dict[str, str]:
        """A container's conf."""
        return parse_conf((self.root / f"etc/nixos-containers/{name}.conf").read_text())

    def calls(self, program: str = "nixos-container") -> list[list[str]]:
        """Every command so far."""
        file = self.root / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [words[1:] for line in lines if (words := json.loads(line))[0] == program]

    def said(self, name: str) -> str:
        """What a container's init and harness wrote last, and what was asked of the machine: why it is as it is."""
        log = self.root / f"run/{name}.log"
        text = log.read_text(errors="replace")[-4000:] if log.exists() else "(no log)"
        return "\n".join([text, *(" ".join(words) for words in self.calls()[-8:])])

    def verbs(self) -> list[str]:
        """The verbs of all commands so far that change something."""
        return [words[0] for words in self.calls() if words[0] not in {"status", "list"}]

    def close(self) -> None:
        """Ends every container. Blocks."""
        for name in self.run("list").stdout.split():
            self.run("destroy", name)


@dataclass
class NixosWorld:
    """A hive's directories with config repos, a fake machine, and the runtime between them."""

    host: FakeHost
    paths: Paths
    repos: Repos
    runtime: NixosContainerRuntime

    @classmethod
    @asynccontextmanager
    async def open(
        cls, directory: Path, init: Sequence[str] = ("sleep", "infinity")
    ) -> AsyncIterator["NixosWorld"]:
        """In an empty directory; leaves no container behind. `init`: what runs in containers."""
        host = await anyio.to_thread.run_sync(FakeHost.make, directory, init)
        paths = await anyio.to_thread.run_sync(Paths.of, directory / "hive")
        await anyio.to_thread.run_sync(paths.make_hive)
        runtime = NixosContainerRuntime(paths, host.environ)
        await runtime.check()
        try:
            yield cls(host, paths, Repos.of(paths, runtime.boxes, os.environ["PATH"]), runtime)
        finally:
            with anyio.CancelScope(shield=True):
                await runtime.aclose()
                await anyio.to_thread.run_sync(host.close)

    async def lodging(
        self,
        agent: AgentName = ALICE,
        *,
        prompt: str = "",
        network: Network = "none",
        mounts: Sequence[MountSetting] = (),
        limits: ResourceLimits | None = None,
    ) -> Lodging:
        """What the agent runs with; its directories and repos are made."""
        await anyio.to_thread.run_sync(self.paths.make_agent, agent)
        await self.repos.ensure(agent)
        return Lodging(
            config=AgentConfig(prompt=prompt),
            file=HiveFile(),
            mounts=mounts,
            limits=limits or ResourceLimits(),
            network=network,
            commit=await self.repos.main(agent),
        )

    async def status(self, agent: str = ALICE) -> str:
        """What the machine says of a container."""
        return (await anyio.to_thread.run_sync(self.host.run, "status", agent)).stdout.strip()
