"""The approval queue: one decision each, by the operator alone, on exactly what was shown, written down for good."""

import random
import sqlite3
from pathlib import Path

import anyio
import pytest

from approval_world import ALICE, ApprovalWorld
from hyperhive.errors import (
    Conflict,
    Forbidden,
    HiveError,
    InvalidName,
    LimitReached,
    NotFound,
    StoreFailed,
    WorldError,
)
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.lifecycle.approvals.queue import Shown
from hyperhive.lifecycle.approvals.rows import WAITING_MAX
from hyperhive.protocol.events import ApprovalAdded, ApprovalChanged, ApprovalResolved, ApprovalResolvedMail
from hyperhive.testing.repos import MemoryRepos

BOSS = "manager"


@pytest.fixture
def world(tmp_path: Path) -> ApprovalWorld:
    return ApprovalWorld(tmp_path / "hive.sqlite")


async def ask(queue: ApprovalQueue, world: ApprovalWorld, text: str = 'model = "sonnet"\n') -> int:
    return await queue.request_apply_commit("alice", world.change(text)[:10], by=BOSS)


async def agree(queue: ApprovalQueue, number: int, shown: Shown | None = None) -> None:
    seen = shown or await queue.show(number)
    await queue.approve(number, seen.approval.commit_ref, seen.approval.diff_sha256)


async def test_a_request_pins_the_full_commit_and_shows_its_diff(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        shown = await queue.show(number)
        assert shown.approval.commit_ref in world.repos.commits
        assert shown.approval.base_ref == world.repos.mains["alice"]
        assert (shown.approval.status, shown.approval.stage) == ("pending", "proposal")
        assert shown.approval.requested_by == BOSS
        assert '+model = "sonnet"' in shown.diff
        assert [one.id for one in await queue.pending()] == [number]
        assert world.repos.tags_of["alice"][f"proposal/{number}"] == shown.approval.commit_ref
        added = [frame.event for frame in world.bus.history() if isinstance(frame.event, ApprovalAdded)]
        assert [event.diff for event in added] == [shown.diff]
        (end,) = queue.loose_ends()
        assert (end.id, end.commit_ref) == (number, shown.approval.commit_ref)
        assert queue.loose_ends("bob") == []


async def test_approving_needs_the_commit_and_the_diff_that_were_shown(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        seen = (await queue.show(number)).approval
        for sha, diff, code in (
            (None, None, "unseen"),
            (seen.commit_ref, None, "unseen"),
            (None, seen.diff_sha256, "unseen"),
            ("0" * 40, seen.diff_sha256, "moved"),
            (seen.commit_ref, "0" * 64, "moved"),
        ):
            with pytest.raises(Conflict) as caught:
                await queue.approve(number, sha, diff)
            assert caught.value.wire_code == code
            assert f"commit {seen.commit_ref} with diff {seen.diff_sha256} now" in caught.value.message
        assert world.handed.ids == []
        approved = await queue.approve(number, seen.commit_ref, seen.diff_sha256)
        assert (approved.status, approved.stage, approved.resolved_by) == ("approved", "approved", "operator")
        assert world.handed.ids == [number]


async def test_a_decision_and_its_audit_entry_are_one_transaction(
    world: ApprovalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with world.queue() as queue:
        number = await ask(queue, world)
        with monkeypatch.context() as patches:
            patches.setattr("hyperhive.lifecycle.approvals.rows.enter", full)
            with pytest.raises(HiveError):
                await agree(queue, number)
            with pytest.raises(HiveError):
                await queue.deny(number)
        assert [one.status for one in await queue.pending()] == ["pending"]
        assert world.handed.ids == []
        await agree(queue, number)
        newest, oldest = await queue.audit()
        assert (oldest.action, oldest.who, oldest.approval) == ("requested", BOSS, number)
        assert (newest.action, newest.who, newest.channel) == ("approved", "operator", "library")
        shown = (await queue.show(number)).approval
        assert (newest.sha, newest.diff_sha256) == (shown.commit_ref, shown.diff_sha256)
        assert [entry.action for entry in await queue.audit(before=newest.id)] == ["requested"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit",
        "UPDATE audit SET who = 'bob'",
        (
            "INSERT OR REPLACE INTO audit"
            " SELECT id, at, approval, agent, 'x', who, channel, sha, diff_sha256, why FROM audit"
        ),
    ],
)
async def test_the_audit_table_can_only_grow(world: ApprovalWorld, statement: str) -> None:
    async with world.queue() as queue:
        await ask(queue, world)
    conn = sqlite3.connect(world.path)
    try:
        with pytest.raises(sqlite3.DatabaseError, match="can only grow"):
            conn.execute(statement)
    finally:
        conn.close()


async def test_whoever_comes_second_learns_who_resolved_it(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        seen = await queue.show(number)
        await queue.deny(number, "not now")
        for attempt in (agree(queue, number, seen), queue.deny(number)):
            with pytest.raises(Conflict, match="denied by operator already \\(not now\\)"):
                await attempt


async def test_of_what_failed_nobody_is_said_to_have_failed_it(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        asked, approved = await ask(queue, world), await ask(queue, world, 'prompt = "x"\n')
        await queue.fail(asked, "destroyed")
        await agree(queue, approved)
        await queue.fail(approved, "no tools")
        for number, said in (
            (asked, f"approval {asked} has failed already (destroyed)"),
            (approved, f"approval {approved} was approved by operator already, and has failed (no tools)"),
        ):
            with pytest.raises(Conflict) as caught:
                await queue.deny(number)
            assert caught.value.message == said


async def test_a_denial_is_told_with_its_reason_and_tagged(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        denied = await queue.deny(number, "too dear")
        assert (denied.status, denied.note, denied.resolved_by) == ("denied", "too dear", "operator")
        mail = world.told[f"approval:{number}:resolved"]
        assert isinstance(mail, ApprovalResolvedMail)
        assert (mail.status, mail.note, mail.commit_ref) == ("denied", "too dear", denied.commit_ref)
        assert world.repos.tags_of["alice"][f"denied/{number}"] == denied.commit_ref
        assert world.repos.messages["alice", f"denied/{number}"] == "too dear"
        kinds = [type(frame.event) for frame in world.bus.history()]
        assert kinds == [ApprovalAdded, ApprovalChanged, ApprovalResolved]
        assert await queue.pending() == []


@pytest.mark.parametrize("seed", range(100))
async def test_of_decisions_that_race_one_wins(seed: int, tmp_path: Path) -> None:
    world = ApprovalWorld(tmp_path / "hive.sqlite")
    shuffled = random.Random(seed)
    won: list[str] = []
    lost: list[str] = []
    async with world.queue() as queue:
        number = await ask(queue, world)
        seen = await queue.show(number)

        async def decide(word: str) -> None:
            for _ in range(shuffled.randrange(8)):
                await anyio.lowlevel.checkpoint()
            try:
                await (queue.deny(number) if word == "deny" else agree(queue, number, seen))
                won.append(word)
            except Conflict as error:
                lost.append(str(error))

        async with anyio.create_task_group() as tasks:
            for word in shuffled.sample(["approve", "approve", "deny"], 3):
                tasks.start_soon(decide, word)
        decisions = [entry.action for entry in await queue.audit() if entry.action != "requested"]
        assert len(won) == 1
        assert len(lost) == 2
        assert all("by operator already" in message for message in lost)
        assert decisions == [{"approve": "approved", "deny": "denied"}[won[0]]]
        assert world.handed.ids == ([number] if won == ["approve"] else [])


async def test_only_the_operator_decides(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        seen = (await queue.show(number)).approval
        for by in (BOSS, "alice", "system"):
            with pytest.raises(Forbidden):
                await queue.approve(number, seen.commit_ref, seen.diff_sha256, by=by)
            with pytest.raises(Forbidden):
                await queue.deny(number, by=by)
            with pytest.raises(Forbidden):
                await queue.roll_back("alice", 0, world.repos.mains["alice"], by=by)
        assert len(await queue.audit()) == 1


async def test_what_moved_between_view_and_approval_is_never_deployed(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        seen = await queue.show(number)
        # The tag is forced to another commit.
        other = world.change('model = "opus"\n')
        world.repos.tags_of["alice"][f"proposal/{number}"] = other
        with pytest.raises(Conflict) as caught:
            await agree(queue, number, seen)
        assert caught.value.wire_code == "moved"
        world.repos.tags_of["alice"][f"proposal/{number}"] = seen.approval.commit_ref
        # The base moves along the proposal's own history: still a descendant, but another diff.
        first = world.change('model = "opus"\n')
        second = world.change('model = "opus"\nprompt = "x"\n', on=first)
        later = await queue.request_apply_commit("alice", second, by=BOSS)
        shown = await queue.show(later)
        world.repos.mains["alice"] = first
        with pytest.raises(Conflict) as caught:
            await agree(queue, later, shown)
        assert caught.value.wire_code == "moved"
        assert "model" not in (await queue.show(later)).diff.replace(' model = "opus"', "")
        # The base moves elsewhere.
        with pytest.raises(Conflict) as caught:
            await agree(queue, number, seen)
        assert caught.value.wire_code == "stale_base"
        assert world.handed.ids == []
        failed = world.told[f"approval:{number}:resolved"]
        assert isinstance(failed, ApprovalResolvedMail)
        assert (failed.status, (failed.note or "")[:10]) == ("failed", "stale_base")
        await agree(queue, later)
        assert world.handed.ids == [later]


async def test_a_stale_proposal_is_refused_at_once_and_leaves_nothing(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        aside = world.repos.commit({"agent.toml": ""})
        with pytest.raises(Conflict) as caught:
            await queue.request_apply_commit("alice", aside, by=BOSS)
        assert caught.value.wire_code == "stale_base"
        assert await queue.pending() == []
        assert await queue.audit() == []


async def test_a_change_that_is_too_large_to_be_judged_cannot_be_asked_for(tmp_path: Path) -> None:
    world = ApprovalWorld(tmp_path / "hive.sqlite", repos=MemoryRepos(big=1000))
    async with world.queue() as queue:
        with pytest.raises(LimitReached):
            await ask(queue, world, "# x\n" * 1000)
        assert await queue.pending() == []
        number = await ask(queue, world)
        seen = await queue.show(number)
        world.repos.big = 10  # and where the limit was lowered since, it is not approved
        with pytest.raises(LimitReached):
            await agree(queue, number, seen)
        assert world.handed.ids == []


async def test_one_deploy_of_an_agent_at_a_time(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        first, second = await ask(queue, world), await ask(queue, world, 'prompt = "x"\n')
        await agree(queue, first)
        with pytest.raises(Conflict, match="is being deployed"):
            await agree(queue, second)
        with pytest.raises(Conflict, match="is being deployed"):
            await queue.roll_back("alice", 0, world.repos.mains["alice"])
        assert [one.id for one in await queue.pending()] == [second]


async def test_a_spawn_of_a_living_name_fails_at_request_and_at_approval(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        for name, error in (("alice", Conflict), ("manager", HiveError), ("No!", InvalidName)):
            with pytest.raises(error):
                await queue.request_spawn(name, by=BOSS)
        number = await queue.request_spawn("bob", by=BOSS)
        assert (await queue.show(number)).approval.commit_ref == ""
        world.alive.add("bob")
        with pytest.raises(Conflict, match="already"):
            await queue.approve(number)
        world.alive.discard("bob")
        await queue.approve(number)
        assert world.handed.ids == [number]


async def test_open_approvals_outlive_a_restart(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        seen = await queue.show(number)
    async with world.queue() as queue:
        assert [one.id for one in await queue.pending()] == [number]
        assert await queue.show(number) == seen
        await agree(queue, number, seen)
    async with world.queue() as queue:
        approved, untold = await queue.unfinished()
        assert ([row.id for row in approved], untold) == ([number], [])


async def test_what_could_not_be_told_is_known_at_the_next_start(world: ApprovalWorld) -> None:
    """Pain 10: a decision that was made reaches whoever asked for it, whatever happens in between."""
    async with world.queue() as queue:
        number = await ask(queue, world)
        world.tell_fails = True
        await queue.deny(number, "no")
    world.tell_fails = False
    async with world.queue() as queue:
        _, untold = await queue.unfinished()
        assert [row.id for row in untold] == [number]
        await queue.settle(untold[0])
        assert (await queue.unfinished())[1] == []
    assert len(world.told) == 1


async def test_a_destroyed_agents_open_approvals_fail(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        first, second = await ask(queue, world), await ask(queue, world, 'prompt = "x"\n')
        await queue.resolve_all("alice", "destroyed")
        await queue.resolve_all("alice", "destroyed")
        for number in (first, second):
            approval = (await queue.show(number)).approval
            assert (approval.status, approval.note, approval.resolved_by) == ("failed", "destroyed", "system")
        assert len([entry for entry in await queue.audit() if entry.action == "failed"]) == 2


async def test_an_id_that_a_tag_bears_is_not_given_again(world: ApprovalWorld) -> None:
    await world.repos.ensure(ALICE)
    await world.repos.tag(ALICE, "deployed/41", world.repos.mains["alice"])
    async with world.queue() as queue:
        assert await ask(queue, world) == 42


async def test_what_is_not_there_is_not_found(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        nobody = queue.request_apply_commit("bob", "1234567", by=BOSS)
        for attempt in (queue.show(7), queue.approve(7), queue.deny(7), nobody):
            with pytest.raises(NotFound):
                await attempt
        with pytest.raises(NotFound):
            await queue.request_apply_commit("alice", "1234567", by=BOSS)


class Once:
    """A repeat key in a table of its own."""

    def __init__(self, key: str) -> None:
        self.key = key

    def earlier(self, conn: sqlite3.Connection) -> int | None:
        conn.execute("CREATE TABLE IF NOT EXISTS once (key TEXT PRIMARY KEY, id INTEGER)")
        found = conn.execute("SELECT id FROM once WHERE key = ?", (self.key,)).fetchone()
        return int(found[0]) if found else None

    def remember(self, conn: sqlite3.Connection, id: int) -> None:  # noqa: A002
        conn.execute("INSERT INTO once VALUES (?, ?)", (self.key, id))


async def test_a_request_that_is_made_again_gives_the_same_approval(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        commit = world.change()
        ids = [await queue.request_apply_commit("alice", commit, by=BOSS, once=Once("a")) for _ in range(2)]
        ids += [await queue.request_spawn("bob", by=BOSS, once=Once("b")) for _ in range(2)]
        assert ids == [ids[0], ids[0], ids[2], ids[2]]
        assert len(await queue.pending()) == 2


async def test_a_failing_store_refuses_and_changes_nothing(
    world: ApprovalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)

        def broken(*_: object) -> object:
            raise sqlite3.OperationalError("disk is full")

        with monkeypatch.context() as patches:
            patches.setattr(queue._decide_op, "run", broken)
            with pytest.raises(StoreFailed):
                await queue.deny(number)
        assert [one.id for one in await queue.pending()] == [number]


async def test_whoever_goes_away_while_asking_leaves_nothing_half_asked(world: ApprovalWorld) -> None:
    begun = anyio.Event()

    async def hang(name: str) -> None:
        if name == "after propose":
            begun.set()
            await anyio.sleep_forever()

    async with world.queue(hang) as queue:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, queue, world)
            await begun.wait()
            tasks.cancel_scope.cancel()
        assert await queue.pending() == []
        rows = await queue._store.read(lambda conn: conn.execute("SELECT count(*) FROM approvals").fetchone())
        assert rows == (0,)
        with pytest.raises(NotFound):
            await queue.show(1)


async def test_a_tag_that_could_not_be_made_is_made_by_the_next_life(
    world: ApprovalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise WorldError("the disk is full")

    async with world.queue() as queue:
        number = await ask(queue, world)
        with monkeypatch.context() as patches:
            patches.setattr(world.repos, "tag", full)
            await queue.deny(number, "no")
        assert f"approval:{number}:resolved" in world.told, "whoever asked need not wait for it"
        assert f"denied/{number}" not in world.repos.tags_of["alice"]
    async with world.queue() as queue:
        _, unsaid = await queue.unfinished()
        assert [row.id for row in unsaid] == [number]
        for row in unsaid:
            await queue.settle(row)
        assert world.repos.tags_of["alice"][f"denied/{number}"]
        assert await queue.unfinished() == ([], [])


async def test_what_waits_for_the_operator_is_bounded_for_each_agent_and_for_spawns(
    world: ApprovalWorld,
) -> None:
    async with world.queue() as queue:
        numbers = [await ask(queue, world, f'model = "m{number}"\n') for number in range(WAITING_MAX)]
        with pytest.raises(LimitReached, match="wait for the operator already"):
            await ask(queue, world)
        for number in range(WAITING_MAX):
            await queue.request_spawn(f"a{number}", by=BOSS)
        with pytest.raises(LimitReached, match="new agents wait"):
            await queue.request_spawn("more", by=BOSS)
        await queue.deny(numbers[0])
        await ask(queue, world)


async def test_nothing_is_imported_onto_a_disk_that_is_low(world: ApprovalWorld) -> None:
    async def low() -> None:
        raise WorldError("the disk is low")

    async with world.queue() as queue:
        queue._room = low
        with pytest.raises(WorldError, match="low"):
            await ask(queue, world)
        assert list(world.repos.tags_of["alice"]) == ["deployed/0"]
        assert await queue.pending() == []


async def test_what_was_decided_is_shown_also_when_its_repo_is_gone(
    world: ApprovalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object, **__: object) -> None:
        raise WorldError("not a git repository")

    async with world.queue() as queue:
        denied, waits = await ask(queue, world), await ask(queue, world, 'model = "opus"\n')
        await queue.deny(denied, "no")
        monkeypatch.setattr(world.repos, "diff", gone)
        shown = await queue.show(denied)
        assert (shown.approval.note, shown.diff) == ("no", "")
        assert any("its diff is gone" in one for one in shown.warnings)
        with pytest.raises(WorldError):  # what is to be decided on is seen whole, or not at all
            await queue.show(waits)


async def test_a_rollback_to_what_runs_already_is_refused(world: ApprovalWorld) -> None:
    async with world.queue() as queue:
        seed = world.repos.mains["alice"]
        world.repos.mains["alice"] = world.repos.commit({"agent.toml": 'model = "x"\n'}, on=seed)
        with pytest.raises(Conflict, match="is what alice runs"):
            await queue.roll_back("alice", 0, world.repos.mains["alice"])
        assert await queue.unfinished() == ([], [])
        assert await queue.roll_back("alice", 0, seed)


async def test_whoever_asked_learns_of_a_denial_also_when_the_operator_goes_away_meanwhile(
    world: ApprovalWorld,
) -> None:
    async with world.queue() as queue:
        number = await ask(queue, world)
        with anyio.CancelScope() as scope:
            world.bus.tap(lambda event: scope.cancel() if isinstance(event, ApprovalChanged) else None)
            await queue.deny(number, "no")
        assert (await queue.row(number)).stage == "denied"
        assert f"approval:{number}:resolved" in world.told
        assert f"denied/{number}" in world.repos.tags_of["alice"]
