"""Who may use the model: budgets between two requests, an account at its limit, one that needs a login, no key."""

import stat
import time
from math import ceil

import anyio
import pytest

from gateway_world import ALICE, BOB, KEY, World, ask, prompt, until
from hyperhive.accounts import Secret
from hyperhive.errors import HiveError
from hyperhive.gateway import Refusal
from hyperhive.gateway.health import limited_until
from hyperhive.gateway.standing import RELEASE_SECONDS
from hyperhive.testing import FakeClock
from hyperhive.testing.fake_anthropic import FakeAnthropic, error

LIMITED = {"anthropic-ratelimit-unified-status": "rejected"}


async def test_over_budget_the_next_request_is_refused_and_the_api_is_not_asked(world: World) -> None:
    async with world.client() as client:
        assert (await ask(client)).status_code == 200
        world.meter.refused[ALICE] = Refusal(message="all is spent")
        refused = await ask(client)
        assert (refused.status_code, refused.json()["error"]["message"]) == (403, "all is spent")
        assert world.gateway.standing(ALICE).last == "budget"
        async with world.client(BOB) as other:
            assert (await ask(other)).status_code == 200, "what one agent spends is no other's"
        world.meter.refused.clear()
        assert (await ask(client)).status_code == 200
    assert len(world.api.requests) == 3
    assert world.gateway.standing(ALICE).last is None


async def test_a_401_of_the_api_is_the_accounts_and_a_new_key_brings_all_back(world: World) -> None:
    world.api.scenario = error(401, "authentication_error", "no such key")
    async with world.client() as alice, world.client(BOB) as bob:
        assert (await ask(alice)).status_code == 401
        assert world.state().needs_login
        assert world.gateway.standing(ALICE).last == "login"
        assert world.gateway.standing(BOB).refused == "login"
        refused = await ask(bob)
        assert refused.status_code == 403
        assert "needs a login" in refused.json()["error"]["message"]
        models = [one["body"]["model"] for one in world.api.requests]
        assert models == ["haiku", "key-check"], "a key that was refused is not tried by every agent"
        world.api.scenario = {}
        await world.accounts.set("default", "key", Secret("another-key"))
        assert (await ask(bob)).status_code == 200
    assert world.gateway.standing(BOB).refused is None


async def test_a_401_that_is_the_doing_of_what_an_agent_asked_is_no_other_agents_affair(world: World) -> None:
    world.api.scenario = {
        "rules": [
            {"match": "evil", "error": {"status": 401, "type": "authentication_error", "message": "no"}}
        ]
    }
    async with world.client() as alice, world.client(BOB) as bob:
        assert (await ask(alice, prompt("evil"))).status_code == 401
        assert not world.state().needs_login
        assert world.gateway.standing(ALICE).last is None
        assert (await ask(bob)).status_code == 200
    assert [agent for agent, _ in world.meter.told] == [BOB]


async def test_a_request_under_an_older_key_cannot_refuse_the_newer(world: World) -> None:
    world.api.scenario = {
        "default": {"delay": 0.5, "error": {"status": 401, "type": "authentication_error", "message": "no"}}
    }
    async with world.client() as client, anyio.create_task_group() as group:
        group.start_soon(ask, client)
        await until(lambda: world.api.requests)
        await world.accounts.set("default", "key", Secret("another-key"))
    assert not world.state().needs_login


async def test_a_403_of_the_api_says_nothing_of_the_account(world: World) -> None:
    world.api.scenario = error(403, "permission_error", "not for you")
    async with world.client() as client:
        assert (await ask(client)).status_code == 403
    assert world.gateway.standing(ALICE) == world.gateway.standing(BOB)
    assert world.gateway.standing(ALICE).last is None


async def test_a_limit_that_is_over_soon_holds_requests_back(world: World) -> None:
    world.api.scenario = {
        "rules": [
            {"match": "hello", "times": 1, "error": {"status": 429, "type": "rate_limit_error", "message": "slow",
             "headers": {"retry-after": "1"}}},
        ]
    }  # fmt: skip
    async with world.client() as alice, world.client(BOB) as bob:
        first = await ask(alice)
        assert (first.status_code, first.headers["retry-after"]) == (429, "1")
        at = time.monotonic()
        assert (await ask(bob)).status_code == 200
        assert time.monotonic() - at > 0.9, "it was held back until the API wanted more"
        assert (await ask(alice)).status_code == 200
    assert world.state().limited_until is None, "that parks nobody, and nobody is told"


async def test_requests_that_were_held_back_go_on_one_after_the_other(api: FakeAnthropic) -> None:
    clock = FakeClock()
    async with World.open(api, clock=clock) as world:
        world.gateway.standings.limit(world.state(), clock.time() + 30)
        async with world.client() as alice, world.client(BOB) as bob, anyio.create_task_group() as group:
            for client in (alice, alice, bob):
                group.start_soon(ask, client)
            await until(lambda: clock.sleepers == 3)
            await clock.advance(31)
            await until(lambda: len(api.requests) == 1)
            for count in (2, 3):
                await anyio.wait_all_tasks_blocked()
                assert len(api.requests) == count - 1
                await clock.advance(RELEASE_SECONDS)
                await until(lambda count=count: len(api.requests) == count)  # type: ignore[misc]
        await until(lambda: all(door.connections == 0 for door in world.gateway._doors.values()))


async def test_a_client_that_hangs_up_while_it_is_held_back_asks_nothing(world: World) -> None:
    world.state().limit(time.time() + 30)
    stream = await world.raw()
    await stream.send(b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
    door = world.gateway._doors[ALICE]
    await until(lambda: door.connections == 1 and door._held == 2)
    await stream.aclose()
    await until(lambda: door.connections == 0 and door._held == 0)
    assert world.api.requests == []


async def test_a_limit_that_lasts_refuses_and_says_until_when(world: World) -> None:
    reset = int(time.time()) + 7200
    world.api.scenario = error(
        429, "rate_limit_error", "used up", **LIMITED, **{"anthropic-ratelimit-unified-reset": str(reset)}
    )
    async with world.client() as client:
        assert (await ask(client)).status_code == 429
        assert world.state().limited_until == reset
        assert (await ask(client)).status_code == 403
    standing = world.gateway.standing(ALICE)
    assert (standing.refused, standing.last, standing.until) == ("limited", "limited", reset + 1)


async def test_a_limit_that_a_cli_claims_counts_where_the_gateway_does_not_serve_it_and_for_a_week_at_most(
    world: World,
) -> None:
    standings, now = world.gateway.standings, time.time()
    standings.claimed(ALICE, now + 3600)
    assert world.state().limited_until is None, "the gateway has seen the replies itself"
    await world.accounts.set("default", "token", Secret("a-token"))
    standings.claimed(ALICE, now - 1)
    assert world.state().limited_until is None
    standings.claimed(ALICE, now + 3600)
    assert standings.limited_until(BOB) == ceil(now + 3600)
    standings.claimed(BOB, 2.0**53)
    assert world.state().limited_until < now + 9 * 86400


async def test_waiting_for_a_standing_ends_the_moment_that_it_changes(world: World) -> None:
    world.state().login_refused(world.state().generation)
    async with anyio.create_task_group() as group:

        async def land() -> None:
            await anyio.wait_all_tasks_blocked()
            world.state().login_landed()

        group.start_soon(land)
        with anyio.fail_after(10):
            assert (await world.gateway.wait_for_standing(ALICE, 600)).refused is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "0"}, None),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None),
        ({"retry-after": "99999999999"}, None),
        ({"retry-after": "-5"}, None),
        ({"anthropic-ratelimit-unified-reset": "1600"}, None),
        ({**LIMITED, "anthropic-ratelimit-unified-reset": "1600"}, 600),
        ({**LIMITED, "anthropic-ratelimit-unified-reset": "1600", "retry-after": "700"}, 700),
        ({**LIMITED, "anthropic-ratelimit-unified-reset": "900"}, None),
        ({}, None),
    ],
)
def test_a_limit_is_what_the_headers_say(headers: dict[str, str], seconds: float | None) -> None:
    told = [(name.encode(), text.encode()) for name, text in headers.items()]
    assert limited_until(told, 1000.0) == (None if seconds is None else 1000.0 + seconds)


async def test_an_agent_without_a_key_is_not_served_and_told_so(world: World) -> None:
    await world.accounts.set("default", "token", Secret("a-token"))
    assert not world.gateway.serves(ALICE)
    async with world.client() as client:
        refused = await ask(client)
    assert refused.status_code == 403
    assert world.api.requests == []
    await world.accounts.set("default", "key", Secret(KEY))
    assert world.gateway.serves(ALICE)


# --- doors ------------------------------------------------------------------------------------------------------------


async def test_a_door_is_its_owners_alone_and_goes_with_the_agent(world: World) -> None:
    path = world.socket()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    stream = await world.raw()
    await world.gateway.close(ALICE)
    with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await stream.receive()
    await stream.aclose()
    assert not path.exists()
    assert world.socket(BOB).exists()


async def test_what_an_agent_is_refused_for_follows_from_its_door_alone(world: World) -> None:
    """Whatever it says of itself: there is nothing in a request that names an agent."""
    world.meter.refused[ALICE] = Refusal(message="all is spent")
    names = {"x-agent": "bob", "x-hive-agent": "bob", "host": "bob", "x-claude-code-session-id": "bob"}
    async with world.client() as client:
        for name, value in names.items():
            assert (await client.post("/v1/messages", json={}, headers={name: value})).status_code == 403


async def test_where_nothing_isolates_there_is_no_door(api: FakeAnthropic) -> None:
    async with World.open(api) as world:
        world.gateway._isolated = False
        await world.gateway.open(ALICE)
        assert not world.socket().exists()
        assert not world.gateway.serves(ALICE)


async def test_a_door_that_cannot_be_opened_is_an_error_of_the_hives(world: World) -> None:
    await world.gateway.close(ALICE)
    world.socket().write_text("in the way")
    with pytest.raises(HiveError):
        await world.gateway.open(ALICE)
