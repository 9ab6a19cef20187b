"""A model gateway by itself, with the stand-in API behind it and plain HTTP clients in front."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
from anyio.abc import SocketStream

from hyperhive.accounts import Accounts, Secret
from hyperhive.clock import SYSTEM_CLOCK, Clock
from hyperhive.gateway import Gateway, Meter, NoBudgets, Refusal, Upstream
from hyperhive.gateway.meter import Held
from hyperhive.names import AgentName
from hyperhive.spending.usage import Usage
from hyperhive.testing.fake_anthropic import FakeAnthropic

ALICE, BOB = AgentName("alice"), AgentName("bob")
KEY = "key-of-the-account"
PATIENCE_SECONDS = 20.0


@dataclass
class Counter:
    """A meter that remembers what it was told, and refuses whom the test says."""

    told: list[tuple[AgentName, Usage]] = field(default_factory=list)
    refused: dict[AgentName, Refusal] = field(default_factory=dict)
    asked: int = 0
    refuse_after: int | None = None
    """Everybody is over budget from the request after so many on."""

    def admit(self, agent: AgentName) -> Refusal | None:
        self.asked += 1
        if self.refuse_after is not None and self.asked > self.refuse_after:
            return Refusal(message="all is spent")
        return self.refused.get(agent)

    def limits(self, agent: AgentName) -> bool:
        return NoBudgets().limits(agent)

    def hold(self, agent: AgentName, usage: Usage) -> Held | None:
        return NoBudgets().hold(agent, usage)

    async def freed(self) -> None: ...

    async def used(self, agent: AgentName, usage: Usage) -> None:
        self.told.append((agent, usage))

    async def until_told(self, count: int) -> list[Usage]:
        """What was told, once it is so many."""
        await until(lambda: len(self.told) >= count)
        return [usage for _, usage in self.told]


@dataclass
class World:
    """A gateway with two doors."""

    gateway: Gateway
    accounts: Accounts
    meter: Counter
    api: FakeAnthropic
    place: Path

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        api: FakeAnthropic,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        budgets: Meter | None = None,
    ) -> AsyncIterator["World"]:
        """Doors are open; the account `default` has a key. `budgets`: instead of a meter that only counts."""
        place = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))
        accounts = await Accounts.open(place / "accounts", {})
        await accounts.set("default", "key", Secret(KEY))
        meter = Counter()
        gateway = Gateway(
            isolated=True,
            account=accounts.bind,
            socket=lambda name: place / name / "model.sock",
            upstream=Upstream({"ANTHROPIC_BASE_URL": api.url, **(environ or {})}),
            meter=budgets or meter,
            clock=clock,
        )
        try:
            await gateway.open(ALICE)
            await gateway.open(BOB)
            yield cls(gateway, accounts, meter, api, place)
        finally:
            await gateway.aclose()
            shutil.rmtree(place, ignore_errors=True)

    def socket(self, agent: AgentName = ALICE) -> Path:
        return self.place / agent / "model.sock"

    def client(self, agent: AgentName = ALICE) -> httpx2.AsyncClient:
        """A client at an agent's door, as its CLI is."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.socket(agent)))
        return httpx2.AsyncClient(transport=transport, base_url="http://hive", timeout=PATIENCE_SECONDS)

    async def raw(self, agent: AgentName = ALICE) -> SocketStream:
        """A bare connection."""
        return await anyio.connect_unix(self.socket(agent))

    def state(self) -> Any:
        return self.accounts.state("default")


async def until(holds: Callable[[], object]) -> None:
    """Returns when it holds. For what nobody tells of: looks again and again."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.01)


def prompt(text: str = "hello", *, stream: bool = True, **more: object) -> dict[str, Any]:
    """A request's body."""
    messages = [{"role": "user", "content": text}]
    return {"model": "haiku", "max_tokens": 100, "stream": stream, "messages": messages, **more}


def events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream."""
    return [msgspec.json.decode(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]


async def ask(client: httpx2.AsyncClient, body: dict[str, Any] | None = None) -> httpx2.Response:
    """One request for a message."""
    return await client.post("/v1/messages?beta=true", json=body or prompt())
