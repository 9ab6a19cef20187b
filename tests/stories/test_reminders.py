"""A reminder on the real agent CLI, through the death of the hive: set in one life, worked in the next."""

from collections.abc import Callable

import pytest

from hive_process import HivePlace, HiveProcess, connected, running
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import StateFile
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from story import bash

NewPlace = Callable[..., HivePlace]

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(120)]

PATH = "/state/notes/plants.md"
REMIND = {"message": "water them, code 4711", "delay_seconds": 5, "file_path": "notes/plants.md"}
RULES = [
    tool_turn("look after the plants", ("mcp__hyperhive__remind", REMIND), end="set"),
    tool_turn(
        f"its text is in the file {PATH}",
        bash(f"cat {PATH}"),
        ("mcp__hyperhive__send", {"to": "operator", "body": f"watered, see {PATH}."}),
        end="done",
    ),
]


async def test_a_reminder_reaches_its_agent_beyond_the_death_of_the_hive(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """Pain: timers that lived in a process died with it (23). It comes once, and its file is there for the box."""
    api.scenario = {"rules": RULES}
    place = places()
    async with HiveProcess(place) as hive:
        async with connected(place) as client:
            await client.lifecycle.spawn("alice")
            await client.broker.send("operator", "alice", "look after the plants")
            await hive.until(lambda: any("reminder 1 is set" in one["tool_result"] for one in api.requests))
        await hive.kill()
    await place.nothing_left()

    async with running(place) as (hive, client):
        await hive.until(lambda: any(one.body.startswith("watered") for one in place.mail()))
        assert any("code 4711" in one["tool_result"] for one in api.requests), "its Bash read the file"
        [row] = await client.broker.inbox()
        assert [ref.path for ref in row.file_refs] == [PATH]
        file = await client.request(r.StateFileRead(message=row.id))
        assert isinstance(file, StateFile)
        assert file.text == REMIND["message"]
        woken = [one["text"] for one in api.requests if one["round"] == 0 and "[reminder 1, " in one["text"]]
        assert len(woken) == 1
        assert "from system, boundary" in woken[0]
        assert ", set by you at " in woken[0]
