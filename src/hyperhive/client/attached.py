"""A harness's line to its core: live events go up, the core's commands come down and are answered.

It dials, and dials again when the core restarts or sends it away. An event is never waited for: while there is no core,
or while it does not read, events are dropped and counted (`lagged`; who reads the stream asks for the history). What is
too long for a line goes up in a shorter form. Knows no command.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from hyperhive.client.core import DIAL_AGAIN_SECONDS
from hyperhive.client.lines import Lines, dial
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import BadRequest, Closed, HiveError, HiveUnreachable, LimitReached
from hyperhive.protocol.codec import decode, decode_reply, encode, error_from, error_reply, request_id
from hyperhive.protocol.events import Lagged
from hyperhive.protocol.harness_line import AnyHarnessCommand, HarnessCommand
from hyperhive.protocol.live import fit_live
from hyperhive.protocol.replies import Err, EventPage, Reply
from hyperhive.protocol.requests import Attach
from hyperhive.protocol.types import REQUEST_LINE_MAX_BYTES

log = logging.getLogger(__name__)

LINE_MAX_BYTES = REQUEST_LINE_MAX_BYTES
"""What the core reads of one line, up the line as anywhere."""
FINAL = frozenset({"superseded", "forbidden"})
"""Codes of a last word after which dialling again would be no use."""

AnswerCommand = Callable[[HarnessCommand], Awaitable[Reply]]

_COMMAND: msgspec.json.Decoder[HarnessCommand] = msgspec.json.Decoder(AnyHarnessCommand)


class _Kind(msgspec.Struct):
    kind: str | None = None


_KIND = msgspec.json.Decoder(_Kind)


class AttachedHarness:
    """The harness's end of the line.

    Args:
        path: the harness socket of this agent.
        answer: carries out one command; what it raises is answered as an error.
        on_attached: called each time a core takes the line: the moment to publish how things stand.
        clock: paces the dialling.
    """

    def __init__(
        self,
        path: Path,
        answer: AnswerCommand,
        *,
        on_attached: Callable[[], None] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._path = path
        self._answer = answer
        self._on_attached = on_attached
        self._clock = clock
        self._lines: Lines | None = None
        self._missed = 0

    @property
    def attached(self) -> bool:
        """Whether there is a core that takes events."""
        return self._lines is not None

    def publish(self, event: bytes) -> None:
        """One live event, as one encoded line without its newline. Returns at once and never fails."""
        lines = self._lines
        if lines is None or lines.blocked:
            self._missed += 1
            return
        try:
            if self._missed:
                lines.send_now(encode(Lagged(missed=self._missed)))
                self._missed = 0
            lines.send_now(fit_live(event, LINE_MAX_BYTES))
        except Closed:
            self._lines = None
            self._missed += 1

    async def run(self) -> None:
        """Keeps the line up until it is cancelled.

        Raises:
            HiveError: the core ended the line for good: a newer harness of this agent attached (`superseded`), or the
                socket's owner may not attach (`forbidden`).
        """
        attempts = 0
        while True:
            incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
            try:
                lines = await dial(self._path, incoming.put_nowait, partial(incoming.put_nowait, None))
            except HiveUnreachable:
                await self._clock.sleep(DIAL_AGAIN_SECONDS[min(attempts, len(DIAL_AGAIN_SECONDS) - 1)])
                attempts += 1
                continue
            try:
                lines.send_now(encode(Attach()))
                last_word = await self._serve(lines, incoming)
            finally:
                self._lines = None
                await lines.aclose()
            if last_word is None:
                attempts = 1  # it was there a moment ago; give it one
                continue
            if last_word.code in FINAL:
                raise error_from(last_word.code, last_word.message, last_word.hint)
            log.warning("attach_refused code=%s message=%s", last_word.code, last_word.message)
            await self._clock.sleep(DIAL_AGAIN_SECONDS[min(attempts, len(DIAL_AGAIN_SECONDS) - 1)])
            attempts += 1

    async def _serve(self, lines: Lines, incoming: "asyncio.Queue[bytes | None]") -> Err | None:
        """Until the line ends. The core's last word, if it had one; a complaint about one of our lines is none."""
        last_word: Err | None = None
        async with anyio.create_task_group() as commands:
            while last_word is None and (line := await incoming.get()) is not None:
                match _reply_of(line):
                    case None:
                        commands.start_soon(self._carry_out, line, lines)
                    case Err() as error if self._lines is None or error.code in FINAL:
                        last_word = error
                    case Err() as error:
                        log.warning("line_refused code=%s message=%s", error.code, error.message)
                    case _:
                        self._lines = lines  # attached: from now on events go up
                        if self._on_attached is not None:
                            self._on_attached()
            commands.cancel_scope.cancel()
        return last_word

    async def _carry_out(self, line: bytes, lines: Lines) -> None:
        try:
            command = decode(line, _COMMAND, "command")
            reply = await self._answer(command)
            reply = msgspec.structs.replace(reply, req=command.req)
        except HiveError as error:
            reply = error_reply(error, request_id(line))
        with contextlib.suppress(Closed):
            await lines.send(_fitting(reply))


def _reply_of(line: bytes) -> Reply | None:
    """A line that came down as a reply; None for a command. What cannot be read is taken for a complaint."""
    try:
        return None if decode(line, _KIND, "line").kind is None else decode_reply(line)
    except BadRequest as error:
        return error_reply(error)


def _fitting(reply: Reply) -> bytes:
    """A reply as one line: of a page of events as many of the newest as there is room for."""
    encoded = encode(reply)
    if len(encoded) <= LINE_MAX_BYTES:
        return encoded
    if not isinstance(reply, EventPage):
        error = LimitReached(f"the reply is longer than {LINE_MAX_BYTES} bytes", hint="ask for fewer rows")
        return encode(error_reply(error, reply.req))
    room = LINE_MAX_BYTES - len(encode(msgspec.structs.replace(reply, events=[])))
    rows: list[bytes] = []
    for event in reversed(reply.events):
        row = fit_live(msgspec.json.encode(event), LINE_MAX_BYTES // 2)
        room -= len(row) + 1
        if room < 0:
            break
        rows.append(row)
    events = [msgspec.json.decode(row, type=dict[str, Any]) for row in reversed(rows)]
    return encode(msgspec.structs.replace(reply, events=events))
