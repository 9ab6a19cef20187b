"""What the commands about agents' lives ask for and show: tombstones, what is deployed, who needs an update."""

import time
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from console import Console, Done
from desk import answers, desk, does, raises
from hyperhive.errors import NotFound, WorldError
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.types import ContainerView

ALICE = ContainerView(
    name="alice", role="agent", running=True, state="idle", turn_state="idle", turn_state_since=int(time.time()),
    unread=0, model="haiku", isolation="bwrap", network="none", account="default", needs_login=False,
    needs_update=True, held_by_operator=False, pending_reminders=0, deployed_sha="0123456789abcdef" * 2,
)  # fmt: skip
INFO = p.HiveInfo(
    revision="0.1.0", runtime="bwrap", started_at=int(time.time()), pid=42, state_dir="/s", run_dir="/r",
    tombstones=("bob", "carol"),
)  # fmt: skip
STATUS = p.HiveStatus(hive=INFO, agents=[p.AgentDetail(view=ALICE)])


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    """The run directory that the console is told."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    return tmp_path / "run"


async def run(console: Console, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words))


async def test_status_and_list_all_name_the_tombstones_and_how_they_come_back(
    console: Console, at: Path
) -> None:
    async with desk(at, {r.Status: answers(STATUS)}):
        for words in (["status"], ["list", "--all"]):
            shown = (await run(console, *words)).out
            assert "bob, carol" in shown
            assert "hyperhive restore" in shown
        assert "bob" not in (await run(console, "list")).out


async def test_one_agents_status_shows_what_is_deployed_and_that_it_needs_an_update(
    console: Console, at: Path
) -> None:
    async with desk(at, {r.Status: answers(STATUS)}):
        shown = (await run(console, "status", "alice")).out
    assert "0123456789ab\n" in shown
    assert "hyperhive update" in shown
    current = msgspec.structs.replace(ALICE, needs_update=False, deployed_sha=None)
    status = p.HiveStatus(hive=INFO, agents=[p.AgentDetail(view=current)])
    async with desk(at, {r.Status: answers(status)}):
        shown = (await run(console, "status", "alice")).out
    assert "nothing yet" in shown
    assert "update" not in shown


async def test_restore_all_brings_back_every_tombstone_and_says_which_could_not(
    console: Console, at: Path
) -> None:
    asked: list[str] = []

    async def restore(request: r.Request) -> p.Reply:
        assert isinstance(request, r.Restore)
        asked.append(request.name)
        if request.name == "bob":
            raise NotFound("it is gone")
        return p.Ok()

    async with desk(at, {r.Status: answers(STATUS), r.Restore: does(restore)}):
        done = await run(console, "restore", "--all", "--json")
    assert (done.code, sorted(asked)) == (1, ["bob", "carol"])
    assert done.json["restored"] == ["carol"]
    assert done.json["failed"]["bob"]["code"] == "not_found"
    for words in (["restore"], ["restore", "bob", "--all"], ["update"], ["update", "--all", "--now"]):
        assert (await run(console, *words)).code == 2


async def test_update_all_prints_who_was_built_anew_and_fails_where_one_was_not(
    console: Console, at: Path
) -> None:
    async with desk(at, {r.UpdateAll: answers(p.Ok(note="built anew: alice")), r.Update: answers(p.Ok())}):
        assert (await run(console, "update", "--all")).out == "built anew: alice\n"
        assert (await run(console, "update", "alice")).out == "alice is built anew, and well\n"
    async with desk(at, {r.UpdateAll: raises(WorldError("1 of 2 agents go on as they were: bob: no"))}):
        failed = await run(console, "update", "--all")
    assert (failed.code, "bob: no" in failed.err) == (1, True)


async def test_inputs_are_bumped_by_name_several_at_once_and_alone(console: Console, at: Path) -> None:
    asked: list[list[str]] = []

    async def bump(request: r.Request) -> p.Reply:
        assert isinstance(request, r.MetaUpdate)
        asked.append(list(request.inputs))
        return p.Ok(note="hyperhive/nixpkgs: 1 -> 2; alice needs an update: hyperhive update --all")

    async with desk(at, {r.MetaUpdate: does(bump)}):
        done = await run(console, "update", "--inputs", "hyperhive", "nixpkgs")
        assert "hyperhive/nixpkgs: 1 -> 2" in done.out
        assert (await run(console, "update", "alice", "--inputs", "nixpkgs")).code == 2
        assert (await run(console, "update", "--all", "--inputs", "nixpkgs")).code == 2
    assert asked == [["hyperhive", "nixpkgs"]]
