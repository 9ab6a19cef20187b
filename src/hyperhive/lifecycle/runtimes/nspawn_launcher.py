"""What one agent's nspawn containers show, judged anew at each launch. How they are made is the runtime's affair."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from hyperhive.errors import MissingPart
from hyperhive.lifecycle.runtimes.box_launcher import BoxLauncher
from hyperhive.lifecycle.runtimes.launch import BoxedProcess
from hyperhive.lifecycle.runtimes.nspawn_command import Contents, agent_binds, file_binds, mount_binds

_SEARCHED: Final = ("usr/local/bin", "usr/bin", "bin")
_THE_BASES: Final = ("usr", "bin", "sbin", "lib", "lib64", "opt")

Run = Callable[[Contents, Sequence[str], Mapping[str, str]], Awaitable[BoxedProcess]]


@dataclass(frozen=True, kw_only=True, eq=False)
class NspawnLauncher(BoxLauncher):
    """Starts each program in a container of its own.

    Args:
        run: starts a program in a container that shows this.
        base: what every container begins with.
    """

    run: Run
    base: Path

    @property
    def isolation(self) -> str:
        """`nspawn`."""
        return "nspawn"

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
        return await self.run(contents, argv, env)

    def _contents(self, program: str, readable: Sequence[Path], cwd: str | None) -> Contents:
        """What this launch's container shows. Blocks."""
        mounts = self.judge(readable)
        if not any(str(path) == program for path in readable) and not _is_in(self.base, program):
            raise MissingPart(f"there is no program {program} in {self.base}")
        files = dict(file_binds(list(dict.fromkeys(readable)), self.base))
        return Contents(
            owner=self.agent,
            hostname=self.agent,
            binds=[
                *agent_binds(self.paths, self.agent, self.proposed()),
                *mount_binds(mounts),
                *files.values(),
            ],
            cwd=cwd or self.box.state,
            limits=self.limits,
            network=self.network,
            names={asked: bind.target for asked, bind in files.items() if bind.target != asked},
        )


def _is_in(base: Path, program: str) -> bool:
    """Whether the base has such a program. Its links are not followed: they mean its own root."""
    places = [program.lstrip("/")] if "/" in program else [f"{place}/{program}" for place in _SEARCHED]
    if program.startswith("/") and program.split("/")[1] not in _THE_BASES:
        return True  # the agent's own or the operator's: its container knows
    return any(os.path.lexists(base / place) for place in places)
