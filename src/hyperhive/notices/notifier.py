"""`Notifier`: sees to it that each matter is told of at most once by each channel, and settled ones are taken back.

It compares what waits now with what it has told of, at start, when it is touched and when something falls due; so
nothing that came up while no hive ran is missed, and nothing that is replayed is told again. It never looks for
matters itself, and a channel that fails costs nobody else anything.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final
from zoneinfo import ZoneInfo

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from hyperhive.clock import Clock, unix_seconds
from hyperhive.config import MatterKind, Notify, NotifyChannel
from hyperhive.errors import HiveError, NotFound
from hyperhive.notices import outbox
from hyperhive.notices.channels import Channel, Failed, Notice, Unknown, channel_of
from hyperhive.notices.matters import TEXT_MAX, TITLE_MAX, Mask, Matter, presentable, summary
from hyperhive.notices.outbox import Changed, Move, NoticeRow, Seen
from hyperhive.notices.quiet import quiet_until
from hyperhive.store import Operation, Store

log = logging.getLogger(__name__)

Matters = Callable[[], Awaitable[Iterable[Matter]]]
Told = Callable[[Matter], None]
AT_ONCE: Final[frozenset[MatterKind]] = frozenset({"failed", "dead", "deploy", "limit"})
"""Told without waiting whether somebody settles it at a screen."""
WITHOUT_END: Final[frozenset[MatterKind]] = frozenset({"deploy"})
"""These are news; nothing is said when they are news no longer."""
MANY: Final = 3
"""More than so many at once are told of in one notice."""
RETRIES: Final = 8
RETRY_SECONDS: Final = 30
"""Before the second try; it doubles with each further one, up to an hour."""


class Notifier:
    """Tells the operator. `run` does the work, `touch` says that something may have changed.

    Args:
        store: opened with `notices.MIGRATIONS`.
        setting: `[notify]` as it is in force.
        matters: all that waits for a human now.
        mask: takes secrets out of a text.
        channel_of: makes a channel of its setting.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        setting: Callable[[], Notify],
        matters: Matters,
        mask: Mask,
        channel_of: Callable[[NotifyChannel], Channel] = channel_of,
    ) -> None:
        self._store = store
        self._clock = clock
        self._setting = setting
        self._matters = matters
        self._mask = mask
        self._channel_of = channel_of
        self._touched = anyio.Event()
        self._known: dict[str, Matter] | None = None
        self._busy: set[str] = set()
        self._zone: ZoneInfo | None = None
        self._listeners: list[tuple[Told, Told]] = []
        self._reconcile_op: Operation[Seen, Changed] = Operation("notices reconcile", outbox.reconcile)
        self._move_op: Operation[Move, None] = Operation("notices move", outbox.move)
        self._interrupted_op: Operation[int, int] = Operation("notices interrupted", outbox.interrupted)
        self._prune_op: Operation[int, int] = Operation("notices prune", outbox.prune)

    def touch(self) -> None:
        """What waits may have changed. Costs next to nothing; any number of times."""
        self._touched.set()

    def subscribe(self, told: Told, settled: Told = lambda _: None) -> Callable[[], None]:
        """Calls `told` once for each matter that comes up from now on, `settled` when it waits no longer.

        Neither may block or raise. Returns the way to stop that.
        """
        listener = (told, settled)
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    async def run(self) -> None:
        """Tells, for ever."""
        begun = False
        async with anyio.create_task_group() as group:
            while True:
                self._touched = anyio.Event()
                try:
                    if not begun:
                        await self._store.submit(self._interrupted_op, unix_seconds(self._clock))
                        begun = True
                    await self.look()
                    pause = await self._send_due(group)
                except HiveError as error:
                    log.warning("notices_failed error=%s", error)
                    pause = float(RETRY_SECONDS)
                await self._rest(pause)

    def channels(self) -> list[str]:
        """The names of the channels in force."""
        return sorted(self._setting().channels)

    async def test(self, name: str) -> None:
        """Sends one notice by this channel, whatever the hour.

        Raises:
            NotFound: there is no such channel. Failed, Unknown: how it went wrong.
        """
        setting = self._setting().channels.get(name)
        if setting is None:
            known = ", ".join(sorted(self._setting().channels)) or "none"
            raise NotFound(f"there is no channel {name!r}", hint=f"channels in hive.toml: {known}")
        at = unix_seconds(self._clock)
        await self._channel_of(setting).send(
            Notice(key=f"test:{at}", kind="test", agent="", title="hyperhive", text="A test.", state="test")
        )

    async def log(self, limit: int = 100) -> list[NoticeRow]:
        """The delivery log, newest first."""
        return await self._store.read(lambda conn: outbox.log_rows(conn, limit))

    async def sweep(self) -> int:
        """Retention; returns how many matters were forgotten."""
        return await self._store.submit(self._prune_op, unix_seconds(self._clock))

    # --- what waits -------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Takes down what waits now, and tells those who listen in this process."""
        now = unix_seconds(self._clock)
        found = {matter.key: self._fit(matter) for matter in await self._matters()}
        before = self._known
        if found == before:
            return
        seen = [(matter, self._channels_for(matter, now)) for matter in found.values()]
        changed = await self._store.submit(self._reconcile_op, Seen(seen, now))
        for told, settled in tuple(self._listeners):
            for key in changed.new:
                told(found[key])
            for key in changed.settled:
                if before is not None and key in before:
                    settled(before[key])
        self._known = found

    def _fit(self, matter: Matter) -> Matter:
        return Matter(
            kind=matter.kind,
            id=matter.id,
            agent=matter.agent,
            title=presentable(matter.title, TITLE_MAX, self._mask),
            text=presentable(matter.text, TEXT_MAX, self._mask),
        )

    def _channels_for(self, matter: Matter, now: int) -> list[tuple[str, int]]:
        return [
            (name, now if matter.kind in AT_ONCE else now + round(setting.after_seconds))
            for name, setting in self._setting().channels.items()
            if matter.kind in setting.matters and matter.agent not in setting.mute
        ]

    # --- telling ----------------------------------------------------------------------------------------------------

    async def _send_due(self, group: TaskGroup) -> float | None:
        """Sends what is due, each channel by itself; gives the seconds until more is due, None where nothing waits."""
        zone = self._setting().time_zone
        self._zone = None if zone is None else await anyio.to_thread.run_sync(ZoneInfo, zone)  # reads a file
        settled = _by_channel(await self._store.read(outbox.to_resolve))
        waiting = _by_channel(await self._store.read(outbox.waiting))
        times: list[float] = []
        for name in {*settled, *waiting} - self._busy:  # one that is done touches
            due = []
            for row in waiting.get(name, []):
                at = max(float(row.due_at), self._quiet(row) or 0.0)
                due.append(row) if at <= self._clock.time() else times.append(at)
            if due or name in settled:
                self._busy.add(name)
                group.start_soon(self._work, name, settled.get(name, []), due)
        return max(0.0, min(times) - self._clock.time()) if times else None

    async def _work(self, name: str, settled: list[NoticeRow], due: list[NoticeRow]) -> None:
        """One channel's share: however long it takes, and however it fails, no other waits for it."""
        try:
            for rows in _by_notice(settled):
                await self._resolve(rows)
            if (setting := self._setting().channels.get(name)) is None:
                await self._move(due, "failed", error="the channel is gone from hive.toml")
            else:
                for rows in [due] if len(due) > MANY else [[row] for row in due]:
                    await self._tell(setting, rows)
        except HiveError as error:
            log.warning("notices_failed channel=%s error=%s", name, error)
            await self._clock.sleep(RETRY_SECONDS)
        finally:
            self._busy.discard(name)
            self.touch()

    def _quiet(self, row: NoticeRow) -> float | None:
        setting = self._setting()
        if setting.quiet_hours is None or row.kind not in setting.also_quiet:
            return None
        return quiet_until(self._clock.time(), setting.quiet_hours, self._zone)

    async def _tell(self, setting: NotifyChannel, rows: list[NoticeRow]) -> None:
        """Sends these as one notice."""
        first = rows[0]
        title, text, key = first.title, first.text, first.key
        if len(rows) > 1:
            title, text = summary(_matter(row) for row in rows)
            key = f"many:{first.id}"
        agent = (first.agent or "") if len(rows) == 1 else ""
        kind = first.kind if len(rows) == 1 else "many"
        await self._move(rows, "sending", told_as=key)
        notice = Notice(key=key, kind=kind, agent=agent, title=title, text=text, state="open")
        try:
            await self._channel_of(setting).send(notice)
        except Failed as error:
            log.warning("notice_failed channel=%s key=%s error=%s", first.channel, key, error)
            await self._again(rows, str(error))
        except Unknown as error:
            log.warning("notice_unknown channel=%s key=%s error=%s", first.channel, key, error)
            await self._move(rows, "unknown", error=str(error))
        else:
            await self._move(rows, "sent")

    async def _again(self, rows: Sequence[NoticeRow], error: str) -> None:
        """What surely was not delivered is tried again, but not for ever."""
        tries = max(row.tries for row in rows) + 1
        if tries >= RETRIES:
            await self._move(rows, "failed", error=error)
            return
        again = unix_seconds(self._clock) + min(RETRY_SECONDS * 2 ** (tries - 1), 3600)
        await self._move(rows, "waiting", error=error, due_at=again)

    # --- settled elsewhere ------------------------------------------------------------------------------------------

    async def _resolve(self, rows: list[NoticeRow]) -> None:
        first = rows[0]
        setting = self._setting().channels.get(first.channel)
        if setting is None or not setting.resolved or first.kind in WITHOUT_END:
            await self._move(rows, "resolved")
            return
        many = len(rows) > 1
        await self._move(rows, "resolving")
        try:
            await self._channel_of(setting).send(
                Notice(
                    key=first.told_as or first.key,
                    kind="many" if many else first.kind,
                    agent="" if many else first.agent or "",
                    title=f"settled: {f'all {len(rows)}' if many else first.title}",
                    text="",
                    state="resolved",
                )
            )
        except (Failed, Unknown) as error:
            log.warning("notice_not_resolved channel=%s key=%s error=%s", first.channel, first.key, error)
            await self._move(rows, "unresolved", error=str(error))
        else:
            await self._move(rows, "resolved")

    async def _move(
        self,
        rows: Sequence[NoticeRow],
        state: outbox.NoticeState,
        *,
        told_as: str | None = None,
        error: str | None = None,
        due_at: int | None = None,
    ) -> None:
        ids = [row.id for row in rows]
        at = unix_seconds(self._clock)
        await self._store.submit(
            self._move_op,
            Move(ids=ids, state=state, at=at, told_as=told_as, error=error, due_at=due_at),
        )

    async def _rest(self, pause: float | None) -> None:
        """Until something changes, or the pause is over."""
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                if pause is not None:
                    group.start_soon(self._nap, pause, scope)
                await self._touched.wait()
                group.cancel_scope.cancel()

    async def _nap(self, seconds: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(min(seconds, 3600.0))
        scope.cancel()


def _by_channel(rows: Iterable[NoticeRow]) -> dict[str, list[NoticeRow]]:
    found: dict[str, list[NoticeRow]] = {}
    for row in rows:
        found.setdefault(row.channel, []).append(row)
    return found


def _by_notice(rows: Iterable[NoticeRow]) -> list[list[NoticeRow]]:
    """One notice may have told of many."""
    found: dict[str, list[NoticeRow]] = {}
    for row in rows:
        found.setdefault(row.told_as or row.key, []).append(row)
    return list(found.values())


def _matter(row: NoticeRow) -> Matter:
    return Matter(kind=row.kind, id=row.key, agent=row.agent, title=row.title)
