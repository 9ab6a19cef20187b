"""The main job from end to end on the real agent CLI: operator → manager → agent → manager → operator."""

import json
from collections.abc import Callable

import pytest

from hive_process import HivePlace, HiveProcess, running, turns_of
from hyperhive.client import RemoteHive
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import EventPage, HiveStatus
from hyperhive.protocol.types import Mount, TurnRow
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from story import Task, bash, once, scenario, send, shown

NewPlace = Callable[..., HivePlace]

NEWEST, OLDEST = "2.1.328", "2.1.200"
SETUPS = [
    pytest.param(NEWEST, "bwrap", marks=[pytest.mark.needs("claude"), pytest.mark.needs("bwrap")]),
    pytest.param(NEWEST, "process", marks=pytest.mark.needs("claude")),
    pytest.param(OLDEST, "bwrap", marks=[pytest.mark.needs("claude-2.1.200"), pytest.mark.needs("bwrap")]),
]

pytestmark = pytest.mark.timeout(120)


def told(place: HivePlace, task: Task) -> bool:
    """The report is there, and no agent has anything left to do."""
    mail = place.mail()
    return any(one.body == task.report for one in mail) and all(
        one.acked for one in mail if one.recipient != "operator"
    )


async def tell(place: HivePlace, hive: HiveProcess, client: RemoteHive, task: Task) -> None:
    """One story from the operator's order to the last ack."""
    await client.broker.send("operator", "manager", task.order)
    await hive.until(lambda: told(place, task))


@pytest.mark.parametrize(("version", "runtime"), SETUPS)
async def test_each_message_happens_once_in_warm_turns_with_the_figures_of_the_api(
    version: str, runtime: str, places: NewPlace, api: FakeAnthropic
) -> None:
    tasks = [Task(1), Task(2)]
    api.scenario = scenario(tasks)
    place = places(version, runtime=runtime)
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await tell(place, hive, client, tasks[0])
        warm = set(place.clis())
        await tell(place, hive, client, tasks[1])
        assert len(warm) == 2
        assert set(place.clis()) == warm, "the second story ran in the processes of the first"
        inbox = await client.broker.inbox()
        turns = {name: await turns_of(client, name, count) for name, count in (("manager", 5), ("alice", 2))}
        usage = await client.request(r.Events(name="alice", kind="token_usage_changed"))
        status = await client.lifecycle.status("alice")
    ways = [one.way for one in place.mail()]
    once(ways, [way for task in tasks for way in task.ways])
    assert len(ways) == 8
    assert [row.body for row in inbox] == [tasks[1].report, tasks[0].report]
    seen = shown(api.requests)
    assert [one.body for one in seen] == [
        body for task in tasks for _, to, body in task.ways if to != "operator"
    ]
    assert not any(one.marked for one in seen)
    assert {name: [row.result_kind for row in rows] for name, rows in turns.items()} == {
        "manager": ["ok"] * 5,  # one for the news that alice is there
        "alice": ["ok"] * 2,
    }
    assert isinstance(usage, EventPage)
    for turn in turns["alice"]:
        figures_are_the_apis(turn, usage, status)


def figures_are_the_apis(turn: TurnRow, usage: EventPage, status: HiveStatus) -> None:
    """Context by the last call, cost by the sum of both."""
    assert (turn.input_tokens, turn.output_tokens) == (24, 12)
    assert (turn.cache_read_input_tokens, turn.cache_creation_input_tokens) == (3000, 160)
    assert (turn.last_input_tokens, turn.last_cache_read_input_tokens) == (13, 2000)
    assert turn.last_cache_creation_input_tokens == 90
    assert turn.cost > 0
    assert json.loads(turn.tool_call_breakdown_json) == {"mcp__hyperhive__send": 1}
    assert status.agents[0].view.ctx_tokens == 2103
    last = usage.events[-1]
    assert (last["ctx"]["input_tokens"], last["ctx"]["cache_read_input_tokens"]) == (13, 2000)
    assert (last["cost"]["input_tokens"], last["cost"]["cache_read_input_tokens"]) == (24, 3000)


@pytest.mark.needs("claude")
async def test_mail_taken_by_recv_inside_a_turn_is_done_with_it(places: NewPlace, api: FakeAnthropic) -> None:
    """The second message is never the subject of a turn of its own, and is acked by the turn that took it."""
    api.scenario = {
        "rules": [
            tool_turn(
                r"\nfirst\n",
                ("mcp__hyperhive__recv", {"wait_seconds": 20, "max": 5}),
                send("operator", "both done"),
                end="done",
            )
        ]
    }
    place = places(runtime="process")
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "first")
        await hive.until(lambda: shown(api.requests))
        await client.broker.send("operator", "alice", "second")
        await hive.until(lambda: len(place.mail()) == 3 and all(one.acked for one in place.mail()[:2]))
        (turn,) = await turns_of(client, "alice", 1)
    assert turn.result_kind == "ok"
    assert [one.body for one in shown(api.requests)] == ["first"]
    taken = next(one["tool_result"] for one in api.requests if one["round"] == 1)
    assert taken.startswith("from: operator\n\nsecond\n")
    assert "inbox: 0 unread" in taken


@pytest.mark.needs("claude", "bwrap")
@pytest.mark.parametrize("version", [NEWEST, pytest.param(OLDEST, marks=pytest.mark.needs("claude-2.1.200"))])
async def test_soon_mail_reaches_the_running_turn_at_its_next_tool_boundary(
    version: str, places: NewPlace, api: FakeAnthropic
) -> None:
    """Pain 22: mail that comes while a tool runs cancels nothing; it is read when the tool has ended."""
    place = places(version)
    flag = place.root / "shared"
    flag.mkdir()
    wait = "while [ ! -e /workspace/flag/go ]; do sleep 0.05; done; sleep 1; echo went"
    api.scenario = {"rules": [tool_turn(r"\nlong work\n", bash(wait), end="done")]}
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice", mounts=[Mount(source=str(flag), target="/workspace/flag")])
        await client.broker.send("operator", "alice", "long work")
        await hive.until(lambda: shown(api.requests))
        await client.broker.send("operator", "alice", "by the way", urgency="soon")
        await hive.until(lambda: place.mail()[1].delivered)
        (flag / "go").touch()
        await hive.until(lambda: all(one.acked for one in place.mail()))
        turns = await turns_of(client, "alice", 1)
    assert [turn.result_kind for turn in turns] == ["ok"], "one turn for both"
    assert any(one["round"] and "went" in one["tool_result"] for one in api.requests)
    assert any(one["round"] and "by the way" in json.dumps(one["body"]["messages"]) for one in api.requests)


@pytest.mark.needs("claude", "bwrap")
async def test_interrupting_mail_goes_first_and_the_interrupted_comes_again_marked(
    places: NewPlace, api: FakeAnthropic
) -> None:
    api.scenario = {
        "rules": [{**tool_turn(r"\nlong work\n", bash("sleep 1; sleep 30; echo slept")), "times": 1}]
    }
    place = places()
    async with running(place) as (hive, client):
        await client.lifecycle.spawn("alice")
        await client.broker.send("operator", "alice", "long work")
        await hive.until(lambda: shown(api.requests))
        await client.broker.send("operator", "alice", "stop that", urgency="interrupt")
        await hive.until(lambda: all(one.acked for one in place.mail()))
        turns = await turns_of(client, "alice", 3)
    assert [turn.result_kind for turn in turns] == ["ok", "ok", "failed"]
    seen = shown(api.requests)
    assert [one.body for one in seen[:2]] == ["long work", "stop that"]
    assert seen[2].id == seen[0].id
    assert [one.marked for one in seen] == [False, False, True]
    assert f"its turn was interrupted: message {seen[1].id} from operator" in seen[2].body
