"""Files that agents tell of: the operator's look at them. The only way from the protocol to an agent's files."""

import base64
import codecs
from typing import Final, Protocol

from hyperhive.agent_files import FileContent
from hyperhive.broker import Broker
from hyperhive.errors import BadRequest, NotFound
from hyperhive.handlers.fitting import REPLY_ROOM
from hyperhive.names import OPERATOR, AgentName, parse_resident
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller

READ_MAX_BYTES: Final = 1024 * 1024
"""How much of a file one reply shows."""


class Files(Protocol):
    """What the handlers need of the agents' directories."""

    async def read(self, agent: AgentName, path: str, limit: int) -> FileContent: ...


def state_files(broker: Broker, files: Files) -> dict[type[r.Request], Handler]:
    """Looking at files by message and number, or by agent and path."""

    async def place(request: r.StateFileCheck | r.StateFileRead) -> tuple[AgentName, str]:
        """Whose file it is, and its path as that agent sees it."""
        by_message = request.message is not None
        by_path = request.agent is not None and request.path is not None
        if by_message is by_path or (by_message and (request.agent or request.path)):
            raise BadRequest("name a file by message and n, or by agent and path")
        if request.agent is not None and request.path is not None:
            return parse_resident(request.agent), request.path
        found = await broker.files_of(request.message or 0)
        if request.n > len(found.refs):
            has = f"it refers to {len(found.refs)}" if found.refs else "it refers to none"
            raise NotFound(f"message {request.message} has no file {request.n}", hint=has)
        # What was true when it was sent need not be now: the path is looked up again.
        owner = found.recipient if found.sender == OPERATOR else found.sender
        return AgentName(owner), found.refs[request.n - 1].path

    async def check(caller: Caller, request: r.StateFileCheck) -> p.Reply:
        del caller
        content = await files.read(*await place(request), 0)
        return p.StateFile(file=content.ref)

    async def read(caller: Caller, request: r.StateFileRead) -> p.Reply:
        del caller
        return shown(await files.read(*await place(request), READ_MAX_BYTES))

    return {r.StateFileCheck: check, r.StateFileRead: read}


def shown(content: FileContent) -> p.StateFile:
    """The reply with as much of the file as a reply line takes: text where it is valid UTF-8, else base64. Pure."""
    ref, data = content.ref, content.data
    while True:
        cut = len(data) < ref.size
        text = _text(data, cut=cut)
        reply = p.StateFile(
            file=ref,
            text=text,
            base64=base64.b64encode(data).decode() if text is None else None,
            truncated=cut,
        )
        # Control characters take six bytes each in JSON.
        if len(encode(reply)) <= REPLY_ROOM:
            return reply
        data = data[: len(data) // 2]


def _text(data: bytes, *, cut: bool) -> str | None:
    """The bytes as text, but for a last character that is cut; None where they are none."""
    if b"\0" in data:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=not cut)
    except UnicodeDecodeError:
        return None
