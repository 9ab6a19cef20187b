"""What one agent's nspawn containers show, judged anew at each launch. How they are made is the runtime's affair."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.config import MountSetting, Network
from hyperhive.errors import MissingPart
from hyperhive.lifecycle.mounts import check_mounts
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.launch import BoxedProcess
from hyperhive.lifecycle.runtimes.nspawn_command import Contents, agent_binds, file_binds, mount_binds
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.ports import Box

_SEARCHED: Final = ("usr/local/bin", "usr/bin", "bin")
_THE_BASES: Final = ("usr", "bin", "sbin", "lib", "lib64", "opt")

Run = Callable[[Contents, Sequence[str], Mapping[str, str]], Awaitable[BoxedProcess]]


class NspawnLauncher:
    """Starts programs of one agent, each in a container of its own over the same directories."""

    def __init__(
        self,
        run: Run,
        base: Path,
        paths: Paths,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],
        limits: ResourceLimits,
        network: Network,
        shared: Sequence[Path],
    ) -> None:
        self._run = run
        self._base = base
        self._paths = paths
        self._agent = agent
        self._mounts = mounts
        self._shared = shared
        self._limits = limits
        self._network: Network = network
        self._box = paths.box(agent, isolated=True)

    @property
    def box(self) -> Box:
        """The agent's directories."""
        return self._box

    @property
    def isolation(self) -> str:
        """`nspawn`."""
        return "nspawn"

    @property
    def revision(self) -> str:
        """Of the mounts, limits and network, which do not change in this launcher."""
        return f"{hash((tuple(self._mounts), self._limits, self._network)):x}"

    async def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        readable: Sequence[Path] = (),
    ) -> BoxedProcess:
        """Starts a program in a container; see `hyperhive.ports.Launcher`."""
        contents = await anyio.to_thread.run_sync(self._contents, argv[0], readable, cwd)
        return await self._run(contents, argv, env)

    def _contents(self, program: str, readable: Sequence[Path], cwd: str | None) -> Contents:
        """What this launch's container shows, judged anew. Blocks."""
        self._paths.check_agent(self._agent)
        for path in readable:
            if not path.is_file():
                raise MissingPart(f"there is no file {path} to run in the box")
        if not any(str(path) == program for path in readable) and not _is_in(self._base, program):
            raise MissingPart(f"there is no program {program} in {self._base}")
        files = dict(file_binds(list(dict.fromkeys(readable)), self._base))
        proposed = self._paths.proposed_repos() if self._agent == MANAGER else ()
        return Contents(
            owner=self._agent,
            hostname=self._agent,
            binds=[
                *agent_binds(self._paths, self._agent, proposed),
                *mount_binds(check_mounts(self._mounts, self._paths, shared=self._shared)),
                *files.values(),
            ],
            cwd=cwd or self._box.state,
            limits=self._limits,
            network=self._network,
            names={asked: bind.target for asked, bind in files.items() if bind.target != asked},
        )


def _is_in(base: Path, program: str) -> bool:
    """Whether the base has such a program. Its links are not followed: they mean its own root."""
    places = [program.lstrip("/")] if "/" in program else [f"{place}/{program}" for place in _SEARCHED]
    if program.startswith("/") and program.split("/")[1] not in _THE_BASES:
        return True  # the agent's own or the operator's: its container knows
    return any(os.path.lexists(base / place) for place in places)
