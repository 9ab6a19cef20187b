"""A harness's line to its core: live events go up, the core's commands come down and are answered.

It dials, and dials again when the core restarts. An event is never waited for: while there is no core, or while it
does not read, events are dropped and counted (the core asks for the history). Knows no command.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec

from hyperhive.client.core import DIAL_AGAIN_SECONDS
from hyperhive.client.lines import Lines, dial
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.errors import Closed, HiveError, HiveUnreachable
from hyperhive.protocol.codec import decode, decode_reply, encode, error_from, error_reply, request_id
from hyperhive.protocol.events import Lagged
from hyperhive.protocol.harness_line import AnyHarnessCommand, HarnessCommand
from hyperhive.protocol.replies import Err, Reply
from hyperhive.protocol.requests import Attach

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
        if lines is None:
            return
        if lines.blocked:
            self._missed += 1
            return
        try:
            if self._missed:
                lines.send_now(encode(Lagged(missed=self._missed)))
                self._missed = 0
            lines.send_now(event)
        except Closed:
            self._lines = None

    async def run(self) -> None:
        """Keeps the line up until it is cancelled.

        Raises:
            HiveError: the core ended the line for good (`superseded`: a newer harness of this agent attached).
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
            if last_word is not None:
                raise error_from(last_word.code, last_word.message, last_word.hint)
            attempts = 1  # it was there a moment ago; give it one

    async def _serve(self, lines: Lines, incoming: "asyncio.Queue[bytes | None]") -> Err | None:
        """Until the line ends. The core's last word, if it had one."""
        last_word: Err | None = None
        async with anyio.create_task_group() as commands:
            while last_word is None and (line := await incoming.get()) is not None:
                if decode(line, _KIND, "line").kind is None:
                    commands.start_soon(self._carry_out, line, lines)
                    continue
                match decode_reply(line):
                    case Err() as error:
                        last_word = error
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
            await lines.send(encode(reply))
