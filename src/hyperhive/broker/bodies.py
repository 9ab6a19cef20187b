"""What a message's body may be, and how it is shortened in events. Pure."""

from hyperhive.errors import BadRequest
from hyperhive.protocol.events import EVENT_BODY_MAX_BYTES
from hyperhive.protocol.types import BODY_MAX_BYTES


def check_body(body: str, what: str = "message") -> str:
    """The same body, if it can be stored. `what`: what errors call it.

    Raises:
        BadRequest: blank, longer than 256 KiB in UTF-8, holding a NUL, or no valid Unicode text.
    """
    if not body or body.isspace():
        raise BadRequest(f"the {what} is blank", hint="it needs at least one visible character")
    if "\0" in body:
        raise BadRequest(
            f"the {what} holds a NUL character at position {body.index(chr(0))}", hint="remove it"
        )
    if body.isascii():
        size = len(body)
    else:
        try:
            size = len(body.encode())
        except UnicodeEncodeError as error:
            raise BadRequest(
                f"the {what} is no valid Unicode text: a lone surrogate at position {error.start}",
                hint="send text that can be written as UTF-8",
            ) from None
    if size > BODY_MAX_BYTES:
        raise BadRequest(
            f"the {what} is {size} bytes long; at most {BODY_MAX_BYTES} are taken",
            hint="write it to a file and send the path",
        )
    return body


def cut_body(body: str) -> tuple[str, bool]:
    """The body as events carry it: at most 4 KiB of UTF-8, whole characters; and whether anything was cut."""
    if len(body) <= EVENT_BODY_MAX_BYTES // 4:
        return body, False
    raw = body.encode()
    if len(raw) <= EVENT_BODY_MAX_BYTES:
        return body, False
    return raw[:EVENT_BODY_MAX_BYTES].decode(errors="ignore"), True
