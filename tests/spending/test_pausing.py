"""Claims about a loop whose agent is over budget: its mail waits, unseen and unblamed, until the core lets it go on."""

from pathlib import Path

import anyio

from hyperhive.errors import NotAvailable, StoreFailed
from hyperhive.harness.pauses import LIMIT_MAX_SECONDS
from hyperhive.harness.turns import UnaskedTurn
from hyperhive.protocol.replies import Admission, Charged
from hyperhive.protocol.requests import Charge, MayTurn, Request
from hyperhive.protocol.types import TokenUsage
from hyperhive.spending.usage import DOLLARS_MAX, TOKENS_MAX
from loops import Rig, rig, rigs

OVER = "bob's budget tokens_per_hour is used up"


class Gate:
    """What a core answers, and may answer otherwise at any time."""

    def __init__(self, *agents: Rig) -> None:
        self.refused: str | None = None
        self.until: int | None = None
        self.asked: list[MayTurn] = []
        self.charged: list[Charge] = []
        self._changed = anyio.Event()
        for one in agents:
            one.core.admit = self.admit
            one.core.charge = self.charge

    def set(self, refused: str | None, until: int | None = None) -> None:
        self.refused, self.until = refused, until
        self._changed.set()
        self._changed = anyio.Event()

    async def admit(self, request: MayTurn) -> Admission:
        self.asked.append(request)
        if request.wait_seconds:
            await self._changed.wait()
        return Admission(refused=self.refused, until=self.until)

    def charge(self, request: Charge) -> Charged:
        self.charged.append(request)
        return Charged(message=request.messages[0], chain=1)


async def test_an_agent_over_budget_is_shown_waiting_with_its_mail_pending_and_goes_on_by_itself(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, run=False) as bob, anyio.create_task_group() as group:
        gate = Gate(bob)
        until = int(bob.clock.time()) + 1800
        gate.set(OVER, until)
        message = await bob.send("work")
        group.start_soon(bob.loop.run)
        await bob.seen.until_state("waiting", "budget")
        assert bob.seen.until == until
        assert [note for note in bob.seen.notes if OVER in note]
        assert await bob.state_of(message) == "pending"
        await bob.send("more", urgency="interrupt")
        assert bob.runner.current is None
        gate.set(None)
        turn = await bob.runner.next_turn()
        assert turn.ids == [message]
        assert not turn.messages[0].redelivered
        turn.end()
        await bob.seen.until_true(lambda: len(bob.seen.settled) == 1)
        group.cancel_scope.cancel()


async def test_a_budget_that_ends_while_a_turn_waits_for_its_slot_keeps_the_turn_from_starting(
    tmp_path: Path,
) -> None:
    async with rigs(tmp_path, ["amy", "bob"], max_turns=1) as (_, agents):
        amy, bob = agents.values()
        gate = Gate(amy, bob)
        await amy.send("one")
        turn = await amy.runner.next_turn()
        message = await bob.send("two")
        await bob.seen.until_state("queued")
        gate.set(OVER)
        turn.end()
        await bob.seen.until_state("waiting", "budget")
        assert await bob.state_of(message) == "pending"
        assert bob.runner.current is None
        assert bob.seen.settled == []
        gate.set(None)
        turn = await bob.runner.next_turn()
        assert (turn.ids, turn.messages[0].redelivered) == ([message], False)


async def test_a_usage_limit_that_is_hit_while_turns_wait_for_a_slot_starts_none_of_them(
    tmp_path: Path,
) -> None:
    async with rigs(tmp_path, ["amy", "bob", "cat"], max_turns=1) as (_, agents):
        amy, bob, cat = agents.values()
        await amy.send("one")
        turn = await amy.runner.next_turn()
        for one in (bob, cat):
            await one.send("mail")
            await one.seen.until_state("queued")
        turn.end("limited", reset_at=int(amy.clock.time()) + 3600)
        for one in (bob, cat):
            await one.seen.until_state("waiting", "limited")
            for urgency in ("next_turn", "soon", "interrupt"):
                await one.send("are you there?", urgency=urgency)
        await anyio.wait_all_tasks_blocked()
        assert [one.runner.current for one in (bob, cat)] == [None, None]
        assert [one.seen.settled for one in (bob, cat)] == [[], []]


async def test_released_agents_come_back_in_order_of_urgency(tmp_path: Path) -> None:
    async with rigs(tmp_path, ["amy", "bob", "cat"], max_turns=3) as (_, agents):
        amy, bob, cat = agents.values()
        amy.account.line.order = amy.broker.order_of
        clock = amy.clock
        await amy.send("one")
        (await amy.runner.next_turn()).end("limited", reset_at=int(clock.time()) + 60)
        await amy.seen.until_state("waiting", "limited")
        for one, urgency in ((bob, "soon"), (cat, "interrupt")):
            await one.send("mail", urgency=urgency)
            await one.seen.until_state("waiting", "limited")
        await clock.until_sleepers(3)
        begun: list[str] = []
        await clock.advance(60)
        for _ in range(3):
            begun += [name for name, one in agents.items() if one.runner.current and name not in begun]
            await clock.advance(2)
        assert begun == ["cat", "bob", "amy"]


async def test_no_cli_can_park_its_account_for_longer_than_limits_last(tmp_path: Path) -> None:
    async with rig(tmp_path) as bob:
        await bob.send("work")
        (await bob.runner.next_turn()).end("limited", reset_at=10**12)
        await bob.seen.until_state("waiting", "limited")
        assert bob.account.limited_until == bob.clock.time() + LIMIT_MAX_SECONDS


async def test_a_turn_that_its_budget_cut_short_blames_nobody_and_pauses_without_a_backoff(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        gate = Gate(bob)
        bob.core.charge = lambda request: Charged(message=request.messages[0], chain=1, refused=OVER)
        message = await bob.send("work")
        turn = await bob.runner.next_turn()
        gate.set(OVER)
        turn.end("failed", blame=True, park="403 forbidden", note="API Error: 403")
        await bob.seen.until_state("waiting", "budget")
        [(_, _, result)] = bob.seen.settled
        assert (result.kind, result.note, result.blame, result.park) == ("limited", OVER, False, None)
        assert await bob.state_of(message) == "pending"
        gate.set(None)
        assert (await bob.runner.next_turn()).ids == [message]


async def test_every_turn_is_charged_once_before_its_messages_are_settled_with_what_can_be(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as bob:
        gate = Gate(bob)
        order: list[str] = []
        failed = iter([True, False])

        def charge(request: Charge) -> Charged:
            order.append("charge")
            assert bob.broker.in_flight_now("bob") == request.messages
            if next(failed):
                raise StoreFailed("the disk is full")
            return gate.charge(request)

        bob.core.charge = charge
        message = await bob.send("work")
        turn = await bob.runner.next_turn()
        turn.end(usage=TokenUsage(input_tokens=-5, output_tokens=10**30), cost=float("inf"), model="m")
        await bob.advance(5)
        await bob.seen.until_true(lambda: len(bob.seen.settled) == 1)
        assert order == ["charge", "charge"]
        [charged] = gate.charged
        assert (charged.usage.input_tokens, charged.usage.output_tokens) == (0, TOKENS_MAX)
        assert (charged.cost, charged.turn, charged.messages) == (DOLLARS_MAX, 1, [message])
        [(_, _, result)] = bob.seen.settled
        assert (result.message, result.chain) == (message, 1)


async def test_a_harness_works_with_a_core_that_knows_no_budgets(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob, anyio.create_task_group() as group:

        def refuse(request: Request) -> NotAvailable | None:
            return NotAvailable("what?") if isinstance(request, MayTurn | Charge) else None

        bob.core.fault = refuse
        message = await bob.send("work")
        group.start_soon(bob.loop.run)
        (await bob.runner.next_turn()).end()
        await bob.seen.until_true(lambda: len(bob.seen.settled) == 1)
        assert await bob.state_of(message) == "acked"
        group.cancel_scope.cancel()


async def test_an_agent_that_waits_for_its_budget_can_be_stopped(tmp_path: Path) -> None:
    async with rig(tmp_path, run=False) as bob:
        gate = Gate(bob)
        gate.set(OVER)
        message = await bob.send("work")
        async with anyio.create_task_group() as group:
            group.start_soon(bob.loop.run)
            await bob.seen.until_state("waiting", "budget")
            bob.loop.drain(now=False)
        assert await bob.state_of(message) == "pending"


def test_background_turns_that_come_together_are_billed_together_and_fail_together() -> None:
    first = UnaskedTurn(
        ok=False, note="failed", usage=TokenUsage(input_tokens=5), cost=0.5, tool_calls={"Bash": 2}, model="m"
    )
    second = UnaskedTurn(
        ok=True, usage=TokenUsage(output_tokens=7), cost=0.25, tool_calls={"Bash": 1, "Read": 1}
    )
    both = first.joined(second)
    assert (both.ok, both.note, both.cost, both.model) == (False, "failed", 0.75, "m")
    assert both.usage == TokenUsage(input_tokens=5, output_tokens=7)
    assert both.tool_calls == {"Bash": 3, "Read": 1}
