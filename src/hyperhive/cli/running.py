"""A hive under way: started, told about, drained and stopped, for `up` and `serve`.

The first SIGINT or SIGTERM lets running turns end, and says which; the second ends everything at once, and a third
has the signal's own effect. SIGHUP reads hive.toml again. All the work is the hive's.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
import msgspec
import structlog

from hyperhive.cli.common import Session
from hyperhive.cli.fleet import print_questions
from hyperhive.cli.live import Live
from hyperhive.cli.render import plural
from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig
from hyperhive.errors import Closed, HiveError
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus
from hyperhive.terminal import visible

if TYPE_CHECKING:
    from hyperhive.host import Hive

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)

Say = Callable[[str], None]


async def run_up(session: Session, config: HiveConfig, environ: Mapping[str, str]) -> int:
    """A hive in a terminal: says where it is and what is not isolated, shows mail and changes, until it is stopped."""
    from hyperhive.host import Hive

    async with (
        Hive.open(config=config, environ=environ) as hive,
        connect(hive.paths.run_dir) as client,
        anyio.create_task_group() as watching,
    ):
        status = await client.request(r.Status())
        assert isinstance(status, HiveStatus)  # noqa: S101 (decode_host_reply gives what the request asks for)
        with anyio.open_signal_receiver(*STOPPING, signal.SIGHUP) as signals:
            await _tell_ready(session, status, _dashboard(config, hive))
            watching.start_soon(_watch, session, client)
            await stop_when_told(hive, client, signals, session.screen.note)
        watching.cancel_scope.cancel()
    session.screen.note("the hive is down; everything it knows is in its state directory")
    return 0


async def run_serve(config: HiveConfig, environ: Mapping[str, str]) -> int:
    """A hive as a service: it says what it does in its log alone."""
    from hyperhive.host import Hive

    log: structlog.stdlib.BoundLogger = structlog.get_logger("hyperhive.serve")
    async with Hive.open(config=config, environ=environ) as hive, connect(hive.paths.run_dir) as client:
        with anyio.open_signal_receiver(*STOPPING, signal.SIGHUP) as signals:
            log.info(
                "hive_started", state_dir=str(config.state_dir), run_dir=str(config.run_dir), pid=os.getpid(),
                dashboard=hive.access.address, login="hyperhive open",
            )  # fmt: skip
            await stop_when_told(hive, client, signals, lambda text: log.info("hive_told", text=text))
    return 0


async def stop_when_told(
    hive: "Hive", client: RemoteHive, signals: AsyncIterator[signal.Signals], say: Say
) -> None:
    """Returns when the hive is to be closed: after a first signal and the end of all turns, or a second signal."""
    await _first(client, signals, say)
    say(await _what_is_waited_for(client))
    async with anyio.create_task_group() as tasks:

        async def drain() -> None:
            await hive.drain()
            tasks.cancel_scope.cancel()

        tasks.start_soon(drain)
        await anext(signals)
        say("ending now; interrupted messages come again at the next start")
        tasks.cancel_scope.cancel()


async def _first(client: RemoteHive, signals: AsyncIterator[signal.Signals], say: Say) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            return
        try:
            await client.request(r.Reload())
            say("hive.toml was read again")
        except HiveError as error:
            say(f"hive.toml stays as it was: {error}")


async def _what_is_waited_for(client: RemoteHive) -> str:
    try:
        with anyio.fail_after(2):
            status = await client.request(r.Status())
    except (HiveError, TimeoutError):
        return "stopping; Ctrl-C again ends everything at once"
    agents = status.agents if isinstance(status, HiveStatus) else []
    busy = [each.view.name for each in agents if each.view.turn_state in {"thinking", "compacting"}]
    if not busy:
        return "stopping"
    shown = ", ".join(busy[:5]) + (f" and {len(busy) - 5} more" if len(busy) > 5 else "")
    return f"stopping: waiting for the running turns of {shown}; Ctrl-C again ends them now"


async def _watch(session: Session, client: RemoteHive) -> None:
    with suppress(Closed):
        await Live(session.screen, as_json=session.common.as_json).watch_hive(client)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where the pages are. `instead_of`: the port that they would be at, were it not taken."""

    link: str
    instead_of: int | None


def _dashboard(config: HiveConfig, hive: "Hive") -> Dashboard:
    link = hive.access.link().url
    port = urlsplit(link).port
    return Dashboard(link, config.port if config.port not in {0, port} else None)


async def _tell_ready(session: Session, status: HiveStatus, dashboard: Dashboard) -> None:
    screen, hive = session.screen, status.hive
    warnings = [*hive.warnings, *dict.fromkeys(w for each in status.agents for w in each.warnings)]
    names = [each.view.name for each in status.agents]
    if session.common.as_json:
        ready = {"kind": "ready", "pid": hive.pid, "state_dir": hive.state_dir, "run_dir": hive.run_dir}
        screen.json(
            msgspec.json.encode({**ready, "agents": names, "warnings": warnings, "login": dashboard.link})
        )
        screen.flush()
        return
    screen.line(f"the hive is up: {plural(len(names), 'agent')}, runtime {hive.runtime}")
    screen.line(f"  state    {visible(hive.state_dir)}")
    screen.line(f"  sockets  {visible(hive.run_dir)}")
    screen.line(f"  open     {screen.paint(dashboard.link, 'bold')}")
    screen.line("           logs one browser in, within ten minutes; `hyperhive open` gives another link")
    if dashboard.instead_of is not None:
        screen.line(f"           (port {dashboard.instead_of} is taken)")
    screen.line(
        f"  agents   {visible(', '.join(names[:8]))}"
        + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    )
    screen.lines(screen.paint(f"  ! {visible(warning)}", "amber") for warning in warnings)
    if hive.operator_unread:
        screen.line(f"  {plural(hive.operator_unread, 'message')} for you: hyperhive inbox")
    print_questions(session, hive)
    screen.line("write to an agent from another terminal: hyperhive send manager ...; Ctrl-C stops the hive")
    screen.line()
    screen.flush()
