"""Limits of sending: allow-lists, rates, sizes and full inboxes; each refusal says which limit and when it ends."""

from pathlib import Path

import anyio
import pytest

from hyperhive.broker import Broker, Limits
from hyperhive.broker.limits import REFUSAL_SECONDS, Quota
from hyperhive.config import HiveConfig, parse_hive_file
from hyperhive.errors import Forbidden, HiveError, LimitReached
from hyperhive.handlers.patience import patient
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Caller, authorize
from hyperhive.protocol.types import Receipt
from hyperhive.testing import FakeClock
from small_hive import agent


async def refusal(broker: Broker, sender: str, recipient: str, body: str = "hi") -> tuple[str, str]:
    with pytest.raises(LimitReached) as refused:
        await broker.send(sender, recipient, body)
    assert refused.value.wire_code == "limit"
    return refused.value.message, refused.value.hint or ""


def on_disk(database: Path) -> int:
    return sum(file.stat().st_size for file in database.parent.glob(f"{database.name}*"))


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_an_agent_sends_a_burst_and_then_at_its_rate_and_is_told_when(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=6)) as broker:
        for number in range(6):
            await broker.send("alice", "bob", f"{number}")
        message, hint = await refusal(broker, "alice", "bob")
        assert message == "alice has sent as much as it may: 6 messages a minute (sends_per_minute)"
        assert hint == "this ends in 10 seconds"
        await clock.advance(9)
        assert (await refusal(broker, "alice", "bob"))[1] == "this ends in 1 seconds"
        await clock.advance(1)
        await broker.send("alice", "bob", "as told")
        await refusal(broker, "alice", "bob")
        await broker.send("carol", "bob", "another's rate is another's")
        await clock.advance(3600)
        for number in range(6):
            await broker.send("alice", "bob", f"no more than a burst {number}")
        await refusal(broker, "alice", "bob")
        assert await broker.pending("bob") == 14


async def test_a_jump_of_the_wall_clock_neither_ends_nor_prolongs_a_refusal(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=1)) as broker:
        await broker.send("alice", "bob", "1")
        clock.jump(86400)
        await refusal(broker, "alice", "bob")
        clock.jump(-1_000_000)
        assert (await refusal(broker, "alice", "bob"))[1] == "this ends in 60 seconds"


async def test_bytes_are_counted_by_the_hour_and_a_body_beyond_them_all_passes_alone(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(bytes_per_hour=3600)) as broker:
        await broker.send("alice", "bob", "ä" * 900)
        await broker.send("alice", "bob", "b" * 1800)
        message, hint = await refusal(broker, "alice", "bob", "c" * 60)
        assert "3600 bytes of messages an hour (bytes_per_hour)" in message
        assert hint == "this ends in 60 seconds"
        await clock.advance(3600)
        await broker.send("alice", "bob", "d" * 7200)
        assert (await refusal(broker, "alice", "bob", "e"))[1] == "this ends in 3601 seconds"


async def test_what_one_limit_refuses_uses_up_nothing_of_the_other(path: Path, clock: FakeClock) -> None:
    limits = Limits(sends_per_minute=2, bytes_per_hour=100)
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await broker.send("alice", "bob", "x" * 60)
        for _ in range(5):
            assert "bytes" in (await refusal(broker, "alice", "bob", "x" * 60))[0]
        await broker.send("alice", "bob", "x" * 30)


async def test_operator_and_system_are_not_counted(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=1, bytes_per_hour=10)) as broker:
        for _ in range(5):
            await broker.send("operator", "bob", "x" * 100)
            await broker.send("system", "bob", "x" * 100)


async def test_without_limits_nothing_is_refused(broker: Broker) -> None:
    async with anyio.create_task_group() as group:
        for number in range(1200):
            group.start_soon(broker.send, "alice", "bob", f"{number}")
    assert await broker.pending("bob") == 1200


# --- what was sent before ---------------------------------------------------------------------------------------------


async def test_a_turn_that_runs_again_is_told_of_what_it_sent_however_full_the_limits_are(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=2)) as broker:
        await broker.send("operator", "alice", "do it")
        await broker.recv("alice", 1, 0)
        first = [await broker.send("alice", "bob", body) for body in ("x", "y")]
        await refusal(broker, "alice", "bob", "z")
        await broker.requeue_inflight("alice")
        await broker.recv("alice", 1, 0)
        again = [await broker.send("alice", "bob", body) for body in ("x", "y")]
        assert again == [Receipt(id=one.id, duplicate=True) for one in first]
        await refusal(broker, "alice", "bob", "z")


async def test_a_duplicate_uses_up_nothing(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=2)) as broker:
        first = await broker.send("alice", "bob", "x", dedupe_key="k")
        for _ in range(5):
            assert (await broker.send("alice", "bob", "x", dedupe_key="k")).id == first.id
        await broker.send("alice", "bob", "y")


# --- inboxes ----------------------------------------------------------------------------------------------------------


async def test_a_full_inbox_refuses_everybody_but_the_system_until_it_is_worked_off(
    path: Path, clock: FakeClock
) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(inbox_cap=3)) as broker:
        for sender in ("alice", "operator", "carol"):
            await broker.send(sender, "bob", "hi")
        for sender in ("alice", "operator", "carol"):
            message, hint = await refusal(broker, sender, "bob")
            assert message == "the inbox of bob is full: 3 messages wait there, the limit is 3 (inbox_cap)"
            assert hint == "this ends as bob works them off"
        await broker.send("system", "bob", "news")
        await broker.send("alice", "carol", "another's inbox")
        await broker.recv("bob", 4, 0)
        await broker.send("alice", "bob", "worked off")


async def test_messages_on_their_way_count_so_that_no_burst_overfills_an_inbox(
    path: Path, clock: FakeClock
) -> None:
    refused = 0

    async def send(number: int) -> None:
        nonlocal refused
        try:
            await broker.send("alice", "bob", f"{number}")
        except LimitReached:
            refused += 1

    async with Broker.open(path, clock=clock, limits=Limits(inbox_cap=10)) as broker:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(send, number)
        assert (await broker.pending("bob"), refused) == (10, 40)


async def test_the_operators_full_inbox_says_how_to_put_mail_away(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(inbox_cap=1)) as broker:
        receipt = await broker.send("alice", "operator", "hi")
        assert (await refusal(broker, "alice", "operator"))[
            1
        ] == "this ends as the operator puts mail away (`hyperhive inbox --done`)"
        await broker.mark_done([receipt.id])
        await broker.send("alice", "operator", "hi again")


async def test_a_question_to_the_operator_is_no_mail_and_asks_for_no_room_in_the_inbox(
    path: Path, clock: FakeClock
) -> None:
    """An operator who lets mail pile up can still be asked; one's rate of messages counts all the same."""
    async with Broker.open(path, clock=clock, limits=Limits(inbox_cap=1, sends_per_minute=2)) as broker:
        await broker.send("alice", "operator", "hi")
        await broker.questions.ask("alice", "May I?")
        with pytest.raises(LimitReached, match="sends_per_minute"):
            await broker.questions.ask("alice", "And this?")
        await broker.questions.ask("carol", "May I, too?")
        await broker.send("carol", "bob", "hi")
        with pytest.raises(LimitReached, match="inbox of bob is full"):
            await broker.questions.ask("dave", "And you?", target="bob")


async def test_the_options_of_a_question_count_as_what_was_written(path: Path, clock: FakeClock) -> None:
    async with Broker.open(path, clock=clock, limits=Limits(bytes_per_hour=1000)) as broker:
        await broker.questions.ask("alice", "?", options=["a" * 400, "b" * 400])
        with pytest.raises(LimitReached, match="bytes_per_hour"):
            await broker.questions.ask("alice", "?", options=["a" * 400])


async def test_an_answer_counts_as_a_message_unless_it_is_refused(path: Path, clock: FakeClock) -> None:
    """S4: two agents cannot write to each other by question and answer what they may not by mail."""
    async with Broker.open(
        path, clock=clock, limits=Limits(sends_per_minute=2, bytes_per_hour=100)
    ) as broker:
        asked = [await broker.questions.ask("operator", "?", target="bob") for _ in range(3)]
        for _ in range(5):
            with pytest.raises(Forbidden):
                await broker.questions.answer(asked[0], "x" * 30, by="alice")
        await broker.send("alice", "bob", "x" * 90)
        await broker.questions.answer(asked[0], "x" * 30, by="bob")
        with pytest.raises(LimitReached, match="bytes_per_hour"):
            await broker.questions.answer(asked[1], "x" * 90, by="bob")
        await broker.questions.answer(asked[1], "x" * 30, by="bob")
        with pytest.raises(LimitReached, match="sends_per_minute"):
            await broker.questions.answer(asked[2], "x", by="bob")
        await clock.advance(60)
        await broker.questions.answer(asked[2], "x", by="bob")


async def test_a_full_inbox_is_full_after_a_restart_too(path: Path, clock: FakeClock) -> None:
    limits = Limits(inbox_cap=2)
    for _ in range(2):
        async with Broker.open(path, clock=clock, limits=limits) as broker:
            await broker.send("alice", "bob", "hi")
    async with Broker.open(path, clock=clock, limits=limits) as broker:
        await refusal(broker, "alice", "bob")


# --- whom -------------------------------------------------------------------------------------------------------------

TOML = """
sends_per_minute = 50
[agents.alice.limits]
send_to = ["manager", "bob"]
sends_per_minute = 3
[agents.mute.limits]
send_to = []
"""


def of_file(text: str, tmp_path: Path) -> HiveConfig:
    return HiveConfig(file=parse_hive_file(text), state_dir=tmp_path, run_dir=tmp_path)


async def test_an_agent_writes_only_to_those_on_its_list_and_to_the_operator(path: Path) -> None:
    config = of_file(TOML, path.parent)
    async with Broker.open(path, limits=Limits.of(lambda: config)) as broker:
        message, hint = await refusal(broker, "alice", "carol")
        assert message == "alice may write to nobody but manager, bob and the operator (limit send_to)"
        assert hint == (
            "this ends when the operator adds carol to send_to of alice in hive.toml and reloads it"
        )
        for recipient in ("manager", "bob", "operator"):
            await broker.send("alice", recipient, "hi")
        assert (await refusal(broker, "mute", "bob"))[
            0
        ] == "mute may write to nobody but the operator (limit send_to)"
        await broker.send("mute", "operator", "help")
        await broker.send("bob", "mute", "no list of one's own: to everybody")
        await broker.send("operator", "alice", "hi")
        assert await broker.pending("carol") == 0


async def test_a_reload_changes_at_once_whom_an_agent_may_write_to(path: Path) -> None:
    config = of_file(TOML, path.parent)
    async with Broker.open(path, limits=Limits.of(lambda: config)) as broker:
        await refusal(broker, "alice", "carol")
        config = of_file(TOML.replace('"bob"', '"carol"'), path.parent)
        await broker.send("alice", "carol", "hi")
        await refusal(broker, "alice", "bob")


async def test_of_an_agents_own_rate_and_the_hives_the_smaller_counts(path: Path, clock: FakeClock) -> None:
    config = of_file(TOML, path.parent)
    async with Broker.open(path, clock=clock, limits=Limits.of(lambda: config)) as broker:
        for _ in range(3):
            await broker.send("alice", "bob", "hi")
        assert "3 messages a minute" in (await refusal(broker, "alice", "bob"))[0]
        for _ in range(50):
            await broker.send("bob", "alice", "hi")
        assert "50 messages a minute" in (await refusal(broker, "bob", "alice"))[0]


def test_the_defaults_are_those_of_the_specification(tmp_path: Path) -> None:
    limits = Limits.of(lambda: of_file("", tmp_path))
    assert (limits.sends_per_minute, limits.inbox_cap) == (60, 1000)
    assert (limits.open_questions, limits.open_reminders, limits.reminder_gap_seconds) == (20, 20, 60)
    assert (limits.hop_limit, limits.pair_rate, limits.pair_seconds) == (64, 20, 600)
    assert limits.quota_of is not None
    assert limits.quota_of("anybody") == Quota()


# --- floods -----------------------------------------------------------------------------------------------------------


async def test_a_flood_that_is_refused_leaves_inbox_and_database_bounded(
    path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    """Fifty agents, two hundred messages of 64 KiB each at one victim: what gets in is what the limits say."""
    config = of_file('inbox_cap = 40\nbytes_per_hour = "128K"', tmp_path)
    body = "x" * 65536
    refused: list[HiveError] = []

    async def flood(name: str) -> None:
        for _ in range(200):
            try:
                await broker.send(name, "victim", body)
            except LimitReached as error:
                refused.append(error)

    async with Broker.open(path, clock=clock, limits=Limits.of(lambda: config)) as broker:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(flood, f"agent{number}")
        assert await broker.pending("victim") == 40
        assert len(refused) == 10_000 - 40
        commits = broker.store.statistics().commits
        assert commits <= 40
        assert on_disk(path) < 3 * 40 * len(body)
        with anyio.fail_after(5):
            assert (await broker.recv("victim", 1, 5))[0].body == body


async def test_who_asks_again_at_once_after_a_refusal_is_answered_no_faster_than_who_waits(
    path: Path, clock: FakeClock
) -> None:
    async def send(caller: Caller, request: r.Send) -> p.Reply:
        return p.Ok(id=(await broker.send(caller.name, request.to, request.body)).id)

    async def ask(name: str) -> None:
        try:
            await answer(authorize(agent(name), r.Send), r.Send(to="bob", body="hi"))
        except LimitReached:
            refused.append(name)

    refused: list[str] = []
    async with Broker.open(path, clock=clock, limits=Limits(sends_per_minute=1)) as broker:
        answer = patient(send, broker.gate)
        for name in ("alice", "carol"):
            await ask(name)
        async with anyio.create_task_group() as group:
            for name in ("alice", "alice", "alice", "carol"):
                group.start_soon(ask, name)
            await anyio.wait_all_tasks_blocked()
            assert sorted(refused) == ["alice", "carol"]
            await clock.advance(REFUSAL_SECONDS)
            await anyio.wait_all_tasks_blocked()
            assert sorted(refused) == ["alice", "alice", "carol"]
            await clock.advance(REFUSAL_SECONDS)
        assert sorted(refused) == ["alice", "alice", "alice", "carol"]
