"""`AgentLauncher`: where an agent's programs are started, as its settings are at that moment.

A harness keeps its launcher for as long as it runs, and the operator may change mounts and limits meanwhile. What a
box is made of is the runtime's affair.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hyperhive.ports import Box, ChildProcess, Launcher


class AgentLauncher:
    """The contract is `hyperhive.ports.Launcher`'s.

    Args:
        make: the runtime's launcher with what is in force now; called for every launch.
        revision: names what is in force now.
    """

    def __init__(self, make: Callable[[], Launcher], revision: Callable[[], str]) -> None:
        self._make = make
        self._revision = revision
        first = make()
        self._box, self._isolation = first.box, first.isolation

    @property
    def box(self) -> Box:
        """The agent's directories, which never change."""
        return self._box

    @property
    def isolation(self) -> str:
        """What isolates, or `none`."""
        return self._isolation

    @property
    def revision(self) -> str:
        """Changes when a program that was started before does not run under what is in force any more. Cheap.

        Raises:
            NotFound: the agent is gone.
        """
        return self._revision()

    async def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        readable: Sequence[Path] = (),
    ) -> ChildProcess:
        """Starts a program with the mounts and limits of this moment.

        Raises:
            BadConfig: a mount is refused. NotFound: the agent is gone. Otherwise as the port.
        """
        return await self._make().launch(argv, env, cwd=cwd, readable=readable)
