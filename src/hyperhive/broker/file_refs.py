"""Files that a message's body names: found in the text, looked up through a port, stored with the message.

Which of them exist and may be referred to is the port's business; a bare Broker has no port, and finds none. A body
without a slash costs one look for it.
"""

import re
import sqlite3
from collections.abc import Sequence
from typing import Final, Protocol

import anyio.to_thread
import msgspec

from hyperhive.broker.reminder_timer import StateFiles
from hyperhive.errors import NotFound
from hyperhive.names import SYSTEM
from hyperhive.protocol.types import FileRef

REFS_MAX: Final = 32
"""How many files one message refers to at most: a body that lists a tree is not a list of attachments."""
MENTIONS_MAX: Final = 128
"""How many paths are looked up at most: others name nothing that exists, as a compiler's output does."""
PATH_MAX_CHARS: Final = 1024
_INLINE_CHARS: Final = 16 * 1024
"""A longer body is searched in a thread: the search takes about a millisecond for each 100 KiB."""

# What stands between blanks, quotes and brackets. One pass, nothing to go back over.
_TOKEN: Final = re.compile(r"[^\s\"'`<>()\[\]{}|,;*]+")
_LINE: Final = re.compile(r"(?::\d+){1,2}$")
_FILE_NAME: Final = re.compile(r"[^/]*[^/.][^/]*\.[A-Za-z0-9_-]{1,16}")


class Files(StateFiles, Protocol):
    """What the broker needs of the agents' directories."""

    async def find(self, sender: str, recipient: str, paths: Sequence[str], most: int) -> list[FileRef]:
        """Those of `paths` that are files which the sender may refer to, in their order, at most `most`.

        A path counts as its sender sees it; the operator's as its recipient does. It never takes long, and never
        raises: what cannot be looked up is none.
        """
        ...


class MessageFiles(msgspec.Struct, frozen=True):
    """The files of one stored message, and between whom it went."""

    sender: str
    recipient: str
    refs: tuple[FileRef, ...]


def mentions(body: str) -> list[str]:
    """The paths in a text, as written, each once: with a slash, the last segment like `name.ext`. Pure.

    A line number behind it (`src/a.py:12`) and the punctuation of its sentence are left out; addresses of the web are
    no paths.
    """
    found: dict[str, None] = {}
    for match in _TOKEN.finditer(body):
        token = match.group()
        if "/" not in token or "://" in token or len(token) > PATH_MAX_CHARS:
            continue
        path = _LINE.sub("", token.rstrip(".:!?"))
        if "/" in path and _FILE_NAME.fullmatch(path.rpartition("/")[2]):
            found[path] = None
            if len(found) >= MENTIONS_MAX:
                break
    return list(found)


async def refs_of(files: Files | None, sender: str, recipient: str, body: str) -> str | None:
    """The `file_refs` of a message as they are stored; None where it has none."""
    if files is None or "/" not in body or sender == SYSTEM:
        return None
    if len(body) <= _INLINE_CHARS:
        paths = mentions(body)
    else:
        paths = await anyio.to_thread.run_sync(mentions, body)
    if not paths:
        return None
    refs = await files.find(sender, recipient, paths, REFS_MAX)
    return msgspec.json.encode(refs).decode() if refs else None


_DECODER: Final = msgspec.json.Decoder(tuple[FileRef, ...])


def decode(stored: str | bytes | None) -> tuple[FileRef, ...]:
    """As they are stored, read."""
    return _DECODER.decode(stored) if stored else ()


def files_of(conn: sqlite3.Connection, message_id: int) -> MessageFiles:
    """What a message refers to.

    Raises:
        NotFound: there is no such message (any more).
    """
    query = "SELECT sender, recipient, file_refs FROM messages WHERE id = ?"
    row = conn.execute(query, (message_id,)).fetchone()
    if row is None:
        raise NotFound(
            f"there is no message {message_id}", hint="messages are removed 30 days after they were done"
        )
    return MessageFiles(row[0], row[1], decode(row[2]))
