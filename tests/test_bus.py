"""The bus: numbering, fan-out, slow readers, history."""

import anyio

from hyperhive.bus import Bus, Frame, Missed


def test_numbers_start_at_one_and_have_no_gaps() -> None:
    bus = Bus[str]()
    assert bus.current_seq == 0
    assert [bus.publish(word) for word in "abc"] == [1, 2, 3]
    assert bus.current_seq == 3


async def test_a_subscriber_gets_what_is_published_after_it_subscribed() -> None:
    bus = Bus[str]()
    bus.publish("before")
    async with bus.subscribe() as frames:
        bus.publish("after")
        with anyio.fail_after(5):
            assert await anext(frames) == Frame(2, "after")


async def test_a_reader_that_waits_is_woken_by_the_next_event() -> None:
    bus = Bus[str]()
    got: list[object] = []

    async def read() -> None:
        async with bus.subscribe() as frames:
            got.append(await anext(frames))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            bus.publish("now")
    assert got == [Frame(1, "now")]


async def test_a_slow_reader_loses_the_oldest_frames_and_is_told_how_many() -> None:
    bus = Bus[int](buffer=256)
    slow, quick = bus.subscribe(), bus.subscribe()
    read = []
    for number in range(300):
        bus.publish(number)
        read.append(await anext(quick))
    assert read == [Frame(number + 1, number) for number in range(300)]
    assert await anext(slow) == Missed(44)
    assert await anext(slow) == Frame(45, 44)
    assert bus.statistics().lost == 44


async def test_frames_come_in_order_after_a_loss_too() -> None:
    bus = Bus[int](buffer=4)
    reader = bus.subscribe()
    seen: list[int] = []
    missed = 0
    for number in range(1, 50):
        bus.publish(number)
        if number % 7 == 0:
            while reader.ready:
                item = reader.next_nowait()
                if isinstance(item, Missed):
                    missed += item.count
                else:
                    seen.append(item.seq)
    assert seen == sorted(seen)
    assert len(seen) + missed == 49


async def test_leaving_the_subscription_unsubscribes() -> None:
    bus = Bus[str]()
    async with bus.subscribe():
        assert bus.statistics().subscribers == 1
    assert bus.statistics().subscribers == 0


async def test_closing_the_bus_ends_readers_after_what_is_buffered() -> None:
    bus = Bus[str]()
    reader = bus.subscribe()
    bus.publish("last words")
    bus.close()
    with anyio.fail_after(5):
        assert [item async for item in reader] == [Frame(1, "last words")]


async def test_a_closed_reader_learns_what_it_lost_and_no_more_than_that() -> None:
    bus = Bus[int](buffer=4, keep=4)
    reader = bus.subscribe()
    bus.publish(1)
    bus.publish(2)
    reader.close()
    for number in range(3, 9):
        bus.publish(number)
    assert [item async for item in reader] == [Missed(2)]


async def test_a_subscriber_can_go_on_after_a_number_it_knows() -> None:
    bus = Bus[str]()
    for word in ("one", "two", "three"):
        bus.publish(word)
    reader = bus.subscribe(after=1)
    assert [await anext(reader), await anext(reader)] == [Frame(2, "two"), Frame(3, "three")]
    assert not reader.ready


async def test_frames_that_are_no_longer_kept_count_as_missed() -> None:
    bus = Bus[int](buffer=2, keep=2)
    for number in range(5):
        bus.publish(number)
    reader = bus.subscribe(after=1)
    assert await anext(reader) == Missed(2)
    assert await anext(reader) == Frame(4, 3)


def test_history_serves_the_newest_kept_events_oldest_first() -> None:
    bus = Bus[str](keep=3, kind_of=lambda word: word[0])
    for word in ("apple", "avocado", "banana", "Apricot", "blueberry"):
        bus.publish(word)
    assert [frame.event for frame in bus.history()] == ["banana", "Apricot", "blueberry"]
    assert [frame.event for frame in bus.history(limit=1)] == ["blueberry"]
    assert [frame.event for frame in bus.history(before=5)] == ["banana", "Apricot"]
    assert [frame.event for frame in bus.history(kind="b")] == ["banana", "blueberry"]
    assert [frame.event for frame in bus.history(q="APRI")] == ["Apricot"]


async def test_a_tap_sees_every_event_at_once_and_in_order() -> None:
    bus: Bus[str] = Bus()
    seen: list[str] = []
    bus.tap(seen.append)
    bus.publish("one")
    bus.publish("two")
    assert seen == ["one", "two"]


async def test_who_reads_a_bus_that_skipped_is_told_once_and_reads_on() -> None:
    bus = Bus[str]()
    bus.publish("one")
    async with bus.subscribe() as now, bus.subscribe(after=0) as behind:
        assert bus.skip(3) == 4
        assert bus.publish("two") == 5
        assert [await anext(now), await anext(now)] == [Missed(3), Frame(5, "two")]
        assert [await anext(behind), await anext(behind)] == [Missed(4), Frame(5, "two")]
    assert bus.history() == [Frame(5, "two")]


async def test_who_waits_at_a_bus_that_skips_is_told_at_once() -> None:
    bus = Bus[str]()
    async with bus.subscribe() as frames, anyio.create_task_group() as group:

        async def read() -> None:
            assert await anext(frames) == Missed(2)

        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        bus.skip(2)
