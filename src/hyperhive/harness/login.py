"""The agent CLI's own login, driven over pipes: a URL comes out, a code goes in.

`LoginDriver` runs `claude auth login` in the agent's box, at most one at a time, and asks `claude auth status` whether
it landed. The code goes to the CLI's stdin alone: it is in no argument, event or log. Accounts by key or token have no
part in this; parking and resuming is the loop's.
"""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import anyio
import msgspec
from anyio.abc import ByteReceiveStream

from hyperhive.clock import Clock
from hyperhive.errors import HiveError, NotFound
from hyperhive.ports import ChildProcess, Launcher
from hyperhive.protocol.replies import LoginSession

log = logging.getLogger(__name__)

OUTPUT_MAX = 16 * 1024
URL_SECONDS = 20.0
SESSION_SECONDS = 900.0
PROBE_SECONDS = 30.0

_URL = re.compile(r"https://[^\s\x00-\x1f\x7f\"'<>\\`]+")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Spawn = Callable[[Callable[[], Awaitable[None]], str], anyio.CancelScope]
"""Runs something in the background under a name; the scope ends it. As `Background.spawn`."""


class LoginCommand(msgspec.Struct, frozen=True, kw_only=True):
    """How to run the CLI in the box: its program, the environment without any key, and what the box must show of it."""

    program: tuple[str, ...]
    environment: Mapping[str, str]
    readable: tuple[Path, ...] = ()


class AuthStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `claude auth status` says; it does not ask the network, so an expired login still counts."""

    logged_in: bool
    auth_method: str = "none"


class LoginDriver:
    """One agent's login. `on_change` is called when `session` changed, `on_landed` when the CLI is logged in."""

    def __init__(
        self,
        launcher: Launcher,
        command: Callable[[], Awaitable[LoginCommand]],
        *,
        clock: Clock,
        spawn: Spawn,
        on_change: Callable[[], None],
        on_landed: Callable[[], None],
    ) -> None:
        self._launcher = launcher
        self._command = command
        self._clock = clock
        self._spawn = spawn
        self._on_change = on_change
        self._on_landed = on_landed
        self._session: LoginSession | None = None
        self._process: ChildProcess | None = None
        self._scope: anyio.CancelScope | None = None
        self._moved = anyio.Event()

    @property
    def session(self) -> LoginSession | None:
        """The login in progress, or how the last one ended."""
        return self._session

    @property
    def active(self) -> bool:
        """A login is in progress."""
        return self._session is not None and not self._session.finished

    async def start(self) -> LoginSession:
        """Start a login and return once it printed its URL, ended, or took too long to do either.

        Idempotent: while one runs, its session is returned.
        """
        if not self.active:
            self._session = LoginSession()
            self._scope = self._spawn(self._run, "login")
            self._tell()
        await self._until(lambda session: session.url is not None or session.finished, URL_SECONDS)
        return self._require()

    async def code(self, code: str) -> LoginSession:
        """Hand the CLI the code that the web page gave.

        Raises:
            NotFound: no login is in progress, or it waits for no code any more.
        """
        process = self._process
        if not self.active or process is None:
            raise NotFound("no login is in progress", hint="start one first")
        before = self._require().output
        try:
            await process.stdin.send(code.strip().encode() + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise NotFound("the login has just ended", hint="start a new one") from None
        await self._until(lambda session: session.finished or session.output != before, URL_SECONDS)
        return self._require()

    async def cancel(self) -> LoginSession:
        """Give the login up: its process is ended.

        Raises:
            NotFound: no login is in progress.
        """
        if not self.active or self._scope is None:
            raise NotFound("no login is in progress")
        self._scope.cancel()
        self._finish("cancelled")
        return self._require()

    async def probe(self) -> AuthStatus | None:
        """What the CLI in the box says of its login; None where it could not be asked."""
        command = await self._command()
        try:
            process = await self._launch(command, "auth", "status")
        except HiveError as error:
            log.warning("login_not_probed error=%s", error)
            return None
        text = bytearray()
        try:
            with anyio.move_on_after(PROBE_SECONDS):
                await process.stdin.aclose()
                async for chunk in _chunks(process.stdout):
                    text += chunk[: OUTPUT_MAX - len(text)]
        finally:
            with anyio.CancelScope(shield=True):
                await process.aclose()
        try:
            return msgspec.json.decode(text, type=AuthStatus)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    async def _run(self) -> None:
        try:
            process = self._process = await self._launch(await self._command(), "auth", "login")
        except HiveError as error:
            self._finish(f"the login could not be started: {error}")
            return
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._expire, process)
                async with anyio.create_task_group() as readers:
                    readers.start_soon(self._read, process.stdout)
                    readers.start_soon(self._read, process.stderr)
                status = await process.wait()
                group.cancel_scope.cancel()
        finally:
            self._process = None
            with anyio.CancelScope(shield=True):
                await process.aclose()
        await self._judge(status)

    async def _judge(self, status: int) -> None:
        found = await self.probe()
        if found is not None and found.logged_in:
            self._on_landed()
            self._finish(None)
        else:
            self._finish(f"the login ended without success (exit code {status})")

    async def _launch(self, command: LoginCommand, *words: str) -> ChildProcess:
        return await self._launcher.launch(
            [*command.program, *words], command.environment, readable=command.readable
        )

    async def _expire(self, process: ChildProcess) -> None:
        await self._clock.sleep(SESSION_SECONDS)
        await process.kill()

    async def _read(self, stream: ByteReceiveStream) -> None:
        async for chunk in _chunks(stream):
            self._note(chunk.decode(errors="replace"))

    def _note(self, text: str) -> None:
        session = self._require()
        output = (session.output + _CONTROLS.sub("", _ESCAPES.sub("", text)))[-OUTPUT_MAX:]
        url = session.url
        # A URL counts when something follows it: until then the rest of it may still be on its way.
        if url is None and (found := _URL.search(output)) and found.end() < len(output):
            url = found.group()
        self._session = msgspec.structs.replace(session, output=output, url=url)
        self._tell()

    def _finish(self, note: str | None) -> None:
        session = self._require()
        if not session.finished:
            self._session = msgspec.structs.replace(session, finished=True, exit_note=note)
            self._tell()

    def _require(self) -> LoginSession:
        if self._session is None:
            raise NotFound("no login is in progress", hint="start one first")
        return self._session

    def _tell(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()
        self._on_change()

    async def _until(self, done: Callable[[LoginSession], bool], seconds: float) -> None:
        """Wait for the session to get there, at most so many seconds of real time: a person waits, too."""
        with anyio.move_on_after(seconds):
            while not done(self._require()):
                await self._moved.wait()


async def _chunks(stream: ByteReceiveStream) -> AsyncIterator[bytes]:
    """The stream's chunks; a broken pipe is its end."""
    try:
        async for chunk in stream:
            yield chunk
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
