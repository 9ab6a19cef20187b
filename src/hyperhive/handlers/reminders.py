"""Reminders: setting and counting them. Taking one back is a loose end's affair."""

from hyperhive.broker import Broker
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import CALL_ID, Handler
from hyperhive.protocol.policy import Caller


def reminders(broker: Broker) -> dict[type[r.Request], Handler]:
    """What comes back later."""

    async def remind(caller: Caller, request: r.Remind) -> p.Reply:
        number = await broker.reminders.set(
            caller.name,
            request.message,
            delay_seconds=request.delay_seconds,
            due_at=request.due_at,
            file_path=request.file_path,
            to=request.to,
            call_id=CALL_ID.get(),
        )
        return p.ReminderQueued(id=number)

    async def count(caller: Caller, request: r.CountPendingReminders) -> p.Reply:
        del request
        return p.RemindersPending(count=broker.reminders.pending_now(caller.name))

    return {r.Remind: remind, r.CountPendingReminders: count}
