"""Channels: how one notice leaves the host.

Each sends once and says how that went: it returns, or raises `Failed` (surely not delivered, worth another try) or
`Unknown` (perhaps delivered, so never again). When and how often is the notifier's business.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import anyio
import anyio.to_thread
import msgspec

from hyperhive.config import NotifyChannel
from hyperhive.errors import WorldError

if TYPE_CHECKING:
    import httpx2

SECONDS: Final = 15.0
"""How long each step of a post may take; all of it, twice as long."""
_PLACE: Final = re.compile(r"\{(title|text|agent|kind|state|key)\}")

State = Literal["open", "resolved", "test"]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. `key` is the same for a notice and for the one that says it is settled."""

    key: str
    kind: str
    agent: str
    title: str
    text: str
    state: State

    def fields(self) -> dict[str, str]:
        """By the names that a template knows."""
        return {name: str(getattr(self, name)) for name in self.__struct_fields__}


class Failed(WorldError):
    """The notice was not delivered."""


class Unknown(WorldError):
    """Nobody can say whether the notice was delivered."""


class Channel(Protocol):
    """A way out.

    Contract: `send` returns once the other side has taken the notice. It raises nothing but `Failed` and `Unknown`, and
    no message of theirs holds an address's path, a token or the notice's text.
    """

    async def send(self, notice: Notice) -> None: ...


def channel_of(setting: NotifyChannel) -> Channel:
    """The channel that a setting describes."""
    return Ntfy(setting) if setting.kind == "ntfy" else Webhook(setting)


class Ntfy:
    """A topic of an ntfy server, by its JSON interface.

    The sequence id makes a later notice of the same key replace the first one on the phone (ntfy 2.16 and newer; an
    older server shows it as one more).
    """

    def __init__(self, setting: NotifyChannel) -> None:
        self._setting = setting
        self._base, _, self._topic = setting.url.rstrip("/").rpartition("/")

    async def send(self, notice: Notice) -> None:
        """See `Channel`."""
        settled = notice.state == "resolved"
        body = {
            "topic": self._topic,
            "title": notice.title,
            "message": notice.text or notice.title,
            "priority": 2 if settled else 4,
            "tags": ["white_check_mark" if settled else "bell", notice.kind],
            "sequence_id": re.sub(r"[^A-Za-z0-9_-]", "-", notice.key)[:64],
        }
        await post(self._base, msgspec.json.encode(body), await token_of(self._setting))


class Webhook:
    """Any address that takes a POST of JSON: the setting's template, else the notice's fields."""

    def __init__(self, setting: NotifyChannel) -> None:
        self._setting = setting
        self._template = None if setting.template is None else msgspec.json.decode(setting.template)

    async def send(self, notice: Notice) -> None:
        """See `Channel`."""
        fields = notice.fields()
        body = fields if self._template is None else filled(self._template, fields)
        await post(self._setting.url, msgspec.json.encode(body), await token_of(self._setting))


def filled(template: object, fields: Mapping[str, str]) -> object:
    """The template's JSON with the fields put into its strings; what a field says cannot change its shape."""
    if isinstance(template, str):
        return _PLACE.sub(lambda place: fields[place[1]], template)
    if isinstance(template, list):
        return [filled(item, fields) for item in template]
    if isinstance(template, dict):
        return {key: filled(item, fields) for key, item in template.items()}
    return template


async def token_of(setting: NotifyChannel) -> str | None:
    """The channel's token, read anew each time.

    Raises:
        Failed: its file cannot be read.
    """
    if setting.token_file is None:
        return None
    try:
        text = await anyio.to_thread.run_sync(Path(setting.token_file).read_text)
    except (OSError, UnicodeError) as error:
        raise Failed(f"its token_file {setting.token_file} cannot be read: {type(error).__name__}") from None
    return text.split("\n", 1)[0].strip()


async def post(url: str, body: bytes, token: str | None) -> None:
    """One POST, without following redirects. Of the answer nothing but its status is read.

    Raises:
        Failed: it was not taken (no connection, or an answer that says so). Unknown: no answer came.
    """
    try:
        client = await anyio.to_thread.run_sync(_client)
    except (OSError, ValueError, ImportError) as error:  # proxies and CA files that the environment names
        raise Failed(f"no HTTP client can be made here: {type(error).__name__}") from None
    import httpx2 as http

    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        with anyio.fail_after(2 * SECONDS):
            async with client, client.stream("POST", url, content=body, headers=headers) as answer:
                status, taken = answer.status_code, answer.is_success
    except (http.ConnectError, http.ConnectTimeout, http.PoolTimeout) as error:
        raise Failed(f"no connection: {type(error).__name__}") from None
    except (http.HTTPError, http.InvalidURL, ValueError, OSError) as error:  # OSError: TimeoutError, too
        raise Unknown(f"no answer: {type(error).__name__}") from None
    if not taken:
        raise Failed(f"the other side answered {status}")


def _client() -> "httpx2.AsyncClient":
    """In a thread: the library is slow to load, and the certificates are read from disk."""
    import httpx2

    return httpx2.AsyncClient(timeout=SECONDS)
