"""The demo's story: a manager and two scripted agents work on the operator's task, told as it happens.

Everything but the model is real: the hive, its sockets, durable mail, turns over stream-json, the MCP tools. The agents
are a program of this package and trusted, so the runtime `process` serves. What is said of it at the end comes from the
hive's own rows.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import msgspec

from hyperhive.cli.common import Session
from hyperhive.cli.exits import FAILED, INTERRUPTED, OK
from hyperhive.cli.live import Frame, Live
from hyperhive.cli.render import plural
from hyperhive.client import RemoteHive, connect
from hyperhive.config import HiveConfig, parse_hive_file
from hyperhive.errors import Closed, TimedOut
from hyperhive.names import MANAGER, OPERATOR
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import HiveStatus, InboxRows, TurnRows
from hyperhive.protocol.types import RECENT_MAX
from hyperhive.terminal import visible
from hyperhive.testing.turns import install_scripted_cli

if TYPE_CHECKING:
    from hyperhive.host import Hive

TEAM: Final = ("ada", "ben")
HIVE_TOML: Final = f"""
[agents.manager]
prompt = "Team: {", ".join(TEAM)}"
"""
DASHBOARD_PORT: Final = 7000
PATIENCE_SECONDS: Final = 60.0
"""How long the story may take; it takes a few seconds."""


@dataclass
class Story:
    """What was seen of the story while it went on."""

    watching: int = 0
    report: anyio.Event = field(default_factory=anyio.Event)
    moved: anyio.Event = field(default_factory=anyio.Event)

    def see(self, frame: Frame) -> None:
        """One frame of the hive's stream or an agent's."""
        if frame.get("kind") == "resume":
            self.watching += 1
        if frame.get("kind") == "sent" and (frame.get("from"), frame.get("to")) == (MANAGER, OPERATOR):
            self.report.set()
        self.moved.set()
        self.moved = anyio.Event()

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Returns when `done` says so; asks it again whenever something has happened."""
        while True:
            moved = self.moved
            if await done():
                return
            await moved.wait()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the hive itself says at the end."""

    ok: bool
    messages: int
    acked: int
    turns: int
    failed_turns: int
    agents: int
    seconds: float
    report: str


def configuration(place: Path, *, pages: bool = False, port: int | None = None) -> HiveConfig:
    """The demo's hive below `place`: its own everything, nothing of the user's."""
    return HiveConfig(
        file=parse_hive_file(HIVE_TOML),
        state_dir=place / "state",
        run_dir=place / "run",
        runtime="process",
        claude=str(install_scripted_cli(place / "claude")),
        pages=pages,
        port=DASHBOARD_PORT if port is None else port,
        exact=port is not None,
    )


def _environ(config: HiveConfig) -> dict[str, str]:
    """What the hive is told of the environment: where its CLI is, and nothing of the user's accounts."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HYPERHIVE_CLAUDE": config.claude or ""}


# --- the story ------------------------------------------------------------------------------------------------------


async def play(session: Session, config: HiveConfig, task: str, once: bool) -> int:
    """Tells the whole story; stays until Ctrl-C unless `once`. The exit code: 0 where every message was worked."""
    from hyperhive.host import Hive

    began = time.monotonic()
    live = Live(
        session.screen, quiet=session.common.as_json, stamp=lambda: f"{time.monotonic() - began:5.1f}s"
    )
    facts: Facts | None = None
    async with (
        Hive.open(config=config, environ=_environ(config)) as hive,
        connect(hive.paths.run_dir) as client,
        anyio.create_task_group() as tasks,
    ):
        if not session.common.as_json:
            _introduce(session, task, hive.access.link().url if config.pages else None)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

            async def end_on_signal() -> None:
                await anext(signals)
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_on_signal)
            await _tell(client, live, Story(), tasks.start_soon, task)
            facts = await _facts(hive, client, time.monotonic() - began)
            await anyio.to_thread.run_sync(_conclude, session, facts, config, once)
            if not once:
                await anyio.sleep_forever()
        tasks.cancel_scope.cancel()
    if facts is None:
        return INTERRUPTED
    return OK if facts.ok else FAILED


async def _tell(
    client: RemoteHive, live: Live, story: Story, start: Callable[..., object], task: str
) -> None:
    """The story from its first word to the last acknowledgement.

    Raises:
        TimedOut: it did not come to an end; the hive's own status says where it stands.
    """
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            start(_until_closed, partial(live.watch_hive, client, story.see))
            for name in TEAM:
                await client.lifecycle.spawn(name)
            for name in (MANAGER, *TEAM):
                start(_until_closed, partial(live.watch_agent, client, name, story.see))
            await story.until(lambda: _is(story.watching == len(TEAM) + 2))
            await client.broker.send(OPERATOR, MANAGER, task)
            await story.report.wait()
            await story.until(lambda: _all_done(client))
    except TimeoutError:
        raise TimedOut(f"the story did not end within {PATIENCE_SECONDS:.0f} seconds") from None


async def _is(answer: bool) -> bool:
    return answer


async def _until_closed(watch: Callable[[], Awaitable[None]]) -> None:
    with suppress(Closed):
        await watch()


async def _all_done(client: RemoteHive) -> bool:
    """Whether the operator has put the report away and no agent has anything left to do."""
    inbox = await client.request(r.Inbox())
    if isinstance(inbox, InboxRows) and inbox.messages:
        await client.request(r.Ack(ids=[row.id for row in inbox.messages]))
    status = await client.request(r.Status())
    agents = status.agents if isinstance(status, HiveStatus) else []
    return bool(agents) and all(each.view.unread == 0 and each.view.turn_state == "idle" for each in agents)


async def _facts(hive: "Hive", client: RemoteHive, seconds: float) -> Facts:
    """What the hive's own rows say."""
    names = (OPERATOR, MANAGER, *TEAM)
    inboxes = {name: await hive.broker.recent(name, RECENT_MAX) for name in names}
    open_ones = await hive.broker.counts()
    messages = sum(map(len, inboxes.values()))
    acked = messages - sum(
        each.pending + each.in_flight + each.held + each.dead for each in open_ones.values()
    )
    turns = [await client.request(r.Turns(name=name)) for name in (MANAGER, *TEAM)]
    kinds = [row.result_kind for page in turns if isinstance(page, TurnRows) for row in page.turns]
    return Facts(
        ok=0 < acked == messages and set(kinds) == {"ok"},
        messages=messages,
        acked=acked,
        turns=len(kinds),
        failed_turns=len(kinds) - kinds.count("ok"),
        agents=len(TEAM) + 1,
        seconds=round(seconds, 3),
        report=inboxes[OPERATOR][0].body if inboxes[OPERATOR] else "",
    )


# --- telling the reader ---------------------------------------------------------------------------------------------


def _introduce(session: Session, task: str, link: str | None) -> None:
    screen = session.screen
    screen.line("A hive of scripted agents: a manager, and a team of two. No account, no network.")
    screen.line("All else is real: durable mail, turns over stream-json, tools over MCP.")
    if link is not None:
        screen.line(f"Watch it in a browser: {screen.paint(link, 'bold')}")
    screen.line("Your task for the manager:")
    screen.body(task)
    screen.line()
    screen.flush()


def _conclude(session: Session, facts: Facts, config: HiveConfig, once: bool) -> None:
    screen = session.screen
    if session.common.as_json:
        screen.json(msgspec.json.encode(facts))
        screen.flush()
        return
    screen.line()
    screen.line(screen.paint("The manager's report to you:", "bold"))
    screen.body(facts.report)
    screen.line()
    counted = (
        f"{plural(facts.messages, 'message')}, {facts.acked} of them done; {plural(facts.turns, 'turn')}"
    )
    failed = f", {facts.failed_turns} of them failed" if facts.failed_turns else ""
    screen.line(f"{counted}{failed}; {facts.seconds:.1f} seconds.")
    screen.lines(["", *NEXT_STEPS])
    if not once:
        screen.lines(["", *_invitation(config)])
    screen.flush()


NEXT_STEPS: Final = (
    "With a real account:",
    "  hyperhive doctor --install-cli        gets the agent CLI, says what is missing",
    "  hyperhive login                       stores an API key or a token",
    "  hyperhive up                          runs your own hive; then, elsewhere:",
    "  hyperhive spawn alice --mount DIR:rw  an agent to work in a directory of yours",
    '  hyperhive send --wait alice "..."     its first task',
)


def _invitation(config: HiveConfig) -> list[str]:
    run_dir = visible(str(config.run_dir))
    installed = Path(sys.executable).with_name("hyperhive")
    program = "hyperhive" if shutil.which("hyperhive") else visible(str(installed))
    return [
        "This hive stays up until Ctrl-C, and is gone then. From a second terminal:",
        f"  export HYPERHIVE_RUN_DIR={run_dir}",
        f'  {program} send manager "Read the docs; write a summary"',
        f"  {program} list",
        f"  {program} turns manager",
        f"  {program} open                          another link to the dashboard",
    ]
