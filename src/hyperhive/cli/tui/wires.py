"""A screen's lines to the hive: one for requests, one for each stream. Nothing here waits for the hive once it is up.

They are lost together and come back together: whoever uses them is told, and asks anew for what it shows.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from hyperhive.cli.common import Session
from hyperhive.cli.link import Answer, Frames, Link, answer_of
from hyperhive.errors import Closed, HiveError
from hyperhive.protocol.requests import Request

Frame = dict[str, Any]
Then = Callable[[Answer | HiveError], None]

_FIRST_SECONDS: Final = 0.2
_LONGEST_SECONDS: Final = 2.0


class Wires:
    """Opened by `connect`; after a loss `tick` opens them again, at most two seconds apart, for as long as it takes.

    Args:
        session: the command's way to the hive.
        streams: the streams to follow: `hive`, names of agents.
        on_frame: is given every frame, with the name of its stream.
        on_up: the lines are there (again); streams have begun, so what is asked for now misses nothing.
    """

    def __init__(
        self,
        session: Session,
        streams: Sequence[str],
        on_frame: Callable[[str, Frame], None],
        on_up: Callable[[], None],
    ) -> None:
        self._session = session
        self._names = streams
        self._on_frame = on_frame
        self._on_up = on_up
        self._requests: Link | None = None
        self._streams: dict[str, Frames] = {}
        self._waiting: dict[int, Then] = {}
        self._count = 0
        self.attempt = 0
        self.retry_at = 0.0
        self.error: HiveError | None = None

    @property
    def up(self) -> bool:
        """Whether there is a hive at the other end."""
        return self._requests is not None

    def connect(self) -> None:
        """Opens all lines.

        Raises:
            HiveError: there is no hive, or it knows no such agent.
        """
        requests, streams = None, {}
        try:
            requests = self._session.dial()
            for name in self._names:
                streams[name] = self._session.dial().subscribe(name)
        except HiveError:
            for link in [requests, *(frames.link for frames in streams.values())]:
                if link is not None:
                    link.close()
            raise
        self._requests, self._streams = requests, streams
        self.attempt, self.error = 0, None
        self._on_up()
        for name in list(self._streams):  # what came with the answer to the subscription
            self._read_stream(name)

    def close(self) -> None:
        """Hangs up. Idempotent."""
        for link in [self._requests, *(frames.link for frames in self._streams.values())]:
            if link is not None:
                link.close()
        self._requests, self._streams = None, {}

    def request(self, request: Request, then: Then) -> None:
        """Asks; `then` is given the reply when it comes, or why there is none."""
        if self._requests is None:
            then(Closed("the hive does not answer"))
            return
        self._count += 1
        number = self._count
        self._waiting[number] = then
        try:
            self._requests.post(msgspec.structs.replace(request, req=number))
        except HiveError as error:
            self._lost(error)

    def files(self) -> dict[int, Callable[[], None]]:
        """What to wait for, and what to call when it can be read."""
        if self._requests is None:
            return {}
        found: dict[int, Callable[[], None]] = {self._requests.fileno(): self._read_replies}
        for name, frames in self._streams.items():
            found[frames.link.fileno()] = lambda name=name: self._read_stream(name)  # type: ignore[misc]
        return found

    def tick(self, now: float) -> None:
        """Tries again where the lines are lost and it is time."""
        if self.up or now < self.retry_at:
            return
        try:
            self.connect()
        except HiveError as error:
            self.attempt += 1
            self.error = error
            pause = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** min(self.attempt, 8))
            self.retry_at = now + pause * random.uniform(0.7, 1.0)  # noqa: S311 (no secret)

    def _read_replies(self) -> None:
        if self._requests is None:
            return
        try:
            lines = self._requests.arrived()
        except HiveError as error:
            self._lost(error)
            return
        for line in lines:
            number, answer = answer_of(line)
            then = self._waiting.pop(number, None) if isinstance(number, int) else None
            if then is not None:
                then(answer)

    def _read_stream(self, name: str) -> None:
        frames = self._streams.get(name)
        if frames is None:
            return
        try:
            lines = frames.arrived()
        except HiveError as error:
            self._lost(error)
            return
        for line in lines:
            self._on_frame(name, msgspec.json.decode(line))

    def _lost(self, error: HiveError) -> None:
        self.close()
        self.error, self.retry_at = error, 0.0
        waiting, self._waiting = self._waiting, {}
        for then in waiting.values():
            then(error)
