"""`kill -9` of the whole hive at random moments of the story: nothing is lost, nothing doubled, nobody left behind.

Every round gives the manager a new task, kills the hive's process somewhere in the story, looks at what it left, and
starts it again on the same files. After the last round the story must come to its end by itself. The seed is printed;
HYPERHIVE_TEST_SEED sets it.
"""

import os
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import pytest

from hive_process import PATIENCE_SECONDS, HivePlace, HiveProcess, Mail, connected
from hyperhive.harness.wake import REDELIVERED
from hyperhive.testing.fake_anthropic import FakeAnthropic, tool_turn
from story import Shown, Task, once, scenario, send, shown
from waiting import within

NewPlace = Callable[..., HivePlace]

THINKING_SECONDS = 0.08
"""How long a model takes for an answer, so that kills hit turns and not only the starts of processes."""

pytestmark = [pytest.mark.needs("claude"), pytest.mark.timeout(400)]


@dataclass
class Watch:
    """What is known of the mail from all rounds so far, and what may therefore not be."""

    place: HivePlace
    api: FakeAnthropic
    acked: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    out: set[int] = field(default_factory=set)
    marked: int = 0
    again: int = 0
    _read: int = 0

    def after_a_kill(self, tasks: list[Task]) -> None:
        """No process lives any more: look at the files, and at what models were shown in this life of the hive."""
        assert self.place.integrity() == "ok"
        mail = self.place.mail()
        self.all_is_well(mail, tasks)
        self.prompts()
        self.acked |= {one.id for one in mail if one.acked}
        self.out |= {one.id for one in mail if one.delivered or one.attempt}

    def all_is_well(self, mail: list[Mail], tasks: list[Task]) -> None:
        """Each message is acked or pending, none is doubled, no ack was taken back, what is done had its effect."""
        ways = [one.way for one in mail]
        assert len(set(ways)) == len(ways), f"doubled: {sorted(way for way in ways if ways.count(way) > 1)}"
        assert not [one for one in mail if one.parked or one.tries], "a kill is no message's fault"
        lost = self.acked - {one.id for one in mail if one.acked}
        assert not lost, f"acks that were taken back: {lost}"
        acked = {one.way for one in mail if one.acked}
        for task in tasks:
            assert task.ways[0] in ways, "an answered send was lost"
            for cause, effect in zip(task.ways, task.ways[1:], strict=False):
                assert cause not in acked or effect in ways, f"{cause} is done, and {effect} is not there"

    def prompts(self) -> None:
        """What models were shown since the last look: nothing that was acked before, and what came again was marked."""
        requests = self.api.requests[self._read :]
        self._read += len(requests)
        for request in requests:
            for one in shown([request]):
                self._prompt(one)

    def _prompt(self, one: Shown) -> None:
        assert one.id not in self.acked, f"{one} was handed out after its ack"
        if one.id in self.seen:
            self.again += 1
            assert one.marked, f"{one} came again without the banner"
        if one.marked:
            self.marked += 1
            assert one.id in self.out, f"{one} is marked, and had never been handed out"
        self.seen.add(one.id)


async def a_moment(chance: random.Random, hive: HiveProcess, api: FakeAnthropic) -> str:
    """Waits for a random moment of the story that has just begun. What it was, for the report."""
    seconds = chance.choice([0.0, chance.uniform(0, 0.05), chance.uniform(0, 0.3)])
    frames, requests = (chance.randrange(24), 0) if chance.random() < 0.4 else (0, chance.randrange(1, 9))
    goal = len(api.requests) + requests
    with anyio.move_on_after(3):  # the story may be over before so much has happened
        await hive.nth_frame(frames)
        while len(api.requests) < goal:  # noqa: ASYNC110 (the stand-in lives in threads, and tells nobody)
            await anyio.sleep(0.002)
    await anyio.sleep(seconds)
    return f"{frames} frames, {requests} requests and {seconds * 1000:.0f} ms"


async def a_prompt(hive: HiveProcess, api: FakeAnthropic) -> str:
    """Waits until a model is shown a message, however long a busy machine takes: one kill at least hits a turn.

    A CLI asks the API for other things, too, and some of them before its turn.
    """
    goal = len(shown(api.requests)) + 1
    with within(PATIENCE_SECONDS, lambda: f"no turn asks its model: {hive.last_words()}"):
        while len(shown(api.requests)) < goal:  # noqa: ASYNC110 (the stand-in lives in threads, and tells nobody)
            await anyio.sleep(0.002)
    return "a prompt"


async def killed_again_and_again(place: HivePlace, api: FakeAnthropic, rounds: int) -> None:
    seed = int(os.environ.get("HYPERHIVE_TEST_SEED") or secrets.randbits(32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    tasks = [Task(number) for number in range(rounds + 1)]
    api.scenario = scenario(tasks, delay=THINKING_SECONDS)
    watch = Watch(place, api)
    for number in range(rounds):
        async with HiveProcess(place) as hive:
            async with connected(place) as client:
                if number == 0:
                    await client.lifecycle.spawn("alice")
                await client.broker.send("operator", "manager", tasks[number].order)
            moment = await (a_prompt(hive, api) if number == rounds // 2 else a_moment(chance, hive, api))
            await hive.kill()
        await place.nothing_left()
        mail = place.mail()
        print(f"round {number}: killed after {moment}; {sum(one.acked for one in mail)} of {len(mail)} acked")
        watch.after_a_kill(tasks[: number + 1])
    async with HiveProcess(place) as hive:
        async with connected(place) as client:
            await client.broker.send("operator", "manager", tasks[-1].order)
        reports = {task.report for task in tasks}
        patience = PATIENCE_SECONDS + 5 * rounds  # what the kills left undone has piled up
        await hive.until(lambda: reports <= {one.body for one in place.mail()} and quiet(place), patience)
        watch.all_is_well(place.mail(), tasks)
        watch.prompts()
    once([one.way for one in place.mail()], [way for task in tasks for way in task.ways])
    assert len(place.mail()) == 4 * len(tasks)
    print(f"{watch.again} prompts came again, {watch.marked} were marked")
    assert watch.marked, "no kill hit a turn: the test shows nothing"


def quiet(place: HivePlace) -> bool:
    """Nobody but the operator has anything to do."""
    return all(one.acked for one in place.mail() if one.recipient != "operator")


@pytest.mark.needs("bwrap")
async def test_five_kills_lose_and_double_nothing(places: NewPlace, api: FakeAnthropic) -> None:
    await killed_again_and_again(places(), api, rounds=5)


@pytest.mark.campaign
@pytest.mark.timeout(2400)
@pytest.mark.needs("bwrap", "claude-2.1.200")
@pytest.mark.parametrize(
    ("version", "runtime"), [("2.1.328", "bwrap"), ("2.1.328", "process"), ("2.1.200", "bwrap")]
)
async def test_fifty_kills_lose_and_double_nothing(
    version: str, runtime: str, places: NewPlace, api: FakeAnthropic
) -> None:
    await killed_again_and_again(places(version, runtime=runtime), api, rounds=50)


@pytest.mark.needs("bwrap")
async def test_mail_that_a_killed_turn_took_by_recv_comes_again_with_the_banner(
    places: NewPlace, api: FakeAnthropic
) -> None:
    """The turn runs again, takes it again, and says so; what it had sent is not sent twice."""
    take = ("mcp__hyperhive__recv", {"wait_seconds": 20})
    rule = tool_turn(r"\nwork\n", take, send("operator", "took it"), end="over")
    slow = {**rule, "steps": [*rule["steps"][:2], {**rule["steps"][2], "delay": 30}], "times": 3}
    api.scenario = {"rules": [slow, rule]}
    place = places()
    async with HiveProcess(place) as hive:
        async with connected(place) as client:
            await client.lifecycle.spawn("alice")
            await client.broker.send("operator", "alice", "work")
            await client.broker.send("operator", "alice", "more")
        await hive.until(
            lambda: len(place.mail()) == 3 and [one for one in api.requests if one["round"] == 2]
        )
        await hive.kill()
    await place.nothing_left()
    async with HiveProcess(place) as hive:
        await hive.until(lambda: quiet(place))
    assert [(one.body, one.acked) for one in place.mail()[:2]] == [("work", True), ("more", True)]
    assert [one.body for one in place.mail()] == ["work", "more", "took it"]
    assert [(one.body, one.marked) for one in shown(api.requests)] == [("work", False), ("work", True)]
    first, again = [one["tool_result"] for one in api.requests if one["round"] == 1]
    assert first.startswith("from: operator\n\nmore\n")
    assert again.startswith(f"{REDELIVERED}\nfrom: operator\n\nmore\n"), again
