"""Runtime `process`: programs run as the hive's own user, in no box. It isolates nothing and says so.

What it does keep: an own session, the resource limits that the machine lets it set, and that nothing an agent started
outlives the agent, the harness or the hive.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from hyperhive.config import MountSetting, Network, RuntimeName
from hyperhive.errors import MissingPart, WorldError
from hyperhive.lifecycle.runtimes import wrapper
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.launch import BoxedProcess, Plan, launch
from hyperhive.lifecycle.runtimes.limiter import Limiter
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.ports import Box


class ProcessRuntime:
    """Plain child processes; see `hyperhive.lifecycle.runtimes.base.Runtime` for the contract."""

    name: RuntimeName = "process"
    isolation = "none"
    isolated = False

    def __init__(self, paths: Paths, environ: Mapping[str, str], *, owner: str = "") -> None:
        self._paths = paths
        self._environ = environ
        self._marks = Marks(paths.state_dir / owner)
        self._limiter: Limiter | None = None

    @property
    def limiter(self) -> Limiter:
        """The means by which limits are held.

        Raises:
            WorldError: `check` has not run.
        """
        if self._limiter is None:
            raise WorldError("the runtime was not checked before use")
        return self._limiter

    @property
    def unenforced(self) -> Sequence[str]:
        """Names of resource limits that are not held on this machine."""
        return self.limiter.unenforced

    @property
    def cautions(self) -> Sequence[str]:
        """What this runtime does not keep apart."""
        return ["agents run as your own user, in no box: whatever you can read or change, they can"]

    async def check(self) -> None:
        """Finds out how limits can be held here."""
        if self._limiter is None:
            self._limiter = await Limiter.detect(self._marks.hive, self._environ)

    async def sweep(self) -> None:
        """Kills every process of an earlier life of this hive."""
        await sweep(self._marks, self.limiter)

    def launcher(
        self,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],  # noqa: ARG002 - the port's
        limits: ResourceLimits,
        network: Network,  # noqa: ARG002 - the port's
        shared: Sequence[Path] = (),  # noqa: ARG002 - the port's
    ) -> "ProcessLauncher":
        """The launcher of one agent. Mounts lie where they are: there is no /workspace."""
        return ProcessLauncher(self, self._paths.box(agent, isolated=False), limits)

    async def release(self, agent: AgentName) -> None:
        """Removes what a stopped agent left."""
        await release(self._marks, self.limiter, agent)

    async def aclose(self) -> None:
        """Ends whatever still runs."""
        if self._limiter is not None:
            await self.sweep()

    async def run(
        self,
        box: Box,
        limits: ResourceLimits,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str,
        readable: Sequence[Path] = (),  # noqa: ARG002 - everything is readable without a box
    ) -> BoxedProcess:
        """Starts one program; what `ProcessLauncher.launch` does."""
        program = await anyio.to_thread.run_sync(find_program, argv[0], env)
        fence = await anyio.to_thread.run_sync(self.limiter.fence, box.agent, limits)
        return await launch(
            Plan(
                argv=[program, *argv[1:]],
                env={**env, "PWD": cwd},
                cwd=cwd,
                mark=self._marks.next(box.agent),
                prefix=fence.prefix,
                cgroups=fence.cgroups,
                rlimits=fence.rlimits,
                program=program,
            )
        )


class ProcessLauncher:
    """Starts programs of one agent under `process`."""

    def __init__(self, runtime: ProcessRuntime, box: Box, limits: ResourceLimits) -> None:
        self._runtime = runtime
        self._box = box
        self._limits = limits

    @property
    def box(self) -> Box:
        """The agent's directories, all as the host names them."""
        return self._box

    @property
    def isolation(self) -> str:
        """`none`."""
        return self._runtime.isolation

    @property
    def revision(self) -> str:
        """Of the limits, which do not change in this launcher."""
        return f"{hash(self._limits):x}"

    async def launch(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: str | None = None,
        readable: Sequence[Path] = (),
    ) -> BoxedProcess:
        """Starts a program; see `hyperhive.ports.Launcher`."""
        return await self._runtime.run(
            self._box, self._limits, argv, env, cwd=cwd or self._box.state, readable=readable
        )


def find_program(name: str, env: Mapping[str, str]) -> str:
    """The absolute path of a program, looked up on the PATH that it is given itself.

    Raises:
        MissingPart: there is none.
    """
    found = shutil.which(name, path=env.get("PATH", "/usr/bin:/bin"))
    if found is None:
        raise MissingPart(f"there is no program {name}")
    return str(Path(found).absolute())


async def release(marks: Marks, limiter: Limiter, agent: AgentName) -> None:
    """Kills what an agent left running, and removes its control groups. Costs nothing where it never started a program.

    Raises:
        WorldError: some would not die.
    """
    mark = marks.of(agent)
    if mark is None:
        return

    def work() -> list[int]:
        left = wrapper.kill_marked(mark, wrapper.ONE_AGENT)
        limiter.release(agent)
        return left

    if left := await anyio.to_thread.run_sync(work):
        raise WorldError(f"processes {left} of {agent} do not end although they were killed")


async def sweep(marks: Marks, limiter: Limiter) -> None:
    """Kills whatever bears a mark of this hive or sits in its control groups.

    Raises:
        WorldError: some would not die.
    """

    def work() -> list[int]:
        left = wrapper.kill_marked(marks.any, wrapper.ONE_HIVE)
        limiter.cgroups.sweep()
        return left

    if left := await anyio.to_thread.run_sync(work):
        raise WorldError(f"processes {left} of an earlier run do not end although they were killed")
