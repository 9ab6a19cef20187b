"""The story of an API that is down for half an hour: on the real CLI, with a clock that only the test moves.

Mail handed to an agent meanwhile is worked when the API is back, in its order, each message once, and none is given up.
"""

from pathlib import Path

import anyio
import pytest

from benches import LIMIT, Bench, Watch, bench
from hyperhive.accounts import Secret
from hyperhive.harness import Harness
from hyperhive.harness.harness import HarnessSettings
from hyperhive.harness.stats import STATS_FILE, TurnStats
from hyperhive.protocol.events import Note, StatusChanged, TurnStateChanged
from hyperhive.testing.clock import FakeClock
from hyperhive.testing.fake_anthropic import FakeAnthropic, error
from parts import claude_path

pytestmark = pytest.mark.timeout(120)

HALF_AN_HOUR = 1800.0
VERSIONS = [
    pytest.param("2.1.328", marks=pytest.mark.needs("claude")),
    pytest.param("2.1.200", marks=[pytest.mark.needs("claude-2.1.200"), pytest.mark.campaign]),
]
DOWN = {
    "overloaded": error(529, "overloaded_error", "Overloaded"),
    "broken": error(500, "api_error", "Internal server error"),
    "too many": error(429, "rate_limit_error", "slow down"),
}


class Outage:
    """An API that can go away and come back: with an error in its place, or with nobody listening at all."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.api = FakeAnthropic(DOWN.get(kind)).start()
        self.port = self.api.port
        if kind == "gone":
            self.api.stop()

    def end(self) -> None:
        if self._kind == "gone":
            self.api = FakeAnthropic(port=self.port).start()
        else:
            self.api.scenario = {}

    def told(self) -> str:
        """All that the model was told by the end, without what it said itself."""
        messages = self.api.requests[-1]["body"]["messages"]
        return str([one["content"] for one in messages if one["role"] == "user"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["gone", "broken"])
async def test_mail_of_half_an_hour_without_the_api_is_worked_when_it_is_back(
    tmp_path: Path, version: str, kind: str
) -> None:
    outage = await anyio.to_thread.run_sync(Outage, kind)
    try:
        await play(tmp_path, version, outage)
    finally:
        await anyio.to_thread.run_sync(outage.api.stop)


async def play(tmp_path: Path, version: str, outage: Outage) -> None:
    clock = FakeClock()
    environ = {
        "HYPERHIVE_CLAUDE": str(claude_path(version)),
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{outage.port}",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    async with bench(tmp_path, clock=clock, environ=environ) as hive:
        await hive.accounts.set("default", "key", Secret("dummy-key-for-tests"))
        # The CLI lives in real time: half an hour that passes in a moment must not count as its silence.
        hive.settings = HarnessSettings(stuck_seconds=1e6, result_grace=1e6)
        async with hive.running(hive.harness()) as alice:
            watch = Watch(alice)
            mail = [await hive.send("first of the outage")]
            began = clock.monotonic()
            while clock.monotonic() - began < HALF_AN_HOUR:
                await watch.state("waiting", "limited")
                if len(mail) < 3:
                    mail.append(await hive.send(f"number {len(mail) + 1} of the outage"))
                await pause_over(alice, clock)
            await watch.state("waiting", "limited")
            assert [await hive.acked(one) for one in mail] == [False, False, False]
            tries = len([event for event in watch.of(TurnStateChanged) if event.state == "waiting"])
            assert 8 <= tries <= 14, "the pauses grow to five minutes and no further"
            await anyio.to_thread.run_sync(outage.end)
            await pause_over(alice, clock)
            await watch.state("idle")
            assert [await hive.acked(one) for one in mail] == [True, True, True]
            assert await hive.broker.dead() == []
            said = [note.text for note in watch.of(Note)]
            assert any("next try in 5 s" in text for text in said)
            assert any("next try in 300 s" in text for text in said)
            assert watch.of(StatusChanged) == [], "no login was missing"
            await all_told_once(hive, outage)


async def pause_over(alice: Harness, clock: FakeClock) -> None:
    """Let the pause that has been announced begin, and pass."""
    until = alice.display.until
    assert until is not None
    with anyio.fail_after(LIMIT):
        await clock.until_sleepers()
        await anyio.wait_all_tasks_blocked()
    await clock.advance(until + 1 - clock.time())


async def all_told_once(hive: Bench, outage: Outage) -> None:
    """The model has each message's text once, and the turns of the outage are in the statistics."""
    told = outage.told()
    for text in ("first of the outage", "number 2 of the outage", "number 3 of the outage"):
        assert told.count(text) == 1, text
    stats = TurnStats(hive.paths.agent_harness(hive.name) / STATS_FILE, hive.clock)
    kinds = [row.result_kind for row in await stats.newest(100)]
    assert kinds[:3] == ["ok", "ok", "ok"]
    assert set(kinds[3:]) == {"limited"}
