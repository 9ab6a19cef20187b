"""Killing one part of the hive at random moments of the story, while the others work on: core, harness, CLI.

Alice's harness is a process of its own here. What was killed is started again at once (a CLI: by its harness). At the
end everything must have happened once. The seed is printed; HYPERHIVE_TEST_SEED sets it.
"""

import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import pytest

from hive_process import PATIENCE_SECONDS, HivePlace, HiveProcess, agent_serve, connected
from hyperhive.testing.fake_anthropic import FakeAnthropic
from story import Task, once, scenario, shown

NewPlace = Callable[..., HivePlace]

OWN = """
max_turns = 4
[agents.alice]
harness = "own"
"""
THINKING_SECONDS = 0.08

pytestmark = [pytest.mark.needs("claude"), pytest.mark.needs("bwrap"), pytest.mark.timeout(400)]


class Parts:
    """The core's process and alice's harness, either of which may be killed and started again."""

    def __init__(self, place: HivePlace) -> None:
        self.place = place
        self.core = HiveProcess(place)
        self.harness = agent_serve(place, "alice")

    async def kill(self, victim: str) -> None:
        """Ends it without a word; what the hive does not start again by itself is started anew."""
        if victim in {"core", "both"}:
            await self.core.kill()
        if victim in {"harness", "both"}:
            await self.harness.kill()
        if victim == "CLI":
            for pid in self.place.clis():
                with suppress(ProcessLookupError):  # it may have ended just now
                    os.kill(pid, signal.SIGKILL)
        if self.core.process.returncode is not None:
            await self.core.__aexit__(None, None, None)
            self.core = HiveProcess(self.place)
            await self.core.__aenter__()
        if self.harness.process.returncode is not None:
            await self.harness.__aexit__(None, None, None)
            self.harness = agent_serve(self.place, "alice")
            await self.harness.__aenter__()


@asynccontextmanager
async def all_parts(place: HivePlace) -> AsyncIterator[Parts]:
    """Core, alice and her harness."""
    parts = Parts(place)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lambda: parts.core.__aexit__(None, None, None))
        stack.push_async_callback(lambda: parts.harness.__aexit__(None, None, None))
        await parts.core.__aenter__()
        async with connected(place) as client:
            await client.lifecycle.spawn("alice")
        await parts.harness.__aenter__()
        yield parts


async def parts_killed(place: HivePlace, api: FakeAnthropic, rounds: int) -> None:
    seed = int(os.environ.get("HYPERHIVE_TEST_SEED") or secrets.randbits(32))
    print(f"seed {seed}")
    chance = random.Random(seed)
    tasks = [Task(number) for number in range(rounds + 1)]
    api.scenario = scenario(tasks, delay=THINKING_SECONDS)
    done: set[int] = set()
    looked_at = 0
    async with all_parts(place) as parts:
        for task in tasks[:-1]:
            async with connected(place) as client:
                await client.broker.send("operator", "manager", task.order)
            victim, seconds = chance.choice(["core", "harness", "both", "CLI"]), chance.uniform(0, 1.5)
            await anyio.sleep(seconds)
            await parts.kill(victim)
            print(f"task {task.number}: killed {victim} after {seconds * 1000:.0f} ms")
            late = [one for one in shown(api.requests[looked_at:]) if one.id in done]
            assert not late, f"handed out after their ack: {late}"
            done = {one.id for one in place.mail() if one.acked}
            looked_at = len(api.requests)
        async with connected(place) as client:
            await client.broker.send("operator", "manager", tasks[-1].order)
        reports = {task.report for task in tasks}
        await parts.core.until(
            lambda: reports <= {one.body for one in place.mail()} and quiet(place),
            PATIENCE_SECONDS + 5 * rounds,
        )
    once([one.way for one in place.mail()], [way for task in tasks for way in task.ways])
    assert len(place.mail()) == 4 * len(tasks)
    assert not [one for one in place.mail() if one.parked]
    seen: set[int] = set()
    for one in shown(api.requests):
        assert one.marked or one.id not in seen, f"came again without the banner: {one}"
        seen.add(one.id)


def quiet(place: HivePlace) -> bool:
    """Nobody but the operator has anything to do."""
    return all(one.acked for one in place.mail() if one.recipient != "operator")


async def test_parts_that_are_killed_lose_and_double_nothing(places: NewPlace, api: FakeAnthropic) -> None:
    await parts_killed(places(toml=OWN), api, rounds=5)


@pytest.mark.campaign
@pytest.mark.timeout(2400)
async def test_fifty_parts_that_are_killed_lose_and_double_nothing(
    places: NewPlace, api: FakeAnthropic
) -> None:
    await parts_killed(places(toml=OWN), api, rounds=50)
