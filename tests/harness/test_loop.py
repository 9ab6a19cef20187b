"""Claims about the loop: which messages are acked, which come again and how, and what it waits for.

Turns are ended by hand; the inboxes are a real Broker's, and the time is a clock that only the test moves.
"""

import tempfile
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.errors import Closed, HiveError, MissingPart, StoreFailed, TimedOut
from hyperhive.harness.turns import UnaskedTurn
from hyperhive.protocol.replies import Admission, Charged, Reply
from hyperhive.protocol.requests import AckTurn, Charge, MayTurn, Request, Status
from hyperhive.protocol.types import Delivery
from hyperhive.releasing import STAGGER_SECONDS
from loops import LIMIT, Rig, Turn, rig, rigs
from quick import examples

pytestmark = pytest.mark.timeout(30)


# --- acks and requeues ----------------------------------------------------------------------------------------------


async def test_a_message_whose_turn_ended_well_is_acked_and_the_next_one_follows(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        first, second = await bob.send("one"), await bob.send("two")
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.number) == (["one"], 1)
        await bob.send("three")
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.number, turn.unread) == (["two"], 2, 1)
        assert await bob.state_of(first) == "acked"
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.unread) == (["three"], 0)
        assert await bob.state_of(second) == "acked"


async def test_what_was_in_flight_at_boot_comes_again_marked_before_anything_else(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:
        await bob.send("old")
        await bob.broker.recv("bob")
        await bob.send("new")
        async with anyio.create_task_group() as group:
            group.start_soon(bob.loop.run)
            turn = await bob.runner.next_turn()
            assert turn.bodies == ["old"]
            assert turn.messages[0].redelivered
            group.cancel_scope.cancel()


async def test_a_turn_that_fails_between_two_good_ones_loses_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        ids = [await bob.send(body) for body in ("one", "two", "three")]
        (await bob.runner.next_turn()).end()
        (await bob.runner.next_turn()).end("failed", note="no")
        await bob.seen.until_state("waiting", "backoff")
        assert [await bob.state_of(one) for one in ids] == ["acked", "pending", "pending"]
        await bob.advance(5)
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.messages[0].redelivered) == (["two"], True)
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.messages[0].redelivered) == (["three"], False)
        assert [await bob.state_of(one) for one in ids] == ["acked", "acked", "in flight"]


async def test_what_a_recv_inside_a_good_turn_took_is_acked_with_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        first, second = await bob.send("one"), await bob.send("two")
        turn = await bob.runner.next_turn()
        assert await bob.core.tool_recv() == [second]
        turn.end()
        await bob.seen.until_state("idle")
        assert [await bob.state_of(one) for one in (first, second)] == ["acked", "acked"]


async def test_what_a_recv_inside_a_failed_turn_took_comes_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        first, second = await bob.send("one"), await bob.send("two")
        turn = await bob.runner.next_turn()
        await bob.core.tool_recv()
        turn.end("crashed")
        await bob.seen.until_state("waiting", "backoff")
        assert [await bob.state_of(one) for one in (first, second)] == ["pending", "pending"]
        await bob.advance(5)
        for body in ("one", "two"):
            turn = await bob.runner.next_turn()
            assert (turn.bodies, turn.messages[0].redelivered) == ([body], True)
            turn.end()


async def test_a_message_that_a_good_turn_did_not_name_comes_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        message = await bob.send("one")
        (await bob.runner.next_turn()).end("ok", done=(), pending=(message,))
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([message], True)


async def test_a_message_whose_turns_fail_by_themselves_becomes_a_dead_letter(tmp_path: Path) -> None:
    """Pain 26: no message is tried for ever, each try waits, and what comes behind it is worked."""
    async with rig(tmp_path) as bob:
        poison, fine = await bob.send("poison"), await bob.send("fine")
        for _ in range(5):
            turn = await bob.runner.next_turn()
            assert turn.ids == [poison]
            turn.end("stuck", blame=True, note="it hangs")
            await bob.seen.until_state("waiting", "backoff")
            await bob.advance(300)
        turn = await bob.runner.next_turn()
        assert turn.ids == [fine]
        (dead,) = await bob.broker.dead()
        assert (dead.id, dead.tries) == (poison, 5)
        assert "stuck: it hangs" in dead.reason


async def test_what_a_recv_took_is_not_blamed_for_the_end_of_a_turn(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("poison")
        taken = await bob.send("taken")
        for _ in range(5):
            turn = await bob.runner.next_turn()
            if turn.bodies == ["poison"]:
                await bob.core.tool_recv()
                turn.end("stuck", blame=True)
                await bob.seen.until_state("waiting", "backoff")
                await bob.advance(300)
        turn = await bob.runner.next_turn()
        assert turn.ids == [taken]
        assert [one.body for one in await bob.broker.dead()] == ["poison"]


async def test_a_cancelled_turns_messages_are_dead_letters_and_the_loop_goes_on_at_once(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        first, taken = await bob.send("one"), await bob.send("two")
        turn = await bob.runner.next_turn()
        await bob.core.tool_recv()
        third = await bob.send("three")
        turn.end("cancelled")
        turn = await bob.runner.next_turn()
        assert turn.ids == [third]
        assert {(one.id, one.reason) for one in await bob.broker.dead()} == {
            (first, "cancelled"),
            (taken, "cancelled"),
        }


async def test_a_full_disk_at_the_ack_is_waited_out_and_nothing_is_run_twice(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        message = await bob.send("one")
        turn = await bob.runner.next_turn()
        bob.core.fault = lambda request: StoreFailed("disk full") if isinstance(request, AckTurn) else None
        turn.end()
        await bob.seen.until_true(lambda: any("disk full" in note for note in bob.seen.notes))
        await bob.clock.until_sleepers()
        bob.core.fault = lambda _: None
        await bob.advance(5)
        await bob.seen.until_state("idle")
        assert await bob.state_of(message) == "acked"
        assert len(bob.seen.settled) == 1


async def test_the_loop_ends_with_the_core(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:

        def closed(_: Request) -> HiveError:
            return Closed("the hive is closed")

        bob.core.fault = closed
        with pytest.raises(Closed):
            await bob.loop.run()


# --- more urgent mail -----------------------------------------------------------------------------------------------


async def test_soon_mail_is_handed_to_the_running_turn_and_acked_with_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        first = await bob.send("one")
        turn = await bob.runner.next_turn()
        later, soon = await bob.send("later"), await bob.send("soon", urgency="soon")
        with anyio.fail_after(LIMIT):
            await turn.happened.wait()
        assert [one.id for one in turn.injected] == [soon]
        turn.end()
        turn = await bob.runner.next_turn()
        assert turn.ids == [later]
        assert [await bob.state_of(one) for one in (first, soon)] == ["acked", "acked"]


async def test_soon_mail_that_came_too_late_for_a_good_turn_is_the_next_turn_unmarked(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("one")
        turn = await bob.runner.next_turn()
        bob.runner.takes = False
        await bob.send("later")
        await bob.send("soon", urgency="soon")
        await bob.in_flight(2)
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.messages[0].redelivered) == (["soon"], False)
        turn.end()
        assert (await bob.runner.next_turn()).bodies == ["later"]


async def test_soon_mail_that_came_too_late_for_a_failed_turn_keeps_its_place_and_no_mark(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("one")
        turn = await bob.runner.next_turn()
        bob.runner.takes = False
        await bob.send("soon", urgency="soon")
        await bob.in_flight(2)
        turn.end("failed")
        await bob.seen.until_state("waiting", "backoff")
        await bob.advance(5)
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.messages[0].redelivered) == (["one"], True)
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.bodies, turn.messages[0].redelivered) == (["soon"], False)


async def test_interrupt_mail_ends_the_turn_runs_first_and_the_interrupted_comes_after_it(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        slow = await bob.send("slow")
        turn = await bob.runner.next_turn()
        taken = await bob.send("taken")
        await bob.core.tool_recv()
        stop = await bob.send("stop", urgency="interrupt")
        interrupted, turn = turn, await bob.runner.next_turn()
        assert f"message {stop} from operator" in str(interrupted.interrupted_by)
        assert (turn.ids, turn.messages[0].redelivered) == ([stop], False)
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([slow], True)
        assert turn.interruption == f"message {stop} from operator"
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([taken], True)
        assert await bob.state_of(stop) == "acked"
        assert ("waiting", "backoff") not in bob.seen.states


async def test_two_messages_that_interrupt_do_not_interrupt_each_other_for_ever(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        slow = await bob.send("slow")
        await bob.runner.next_turn()
        first = await bob.send("first", urgency="interrupt")
        assert (await bob.runner.next_turn()).ids == [first]
        second = await bob.send("second", urgency="interrupt")
        for expected, redelivered in ((second, False), (first, True), (slow, True)):
            turn = await bob.runner.next_turn()
            assert (turn.ids, turn.messages[0].redelivered) == ([expected], redelivered)
            for _ in range(50):
                await checkpoint()
            assert turn.interrupted_by is None
            turn.end()
        await bob.seen.until_state("idle")


async def test_interrupt_mail_that_comes_as_the_turn_ends_well_is_simply_next(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        slow = await bob.send("slow")
        turn = await bob.runner.next_turn()
        bob.runner.obeys = False
        await bob.send("later")
        stop = await bob.send("stop", urgency="interrupt")
        with anyio.fail_after(LIMIT):
            await turn.happened.wait()
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([stop], False)
        assert await bob.state_of(slow) == "acked"


async def test_mail_that_interrupted_once_waits_its_turn_when_its_own_turn_failed(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        slow = await bob.send("slow")
        await bob.runner.next_turn()
        stop = await bob.send("stop", urgency="interrupt")
        turn = await bob.runner.next_turn()
        assert turn.ids == [stop]
        turn.end("limited")
        await bob.advance(5)
        turn = await bob.runner.next_turn()
        assert turn.ids == [slow]
        await bob.in_flight(2)
        for _ in range(50):
            await checkpoint()
        assert turn.interrupted_by is None
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([stop], True)


async def test_mail_that_is_handed_over_in_the_moment_in_which_the_turn_ends_is_not_run_again(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("one")
        turn = await bob.runner.next_turn()

        async def inject_and_end(delivery: Delivery) -> bool:
            turn.injected.append(delivery)
            turn.end()
            await anyio.sleep_forever()
            return True

        bob.runner.inject = inject_and_end  # type: ignore[method-assign]
        soon = await bob.send("soon", urgency="soon")
        await bob.send("next")
        assert (await bob.runner.next_turn()).bodies == ["next"]
        assert await bob.state_of(soon) == "acked"


async def test_a_cancelled_turn_does_not_take_mail_with_it_that_it_never_saw(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("slow")
        turn = await bob.runner.next_turn()
        bob.runner.obeys = False
        stop = await bob.send("stop", urgency="interrupt")
        with anyio.fail_after(LIMIT):
            await turn.happened.wait()
        turn.end("cancelled")
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([stop], False)
        assert [one.body for one in await bob.broker.dead()] == ["slow"]


# --- turns that nobody asked for ------------------------------------------------------------------------------------


async def pausing_while_a_background_turn_takes_the_mail(bob: Rig) -> int:
    """The loop is in a backoff; meanwhile a turn that the CLI runs by itself takes the one message that waits."""
    message = await bob.send("one")
    (await bob.runner.next_turn()).end("failed")
    await bob.seen.until_state("waiting", "backoff")
    assert await bob.core.tool_recv() == [message]
    return message


async def test_a_good_turn_nobody_asked_for_acks_what_its_recv_took(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        message = await pausing_while_a_background_turn_takes_the_mail(bob)
        bob.loop.unasked(UnaskedTurn(ok=True))
        await bob.advance(5)
        await bob.seen.until_state("idle")
        assert await bob.state_of(message) == "acked"
        assert len(bob.seen.settled) == 1


async def test_a_failed_turn_nobody_asked_for_gives_back_what_its_recv_took(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        message = await pausing_while_a_background_turn_takes_the_mail(bob)
        bob.loop.unasked(UnaskedTurn(ok=False))
        await bob.advance(5)
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([message], True)


async def test_an_idle_loop_settles_a_turn_nobody_asked_for_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.seen.until_state("idle")
        for ok in (True, False):
            before = len(bob.core.asked)
            bob.loop.unasked(UnaskedTurn(ok=ok))
            with anyio.fail_after(LIMIT):
                while len(bob.core.asked) == before:
                    await checkpoint()
        message = await bob.send("one")
        assert (await bob.runner.next_turn()).ids == [message], "and waits for mail again"


async def test_a_good_turn_acks_nothing_that_a_failed_one_beside_it_may_have_taken(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        first, taken = await bob.send("one"), await bob.send("two")
        turn = await bob.runner.next_turn()
        await bob.core.tool_recv()
        bob.loop.unasked(UnaskedTurn(ok=False))
        turn.end()
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([taken], True)
        assert await bob.state_of(first) == "acked"


# --- waiting --------------------------------------------------------------------------------------------------------


async def test_while_the_api_is_down_the_pauses_double_and_say_so_and_no_message_is_given_up(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        message = await bob.send("one")
        pauses = []
        for _ in range(9):
            turn = await bob.runner.next_turn()
            assert turn.ids == [message]
            turn.end("limited", note="API Error: 500")
            await bob.seen.until_state("waiting", "limited")
            await bob.clock.until_sleepers()
            pauses.append(bob.clock.next_wake)
            await bob.advance(pauses[-1])
        assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]
        (await bob.runner.next_turn()).end()
        await bob.seen.until_state("idle")
        assert await bob.state_of(message) == "acked"
        assert await bob.broker.dead() == []
        assert any("API Error: 500" in note and "next try in 300 s" in note for note in bob.seen.notes)


async def test_after_a_good_turn_the_pauses_start_over(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        for _ in range(3):
            await bob.send("one")
            (await bob.runner.next_turn()).end("failed")
            await bob.seen.until_state("waiting", "backoff")
            await bob.clock.until_sleepers()
            assert bob.clock.next_wake == 5
            await bob.advance(5)
            (await bob.runner.next_turn()).end()
            await bob.seen.until_state("idle")


async def test_new_mail_does_not_cut_a_pause_short(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("one")
        (await bob.runner.next_turn()).end("limited")
        await bob.seen.until_state("waiting", "limited")
        await bob.send("two", urgency="interrupt")
        await bob.advance(4)
        assert bob.runner.current is None
        assert len(bob.seen.settled) == 1


async def test_one_usage_limit_parks_all_agents_of_the_account_and_they_come_back_one_by_one(
    tmp_path: Path,
) -> None:
    async with rigs(tmp_path, ["amy", "bob", "cat"]) as (_, agents):
        amy, bob, cat = agents.values()
        clock = amy.clock
        await amy.send("one")
        (await amy.runner.next_turn()).end("limited", reset_at=int(clock.time()) + 3600, note="5-hour limit")
        await amy.seen.until_state("waiting", "limited")
        for one in (bob, cat):
            await one.send("mail")
            await one.seen.until_state("waiting", "limited")
        await clock.until_sleepers(3)
        await clock.advance(3599)
        assert [one.runner.current for one in agents.values()] == [None, None, None]
        await clock.advance(1)
        running = [one.runner.current is not None for one in agents.values()]
        assert sum(running) == 1
        await clock.advance(STAGGER_SECONDS)
        assert sum(one.runner.current is not None for one in agents.values()) == 2
        await clock.advance(STAGGER_SECONDS)
        assert sum(one.runner.current is not None for one in agents.values()) == 3


async def test_a_limit_is_told_to_the_core_and_one_that_the_core_knows_of_is_waited_for(
    tmp_path: Path,
) -> None:
    """The account's other agents may be in another process: what they know goes by way of the core."""
    async with rig(tmp_path) as bob:
        told: list[int | None] = []

        def charge(request: Charge) -> Charged:
            told.append(request.limited_until)
            return Charged()

        bob.core.charge = charge
        await bob.send("one")
        (await bob.runner.next_turn()).end()
        await bob.seen.until_state("idle")
        until = int(bob.clock.time()) + 3600

        async def limited(_: MayTurn) -> Admission:
            return Admission(limited_until=until)

        bob.core.admit = limited
        await bob.send("two")
        await bob.seen.until_state("waiting", "limited")
        assert bob.runner.current is None
        await bob.clock.until_sleepers()
        await bob.advance(3600)
        (await bob.runner.next_turn()).end("limited", reset_at=until + 7200)
        await bob.seen.until_state("waiting", "limited")
        assert told == [None, until + 7200]


async def test_a_reset_time_that_has_passed_does_not_make_a_hot_loop(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("one")
        for _ in range(3):
            (await bob.runner.next_turn()).end("limited", reset_at=int(bob.clock.time()) - 60)
            await bob.seen.until_state("waiting", "limited")
            assert bob.runner.current is None
            await bob.advance(20)


async def test_a_refused_login_acks_nothing_and_one_login_brings_all_agents_back(tmp_path: Path) -> None:
    async with rigs(tmp_path, ["amy", "bob"]) as (_, agents):
        amy, bob = agents.values()
        message = await amy.send("one")
        (await amy.runner.next_turn()).end("needs_login")
        await amy.seen.until_state("waiting", "login")
        assert await amy.state_of(message) == "pending"
        await bob.send("two")
        await bob.seen.until_state("waiting", "login")
        assert amy.clock.sleepers == 0, "no timer tries again"
        await amy.clock.advance(10**6)
        assert amy.runner.current is None
        amy.account.login_landed()
        await amy.advance(STAGGER_SECONDS)
        assert (await amy.runner.next_turn()).ids == [message]
        assert (await bob.runner.next_turn()).bodies == ["two"]
        assert await amy.broker.dead() == []


async def test_a_login_that_landed_while_a_turn_was_being_refused_counts(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("one")
        turn = await bob.runner.next_turn()
        bob.account.login_landed()
        turn.end("needs_login")
        assert (await bob.runner.next_turn()).messages[0].redelivered


async def test_an_agent_whose_every_try_is_useless_waits_for_the_operator_and_no_timer(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        message = await bob.send("one")
        (await bob.runner.next_turn()).end("failed", park="the model cannot be used: no such model")
        await bob.seen.until_state("waiting", "operator")
        assert bob.clock.sleepers == 0
        bob.loop.changed()
        turn = await bob.runner.next_turn()
        assert turn.ids == [message]
        bob.loop.changed()  # while the turn that will fail still runs on the old model
        turn.end("failed", park="the model cannot be used: no such model")
        assert (await bob.runner.next_turn()).ids == [message]


async def test_an_agent_without_its_cli_waits_for_the_operator(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        bob.runner.fault = MissingPart("there is no agent CLI", hint="get one")
        message = await bob.send("one")
        await bob.seen.until_state("waiting", "operator")
        assert await bob.state_of(message) == "pending"
        bob.runner.fault = None
        bob.loop.changed()
        assert (await bob.runner.next_turn()).ids == [message]


async def test_turns_wait_for_a_slot_and_say_so(tmp_path: Path) -> None:
    async with rigs(tmp_path, ["amy", "bob"], max_turns=1) as (_, agents):
        amy, bob = agents.values()
        await amy.send("one")
        turn = await amy.runner.next_turn()
        await bob.send("two")
        await bob.seen.until_state("queued")
        assert bob.runner.current is None
        turn.end()
        assert (await bob.runner.next_turn()).bodies == ["two"]


async def queued_behind_amy(amy: Rig, bob: Rig) -> tuple[Turn, int]:
    """Amy's turn has the only slot, and bob's waits for it; her turn and his message."""
    await amy.send("one")
    turn = await amy.runner.next_turn()
    message = await bob.send("two")
    await bob.seen.until_state("queued")
    return turn, message


async def test_a_turn_nobody_asked_for_lets_no_queued_turn_run_without_its_slot(tmp_path: Path) -> None:
    async with rigs(tmp_path, ["amy", "bob"], max_turns=1) as (_, agents):
        amy, bob = agents.values()
        turn, message = await queued_behind_amy(amy, bob)
        bob.loop.unasked(UnaskedTurn(ok=True))
        for _ in range(50):
            await checkpoint()
        assert bob.runner.current is None
        assert (bob.slots.running, bob.slots.queued) == (1, 1)
        turn.end()
        assert (await bob.runner.next_turn()).ids == [message]


async def test_a_queued_turn_that_is_cancelled_is_a_dead_letter_and_the_next_message_queues(
    tmp_path: Path,
) -> None:
    async with rigs(tmp_path, ["amy", "bob"], max_turns=1) as (_, agents):
        amy, bob = agents.values()
        turn, message = await queued_behind_amy(amy, bob)
        following = await bob.send("three")
        assert bob.loop.cancel()
        await bob.seen.until_true(lambda: bool(bob.seen.settled))
        assert (bob.seen.settled[0][2].kind, bob.seen.settled[0][2].pending) == ("cancelled", (message,))
        with anyio.fail_after(LIMIT):
            while bob.slots.queued == 0:
                await checkpoint()
        assert [(one.id, one.reason) for one in await bob.broker.dead()] == [(message, "cancelled")]
        assert bob.runner.current is None
        assert bob.slots.running == 1
        turn.end()
        assert (await bob.runner.next_turn()).ids == [following]
        assert not bob.loop.cancel(), "a turn that runs is the runner's to cancel"


async def test_a_turn_can_be_cancelled_until_the_runner_has_it(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        asked, go = anyio.Event(), anyio.Event()
        ask = bob.core.ask

        async def ask_late(request: Request) -> Reply:
            if isinstance(request, Status):
                asked.set()
                await go.wait()
            return await ask(request)

        bob.core.ask = ask_late  # type: ignore[method-assign]
        message = await bob.send("one")
        with anyio.fail_after(LIMIT):
            await asked.wait()
        assert bob.loop.cancel()
        go.set()
        await bob.seen.until_true(lambda: bool(bob.seen.settled))
        assert await bob.state_of(message) == "dead"
        assert bob.runner.current is None


async def test_a_loop_without_a_turn_has_none_to_cancel(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.seen.until_state("idle")
        assert not bob.loop.cancel()


# --- ending ---------------------------------------------------------------------------------------------------------


async def drained(bob: Rig, *, now: bool, during: str) -> None:
    """Run the loop, drain it in the middle of something, and see it end."""
    ended = anyio.Event()

    async def run() -> None:
        await bob.loop.run()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        if during == "idle":
            await bob.seen.until_state("idle")
            bob.loop.drain(now=now)
        elif during == "turn":
            turn = await bob.runner.next_turn()
            bob.loop.drain(now=now)
            if not now:
                for _ in range(50):
                    await checkpoint()
                assert not ended.is_set(), "the running turn is waited for"
                turn.end()
        with anyio.fail_after(LIMIT):
            await ended.wait()


async def test_an_idle_loop_drains_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:
        await drained(bob, now=False, during="idle")
        message = await bob.send("one")
        assert await bob.state_of(message) == "pending"


async def test_draining_waits_for_the_running_turn_and_starts_no_other(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:
        first, second = await bob.send("one"), await bob.send("two")
        await drained(bob, now=False, during="turn")
        assert [await bob.state_of(one) for one in (first, second)] == ["acked", "pending"]


async def test_draining_now_interrupts_and_puts_the_message_back_without_blame(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:
        message = await bob.send("one")
        await drained(bob, now=True, during="turn")
        assert await bob.state_of(message) == "pending"
        assert bob.broker.in_flight_now("bob") == []


async def test_a_loop_in_a_hurry_does_not_wait_for_a_broken_disk(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:
        failed: list[HiveError] = []

        async def run() -> None:
            try:
                await bob.loop.run()
            except HiveError as error:
                failed.append(error)

        message = await bob.send("one")
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            turn = await bob.runner.next_turn()
            bob.core.fault = lambda _: StoreFailed("disk full")
            bob.loop.drain(now=True)
            with anyio.fail_after(LIMIT):
                await turn.happened.wait()
        assert [type(error) for error in failed] == [StoreFailed]
        assert await bob.state_of(message) == "in flight", "the next life requeues it"


async def test_a_loop_in_a_hurry_does_not_wait_for_a_core_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhive.harness.loop.HURRY_SECONDS", 0.05)
    async with rig(tmp_path, run=False) as bob:
        failed: list[HiveError] = []

        async def run() -> None:
            try:
                await bob.loop.run()
            except HiveError as error:
                failed.append(error)

        async def silence(request: Request) -> Reply:
            await anyio.sleep_forever()
            raise AssertionError(request)

        await bob.send("one")
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            turn = await bob.runner.next_turn()
            bob.core.ask = silence  # type: ignore[method-assign]
            turn.end()
            for _ in range(50):
                await checkpoint()
            assert failed == [], "without hurry it waits"
            bob.loop.drain(now=True)
        assert [type(error) for error in failed] == [TimedOut]


async def test_a_loop_that_waits_for_a_slot_or_in_a_pause_drains_at_once(tmp_path: Path) -> None:
    async with rigs(tmp_path, ["amy", "bob", "cat"], max_turns=1) as (_, agents):
        amy, bob, cat = agents.values()
        await cat.send("fails")
        (await cat.runner.next_turn()).end("failed")
        await cat.seen.until_state("waiting", "backoff")
        await amy.send("one")
        await amy.runner.next_turn()
        message = await bob.send("two")
        await bob.seen.until_state("queued")
        bob.loop.drain(now=False)
        cat.loop.drain(now=False)
        await bob.seen.until_true(lambda: not bob.broker.in_flight_now("bob"))
        assert await bob.state_of(message) == "pending"
        assert bob.slots.queued == 0


# --- any history ----------------------------------------------------------------------------------------------------

ENDINGS = ["ok", "failed", "limited", "stuck", "crashed", "cancelled", "unnamed"]


@examples(40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ENDINGS), st.sampled_from(["none", "send", "soon", "interrupt"]), st.booleans()
        ),
        max_size=12,
    )
)
def test_whatever_turns_do_every_message_ends_in_a_good_turn_or_as_a_dead_letter_and_none_is_acked_unseen(
    story: list[tuple[str, str, bool]],
) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as name:
            async with rig(Path(name)) as bob:
                sent = [await bob.send(f"{number}") for number in range(3)]
                good: set[int] = set()
                given_up: set[int] = set()
                for ending, arrival, takes in story:
                    await play_one(bob, ending, arrival, takes, sent, good, given_up)
                await finish(bob, sent, good)
                dead = {one.id for one in await bob.broker.dead()}
                assert dead | good >= set(sent)
                assert dead <= given_up
                acked = {one for one in sent if await bob.state_of(one) == "acked"}
                assert acked <= good, "acked without a good turn"

    anyio.run(play)


async def play_one(
    bob: Rig, ending: str, arrival: str, takes: bool, sent: list[int], good: set[int], given_up: set[int]
) -> None:
    """One turn with something arriving in it, ended like that."""
    if await all_settled(bob, sent):
        sent.append(await bob.send("one more"))
    async with anyio.create_task_group() as group:
        group.start_soon(no_pause_lasts, bob)
        turn = await bob.runner.next_turn()
        group.cancel_scope.cancel()
    settled = len(bob.seen.settled)
    bob.runner.takes = takes
    bob.runner.obeys = takes
    if arrival != "none":
        urgency = "next_turn" if arrival == "send" else arrival
        sent.append(await bob.send(arrival, urgency=urgency))
    taken = set(await bob.core.tool_recv()) if takes else set()
    for _ in range(20):
        await checkpoint()
    if not turn._over.is_set():  # else it was interrupted
        seen = {*turn.ids, *(one.id for one in turn.injected)}
        end(turn, ending, seen, taken, good, given_up)
    await bob.seen.until_true(lambda: len(bob.seen.settled) > settled)


def end(turn: Turn, ending: str, seen: set[int], taken: set[int], good: set[int], given_up: set[int]) -> None:
    """End the turn, and note what may become of its messages."""
    if ending == "ok":
        good |= seen | taken
        turn.end()
    elif ending == "unnamed":
        good |= taken
        turn.end("ok", done=(), pending=tuple(seen))
    elif ending == "cancelled":
        given_up |= seen | taken
        turn.end("cancelled")
    else:
        given_up |= seen
        turn.end(ending, blame=ending in {"stuck", "crashed"})  # type: ignore[arg-type]


async def finish(bob: Rig, sent: list[int], good: set[int]) -> None:
    """From now on every turn ends well."""
    bob.runner.takes = bob.runner.obeys = True
    async with anyio.create_task_group() as group:
        group.start_soon(no_pause_lasts, bob)
        with anyio.fail_after(20):
            while not await all_settled(bob, sent):
                turn = await bob.runner.next_turn()
                settled = len(bob.seen.settled)
                for _ in range(20):
                    await checkpoint()
                if not turn._over.is_set():
                    good.update([*turn.ids, *(one.id for one in turn.injected)])
                    turn.end()
                await bob.seen.until_true(lambda before=settled: len(bob.seen.settled) > before)  # type: ignore[misc]
        group.cancel_scope.cancel()


async def no_pause_lasts(bob: Rig) -> None:
    while True:
        await bob.clock.until_sleepers()
        await bob.clock.advance(bob.clock.next_wake)


async def all_settled(bob: Rig, sent: list[int]) -> bool:
    return {await bob.state_of(one) for one in sent} <= {"acked", "dead"}
