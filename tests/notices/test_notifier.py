"""One transition, at most one notice; nothing is told twice, whatever is restarted; settled ones are taken back."""

import io
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import structlog
from anyio.abc import SocketAttribute, SocketStream

from hyperhive import logs
from hyperhive.config import Notify, NotifyChannel, parse_hive_file
from hyperhive.errors import NotFound
from hyperhive.notices import MIGRATIONS, Failed, Matter, Notice, Notifier, Unknown, channels
from hyperhive.notices.channels import Channel, channel_of, post
from hyperhive.notices.matters import masker
from hyperhive.notices.notifier import RETRIES
from hyperhive.store import Store
from hyperhive.testing.clock import FakeClock
from receiver import Receiver, receiver


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as taken:
        yield taken


class World:
    """What waits, and a notifier that lives on one database through many lives."""

    def __init__(self, path: Path, toml: str) -> None:
        self.path = path
        self.clock = FakeClock()
        self.setting: Notify = parse_hive_file(toml).notify
        self.waits: list[Matter] = []

    async def matters(self) -> list[Matter]:
        return list(self.waits)

    @asynccontextmanager
    async def life(self, make: Callable[[NotifyChannel], Channel] = channel_of) -> AsyncIterator[Notifier]:
        async with Store.open(self.path, migrations=[MIGRATIONS], clock=self.clock) as store:
            notifier = Notifier(
                store=store,
                clock=self.clock,
                setting=lambda: self.setting,
                matters=self.matters,
                mask=masker(lambda: ["dummy-key-123456"]),
                channel_of=make,
            )
            async with anyio.create_task_group() as group:
                group.start_soon(notifier.run)
                yield notifier
                group.cancel_scope.cancel()


def ntfy(url: str, more: str = "") -> str:
    return (
        f'[notify]\n{more}\n[notify.channels.phone]\nkind = "ntfy"\nurl = "{url}/hive"\nafter_seconds = 60\n'
    )


QUESTION = Matter(kind="question", id="7", agent="alice", title="alice asks: blue or red?")


async def states(notifier: Notifier, wanted: list[str]) -> None:
    """Returns when the delivery log, oldest first, says this."""
    with anyio.fail_after(20):
        while [row.state for row in reversed(await notifier.log())] != wanted:
            await anyio.wait_all_tasks_blocked()


async def later(world: World, notifier: Notifier, seconds: float) -> None:
    """Lets the notifier take down what waits, and its time pass."""
    notifier.touch()
    await notifier.look()
    with anyio.fail_after(20):
        await world.clock.until_sleepers(1)
    await world.clock.advance(seconds)


async def test_a_question_that_nobody_settles_is_told_of_once_and_then_taken_back(
    tmp_path: Path, there: Receiver
) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    world.waits = [QUESTION]
    async with world.life() as notifier:
        await states(notifier, ["waiting"])
        assert not there.posts
        await later(world, notifier, 61)
        await states(notifier, ["sent"])
        notifier.touch()
        notifier.touch()
        world.waits = []
        notifier.touch()
        await states(notifier, ["resolved"])
    told, settled = there.bodies
    assert told["title"] == "alice asks: blue or red?"
    assert told["topic"] == "hive"
    assert settled["title"].startswith("settled: ")
    assert settled["sequence_id"] == told["sequence_id"], "replaces the first one on the phone"
    assert settled["priority"] < told["priority"]


def test_a_channels_address_is_in_no_log_line(there: Receiver) -> None:
    """The path of a webhook is often its only secret."""
    lines = io.StringIO()
    with logs.configured(stream=lines):
        anyio.run(post, f"{there.url}/hooks/T0-dummy-path", b"{}", None)
    structlog.reset_defaults()
    assert len(there.posts) == 1
    assert "dummy-path" not in lines.getvalue()


async def test_what_is_settled_at_a_screen_in_time_is_never_told(tmp_path: Path, there: Receiver) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    world.waits = [QUESTION]
    async with world.life() as notifier:
        await states(notifier, ["waiting"])
        world.waits = []
        notifier.touch()
        await states(notifier, ["withdrawn"])
    assert not there.posts


async def test_a_restart_tells_nothing_again_and_misses_nothing(tmp_path: Path, there: Receiver) -> None:
    """Pain 11: what waits for the human reaches them away from the screens, through restarts, once."""
    world = World(tmp_path / "db", ntfy(there.url))
    world.waits = [QUESTION]
    async with world.life() as notifier:
        await states(notifier, ["waiting"])
        await later(world, notifier, 61)
        await states(notifier, ["sent"])
    crash = Matter(kind="failed", id="bob@1", agent="bob", title="bob crashed")
    world.waits = [QUESTION, crash]  # came up while no hive ran
    heard: list[str] = []
    async with world.life() as notifier:
        notifier.subscribe(lambda matter: heard.append(matter.key))
        await states(notifier, ["sent", "sent"])
        notifier.touch()
        await notifier.look()
    assert [body["title"] for body in there.bodies] == ["alice asks: blue or red?", "bob crashed"]
    assert heard in (["failed:bob@1"], [])  # the first look may have come before the subscription


async def test_those_who_listen_in_the_process_hear_each_matter_once(tmp_path: Path) -> None:
    world = World(tmp_path / "db", "")
    heard: list[str] = []
    async with world.life() as notifier:
        await notifier.look()
        notifier.subscribe(
            lambda matter: heard.append(f"+{matter.key}"), lambda matter: heard.append(f"-{matter.key}")
        )
        world.waits = [QUESTION]
        await notifier.look()
        await notifier.look()
        world.waits = []
        await notifier.look()
        await notifier.look()
    assert heard == ["+question:7", "-question:7"]


async def test_what_was_on_its_way_when_the_hive_died_is_not_sent_again(tmp_path: Path) -> None:
    world = World(tmp_path / "db", ntfy("http://127.0.0.1:1"))
    world.waits = [QUESTION]
    on_its_way = anyio.Event()

    class Endless:
        async def send(self, notice: Notice) -> None:
            del notice
            on_its_way.set()
            await anyio.sleep_forever()

    async with world.life(lambda _: Endless()) as notifier:
        await states(notifier, ["waiting"])
        await later(world, notifier, 61)
        with anyio.fail_after(20):
            await on_its_way.wait()
    sent: list[str] = []

    class Counting:
        async def send(self, notice: Notice) -> None:
            sent.append(notice.key)

    async with world.life(lambda _: Counting()) as notifier:
        await states(notifier, ["unknown"])
        await notifier.look()
    assert not sent


async def test_what_surely_did_not_arrive_is_tried_again_and_what_perhaps_did_is_not(
    tmp_path: Path, there: Receiver
) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    world.waits = [
        Matter(kind="dead", id="1", agent="bob", title="one"),
        Matter(kind="dead", id="2", title="two"),
    ]
    there.statuses = [503, 0]
    async with world.life() as notifier:
        await states(notifier, ["waiting", "unknown"])
        [row] = [row for row in await notifier.log() if row.state == "waiting"]
        assert row.error == "the other side answered 503"
        await later(world, notifier, 31)
        await states(notifier, ["sent", "unknown"])
    assert [body["title"] for body in there.bodies] == ["one", "two", "one"]


async def test_a_channel_that_is_never_there_is_given_up_and_the_log_says_why(tmp_path: Path) -> None:
    world = World(tmp_path / "db", ntfy("http://127.0.0.1:1"))
    world.waits = [Matter(kind="dead", id="1", title="one")]
    async with world.life() as notifier:
        for tries in range(1, RETRIES):
            with anyio.fail_after(20):
                while [(row.state, row.tries) for row in await notifier.log()] != [("waiting", tries)]:
                    await anyio.wait_all_tasks_blocked()
            await later(world, notifier, 3601)
        await states(notifier, ["failed"])
        [row] = await notifier.log()
    assert row.error == "no connection: ConnectError"
    assert row.tries == 8


async def test_many_at_once_are_one_notice_which_is_taken_back_when_all_are_settled(
    tmp_path: Path, there: Receiver
) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    world.waits = [Matter(kind="dead", id=str(n), agent=f"a{n}", title="gone") for n in range(5)]
    async with world.life() as notifier:
        await states(notifier, ["sent"] * 5)
        world.waits = world.waits[:1]
        await notifier.look()
        assert len(there.posts) == 1
        world.waits = []
        notifier.touch()
        await states(notifier, ["resolved"] * 5)
    assert [body["title"] for body in there.bodies] == ["5 things need you", "settled: all 5"]


@pytest.mark.may_block("the test reads its configuration with a time zone in it")
async def test_quiet_hours_hold_back_but_what_the_setting_excepts(tmp_path: Path, there: Receiver) -> None:
    quiet = 'quiet_hours = "22:00-07:00"\ntime_zone = "UTC"\nalso_quiet = ["question"]'
    world = World(tmp_path / "db", ntfy(there.url, quiet))
    seconds_of_day = world.clock.time() % 86400
    world.clock.jump(23 * 3600 - seconds_of_day)
    world.waits = [QUESTION, Matter(kind="failed", id="bob@1", agent="bob", title="bob crashed")]
    async with world.life() as notifier:
        await states(notifier, ["waiting", "sent"])
        await later(world, notifier, 3600)
        await states(notifier, ["waiting", "sent"])
        for _ in range(6):  # until six o'clock
            await later(world, notifier, 3600)
        await states(notifier, ["waiting", "sent"])
        await later(world, notifier, 3600)
        await states(notifier, ["sent", "sent"])


async def test_a_muted_agent_and_an_unwanted_kind_are_not_told_of(tmp_path: Path, there: Receiver) -> None:
    toml = ntfy(there.url) + 'mute = ["alice"]\nmatters = ["dead", "failed"]\n'
    world = World(tmp_path / "db", toml)
    world.waits = [
        Matter(kind="dead", id="1", agent="alice", title="muted"),
        Matter(kind="approval", id="1", agent="bob", title="unwanted"),
        Matter(kind="dead", id="2", agent="bob", title="told"),
    ]
    async with world.life() as notifier:
        await states(notifier, ["sent"])
    assert [body["title"] for body in there.bodies] == ["told"]


async def test_a_webhook_gets_its_template_filled_and_its_token_and_no_secret(
    tmp_path: Path, there: Receiver
) -> None:
    (tmp_path / "token").write_text("dummy-token\n")
    toml = (
        f'[notify.channels.chat]\nkind = "webhook"\nurl = "{there.url}/in"\ntoken_file = "{tmp_path}/token"\n'
        'template = \'{"text": "{agent}: {title} {text}"}\'\n'
    )
    world = World(tmp_path / "db", toml)
    world.waits = [
        Matter(kind="dead", id="1", agent="bob", title='say "hi"', text="key dummy-key-123456\x1b[31m")
    ]
    async with world.life() as notifier:
        await states(notifier, ["sent"])
        rows = await notifier.log()
    path, headers, body = there.posts[0]
    assert path == "/in"
    assert headers["authorization"] == "Bearer dummy-token"
    assert body["text"].startswith('bob: say "hi" key •••')
    assert "\x1b" not in body["text"]
    assert "dummy-key" not in repr(rows), "nor does the log keep it"


async def test_what_was_settled_and_comes_up_again_is_told_of_again(tmp_path: Path, there: Receiver) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    lost = Matter(kind="limit", id="default", title="account default is at its limit")
    async with world.life() as notifier:
        for expected in (["sent"], ["resolved"], ["resolved", "sent"], ["resolved", "resolved"]):
            world.waits = [] if expected[-1] == "resolved" else [lost]
            notifier.touch()
            await states(notifier, expected)
        keys = [row.key for row in await notifier.log()]
    assert keys == ["limit:default#2", "limit:default"]
    assert len(there.posts) == 4


async def test_the_test_command_sends_one_and_says_how_it_went(tmp_path: Path, there: Receiver) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    async with world.life() as notifier:
        await notifier.test("phone")
        assert there.bodies[0]["title"] == "hyperhive"
        there.statuses = [401]
        with pytest.raises(Failed, match="401"):
            await notifier.test("phone")
        with pytest.raises(NotFound, match="no channel 'pager'"):
            await notifier.test("pager")
        assert await notifier.log() == []


async def test_a_disk_that_refuses_for_a_while_silences_nobody(tmp_path: Path, there: Receiver) -> None:
    world = World(tmp_path / "db", ntfy(there.url))
    refuse = "CREATE TRIGGER full BEFORE UPDATE ON notices BEGIN SELECT RAISE(ABORT, 'no room'); END"
    async with world.life() as notifier:
        await notifier.look()
        await sql(world, refuse)
        world.waits = [Matter(kind="dead", id="1", agent="bob", title="one")]
        await later(world, notifier, 0)
        assert [row.state for row in await notifier.log()] == ["waiting"]
        await sql(world, "DROP TRIGGER full")
        await later(world, notifier, 31)
        await states(notifier, ["sent"])
    assert [body["title"] for body in there.bodies] == ["one"]


async def sql(world: World, statement: str) -> None:
    """Another hand at the database."""

    def run() -> None:
        with closing(sqlite3.connect(world.path)) as conn, conn:
            conn.execute(statement)

    await anyio.to_thread.run_sync(run)


async def test_a_slow_channel_keeps_no_other_waiting(tmp_path: Path, there: Receiver) -> None:
    more = f'[notify.channels.slow]\nkind = "webhook"\nurl = "{there.url}/slow"\n'
    world = World(tmp_path / "db", ntfy(there.url) + more)
    held = anyio.Event()

    class Slow:
        async def send(self, notice: Notice) -> None:
            del notice
            await held.wait()

    def make(setting: NotifyChannel) -> Channel:
        return Slow() if setting.url.endswith("slow") else channel_of(setting)

    async with world.life(make) as notifier:
        for number in range(3):
            world.waits.append(Matter(kind="dead", id=str(number), agent="bob", title=f"{number}"))
            notifier.touch()
            with anyio.fail_after(20):
                while len(there.posts) <= number:
                    await anyio.wait_all_tasks_blocked()
        held.set()
        await states(notifier, ["sent"] * 6)
    assert [body["title"] for body in there.bodies] == ["0", "1", "2"]


async def test_a_server_that_never_comes_to_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SECONDS", 0.2)

    async def drip(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.BrokenResourceError):
                while True:
                    await stream.send(b"H")
                    await anyio.sleep(0.05)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, drip)
            with anyio.fail_after(20), pytest.raises(Unknown, match="no answer"):
                await post(f"http://127.0.0.1:{port}/", b"{}", None)
            group.cancel_scope.cancel()


async def test_an_environment_that_no_client_can_be_made_of_is_a_failure_like_any_other(
    tmp_path: Path, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing"))
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    with pytest.raises(Failed, match="no HTTP client"):
        await post(f"{there.url}/", b"{}", None)
