"""`BoxLauncher`: what the launchers of all runtimes with boxes have in common: whose box it is, what it may show.

How a box is made, and how a program is started in one, is each runtime's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.config import MountSetting, Network
from hyperhive.errors import MissingPart
from hyperhive.lifecycle.mounts import ResolvedMount, check_mounts
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.names import MANAGER, AgentName
from hyperhive.paths import Paths
from hyperhive.ports import Box


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxLauncher:
    """Starts programs of one agent, each in a box of its own over the same directories."""

    paths: Paths
    agent: AgentName
    mounts: Sequence[MountSetting]
    limits: ResourceLimits
    network: Network
    shared: Sequence[Path]

    @property
    def box(self) -> Box:
        """The agent's directories."""
        return self.paths.box(self.agent, isolated=True)

    @property
    def revision(self) -> str:
        """Of the mounts, limits and network, which do not change in this launcher."""
        return f"{hash((tuple(self.mounts), self.limits, self.network)):x}"

    def judge(self, readable: Sequence[Path]) -> list[ResolvedMount]:
        """The mounts, as they are at this launch, where all that the box would show is there and may be shown. Blocks.

        Raises:
            MissingPart: a file that is to be readable is not there. BadConfig: a mount is refused.
            WorldError: something else has the place of a directory of the agent's.
        """
        self.paths.check_agent(self.agent)
        for path in readable:
            if not path.is_file():
                raise MissingPart(f"there is no file {path} to run in the box")
        return check_mounts(self.mounts, self.paths, shared=self.shared)

    def proposed(self) -> Sequence[str]:
        """Whose proposed repos the box shows: the manager sees a new agent's from its next process on. Blocks."""
        return self.paths.proposed_repos() if self.agent == MANAGER else ()
