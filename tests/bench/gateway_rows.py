"""The gateway's row: the first byte of an answer through the model gateway, against the same asked of the API directly.

One client with one connection, a request the size of the agent CLI's smallest; the stand-in is a process of its own.
"""

import statistics
import time
from pathlib import Path

import anyio
import httpx2
from tests.bench.by_hand import api
from tests.bench.table import Goal, Group, Sample

from hyperhive.accounts import Accounts
from hyperhive.clock import SYSTEM_CLOCK
from hyperhive.gateway import Gateway, NoBudgets, Upstream
from hyperhive.names import AgentName

REQUESTS, WARM_UP = 200, 10
AT_MOST = 2.0
ALICE = AgentName("alice")
BODY = {
    "model": "haiku",
    "stream": True,
    "system": "x" * 50_000,
    "messages": [{"role": "user", "content": "hello"}],
}


async def _first_bytes(client: httpx2.AsyncClient) -> Sample:
    """The median time to the first byte of an answer, in milliseconds."""
    times = []
    for _ in range(WARM_UP + REQUESTS):
        begin = time.perf_counter()
        async with client.stream("POST", "/v1/messages", json=BODY) as reply:
            pieces = reply.aiter_raw()
            await anext(pieces)
            times.append(time.perf_counter() - begin)
            async for _ in pieces:
                pass
    return Sample(statistics.median(times[WARM_UP:]) * 1000, REQUESTS)


async def _direct(environ: dict[str, str]) -> Sample:
    async with httpx2.AsyncClient(base_url=environ["ANTHROPIC_BASE_URL"]) as client:
        return await _first_bytes(client)


async def _through(path: Path, environ: dict[str, str]) -> Sample:
    accounts = await Accounts.open(None, {"ANTHROPIC_API_KEY": "dummy-key"})
    gateway = Gateway(
        isolated=True,
        account=accounts.bind,
        socket=lambda name: path / name / "model.sock",
        upstream=Upstream(environ),
        meter=NoBudgets(),
        clock=SYSTEM_CLOCK,
    )
    try:
        await gateway.open(ALICE)
        transport = httpx2.AsyncHTTPTransport(uds=str(path / ALICE / "model.sock"))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hive") as client:
            return await _first_bytes(client)
    finally:
        await gateway.aclose()


def _with_api(through: bool, path: Path) -> Sample:
    with api() as environ:
        return anyio.run(_through, path, environ) if through else anyio.run(_direct, environ)


def groups() -> list[Group]:
    """The gateway's group."""
    us, direct = "through the gateway", "the API asked directly"
    return [
        Group(
            "first byte of an answer, 50 KB asked",
            " ms",
            {us: lambda path: _with_api(True, path), direct: lambda path: _with_api(False, path)},  # noqa: FBT003
            [Goal(us, direct, AT_MOST, at_most=True)],
            count_flushes=False,
        )
    ]
