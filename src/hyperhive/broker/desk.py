"""What the broker's parts share: the inboxes in memory, the store, the clock, and the events.

Follows commits (`arrived`, `mailed`), says what happened (`say_*`), and wakes readers after each batch. It decides
nothing.
"""

from collections.abc import Callable, Iterable

from hyperhive.broker.bodies import cut_body
from hyperhive.broker.inbox import Entry, Inbox
from hyperhive.broker.rows import Mail
from hyperhive.bus import Bus
from hyperhive.clock import Clock, unix_seconds
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.protocol.events import AnyDashboardEvent, Delivered, MessageState, Sent
from hyperhive.protocol.types import MessageStateName
from hyperhive.store import Store


class Desk:
    """See the file's header. On the loop's thread only."""

    def __init__(self, store: Store, clock: Clock, bus: Bus[AnyDashboardEvent]) -> None:
        self.store = store
        self.clock = clock
        self.bus = bus
        self.inboxes: dict[str, Inbox] = {}
        self.serve: Callable[[Inbox], None]
        self._woken: dict[str, Inbox] = {}
        self._steady_offset = clock.time() - clock.monotonic()
        store.settled.append(self.serve_woken)

    def inbox(self, name: str) -> Inbox:
        """The inbox of this name, made at its first use."""
        inbox = self.inboxes.get(name)
        if inbox is None:
            inbox = self.inboxes[name] = Inbox(name, hands_out=name != OPERATOR)
        return inbox

    def now(self) -> int:
        """Unix seconds, for stamps."""
        return unix_seconds(self.clock)

    def steady(self) -> int:
        """Unix seconds as they were when the broker was opened, counted on without jumps: for windows of time."""
        return int(self.clock.monotonic() + self._steady_offset)

    # --- following commits ---

    def arrived(self, recipient: str, entry: Entry) -> None:
        """A message is durable: it is in its inbox from here on."""
        inbox = self.inbox(recipient)
        if inbox.arrived(entry):
            self._woken[recipient] = inbox
        self.say_sent(recipient, entry)
        self.bus.publish(MessageState(id=entry.id, state="pending"))

    def mailed(self, mail: Iterable[Mail]) -> None:
        """The system's own messages are durable."""
        for one in mail:
            entry = Entry(one.id, SYSTEM, one.body, one.at, hops=one.hops, chain=one.chain)
            self.arrived(one.recipient, entry)

    def put_back(self, inbox: Inbox, entries: Iterable[Entry]) -> None:
        """Messages wait again; whoever waits for them is woken after this batch."""
        inbox.put_back(entries)
        if inbox.waiters:
            self.wake(inbox)

    def wake(self, inbox: Inbox) -> None:
        """Whoever waits at this inbox is served after this batch."""
        self._woken[inbox.name] = inbox

    def serve_woken(self) -> None:
        """Hands what has arrived to those who wait for it."""
        if self._woken:
            woken, self._woken = self._woken, {}
            for inbox in woken.values():
                self.serve(inbox)

    # --- events ---

    def say_sent(self, recipient: str, entry: Entry) -> None:
        """A message is durable."""
        body, cut = cut_body(entry.body)
        self.bus.publish(
            Sent(
                id=entry.id,
                sender=entry.sender,
                recipient=recipient,
                body=body,
                at=entry.at,
                file_refs=entry.files(),
                cut=cut,
            )
        )

    def say_delivered(self, recipient: str, entry: Entry, turn: int | None) -> None:
        """A message was handed out."""
        body, cut = cut_body(entry.body)
        self.bus.publish(
            Delivered(
                id=entry.id,
                sender=entry.sender,
                recipient=recipient,
                body=body,
                at=entry.at,
                file_refs=entry.files(),
                cut=cut,
            )
        )
        self.say_state(entry.id, "in_flight", turn)

    def say_state(
        self, message_id: int, state: MessageStateName, turn: int | None = None, note: str | None = None
    ) -> None:
        """A message has this state now."""
        self.bus.publish(MessageState(id=message_id, state=state, turn=turn, note=note))

    def close(self) -> None:
        """No more is heard from the store."""
        self.store.settled.remove(self.serve_woken)
