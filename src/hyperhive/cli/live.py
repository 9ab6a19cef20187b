"""What happens in a hive, as it happens, on the terminal of whoever started it (`up`, `demo`).

Reads the hive's streams over its admin socket like any other client. Printing happens in a thread: a terminal that was
stopped holds up nobody, it misses frames and is told so.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec

from hyperhive.cli.common import Screen
from hyperhive.cli.frames import agent_line, hive_line, mail_line
from hyperhive.client import RemoteHive
from hyperhive.terminal import cut, pad, visible

Frame = Mapping[str, Any]
Stamp = Callable[[], str]

_NAME_COLUMNS: Final = 19
_TOLD_STATES: Final = {"needs_you": "needs you", "failed": "has failed", "stopped": "is stopped"}
_QUIET_IN_BRIEF: Final = frozenset(
    {"delivered", "resume", "heartbeat", "tombstones_changed", "reminders_changed"}
)
_QUIET_OF_AGENTS: Final = frozenset(
    {"resume", "heartbeat", "turn_start", "token_usage_changed", "model_changed"}
)


def time_of_day() -> str:
    """The stamp of a hive that stays up."""
    return time.strftime("%H:%M:%S")


class Live:
    """Prints frames; with `as_json` as they are, one a line, with `quiet` not at all."""

    def __init__(
        self, screen: Screen, *, as_json: bool = False, quiet: bool = False, stamp: Stamp = time_of_day
    ) -> None:
        self._screen = screen
        self._quiet = quiet
        self._as_json = as_json
        self._stamp = stamp
        self._states: dict[str, str] = {}

    async def watch_hive(self, hive: RemoteHive, also: Callable[[Frame], None] | None = None) -> None:
        """Mail and changes of agents, until the hive ends the stream or this is cancelled."""
        async with hive.events("hive") as frames:
            async for frame in frames:
                if also is not None:
                    also(frame)
                await self.show(partial(self._hive, frame), frame)

    async def watch_agent(
        self, hive: RemoteHive, name: str, also: Callable[[Frame], None] | None = None
    ) -> None:
        """What one agent says, calls and ends, likewise."""
        async with hive.events(name) as frames:
            async for frame in frames:
                if also is not None:
                    also(frame)
                await self.show(partial(self._agent, name, frame), frame)

    async def show(self, render: Callable[[], str | None], frame: Frame) -> None:
        """One frame on the screen, if it says anything to a person."""
        if self._quiet:
            return
        if self._as_json:
            line: str | None = None
            await anyio.to_thread.run_sync(self._screen.json, msgspec.json.encode(frame))
        elif (line := render()) is not None:
            await anyio.to_thread.run_sync(self._screen.line, line)
        await anyio.to_thread.run_sync(self._screen.flush)

    def _hive(self, frame: Frame) -> str | None:
        kind = frame.get("kind")
        if kind in _QUIET_IN_BRIEF:
            return None
        if kind == "sent":
            way = f"{visible(str(frame.get('from')))} -> {visible(str(frame.get('to')))}"
            return self._line(way, mail_line(frame), "cyan")
        if kind == "message_state":
            return self._gave_up(frame)
        if kind == "container_state_changed":
            return self._state(frame.get("container") or {})
        text = hive_line(frame, self._screen.columns)
        return None if text is None else self._line("", text, "dim")

    def _gave_up(self, frame: Frame) -> str | None:
        if frame.get("state") not in {"dead", "held"}:
            return None
        return self._line("", hive_line(frame, self._screen.columns) or "", "red")

    def _state(self, container: Frame) -> str | None:
        """Only what a person must know: an agent that needs them, failed, stopped, or is well again."""
        name, state = str(container.get("name")), str(container.get("state"))
        before = self._states.get(name)
        self._states[name] = state
        if state == before:
            return None
        if state in _TOLD_STATES:
            return None if before is None else self._line(name, _TOLD_STATES[state], "amber")
        return self._line(name, "is well again", "green") if before in _TOLD_STATES else None

    def _agent(self, name: str, frame: Frame) -> str | None:
        kind = frame.get("kind")
        if kind in _QUIET_OF_AGENTS or (kind == "turn_state_changed" and frame.get("state") != "thinking"):
            return None
        text = agent_line(frame, self._screen.columns)
        if text is None or text.startswith("calls send"):
            return None  # the message itself is on the screen
        colour = "dim" if kind in {"turn_end", "turn_state_changed", "note"} else ""
        return self._line(name, text, colour)

    def _line(self, who: str, text: str, colour: str) -> str:
        stamp = self._stamp()
        head = pad(cut(visible(who), _NAME_COLUMNS), _NAME_COLUMNS)
        body = cut(text, self._screen.columns - len(stamp) - _NAME_COLUMNS - 4)
        shown = f"{head}  {body}"
        return f"{self._screen.paint(stamp, 'dim')}  {self._screen.paint(shown, colour) if colour else shown}"
