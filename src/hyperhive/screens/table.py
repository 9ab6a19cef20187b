"""Who answers what the screens ask: rows for the hive's request table."""

from typing import Final

from hyperhive.broker import Broker
from hyperhive.handlers.fitting import fitting
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller
from hyperhive.screens.configs import AgentConfigs
from hyperhive.screens.digest import Digests
from hyperhive.screens.flow import Flow
from hyperhive.screens.origins import Origins
from hyperhive.screens.search import Search
from hyperhive.screens.snapshot import Snapshots, reminder_shown

REMINDER_CHARS: Final = 2000


def screens(
    broker: Broker,
    snapshots: Snapshots,
    flow: Flow,
    search: Search,
    configs: AgentConfigs,
    digests: Digests,
    origins: Origins,
) -> dict[type[r.Request], Handler]:
    """What is gathered from several parts."""

    async def state(caller: Caller, request: r.State) -> p.Reply:
        del caller, request
        return await snapshots.take()

    async def reminders(caller: Caller, request: r.Reminders) -> p.Reply:
        del caller, request
        rows = [reminder_shown(one) for one in await broker.reminders.beginnings(REMINDER_CHARS)]
        return p.ReminderRows(reminders=rows[: fitting(rows)])

    async def page(caller: Caller, request: r.Flow) -> p.Reply:
        del caller
        found = await flow.page(request)
        fit = fitting(found.rows)
        return p.FlowPage(rows=found.rows[:fit], more=found.more or fit < len(found.rows))

    async def message(caller: Caller, request: r.Message) -> p.Reply:
        del caller
        return await flow.message(request.id)

    async def find(caller: Caller, request: r.Search) -> p.Reply:
        del caller
        return await search.find(
            request.query, limit=request.limit, before=request.before, scope=request.scope
        )

    async def config(caller: Caller, request: r.AgentConfig) -> p.Reply:
        del caller
        return await configs.show(request.name, request.proposal)

    async def origin(caller: Caller, request: r.Origin) -> p.Reply:
        del caller
        return await origins.of(request)

    async def digest(caller: Caller, request: r.Digest) -> p.Reply:
        del caller
        return await digests.since(request.since)

    return {
        r.AgentConfig: config,
        r.Origin: origin,
        r.Digest: digest,
        r.State: state,
        r.Reminders: reminders,
        r.Flow: page,
        r.Message: message,
        r.Search: find,
    }
