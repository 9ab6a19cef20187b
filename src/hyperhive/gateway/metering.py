"""What a reply of the API used, read while it passes by. Nothing that the agent or its model wrote can be taken for it.

A stream tells it in `message_start` and, finally, in `message_delta`; a plain reply in its `usage`. Whether an event is
one of these is decided by its decoded `type`, never by its text. Of a reply that was cut, or never came, what is known
to have been used counts: hanging up saves nobody anything.
"""

from typing import Final

import msgspec

from hyperhive.protocol.types import TokenUsage
from hyperhive.spending.usage import Usage

LINE_MAX: Final = 4 * 2**20
"""Longer lines of a stream are looked past: no event that tells usage is so long."""
REPLY_MAX: Final = 32 * 2**20
"""The longest plain reply that is kept to be read."""
GUESS_MAX: Final = 200_000
"""More tokens than these, read or written, are believed only if the API says so."""
_BYTES_A_TOKEN: Final = 4
_DENSE_BYTES_A_TOKEN: Final = 3
"""Where it should rather be too much."""
_PIECE: Final = b"event: content_block_delta"


class _Tokens(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Asked(msgspec.Struct):
    model: str = ""
    max_tokens: int = GUESS_MAX


class _Message(msgspec.Struct):
    model: str = ""
    usage: _Tokens | None = None


class _Delta(msgspec.Struct, frozen=True):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: _Tokens | None = None
    delta: _Delta = _Delta()


_EVENT: Final = msgspec.json.Decoder(_Event)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_ASKED: Final = msgspec.json.Decoder(_Asked)


def estimate(body: bytes) -> Usage:
    """What a request may use, by its length and by what it says itself; what cannot be read may use the most. Pure."""
    try:
        asked = _ASKED.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        asked = _Asked()
    output = min(max(asked.max_tokens, 0), GUESS_MAX)
    return Usage(
        model=asked.model,
        tokens=TokenUsage(input_tokens=_guess(body, _DENSE_BYTES_A_TOKEN), output_tokens=output),
    )


def at_least(told: Usage | None, body: bytes) -> Usage:
    """What a request has cost whose reply did not come to its end. Pure.

    Where the API said nothing of it, its input is guessed from its length.
    """
    if told is not None and (told.complete or told.model):
        return told
    try:
        model = _MESSAGE.decode(body).model
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        model = ""
    return Usage(model=model, tokens=TokenUsage(input_tokens=_guess(body, _BYTES_A_TOKEN)), complete=False)


def _guess(body: bytes, bytes_a_token: int) -> int:
    return min(len(body) // bytes_a_token, GUESS_MAX)


class UsageReader:
    """Reads one reply to `POST /v1/messages`.

    Args:
        content_type: of the reply.
    """

    def __init__(self, content_type: bytes) -> None:
        self._streamed = content_type.startswith(b"text/event-stream")
        self._rest = bytearray()
        self._skipping = False
        self._model = ""
        self._tokens = TokenUsage()
        self._started = False
        self._pieces = 0
        self._total = False
        self.final = False
        """The figure is known, and nothing that is still to come changes it."""

    def feed(self, data: bytes) -> None:
        """The next piece of the body, cut anywhere."""
        if self._streamed:
            self._feed_lines(data)
        elif len(self._rest) + len(data) <= REPLY_MAX:
            self._rest += data

    def end(self) -> None:
        """Nothing more will come."""
        if not self._streamed and self._rest:
            self._take_message(_MESSAGE, bytes(self._rest))
            self._rest.clear()
        self.final = self.final or self._total

    def usage(self) -> Usage | None:
        """What is known by now. None: the reply is no message, so that nothing was used."""
        if not self._started and not self._streamed:
            return None
        tokens = self._tokens
        if not self._total:  # each piece that passed by was a token or more
            output = max(tokens.output_tokens, self._pieces)
            tokens = msgspec.structs.replace(tokens, output_tokens=output)
        return Usage(model=self._model, tokens=tokens, complete=self.final)

    def _feed_lines(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = bytes(self._rest) + line if self._rest else line
            self._rest.clear()
            if not self._skipping:
                self._take_line(whole)
            self._skipping = False
        self._rest += rest
        if len(self._rest) > LINE_MAX:
            self._rest.clear()
            self._skipping = True

    def _take_line(self, line: bytes) -> None:
        if line.rstrip(b"\r") == _PIECE:
            self._pieces += 1
        if not line.startswith(b"data:") or not (b"message_start" in line or b"message_delta" in line):
            return
        try:
            event = _EVENT.decode(line[5:])
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return
        if event.type == "message_start" and event.message is not None:
            self._take(event.message.model, event.message.usage)
        elif event.type == "message_delta" and event.usage is not None:
            self._take(self._model, event.usage)
            self._total = True
            self.final = event.delta.stop_reason is not None  # without it another total may follow

    def _take_message(self, decoder: msgspec.json.Decoder[_Message], body: bytes) -> None:
        try:
            message = decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return
        if message.usage is not None:
            self._take(message.model, message.usage)
            self._total = self.final = True

    def _take(self, model: str, told: _Tokens | None) -> None:
        """A later figure replaces an earlier one: the API's counts are running totals."""
        self._started = True
        self._model = model
        if told is None:
            return
        known = {
            name: count for name in TokenUsage.__struct_fields__ if (count := getattr(told, name)) is not None
        }
        self._tokens = msgspec.structs.replace(self._tokens, **known)
