"""Inside of a container: the harness's side. Its CLI and all that starts run as the container's other user.

The container is the box, whoever made it; what this adds is the second user, who can neither enter the harness's
directories nor end its process, and to whom what the host shows belongs (`idmap`). The places that a container shows
stand in `InsidePaths`.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.config import MountSetting, Network
from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.handed_settings import ACCOUNTS
from hyperhive.lifecycle.runtimes.idmap import give_binds
from hyperhive.lifecycle.runtimes.launch import BoxedProcess, Plan, launch
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
"""Set for a harness in a container: what the container is (`nixos-container`, `nspawn`)."""
INSIDE_ROOT: Final = "HYPERHIVE_INSIDE_ROOT"
"""Where the harness lives in a root of its own: its descriptor of the one that the agent's programs have."""
AGENT_UID: Final = 58371
"""Whom an agent's programs run as in a container, on every machine; nix/ names the user."""
HARNESS_STATE: Final = Path("/var/lib/hive-harness")
SHOWN_FILES: Final = "/run/hive-files/own"
"""Where copies of the harness's files are, for the agent to read."""
SHOWN: Final = (BOX_STATE, BOX_CLAUDE, BOX_RUN, BOX_AGENTS, BOX_APPLIED, BOX_WORKSPACE)
"""Whatever the host binds there is shown as the agent's user's."""


@dataclass(frozen=True, slots=True)
class InsidePaths(Paths):
    """Where everything of one agent lies in its container."""

    @property
    def accounts(self) -> Path:
        """What the core handed over of accounts; root's alone."""
        return Path(BOX_HARNESS_RUN) / ACCOUNTS

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
        self._shown = SHOWN
        self._root = int(environ.get(INSIDE_ROOT, "-1"))
        if self._root >= 0:
            os.set_inheritable(self._root, False)  # noqa: FBT003 - it takes no name

    @property
    def unenforced(self) -> Sequence[str]:
        """The container is limited from outside."""
        return ()

    @property
    def cautions(self) -> Sequence[str]:
        """None of its own."""
        return ()

    async def check(self) -> None:
        """Raises: MissingPart: it is not run as root."""
        await super().check()
        if os.geteuid() != 0:
            raise MissingPart("in a container the harness needs root")
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
        self,
        box: Box,
        limits: ResourceLimits,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str,
        readable: Sequence[Path] = (),
    ) -> BoxedProcess:
        """As the other user, in that user's root. A file that it may read is shown there as a copy of the harness's."""
        names = await anyio.to_thread.run_sync(self._show, readable)
        argv = [names.get(word, word) for word in argv]
        program = await anyio.to_thread.run_sync(self._find, argv[0], env.get("PATH", "/usr/bin:/bin"))
        fence = await anyio.to_thread.run_sync(self.limiter.fence, box.agent, limits)
        root = os.dup(self._root) if self._root >= 0 else -1
        return await launch(
            Plan(
                argv=[program, *argv[1:]],
                env={**{name: names.get(value, value) for name, value in env.items()}, "PWD": cwd},
                cwd=cwd,
                mark=self._marks.next(box.agent),
                rlimits=fence.rlimits,
                program=program,
                become=(AGENT_UID, root),
                fds=[root] if root >= 0 else [],
            )
        )

    # --- the root that the agent's programs have; blocks --------------------------------------------------------------

    def _seen(self, path: str) -> Path:
        """A path of theirs, as this process names it."""
        return Path(f"/proc/self/fd/{self._root}{path}") if self._root >= 0 else Path(path)

    def _find(self, name: str, path: str) -> str:
        places = [name] if "/" in name else [f"{place}/{name}" for place in path.split(":") if place]
        found = next((one for one in places if os.path.lexists(self._seen(one))), None)
        if found is None:
            raise MissingPart(f"there is no program {name}")
        return found

    def _show(self, files: Sequence[Path]) -> dict[str, str]:
        """Where those of these files are for the agent that it cannot see, or may not, under their own names."""
        names = {}
        for file in dict.fromkeys(files):
            if not file.is_file():
                raise MissingPart(f"there is no file {file} to run in the box")
            if file.is_relative_to(HARNESS_STATE) or not os.path.lexists(self._seen(str(file))):
                names[str(file)] = self._copy(file)
        return names

    def _copy(self, file: Path) -> str:
        content = file.read_bytes()
        shown = f"{SHOWN_FILES}/{hashlib.blake2b(content, digest_size=12).hexdigest()}"
        place = self._seen(shown)
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not (place / file.name).exists():
            new = place / f".{os.urandom(4).hex()}"
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as made:
                made.write(content)
                os.fchown(made.fileno(), -1, AGENT_UID)  # its owner could change it
                os.fchmod(made.fileno(), 0o550 if os.access(file, os.X_OK) else 0o440)
            new.rename(place / file.name)
        return f"{shown}/{file.name}"
