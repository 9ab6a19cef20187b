"""Inside of a container: the harness's side. Its CLI and all that starts run as the container's other user.

The container is the box, whoever made it; what this adds is the second user, who can neither enter the harness's
directories nor end its process, and to whom what the host shows belongs (`idmap`). The places that a container shows
stand in `InsidePaths`.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.config import MountSetting, Network
from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.idmap import give_binds
from hyperhive.lifecycle.runtimes.launch import BoxedProcess
from hyperhive.lifecycle.runtimes.process import ProcessLauncher, ProcessRuntime
from hyperhive.names import AgentName
from hyperhive.paths import (
    BOX_AGENTS,
    BOX_APPLIED,
    BOX_CLAUDE,
    BOX_HARNESS_RUN,
    BOX_RUN,
    BOX_STATE,
    BOX_WORKSPACE,
    Paths,
)
from hyperhive.ports import Box

INSIDE: Final = "HYPERHIVE_INSIDE"
"""Set in a container's unit: what the container is (`nixos-container`)."""
AGENT_UID: Final = 58371
"""Whom an agent's programs run as in a container, on every machine; nix/ names the user."""
HARNESS_STATE: Final = Path("/var/lib/hive-harness")
SHOWN: Final = (BOX_STATE, BOX_CLAUDE, BOX_RUN, BOX_AGENTS, BOX_APPLIED, BOX_WORKSPACE)
"""Whatever the host binds there is shown as the agent's user's."""


@dataclass(frozen=True, slots=True)
class InsidePaths(Paths):
    """Where everything of one agent lies in its container."""

    def agent_state(self, name: AgentName) -> Path:
        """`/state`."""
        del name
        return Path(BOX_STATE)

    def agent_claude(self, name: AgentName) -> Path:
        """`/claude`."""
        del name
        return Path(BOX_CLAUDE)

    def agent_harness(self, name: AgentName) -> Path:
        """What the harness keeps; root's alone."""
        del name
        return HARNESS_STATE

    def proposed_config(self, name: AgentName) -> Path:
        """The agent's proposed repo."""
        return Path(BOX_AGENTS) / name / "config"

    def tools_dir(self, name: AgentName) -> Path:
        """`/run/hive`."""
        del name
        return Path(BOX_RUN)

    def harness_dir(self, name: AgentName) -> Path:
        """`/run/hive-harness`; root's alone."""
        del name
        return Path(BOX_HARNESS_RUN)

    def make_agent(self, name: AgentName) -> None:
        """The container has them all, or it is none of the hive's.

        Raises:
            WorldError: one is missing.
        """
        for path in (self.agent_state(name), self.agent_claude(name), HARNESS_STATE, self.tools_dir(name)):
            if not path.is_dir():
                raise WorldError(f"there is no {path}: this is no container of the hive's")


class InsideRuntime(ProcessRuntime):
    """What `agent serve` uses in a container; needs root there. The contract is `base.Runtime`'s."""

    def __init__(
        self, paths: Paths, environ: Mapping[str, str], *, owner: str = "", container: str = "container"
    ) -> None:
        super().__init__(paths, environ, owner=owner)
        self.isolation = container
        self._switch: list[str] = []
        self._shown = SHOWN

    @property
    def unenforced(self) -> Sequence[str]:
        """The container is limited from outside."""
        return ()

    @property
    def cautions(self) -> Sequence[str]:
        """None of its own."""
        return ()

    async def check(self) -> None:
        """Raises: MissingPart: it is not run as root, or there is no setpriv (of util-linux)."""
        await super().check()
        program = shutil.which("setpriv", path=self._environ.get("PATH"))
        if program is None or os.geteuid() != 0:
            raise MissingPart("in a container the harness needs root and the program setpriv")
        user = f"{AGENT_UID}"
        self._switch = [
            program, f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs", "--inh-caps=-all",
            "--bounding-set=-all", "--",
        ]  # fmt: skip
        await anyio.to_thread.run_sync(give_binds, self._shown, AGENT_UID)

    def launcher(
        self,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],  # noqa: ARG002 - the container has them
        limits: ResourceLimits,
        network: Network,  # noqa: ARG002 - the container has it
        shared: Sequence[Path] = (),  # noqa: ARG002 - as the mounts
    ) -> ProcessLauncher:
        """The launcher of the agent whose container this is."""
        return ProcessLauncher(self, self._paths.box(agent, isolated=False), limits)

    async def run(
        self, box: Box, limits: ResourceLimits, argv: Sequence[str], env: Mapping[str, str], *, cwd: str
    ) -> BoxedProcess:
        """As the other user; what the harness put into the agent's directories is that user's then."""
        if shutil.which(argv[0], path=env.get("PATH", "/usr/bin:/bin")) is None:
            raise MissingPart(f"there is no program {argv[0]}")
        return await super().run(box, limits, [*self._switch, *argv], env, cwd=cwd)
