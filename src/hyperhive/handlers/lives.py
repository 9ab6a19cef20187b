"""Agents' lives: the lifecycle's actions."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from hyperhive.handlers.ports import Agents, Harnesses
from hyperhive.names import AgentName
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller

KEPT = "what was mirrored to a forge is left there, and what was spent stays in the accounts"
"""Said of a purge."""

T = TypeVar("T", bound=r.Request)


def lives(agents: Agents, harnesses: Harnesses) -> dict[type[r.Request], Handler]:
    """Actions on agents. They answer when they are done."""

    def action(run: Callable[[Caller, T], Awaitable[None]]) -> Handler:
        async def handler(caller: Caller, request: T) -> p.Reply:
            await run(caller, request)
            return p.Ok()

        return handler

    async def names(caller: Caller, request: r.List) -> p.Reply:
        del caller, request
        return p.Agents(agents=list(agents.names()))

    def spawn(caller: Caller, request: r.Spawn) -> Awaitable[None]:
        return agents.spawn(request.name, request.mounts, by=caller.name)

    def start(caller: Caller, request: r.Start) -> Awaitable[None]:
        return agents.start(request.name, wait=request.wait, by=caller.name)

    async def kill(caller: Caller, request: r.Kill) -> p.Reply:
        caution = harnesses.caution(AgentName(request.name))
        await agents.stop(request.name, now=request.now, wait=request.wait, by=caller.name)
        return p.Ok(note=caution)

    def restart(caller: Caller, request: r.Restart) -> Awaitable[None]:
        return agents.restart(request.name, now=request.now, by=caller.name)

    async def destroy(caller: Caller, request: r.Destroy) -> p.Reply:
        await agents.destroy(request.name, purge=request.purge, now=request.now, by=caller.name)
        return p.Ok(note=KEPT if request.purge else None)

    def restore(caller: Caller, request: r.Restore) -> Awaitable[None]:
        del caller
        return agents.restore(request.name)

    return {
        r.List: names,
        r.Spawn: action(spawn),
        r.Start: action(start),
        r.Kill: kill,
        r.Restart: action(restart),
        r.Destroy: destroy,
        r.Restore: action(restore),
    }
