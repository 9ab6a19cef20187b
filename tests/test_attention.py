"""What waits for the operator is looked for when something may have changed, and not at every step of a turn."""

from pathlib import Path

import anyio
import msgspec

from hyperhive.accounts import Accounts
from hyperhive.attention import Attention
from hyperhive.broker import MIGRATIONS, Broker, Limits
from hyperhive.bus import Bus
from hyperhive.protocol.events import AnyDashboardEvent, ContainerRemoved, ContainerStateChanged
from hyperhive.protocol.types import ContainerView
from hyperhive.store import Store
from hyperhive.testing import FakeClock

ROW = ContainerView(
    name="alice", role="agent", running=True, state="idle", turn_state="idle", turn_state_since=0, unread=0,
    model="haiku", isolation="bwrap", network="none", account="default", needs_login=False, needs_update=False,
    held_by_operator=False, pending_reminders=0,
)  # fmt: skip


async def test_what_the_hive_itself_asks_leaves_the_host_without_the_letters_that_it_quotes(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with Broker.open(tmp_path / "db", clock=clock, limits=Limits(pair_rate=1)) as broker:
        attention = Attention(
            broker=broker,
            accounts=await Accounts.open(None, {}),
            clock=clock,
            views=list,
            open_approvals=list,
            failed_approvals=lambda _: [],
            users=lambda _: [],
        )
        await broker.send("operator", "alice", "the word is swordfish")
        await broker.recv("alice", 1, 0)
        await broker.send("alice", "bob", "one")
        await broker.send("alice", "bob", "two")
        [question] = await broker.questions.open("operator")
        assert "swordfish" in question.question
        [matter] = await attention.matters()
        assert "swordfish" not in f"{matter}"
        assert matter.title == "a chain of messages is held as a reply storm"
        assert matter.text == f"hyperhive questions {question.id}"
        await broker.questions.answer(question.id, "drop", by="operator")
        assert await broker.dead() != []
        assert await attention.matters() == [], "what the operator has dropped is no news"


async def test_of_a_fleet_row_only_what_may_concern_the_operator_is_looked_at(tmp_path: Path) -> None:
    clock, bus = FakeClock(), Bus[AnyDashboardEvent]()
    looks = []
    async with Store.open(tmp_path / "db", migrations=[MIGRATIONS], clock=clock) as store:
        attention = Attention(
            broker=Broker(store=store, clock=clock),
            accounts=await Accounts.open(None, {}),
            clock=clock,
            views=list,
            open_approvals=list,
            failed_approvals=lambda _: [],
            users=lambda _: [],
        )
        async with anyio.create_task_group() as group:
            group.start_soon(attention.watch, bus, lambda: looks.append(True))
            await anyio.wait_all_tasks_blocked()

            async def looked(event: AnyDashboardEvent) -> int:
                before = len(looks)
                bus.publish(event)
                await anyio.wait_all_tasks_blocked()
                return len(looks) - before

            def changed(**fields: object) -> ContainerStateChanged:
                return ContainerStateChanged(container=msgspec.structs.replace(ROW, **fields))

            assert await looked(changed()) == 1
            assert await looked(changed(turn_state="thinking", unread=3)) == 0
            assert await looked(changed(state="failed")) == 1
            assert await looked(changed(state="failed", ctx_tokens=5)) == 0
            assert await looked(changed(waiting_reason="limited")) == 1
            assert await looked(ContainerRemoved(name="alice")) == 1
            assert await looked(changed(waiting_reason="limited")) == 1
            group.cancel_scope.cancel()


async def test_whose_an_account_is_is_asked_of_those_in_trouble_alone(tmp_path: Path) -> None:
    """Each of many agents may have a login of its own, and who of all of them uses one takes a while to say."""
    clock, asked = FakeClock(), list[str]()
    accounts = await Accounts.open(None, {})
    for number in range(50):
        accounts.state(f"well-{number}")
    accounts.state("out").login_refused(0)
    accounts.state("full").limit(clock.time() + 60)
    accounts.state("full-before").limit(clock.time() - 60)

    def users(account: str) -> list[str]:
        asked.append(account)
        return ["alice", "bob"]

    async with Broker.open(tmp_path / "db", clock=clock) as broker:
        attention = Attention(
            broker=broker,
            accounts=accounts,
            clock=clock,
            views=list,
            open_approvals=list,
            failed_approvals=lambda _: [],
            users=users,
        )
        found = await attention.matters()
    assert asked == ["full", "out"]
    assert [matter.title for matter in found] == [
        "account full is at its usage limit: 2 agents wait",
        "account out needs a login: work of 2 agents waits",
    ]
