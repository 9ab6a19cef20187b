"""A usage limit of one account, on the real agent CLI: who is parked, what mail starts meanwhile, who goes on when."""

import time
from collections.abc import Callable

import pytest

from hive_process import HivePlace, HiveProcess, running, turns_of
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import Accounts
from hyperhive.protocol.types import Urgency
from hyperhive.testing.fake_anthropic import FakeAnthropic, error

NewPlace = Callable[..., HivePlace]

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]

# A token is the CLI's own to use, so it must reach the stand-in by itself.
TOKEN = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "dummy-token-for-tests"}
AGENTS = ("alice", "bob")
TOML = "".join(f'[agents.{name}]\nnetwork = "host"\n' for name in (*AGENTS, "manager"))
LIMIT_SECONDS = 6


def limit(until: int) -> dict[str, object]:
    return error(
        429,
        "rate_limit_error",
        "used up",
        **{
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": str(until),
            "anthropic-ratelimit-unified-representative-claim": "five_hour",
        },
    )


def doing(hive: HiveProcess) -> dict[str, tuple[str, str | None]]:
    """What each agent does, and what it waits for, by the fleet's last word."""
    views = [frame["container"] for frame in hive.frames if frame.get("kind") == "container_state_changed"]
    return {view["name"]: (view["turn_state"], view.get("waiting_reason")) for view in views}


def released(hive: HiveProcess, since: int) -> list[str]:
    """Whom the fleet's stream stopped showing parked after this many frames, in order."""
    order: list[str] = []
    for frame in hive.frames[since:]:
        if frame.get("kind") == "container_state_changed":
            view = frame["container"]
            if view.get("waiting_reason") != "limited" and view["name"] in AGENTS:
                order.append(view["name"])
    return list(dict.fromkeys(order))


async def test_a_limit_parks_all_agents_of_its_account_and_they_come_back_one_by_one(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """Pain 8: mail that comes during the limit starts no CLI and asks nothing of the API; nobody resumes by hand.

    At the reset time the agents go on by themselves, the most urgent first, and no message was blamed.
    """
    place = places(toml=TOML, environ=TOKEN)
    async with running(place) as (hive, client):
        for name in AGENTS:
            await client.lifecycle.spawn(name)
        await client.broker.send("operator", "alice", "hello")
        await hive.until(lambda: at_rest(place))
        await hive.until(lambda: doing(hive)["manager"][0] == "idle")
        warm = set(place.clis())
        reset = int(time.time()) + LIMIT_SECONDS
        api.scenario = limit(reset)
        await client.broker.send("operator", "alice", "work")
        await hive.until(lambda: doing(hive)["alice"] == ("waiting", "limited"))
        asked = len(api.requests)
        api.scenario = {}
        mails: list[tuple[str, Urgency]] = [("alice", "soon"), ("alice", "next_turn"), ("bob", "interrupt")]
        for name, urgency in mails:
            await client.broker.send("operator", name, "are you there?", urgency=urgency)
        await hive.until(lambda: {doing(hive)[name] for name in AGENTS} == {("waiting", "limited")})
        seen = len(hive.frames)
        assert set(place.clis()) <= warm
        accounts = await client.request(r.Account())
        assert isinstance(accounts, Accounts)
        assert [one.limited_until for one in accounts.accounts] == [reset]
        await hive.until(lambda: at_rest(place))
        await hive.until(lambda: len(released(hive, seen)) == len(AGENTS))
        assert released(hive, seen) == ["bob", "alice"]
        for name, kinds in (("alice", ["ok", "limited", "ok"]), ("bob", ["ok"])):
            rows = await turns_of(client, name, len(kinds))
            assert [row.result_kind for row in reversed(rows)][: len(kinds)] == kinds
    assert all(request["at"] >= reset for request in api.requests[asked:])
    assert [one.tries for one in place.mail()] == [0] * len(place.mail())


def at_rest(place: HivePlace) -> bool:
    return all(one.acked for one in place.mail())
