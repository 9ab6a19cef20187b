"""The one module that runs git: which program, with which environment and configuration, under which bounds.

Everything that git would take from the machine or its user is built here instead: no inherited variable, no system or
user configuration, no hooks, one transport at a time. That is the second wall; the first is that git runs only in
repositories whose configuration the core wrote itself (see `reader` for the one exception, which is in a box). Always
argv lists. What a repository means is not known here.
"""

import re
import resource
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from hyperhive.errors import MissingPart, TimedOut, WorldError
from hyperhive.lifecycle.runtimes.base import Marks
from hyperhive.lifecycle.runtimes.launch import Plan, launch
from hyperhive.ports import ChildProcess
from hyperhive.terminal import visible

OLDEST: Final = (2, 36)
"""Before this, configuration in the environment or `core.fsync` is passed over without a word."""

IN_THE_BASE: Final = "/usr/bin/git"
"""Where a container's base has it."""

OUTPUT_MAX: Final = 4 << 20
SECONDS: Final = 30.0
_STDERR_KEPT: Final = 4096

_CONFIG: Final = {
    "advice.detachedHead": "false",
    "core.attributesFile": "/dev/null",
    "core.bigFileThreshold": "1m",  # larger ones are streamed: memory does not grow with a blob
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "committed,reference",  # a tag is a decision: it must outlive a power cut
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "core.symlinks": "false",
    "fetch.fsckObjects": "true",
    "fetch.fsck.badFilemode": "error",
    "fetch.fsck.zeroPaddedFilemode": "error",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",  # one pack, so that the limit on a file's size is a limit on the import
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.version": "2",
    "submodule.recurse": "false",
    "transfer.fsckObjects": "true",
}


def environment(protocol: str = "", more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a git process. `protocol`: the one transport that it may use; none by default."""
    built = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": "/nonexistent",
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_ALLOW_PROTOCOL": protocol or "none",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_EDITOR": "/bin/false",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PAGER": "cat",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_SSH_COMMAND": "/bin/false",
        "GIT_TERMINAL_PROMPT": "0",
    }
    return built | configured({}) | dict(more or {})


def configured(more: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that configures git: what always holds, and `more`."""
    built = {"GIT_CONFIG_COUNT": str(len(_CONFIG) + len(more))}
    for number, (key, value) in enumerate([*_CONFIG.items(), *more.items()]):
        built[f"GIT_CONFIG_KEY_{number}"] = key
        built[f"GIT_CONFIG_VALUE_{number}"] = value
    return built


def upload_pack(program: str, repository: str) -> tuple[list[str], dict[str, str]]:
    """Argv and environment of the process that gives a repository's objects away; it runs where `reader` puts it."""
    argv = [program, "upload-pack", "--strict", "--timeout=30", repository]
    return argv, environment(more={"GIT_PROTOCOL": "version=2"})


def find_git(path: str) -> str:
    """The absolute path of git. Blocks.

    Raises:
        MissingPart: it is not installed.
    """
    found = shutil.which("git", path=path)
    if found is None:
        raise MissingPart(
            "git is not installed, and agents' configs are git repositories", hint="install git"
        )
    return str(Path(found).absolute())


class GitFailed(WorldError):
    """A git command ended with another code than 0. `exit_code` and `said` are for the caller to judge."""

    def __init__(self, verb: str, code: int, said: str) -> None:
        super().__init__(f"git {verb} failed ({code}): {visible(said) or 'it said nothing'}")
        self.exit_code = code
        self.said = said


class TooMuch(WorldError):
    """A git command wrote more than it was allowed to, and was ended. `start` is what it wrote until then."""

    def __init__(self, verb: str, start: bytes) -> None:
        super().__init__(f"git {verb} wrote more than {len(start)} bytes")
        self.start = start


class Child(Protocol):
    """What a plain child and a boxed one have in common."""

    @property
    def stdin(self) -> ByteSendStream | None: ...
    @property
    def stdout(self) -> ByteReceiveStream | None: ...
    @property
    def stderr(self) -> ByteReceiveStream | None: ...
    async def wait(self) -> int: ...


@dataclass
class _Talk:
    """What one process said."""

    limit: int
    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)
    too_much: bool = False


class Git:
    """Runs one git program on repositories that the core made itself.

    `read` and `test` are plain children: they write nothing, and what they read was let in by limits. `run` is for
    what writes, and for what handles objects that were not judged yet: it bears a mark, dies with the hive, and is
    bounded in memory, processor time and size of files from its first instruction.
    """

    def __init__(
        self, program: str, marks: Marks, *, memory: int = 1 << 30, file_bytes: int = 64 << 20
    ) -> None:
        self.program = program
        self._marks = marks
        self._rlimits = (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_CPU, 60),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, file_bytes),
        )

    async def check(self) -> None:
        """Looks at the version.

        Raises:
            MissingPart: too old, or no git at all.
        """
        async with await anyio.open_process([self.program, "version"], env=environment(), cwd="/") as process:
            said = (await _talk(process, b"", 4096)).out.decode(errors="replace")
        numbers = re.match(r"git version (\d+)\.(\d+)", said)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
            wanted = ".".join(map(str, OLDEST))
            raise MissingPart(
                f"git is too old: {visible(said.strip())}", hint=f"install git {wanted} or newer"
            )

    async def read(self, repo: Path, *args: str, limit: int = OUTPUT_MAX, stdin: bytes = b"") -> bytes:
        """What a command that changes nothing writes, in a repo whose objects were judged.

        Raises:
            GitFailed, TooMuch, TimedOut.
        """
        argv = self._argv(repo, args)
        process = await anyio.open_process(argv, env=environment(), cwd="/")
        try:
            with anyio.fail_after(SECONDS):
                said = await _talk(process, stdin, limit)
                if said.too_much:
                    process.kill()
                return _judge(args[0], said, await process.wait())
        except TimeoutError as error:
            raise TimedOut(f"git {args[0]} took longer than {SECONDS:.0f} s") from error
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await drain(process)
                await process.aclose()

    async def test(self, repo: Path, *args: str) -> bool:
        """Whether a command ends with 0 rather than with 1. Raises as `read` for any other ending."""
        try:
            await self.read(repo, *args)
        except GitFailed as failed:
            if failed.exit_code == 1:
                return False
            raise
        return True

    async def run(
        self,
        repo: Path | None,
        *args: str,
        stdin: bytes = b"",
        limit: int = OUTPUT_MAX,
        seconds: float = SECONDS,
        protocol: str = "",
        env: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> bytes:
        """What a command that writes, or handles foreign objects, writes out. Closes `fds`, which it passes on.

        Raises:
            GitFailed, TooMuch, TimedOut.
        """
        plan = Plan(
            argv=self._argv(repo, args),
            env=environment(protocol, env),
            cwd="/",
            mark=self._marks.next("git"),
            rlimits=self._rlimits,
            fds=fds,
            program=self.program,
        )
        try:
            with anyio.fail_after(seconds):
                async with await launch(plan) as process:
                    try:
                        said = await _talk(process, stdin, limit)
                        if said.too_much:
                            await process.kill()
                        return _judge(args[0], said, await process.wait())
                    finally:
                        await put_down(process)
        except TimeoutError as error:
            raise TimedOut(f"git {args[0]} took longer than {seconds:.0f} s") from error

    def _argv(self, repo: Path | None, args: Sequence[str]) -> list[str]:
        return [self.program, *(() if repo is None else (f"--git-dir={repo}",)), *args]


async def put_down(process: ChildProcess) -> None:
    """Ends a process that may still have much to say, so that nothing of it is left open."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            await process.kill()
        await drain(process)


async def drain(process: Child) -> None:
    """Reads what a process that is ending leaves in its pipes: one that nobody reads to its end is never closed."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                async for _ in stream:
                    pass


def _judge(verb: str, said: _Talk, code: int) -> bytes:
    if said.too_much:
        raise TooMuch(verb, bytes(said.out[: said.limit]))
    if code != 0:
        raise GitFailed(verb, code, said.err.decode(errors="replace").strip())
    return bytes(said.out)


async def _talk(process: Child, stdin: bytes, limit: int) -> _Talk:
    """Feeds and hears a process to the end of its output, or until it said more than `limit`."""
    said = _Talk(limit)
    async with anyio.create_task_group() as group:
        group.start_soon(_feed, process.stdin, stdin)
        group.start_soon(_keep_last, process.stderr, said.err)
        if process.stdout is not None:
            async for chunk in process.stdout:
                said.out += chunk
                if len(said.out) > limit:
                    said.too_much = True
                    group.cancel_scope.cancel()
                    break
    return said


async def _feed(stream: ByteSendStream | None, data: bytes) -> None:
    if stream is not None:
        try:
            if data:
                await stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # it ended without hearing us out; its exit code says why
        finally:
            await stream.aclose()


async def _keep_last(stream: ByteReceiveStream | None, kept: bytearray) -> None:
    if stream is not None:
        async for chunk in stream:
            kept += chunk
            del kept[:-_STDERR_KEPT]
