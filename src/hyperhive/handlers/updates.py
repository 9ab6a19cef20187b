"""Building agents anew by the hive's own revision, and bumping what they are built with."""

from hyperhive.errors import WorldError
from hyperhive.handlers.ports import Agents
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller

SAID_MAX = 4000


def updates(agents: Agents) -> dict[type[r.Request], Handler]:
    """They answer when the agents are well, or go on as they were."""

    async def update(caller: Caller, request: r.Update) -> p.Reply:
        said = await agents.update(request.name, now=request.now, by=caller.name)
        return p.Ok(note=f"{request.name} is built anew; {said}" if said else None)

    async def update_all(caller: Caller, request: r.UpdateAll) -> p.Reply:
        del caller, request
        ended = await agents.update_all()
        failed = [f"{name}: {error.message}" for name, error in ended.items() if error is not None]
        if failed:
            raise WorldError(
                f"{len(failed)} of {len(ended)} agents go on as they were: {'; '.join(failed)}"[:SAID_MAX],
                hint="`hyperhive update NAME` tries one again",
            )
        names = ", ".join(ended)
        return p.Ok(note=f"built anew: {names}"[:SAID_MAX] if ended else "no agent needs an update")

    async def meta_update(caller: Caller, request: r.MetaUpdate) -> p.Reply:
        del caller
        return p.Ok(note=(await agents.meta_update(request.inputs))[:SAID_MAX])

    return {r.Update: update, r.UpdateAll: update_all, r.MetaUpdate: meta_update}
