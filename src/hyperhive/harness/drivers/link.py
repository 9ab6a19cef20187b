"""One living CLI process: its lines, its control requests, and the hive's tools over its own pipes.

A tool that asks before it runs does so by a `can_use_tool` control request: `Permits` decides, and without one it is
denied.

The CLI is the client of the hive's MCP server: it asks by `mcp_message` control requests on its output and is answered
on its input; calls run side by side and can be cancelled. Everything is bounded: the length of a line, what waits to
be written, the calls under way, how much is read in a second, and how much is handled before others of the loop get
their turn. What a frame means for a turn is not known here.
"""

import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, TaskGroup

from hyperhive.clock import Clock
from hyperhive.errors import HiveError
from hyperhive.harness.drivers.reading import CHUNK, LineReader, discard, read_lines
from hyperhive.harness.permissions import NOT_MARKED, Verdict
from hyperhive.harness.stream_json import Frame, parse_frame
from hyperhive.ports import ChildProcess, ToolSession
from hyperhive.protocol.live import clean_line

log = logging.getLogger(__name__)

LINE_MAX: Final = 16 * 2**20
OUTBOX_MAX: Final = 32 * 2**20
CALLS_MAX: Final = 64
DRAIN_SECONDS: Final = 1.0
STDERR_KEPT: Final = 5
CONTROL_KINDS: Final = frozenset({"control_request", "control_response", "control_cancel_request"})

SERVED: Final = frozenset({"can_use_tool", "mcp_message"})
"""What a CLI may ask of its host."""

_ENCODE = msgspec.json.Encoder().encode
_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class Listener(Protocol):
    """Who is told. Contract: these are called on the loop, in the order of the output, and do not wait."""

    def on_frame(self, line: bytes, frame: Frame) -> None: ...

    def on_noise(self, line: bytes, size: int) -> None: ...

    def on_stderr(self, text: str) -> None: ...

    def on_answer(self, what: str) -> None: ...

    def on_output_closed(self) -> None: ...


class Permits(Protocol):
    """Who decides whether a tool may run that asks. Cancelling means that the CLI does not wait any more."""

    async def may(
        self, rules: Sequence[str], tool: str, tool_input: dict[str, Any], size: int
    ) -> Verdict: ...


class _McpRequest(msgspec.Struct):
    subtype: str = ""
    message: msgspec.Raw = msgspec.Raw()
    tool_name: str = ""
    input: msgspec.Raw = msgspec.Raw()


class _RpcParams(msgspec.Struct):
    requestId: str | int | None = None  # noqa: N815 (MCP's name)


class _Rpc(msgspec.Struct):
    id: str | int | None = None
    method: str | None = None
    params: _RpcParams | None = None


class _Response(msgspec.Struct):
    request_id: str = ""
    response: msgspec.Raw = msgspec.Raw()


class CliLink:
    """Speaks to one CLI process. `serve` runs for as long as the process lives and leaves nothing of it."""

    def __init__(
        self,
        child: ChildProcess,
        tools: ToolSession,
        listener: Listener,
        clock: Clock,
        *,
        permits: Permits | None = None,
        rules: Sequence[str] = (),
        on_reply: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """`rules`: which tools ask; see `permissions.is_marked`. `on_reply`: what the CLI answers a control request."""
        self._on_reply = on_reply
        self._permits = permits
        self._rules = rules
        self._child = child
        self._tools = tools
        self._listener = listener
        self._clock = clock
        self._outbox: deque[bytes] = deque()
        self._outbox_size = 0
        self._outbox_filled = anyio.Event()
        self._input_closing = False
        self._asked: dict[str, str] = {}
        self._asks = 0
        self._calls: dict[str, anyio.CancelScope] = {}
        self._calls_by_rpc_id: dict[str | int, str] = {}
        self._group: TaskGroup | None = None
        self._output_ended = anyio.Event()
        self._stderr_tail: deque[str] = deque(maxlen=STDERR_KEPT)
        self.ended_by_hive = False
        """It was told to end, or had to go with the hive; what its exit code says is then the hive's doing."""

    @property
    def pid(self) -> int:
        """The process id, as the host sees it."""
        return self._child.pid

    @property
    def ended_well(self) -> bool:
        """The process ended by itself: what it knew of its session is stored."""
        return self._child.returncode in {0, 1}

    def words(self) -> str:
        """How the process ended, for people: exit code or signal, and the last it said on standard error."""
        code = self._child.returncode
        ended = (
            "it is still there" if code is None else f"exit code {code}" if code >= 0 else f"signal {-code}"
        )
        said = " · ".join(self._stderr_tail)
        return f"{ended}: {said}" if said else ended

    # --- to the CLI ---------------------------------------------------------------------------------------------

    def write(self, message: object) -> None:
        """Queue one line for the CLI's input."""
        line = _ENCODE(message) + b"\n"
        self._outbox_size += len(line)
        if self._outbox_size > OUTBOX_MAX:
            self._listener.on_output_closed()  # it has stopped reading: as good as gone
            return
        self._outbox.append(line)
        self._outbox_filled.set()

    def send_prompt(self, uuid: str, text: str) -> None:
        """A user message."""
        self.write({"type": "user", "message": {"role": "user", "content": text}, "uuid": uuid})

    def ask(self, what: str, request: Mapping[str, object]) -> None:
        """A control request; `on_answer(what)` when it is answered, well or not."""
        self._asks += 1
        request_id = f"hive-{self._asks}"
        self._asked[request_id] = what
        self.write({"type": "control_request", "request_id": request_id, "request": request})

    def close_input(self) -> None:
        """Close standard input once what is queued is written."""
        self._input_closing = True
        self._outbox_filled.set()

    def terminate(self) -> None:
        """Ask the payload to end."""
        self._note_end()
        self._child.terminate()

    async def kill(self) -> None:
        """End it and all its descendants."""
        self._note_end()
        await self._child.kill()

    def _note_end(self) -> None:
        """The hive is about to end it: true only while it has not ended by itself."""
        self.ended_by_hive |= self._child.returncode is None

    # --- the process's life -------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Read and write until the process is gone; then nothing of it, or of its calls, is left."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                group.start_soon(self._read_output)
                group.start_soon(self._read_stderr)
                group.start_soon(self._write_input)
                await self._child.wait()
                with anyio.move_on_after(DRAIN_SECONDS):  # a descendant may hold the pipe open for ever
                    await self._output_ended.wait()
                group.cancel_scope.cancel()
        finally:
            self._group = None
            self._note_end()
            with anyio.CancelScope(shield=True):
                await self._leave_nothing()

    async def _leave_nothing(self) -> None:
        try:
            await self._child.kill()  # also after its exit: what its tools started may live on
            with anyio.move_on_after(DRAIN_SECONDS):  # a pipe that was not read to its end stays open
                await discard(self._child.stdout)
                await discard(self._child.stderr)
        finally:
            await self._child.aclose()
            await self._tools.aclose()

    async def _read_output(self) -> None:
        await self._read(self._child.stdout, LineReader(LINE_MAX), self._take_line)
        self._output_ended.set()
        await self._clock.sleep(DRAIN_SECONDS)
        self._listener.on_output_closed()

    async def _read_stderr(self) -> None:
        await self._read(self._child.stderr, LineReader(CHUNK), self._take_stderr)

    async def _read(
        self, stream: ByteReceiveStream, lines: LineReader, take: Callable[[bytes], None]
    ) -> None:
        await read_lines(stream, lines, self._clock, take, self._too_long)

    def _too_long(self, size: int) -> None:
        self._listener.on_noise(b"(a line that is too long)", size)

    def _take_line(self, line: bytes) -> None:
        line = clean_line(line)
        if not line:
            return
        frame = parse_frame(line)
        if frame is None:
            self._listener.on_noise(line, len(line))
        elif frame.type in CONTROL_KINDS:
            self._control(frame)
        else:
            self._listener.on_frame(line, frame)

    def _take_stderr(self, line: bytes) -> None:
        text = clean_line(line).decode()
        if text:
            self._stderr_tail.append(text[:300])
            self._listener.on_stderr(text)

    async def _write_input(self) -> None:
        try:
            while True:
                while self._outbox:
                    line = self._outbox.popleft()
                    await self._child.stdin.send(line)
                    self._outbox_size -= len(line)
                if self._input_closing:
                    await self._child.stdin.aclose()
                    return
                self._outbox_filled = anyio.Event()
                await self._outbox_filled.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return  # its end is noticed by its output and its exit

    # --- control requests of the CLI ----------------------------------------------------------------------------

    def _control(self, frame: Frame) -> None:
        if frame.type == "control_response":
            response = _decode(frame.response, _Response())
            what = self._asked.pop(response.request_id, None)
            if what is not None and self._on_reply is not None:
                self._on_reply(what, bytes(response.response))
            if what is not None:
                self._listener.on_answer(what)
        elif frame.request_id is None:
            return
        elif frame.type == "control_cancel_request":
            self._cancel_call(frame.request_id)
        else:
            self._answer_request(frame.request_id, _decode(frame.request, _McpRequest()))

    def _answer_request(self, request_id: str, request: _McpRequest) -> None:
        if request.subtype not in SERVED or (request.subtype == "mcp_message" and not bytes(request.message)):
            self._refuse(request_id, f"this host does not serve {request.subtype[:80]!r}")
        elif len(self._calls) >= CALLS_MAX or self._group is None:
            self._refuse(request_id, "too many calls at once")
        elif request.subtype == "can_use_tool":
            self._start(request_id, lambda scope: self._permit(request_id, request, scope))
        else:
            message = bytes(request.message)
            rpc = _decode(msgspec.Raw(message), _Rpc())
            if (
                rpc.method == "notifications/cancelled"
                and rpc.params is not None
                and rpc.params.requestId is not None
            ):
                self._cancel_call(self._calls_by_rpc_id.get(rpc.params.requestId, ""))
            if rpc.id is not None and rpc.method is not None:
                self._calls_by_rpc_id[rpc.id] = request_id
            self._start(request_id, lambda scope: self._call(request_id, rpc, message, scope))

    def _start(self, request_id: str, work: Callable[[anyio.CancelScope], Coroutine[Any, Any, None]]) -> None:
        """Answer a request in a task of its own, which can be cancelled by the request's id."""
        if self._group is not None:
            self._calls[request_id] = scope = anyio.CancelScope()
            self._group.start_soon(work, scope)

    def _cancel_call(self, request_id: str) -> None:
        if scope := self._calls.get(request_id):
            scope.cancel()

    async def _permit(self, request_id: str, request: _McpRequest, scope: anyio.CancelScope) -> None:
        """Whether a tool may run. One that is allowed gets exactly the input that was asked about."""
        verdict: Verdict | None = None
        tool_input = _object(request.input)
        try:
            with scope:
                if self._permits is None or not request.tool_name or tool_input is None:
                    verdict = Verdict(allowed=False, message=NOT_MARKED)
                else:
                    size = len(bytes(request.input))
                    verdict = await self._permits.may(self._rules, request.tool_name, tool_input, size)
        finally:
            self._calls.pop(request_id, None)
        if verdict is not None:  # else the CLI has withdrawn its request
            allowed = {"behavior": "allow", "updatedInput": tool_input}
            denied = {"behavior": "deny", "message": verdict.message}
            self._respond(request_id, allowed if verdict.allowed else denied)

    async def _call(self, request_id: str, rpc: _Rpc, message: bytes, scope: anyio.CancelScope) -> None:
        reply: bytes | None = None
        failure = "the call was cancelled"
        try:
            with scope:
                reply = await self._tools.handle(message)
                failure = ""
        except HiveError as error:
            failure = str(error)
        finally:
            self._calls.pop(request_id, None)
            if rpc.id is not None and self._calls_by_rpc_id.get(rpc.id) == request_id:
                del self._calls_by_rpc_id[rpc.id]
        self._respond(request_id, {"mcp_response": _reply(reply, rpc, failure)})

    def _respond(self, request_id: str, response: object) -> None:
        answer = {"subtype": "success", "request_id": request_id, "response": response}
        self.write({"type": "control_response", "response": answer})

    def _refuse(self, request_id: str, error: str) -> None:
        answer = {"subtype": "error", "request_id": request_id, "error": error}
        self.write({"type": "control_response", "response": answer})


def _reply(reply: bytes | None, rpc: _Rpc, failure: str) -> object:
    if reply is not None:
        return msgspec.Raw(reply)
    if failure and rpc.id is not None:
        return {"jsonrpc": "2.0", "id": rpc.id, "error": {"code": -32000, "message": failure}}
    return {"jsonrpc": "2.0", "id": 0, "result": {}}  # a notification wants an answer of this carrier, too


def _decode(raw: msgspec.Raw, default: _Shape) -> _Shape:
    """The raw JSON in the shape of `default`, or `default` where it is of another."""
    try:
        return msgspec.json.decode(raw, type=type(default))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return default


def _object(raw: msgspec.Raw) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
