"""A turn that fails between two good ones loses nothing: its message comes again, and no other turn's ack covers it."""

import os
import signal
from collections.abc import Callable

import pytest

from hive_process import HivePlace, running, turns_of
from hyperhive.testing.fake_anthropic import FakeAnthropic, error, tool_turn
from story import Json, send, shown

NewPlace = Callable[..., HivePlace]

pytestmark = [pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]

VERSIONS = [
    pytest.param("2.1.328", marks=pytest.mark.needs("claude")),
    pytest.param("2.1.200", marks=[pytest.mark.needs("claude-2.1.200"), pytest.mark.campaign]),
]
TOO_LONG = "prompt is too long: 9 > 8"
FAILURES: dict[str, Json] = {
    "the API fails": error(500, "api_error", "Internal server error")["default"],
    "the CLI is killed": {"blocks": ["too late"], "delay": 30},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_turn_between_two_good_ones_loses_nothing(
    failure: str, version: str, places: NewPlace, api: FakeAnthropic
) -> None:
    """Pain 29: the message had sent something before it failed; that is sent once, however often the turn runs."""
    good = [
        tool_turn(rf"\n{word}\n", send("operator", f"did {word}"), end="over") for word in ("first", "third")
    ]
    failing = tool_turn(
        r"\nsecond\n", send("operator", "began second"), send("operator", "did second"), end="over"
    )
    failing["steps"].insert(1, {**FAILURES[failure]})
    api.scenario = {"rules": [*good, failing]}
    place = places(version)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        for word in ("first", "second", "third"):
            await client.broker.send("operator", "alice", word)
        await hive.until(lambda: failed(api))
        acked = {one.body: one.acked for one in place.mail()}
        assert not acked["second"]
        if failure == "the CLI is killed":
            os.kill(place.cli_of("alice"), signal.SIGKILL)
        # From now on it goes well: by the mark, or by the text that stands in the session already.
        again = tool_turn(r"", send("operator", "began second"), send("operator", "did second"), end="over")
        api.scenario = {"rules": [*good, {**again, "match": r"redelivered after harness restart"}]}
        await hive.until(lambda: all(one.acked for one in place.mail() if one.recipient == "alice"))
        turns = await turns_of(client, "alice", 4)
        dead = await client.broker.dead()
    mail = [one.body for one in place.mail()]
    assert sorted(mail) == sorted(
        ["first", "second", "third", "did first", "began second", "did second", "did third"]
    )
    assert not dead
    kinds = [row.result_kind for row in reversed(turns)]
    assert kinds[0] == kinds[-1] == kinds[-2] == "ok"
    assert set(kinds[1:-2]) == {"limited" if failure == "the API fails" else "crashed"}
    again_shown = [one for one in shown(api.requests) if one.id == 2]
    assert all(one.marked for one in again_shown[1:])


def failed(api: FakeAnthropic) -> bool:
    """The second message's turn got as far as the failure."""
    return any(one["round"] == 1 and "\nsecond\n" in one["text"] for one in api.requests)


@pytest.mark.needs("claude")
async def test_a_poisonous_message_is_given_up_and_what_is_behind_it_is_worked(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """Pain 26: tried so often and no more, each time after a pause; its sender is told, and the operator sees it."""
    poison = {
        "match": r"\n(poison|.*redelivered.*)\n",
        **error(400, "invalid_request_error", TOO_LONG)["default"],
    }
    api.scenario = {"rules": [tool_turn("\nwrite it\n", send("alice", "poison")), poison]}
    place = places(toml="dead_after = 2\n")
    async with running(place) as (hive, client):
        for name in ("alice", "bob"):
            await client.lifecycle.spawn(name)
        await client.broker.send("operator", "bob", "write it")
        await hive.until(lambda: [one.body for one in place.mail()] == ["write it", "poison"])
        await client.broker.send("operator", "alice", "fine")
        await hive.until(lambda: place.mail()[-1].acked)
        [letter] = await client.broker.dead()
        rows = await turns_of(client, "alice", 3)
        await hive.until(lambda: any(f"Your message {letter.id} " in one["text"] for one in api.requests))
    assert (letter.sender, letter.body, letter.tries) == ("bob", "poison", 2)
    assert "prompt_too_long" in (letter.reason or "")
    assert [row.result_kind for row in reversed(rows)] == ["prompt_too_long", "prompt_too_long", "ok"]
    marks = [one.marked for one in shown(api.requests) if one.body == "poison"]
    assert (marks[0], set(marks[1:])) == (False, {True})
    assert len(marks) <= 4, "each try compacts the session once, and tells it again"
