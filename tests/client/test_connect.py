"""Claims about `connect`: the surfaces of a running hive, from another process's point of view."""

import contextlib
from pathlib import Path

import anyio
import pytest

from hyperhive.client import connect
from hyperhive.errors import BadRequest, Closed, Forbidden, HiveUnreachable, NotAvailable, NotFound
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.events import Sent
from hyperhive.protocol.policy import Caller
from small_hive import small_hive


async def test_the_operator_sends_and_sees_the_answer(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        receipt = await hive.broker.send("operator", "alice", "hello")
        assert receipt.id > 0
        await core.broker.send("alice", "operator", "good morning")
        [row] = await hive.broker.inbox()
        assert (row.sender, row.body) == ("alice", "good morning")
        assert [row.body for row in await hive.broker.recent("operator")] == ["good morning"]
        assert await hive.lifecycle.list() == ["alice", "bob"]


async def test_a_repeated_key_gives_the_first_id(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        first = await hive.broker.send("operator", "alice", "hello", dedupe_key="k")
        second = await hive.broker.send("operator", "alice", "hello", dedupe_key="k")
        assert (second.id, second.duplicate) == (first.id, True)


async def test_nobody_sends_in_anothers_name(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        with pytest.raises(Forbidden):
            await hive.broker.send("alice", "bob", "trust me")


async def test_errors_come_back_as_the_class_of_their_code(root: Path) -> None:
    async def destroy(caller: Caller, request: r.Destroy) -> a.Reply:
        raise NotFound(f"{caller.name} knows no {request.name}", hint="look again")

    async with small_hive(root, handlers={r.Destroy: destroy}) as core, connect(core.run_dir) as hive:
        with pytest.raises(NotFound) as caught:
            await hive.lifecycle.destroy("carol")
        assert (caught.value.message, caught.value.hint) == ("operator knows no carol", "look again")
        with pytest.raises(NotAvailable):
            await hive.approvals.pending()
        with pytest.raises(BadRequest):
            await hive.broker.send("operator", "alice", " ")


async def test_requests_of_many_tasks_share_the_connection_and_none_waits_for_another(root: Path) -> None:
    slow = anyio.Event()

    async def show(caller: Caller, request: r.Show) -> a.Reply:
        await slow.wait()
        raise NotFound(f"{caller.name} asked for {request.id}")

    async with small_hive(root, handlers={r.Show: show}) as core, connect(core.run_dir) as hive:
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises(NotFound):
                    await hive.approvals.diff(7)

            group.start_soon(wait)
            for _ in range(20):
                assert await hive.lifecycle.list()
            slow.set()
        [listening] = [one for path, one in core.sockets._listening.items() if path == core.host]
        assert len(listening.peers) == 1


async def test_it_may_be_opened_in_one_task_and_closed_in_another(root: Path) -> None:
    async with small_hive(root) as core:
        hives = []

        async def first_cell() -> None:
            hives.append(await connect(core.run_dir))

        async def second_cell() -> None:
            assert await hives[0].lifecycle.list()
            await hives[0].aclose()

        for cell in (first_cell, second_cell):
            async with anyio.create_task_group() as group:
                group.start_soon(cell)
        with pytest.raises(Closed):
            await hives[0].lifecycle.list()


async def test_without_a_hive_the_error_names_all_that_was_tried(root: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(root / "x"), "HOME": str(root / "home")}
    with pytest.raises(HiveUnreachable) as caught:
        await connect(environ=environ)
    for tried in (
        f"{root}/x/hyperhive/host.sock",
        f"{root}/home/",
        "/run/hyperhive/host.sock",
        "hyperhive up",
    ):
        assert tried in str(caught.value)


async def test_a_named_directory_is_the_only_place_that_is_tried(root: Path) -> None:
    async with small_hive(root) as core:
        environ = {"XDG_RUNTIME_DIR": str(root), "HYPERHIVE_RUN_DIR": str(core.run_dir)}
        async with connect(environ=environ) as hive:
            assert await hive.lifecycle.list()
        with pytest.raises(HiveUnreachable) as caught:
            await connect(root / "elsewhere", environ=environ)
        assert "run/host.sock" not in str(caught.value)


async def test_after_a_restart_of_the_hive_the_next_request_dials_again(root: Path) -> None:
    async with small_hive(root) as core:
        hive = await connect(core.run_dir)
    with pytest.raises((HiveUnreachable, Closed)):
        await hive.lifecycle.list()
    async with small_hive(root):
        assert await hive.lifecycle.list()
        await hive.aclose()


async def test_a_request_that_was_under_way_when_the_hive_went_says_so(root: Path) -> None:
    begun = anyio.Event()

    async def names(caller: Caller, request: r.List) -> a.Reply:
        del caller, request
        begun.set()
        await anyio.sleep_forever()
        return a.Ok()

    async with (
        small_hive(root, handlers={r.List: names}) as core,
        connect(core.run_dir) as hive,
        anyio.create_task_group() as group,
    ):

        async def ask() -> None:
            with pytest.raises(Closed):
                await hive.lifecycle.list()

        group.start_soon(ask)
        await begun.wait()
        await core.kill()


async def test_a_stream_opens_with_resume_and_carries_what_happens_from_then_on(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        await core.broker.send("alice", "bob", "before")
        async with hive.events() as frames:
            first = await anext(frames)
            assert (first["kind"], first["resume"]) == ("resume", "new")
            await core.broker.send("alice", "bob", "after")
            frame = await anext(frames)
            assert (frame["kind"], frame["from"], frame["to"], frame["body"]) == (
                "sent",
                "alice",
                "bob",
                "after",
            )
            assert frame["seq"] == 3  # each message is two events


async def test_a_stream_goes_on_where_a_reader_left_off(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        async with hive.events() as frames:
            epoch = str((await anext(frames))["id"]).partition(":")[0]
        for body in ("one", "two"):
            await core.broker.send("alice", "bob", body)
        async with hive.events(after=f"{epoch}:2") as frames:
            assert (await anext(frames))["resume"] == "ok"
            assert (await anext(frames))["body"] == "two"
        async with hive.events(after="elsewhere:1") as frames:
            assert (await anext(frames))["resume"] == "gap"


async def test_an_unknown_stream_is_not_found(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        with pytest.raises(NotFound):
            async with hive.events("carol"):
                pass


async def test_a_stream_ends_with_an_error_when_the_hive_does(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive, hive.events() as frames:
        await anext(frames)
        await core.kill()
        with pytest.raises(Closed):
            [frame async for frame in frames]


async def test_a_reader_that_leaves_a_stream_leaves_nothing_behind(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive:
        for _ in range(3):
            async with hive.events() as frames:
                await anext(frames)
        await hive.lifecycle.list()
        with anyio.fail_after(5):
            while core.broker.bus.statistics().subscribers:
                await anyio.lowlevel.checkpoint()


async def test_a_slow_reader_of_a_stream_loses_frames_and_is_told_how_many(root: Path) -> None:
    async with small_hive(root) as core, connect(core.run_dir) as hive, hive.events() as frames:
        await anext(frames)
        event = Sent(id=1, sender="alice", recipient="bob", body="x" * 4000, at=0)
        total = 4000
        for _ in range(total):  # more than the buffers of both ends can hold
            core.broker.bus.publish(event)
            await anyio.lowlevel.checkpoint()
        seen = missed = 0
        while seen + missed < total:
            frame = await anext(frames)
            if frame["kind"] == "lagged":
                missed += int(str(frame["missed"]))
            elif frame["kind"] == "sent":
                seen += 1
        assert missed > 0
        assert seen >= 256


async def test_no_request_is_repeated_by_itself(root: Path) -> None:
    asked = []

    async def reload(caller: Caller, request: r.Reload) -> a.Reply:
        asked.append(request)
        await anyio.sleep_forever()
        return a.Ok(note=caller.name)

    async with small_hive(root, handlers={r.Reload: reload}) as core:
        hive = await connect(core.run_dir)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with contextlib.suppress(Closed):
                    await hive.request(r.Reload())

            group.start_soon(ask)
            while not asked:
                await anyio.lowlevel.checkpoint()
            await core.kill()
    async with small_hive(root):
        assert await hive.lifecycle.list()
        await hive.aclose()
    assert len(asked) == 1
