"""Starting one program through the wrapper, and what the hive holds of it afterwards.

Knows nothing of bubblewrap or of limits: a runtime says what to exec, under which mark, and how its payload is found.
A box dies with its parent THREAD: that is the wrapper's only one, whatever thread the hive spawns from.
"""

import json
import marshal
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from hyperhive.errors import BugError, HiveError, MissingPart, TimedOut, WorldError
from hyperhive.lifecycle.runtimes import wrapper

START_SECONDS: Final = 20.0
"""Longest time from spawn to a running payload; more means a machine in trouble, not a slow one."""

WRAPPER_VARIABLES: Final = ("LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""What the wrapper itself (its Python, systemd-run) may need of the hive's environment; the payload gets none of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the wrapper is to do."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    mark: int
    prefix: Sequence[str] = ()
    cgroups: Sequence[str] = ()
    rlimits: Sequence[tuple[int, int]] = ()
    close_abstract: bool = False
    fds: Sequence[int] = ()
    status_flag: str | None = None
    """Flag that takes the number of the status descriptor (bubblewrap's), put right behind `argv[0]`. The box itself
    tells then what it started: the init of its pid namespace, whose child is the payload."""

    stdio: Sequence[int] = ()
    """Descriptors (of `fds`) that become the program's 0, 1, 2 in place of its pipes."""
    gate: Callable[[int], Awaitable["BoxedProcess | None"]] | None = None
    """Called with the pid of the box's init before the box's program is started, which waits for that. What it gives
    lives with the box's program."""

    program: str = field(default="")
    """What to name when it cannot be started."""

    container: Sequence[str] = ()
    """The command that makes an nspawn container round the program; see `nspawn_wrapper`."""
    aside: Sequence[tuple[str, str, str, str]] = ()
    """What is mounted aside for a container to show: a source, the place, and maps of owners or twice nothing."""
    gate_fd: int | None = None
    """One of `fds`: a container's program is not started before there is something to read here."""

    become: tuple[int, int] | None = None
    """The user that the program runs as, without any privilege, and which of `fds` is its root; -1: that of the hive's
    own."""


class BoxedProcess:
    """A program in an agent's box; the contract is `hyperhive.ports.ChildProcess`'s.

    A payload that a signal killed is told as 128 + number by a bubblewrap box and as 255 by a container, which tell no
    more.
    """

    def __init__(self, process: Process, line: socket.socket, mark: int, payload: int, handle: int) -> None:
        self._process = process
        self._line = line
        self._mark = mark
        self._payload = payload
        self._handle = handle
        self.companion: BoxedProcess | None = None
        """Runs under the same mark beside the payload, and is closed with it."""
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise BugError("a boxed process was started without pipes")
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr

    @property
    def pid(self) -> int:
        """The payload's own pid, as the host numbers it."""
        return self._payload

    @property
    def stdin(self) -> ByteSendStream:
        """The payload's standard input."""
        return self._stdin

    @property
    def stdout(self) -> ByteReceiveStream:
        """The payload's standard output."""
        return self._stdout

    @property
    def stderr(self) -> ByteReceiveStream:
        """The payload's standard error."""
        return self._stderr

    @property
    def returncode(self) -> int | None:
        """The exit code, once it is known; None before."""
        return self._process.returncode

    def terminate(self) -> None:
        """Sends SIGTERM to the payload itself. Nothing happens when it has ended."""
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGTERM)

    async def kill(self) -> None:
        """Kills the payload and every descendant; returns when none is left.

        Raises:
            WorldError: some would not die within 10 s (uninterruptible in the kernel).
        """
        with anyio.CancelScope(shield=True):
            left = await anyio.to_thread.run_sync(wrapper.kill_marked, self._mark)
            await self._process.wait()
        if left:
            raise WorldError(f"processes {left} do not end although they were killed")

    async def wait(self) -> int:
        """Waits for the end; any number of times, from any number of tasks."""
        return await self._process.wait()

    async def aclose(self) -> None:
        """Kills what still runs, and closes the pipes."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None:
                await self.kill()
            for stream in (self._stdin, self._stdout, self._stderr):
                await stream.aclose()
            self._line.close()
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1
            if self.companion is not None:
                await self.companion.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def launch(plan: Plan) -> BoxedProcess:
    """Starts what `plan` says and returns when it runs.

    Raises:
        MissingPart: the program, or the box's own program, cannot be executed.
        WorldError: anything else that kept it from starting, with what it wrote to stderr.
        TimedOut: it took longer than `START_SECONDS`, and was ended.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    spec = -1
    process: Process | None = None
    companions: list[BoxedProcess] = []
    top = -1
    try:
        spec = await anyio.to_thread.run_sync(memory_file, "spec", spec_of(plan, theirs.fileno()))
        process = await anyio.open_process(
            [*plan.prefix, sys.executable, "-ISB", _program(plan), str(spec)],
            env={name: os.environ[name] for name in WRAPPER_VARIABLES if name in os.environ},
            cwd="/",
            pass_fds=(spec, theirs.fileno(), *plan.fds),
            start_new_session=True,
        )
        top = _handle(process.pid)
        theirs.close()
        with anyio.fail_after(START_SECONDS):
            payload = await _await_payload(plan, process, ours, companions)
            handle = _handle(payload)
        boxed = BoxedProcess(process, ours, plan.mark, payload, handle)
        boxed.companion = companions[0] if companions else None
        return boxed
    except BaseException as error:
        ours.close()
        with anyio.CancelScope(shield=True):
            if process is not None:
                await _discard(process, top, plan.mark)
            for companion in companions:
                await companion.aclose()
        if isinstance(error, TimeoutError):
            raise TimedOut(f"{plan.program} did not start within {START_SECONDS:.0f} s") from error
        if isinstance(error, OSError):
            raise WorldError(f"{plan.program} cannot be started: {error}") from error
        raise
    finally:
        theirs.close()
        for fd in (spec, top, *plan.fds):
            if fd >= 0:
                os.close(fd)


def _program(plan: Plan) -> str:
    """Which of the wrappers, as a file."""
    if plan.container:
        return str(Path(wrapper.__file__).with_name("nspawn_wrapper.py"))
    return wrapper.__file__


def memory_file(name: str, content: bytes) -> int:
    """A descriptor of a file that exists in memory only, at its start. The caller closes it."""
    fd = os.memfd_create(name)
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def spec_of(plan: Plan, status: int, **more: object) -> bytes:
    """What the wrapper reads. `status`: its end of the line. `more`: what only its kind of wrapper knows."""
    argv = list(plan.argv)
    if plan.status_flag is not None:
        argv[1:1] = [plan.status_flag, str(status)]
    return marshal.dumps(
        {
            "argv": argv,
            "env": dict(plan.env),
            "cwd": plan.cwd,
            "mark": plan.mark,
            "box_tells": plan.status_flag is not None,
            "cgroups": list(plan.cgroups),
            "rlimits": list(plan.rlimits),
            "close_abstract": plan.close_abstract,
            "stdio": list(plan.stdio),
            "status_fd": status,
            "container": list(plan.container),
            "aside": list(plan.aside),
            "gate": plan.gate_fd,
            "become": plan.become,
            **more,
        }
    )


async def _await_payload(
    plan: Plan, process: Process, line: socket.socket, companions: "list[BoxedProcess]"
) -> int:
    """The payload's pid, once there is one. What the gate gives is put into `companions`."""
    told = b""
    while b"\n" not in told:
        if not (more := await receive(line)):
            raise await _failure(plan, process)
        told += more
    first, _, rest = told.partition(b"\n")
    word = json.loads(first)
    if "step" in word:
        raise refusal(plan, word["step"], word["errno"])
    pid = int(word["child-pid"])
    if plan.gate is not None and (companion := await plan.gate(pid)) is not None:
        companions.append(companion)
    if plan.container:
        await _await_start(plan, process, line, rest)
        return pid
    if plan.status_flag is None:
        return pid
    child = await anyio.to_thread.run_sync(_await_child, pid, abandon_on_cancel=True)
    if child is not None:
        return child
    await process.wait()
    if b'"exit-code"' in rest + await _all(line):  # told only of a payload that ran: this one was quick
        return pid
    raise await _failure(plan, process)


async def _await_start(plan: Plan, process: Process, line: socket.socket, told: bytes) -> None:
    """A container's program tells twice: when it is there, and when it has become what it was to run."""
    while b"\n" not in told:
        if not (more := await receive(line)):
            raise await _failure(plan, process)
        told += more
    word = json.loads(told.partition(b"\n")[0])
    if "step" in word:
        raise refusal(plan, word["step"], word["errno"])


def _await_child(pid: int) -> int | None:
    """The first child of `pid`, or None once `pid` has ended. Blocks.

    A fork in another pid namespace notifies nobody: a few looks, half a millisecond apart.
    """
    proc = Path(f"/proc/{pid}")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            if children := (proc / f"task/{pid}/children").read_text().split():
                return int(children[0])
            if (proc / "stat").read_bytes().rpartition(b") ")[2][:1] in {b"Z", b"X"}:
                return None
        except OSError:
            return None
        time.sleep(0.0005)
    return None


def answer_of(told: bytes) -> "list[dict[str, Any]]":
    """The whole lines of what a wrapper has told."""
    return [json.loads(line) for line in told.split(b"\n")[:-1]]


async def _all(line: socket.socket) -> bytes:
    told = b""
    while more := await receive(line):
        told += more
    return told


async def receive(line: socket.socket) -> bytes:
    """What a wrapper has told; empty when it is gone."""
    await anyio.wait_readable(line)
    try:
        return line.recv(4096)
    except ConnectionError:
        return b""


def _handle(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:  # it ran and has ended
        return -1


def refusal(plan: Plan, step: str, errno: int) -> HiveError:
    """What a step of a wrapper that failed means."""
    reason = os.strerror(errno)
    if step == "exec":
        return MissingPart(f"{plan.program or plan.argv[0]} cannot be run: {reason}")
    if step == "network":
        return WorldError(f"{plan.program or plan.argv[0]} gets no network: {reason}")
    if step in {"mounts", "binds"}:
        return WorldError(f"the container of {plan.program or plan.argv[0]} cannot be made: {reason}")
    return WorldError(f"the agent's resource limits cannot be set: {reason}", hint="see `hyperhive doctor`")


async def _failure(plan: Plan, process: Process) -> Exception:
    """What a wrapper or box that ended before its payload ran has to say."""
    text = b""
    if process.stderr is not None:
        with anyio.move_on_after(1.0):
            async for chunk in process.stderr:
                text = (text + chunk)[-4096:]
    said = text.decode(errors="replace").strip() or "it said nothing"
    return WorldError(f"the box of {plan.program or plan.argv[0]} did not start: {said}")


async def _discard(process: Process, top: int, mark: int) -> None:
    """Ends a start that was cut short: the wrapper may not bear its mark yet, nor watch its line.

    By a descriptor: `Process.kill` would look for the exit code, and take it from asyncio, which waits for it too.
    """
    if top >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(top, signal.SIGKILL)
    await anyio.to_thread.run_sync(wrapper.kill_marked, mark)
    await process.aclose()
