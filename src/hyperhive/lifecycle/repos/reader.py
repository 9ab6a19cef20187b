"""Who runs `git upload-pack` on a proposed repo: the one git process that starts where an agent can write.

Its configuration, its hooks, its very bytes are the manager's. So it runs as the manager would: in a box of its own
that shows the repo read-only and nothing else, has no network, and ends soon. All that leaves it is its output, which
`quarantine` takes for hostile. Runtimes with users of their own for agents bring a reader of their own.
"""

import os
import resource
from pathlib import Path
from typing import Final, Protocol

import anyio.to_thread

from hyperhive.errors import NotFound
from hyperhive.lifecycle.repos.git import IN_THE_BASE, find_git, upload_pack
from hyperhive.lifecycle.repos.making import has_proposed, open_proposed
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.bwrap import BwrapRuntime
from hyperhive.lifecycle.runtimes.bwrap_command import BOX_REPO, reading_box_arguments
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.launch import Plan, launch, memory_file
from hyperhive.lifecycle.runtimes.limiter import Limiter
from hyperhive.lifecycle.runtimes.nspawn import NspawnRuntime
from hyperhive.lifecycle.runtimes.nspawn_command import Bind, Contents
from hyperhive.lifecycle.runtimes.seccomp import filter_program
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.ports import ChildProcess

_LIMITS: Final = ResourceLimits(memory=1 << 30, pids=64, cpu=1.0, disk=1 << 20)
_RLIMITS: Final = (
    (resource.RLIMIT_CPU, 60),
    (resource.RLIMIT_AS, 1 << 30),
    (resource.RLIMIT_NOFILE, 256),
)
_GROUP: Final = "git.reader"  # no agent can have this name


class RepoReader(Protocol):
    """Starts `git upload-pack` on one agent's proposed repo (its `.git`), speaking protocol version 2 on its pipes.

    Contract: whatever the repo makes that process do, it can change nothing and reach nothing of the host's, where the
    runtime isolates at all; it ends when it is closed, or when the hive dies. That it cannot read the repo shows in its
    output and exit code, not here.

    Raises:
        MissingPart, WorldError: it cannot be started.
    """

    async def upload_pack(self, agent: AgentName) -> ChildProcess: ...


class PlainReader:
    """Upload-pack as the hive's own user, in no box: for runtime `process`, which isolates nothing anyway.

    Kept are resource limits, the built environment, and that it ends with the hive.
    """

    def __init__(self, paths: Paths, marks: Marks, path: str, limiter: Limiter | None = None) -> None:
        self._paths = paths
        self._marks = marks
        self._path = path
        self._limiter = limiter

    async def upload_pack(self, agent: AgentName) -> ChildProcess:
        """See `RepoReader`."""
        await anyio.to_thread.run_sync(_check, self._paths, agent)
        repository = str(self._paths.proposed_config(agent) / ".git")
        argv, env = upload_pack(await anyio.to_thread.run_sync(find_git, self._path), repository)
        return await launch(
            Plan(
                argv=argv, env=env, cwd="/", mark=self._marks.next("reader"), program=argv[0],
                rlimits=((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, _LIMITS.disk), *_RLIMITS),
            )
        )  # fmt: skip


class BoxedReader:
    """Upload-pack in a bubblewrap box that holds the machine's /usr and the repo, both read-only, and no network."""

    def __init__(self, paths: Paths, marks: Marks, path: str, runtime: BwrapRuntime) -> None:
        self._paths = paths
        self._marks = marks
        self._path = path
        self._runtime = runtime
        self._filter = filter_program()

    async def upload_pack(self, agent: AgentName) -> ChildProcess:
        """See `RepoReader`."""
        found = self._runtime.found
        await anyio.to_thread.run_sync(_check, self._paths, agent)
        program = await anyio.to_thread.run_sync(find_git, self._path)
        argv, env = upload_pack(program, f"{BOX_REPO}/.git")
        fence = await anyio.to_thread.run_sync(found.limiter.fence, _GROUP, _LIMITS)
        fds = await anyio.to_thread.run_sync(self._descriptors, agent)
        return await launch(
            Plan(
                argv=[found.program, "--args", str(fds[0]), "--", *argv],
                env=env,
                cwd="/",
                mark=self._marks.next("reader"),
                prefix=fence.prefix,
                cgroups=fence.cgroups,
                rlimits=(*fence.rlimits, *_RLIMITS),
                close_abstract=found.close_abstract,
                fds=fds,
                status_flag="--json-status-fd",
                program=program,
            )
        )

    def _descriptors(self, agent: AgentName) -> list[int]:
        """The arguments' descriptor, the filter's where there is one, and the repo's where bubblewrap takes it so.

        What is bound then is the directory that was entered without following a link, whatever has its place since.
        Blocks.
        """
        found, fds = self._runtime.found, []
        try:
            seccomp = None if self._filter is None else memory_file("seccomp", self._filter)
            fds += [] if seccomp is None else [seccomp]
            repo: Path | int = self._paths.proposed_config(agent)
            if found.bind_fd:
                repo = open_proposed(self._paths, agent)
                fds.append(repo)
            arguments = reading_box_arguments(repo, disable_userns=found.disable_userns, seccomp=seccomp)
            return [memory_file("args", b"".join(os.fsencode(word) + b"\0" for word in arguments)), *fds]
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise


class ContainedReader:
    """Upload-pack in an nspawn container that holds the base and the repo, both read-only, and no network."""

    def __init__(self, paths: Paths, marks: Marks, runtime: NspawnRuntime) -> None:
        self._paths = paths
        self._marks = marks
        self._runtime = runtime

    async def upload_pack(self, agent: AgentName) -> ChildProcess:
        """See `RepoReader`."""
        await anyio.to_thread.run_sync(_check, self._paths, agent)
        argv, env = upload_pack(IN_THE_BASE, f"{BOX_REPO}/.git")
        repo = Bind(source=self._paths.proposed_config(agent), target=BOX_REPO)
        contents = Contents(
            owner=_GROUP, hostname="reader", binds=[repo], cwd="/", limits=_LIMITS, network="none", names={},
            rlimits=_RLIMITS,
        )  # fmt: skip
        return await self._runtime.run(contents, argv, env, mark=self._marks.next("reader"))


def _check(paths: Paths, agent: AgentName) -> None:
    """No link may stand where the repo is looked for, and something must be there. Blocks.

    Raises:
        WorldError: something else has the place of a directory.
        NotFound: there is no repo.
    """
    if not has_proposed(paths, agent):
        raise NotFound(f"{agent} has no proposed repo", hint="it is made again when the agent starts")
