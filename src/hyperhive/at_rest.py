"""What can be asked of an agent whose harness does not run: what its harness's files say.

Its log is needed most when it has failed. Reads events and turn statistics, and sets the model of the next turn; it
starts nothing, and what needs a running harness is refused.
"""

from collections.abc import Callable
from pathlib import Path

from hyperhive.bus import BUFFER, Bus
from hyperhive.clock import Clock, unix_seconds
from hyperhive.errors import Conflict
from hyperhive.eventlog import EventLogs
from hyperhive.harness.display import Display
from hyperhive.harness.files import MODEL_FILE, LineFile
from hyperhive.harness.harness import EVENTS_FILE
from hyperhive.harness.stats import STATS_FILE, TurnStats
from hyperhive.harness.stats_windows import aggregate, span_of
from hyperhive.names import AgentName
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol.events import AnyLiveEvent


class AtRest:
    """Answers for agents without a running harness.

    Args:
        directory: where an agent's harness keeps its files.
        logs: the process's event logs.
    """

    def __init__(self, directory: Callable[[AgentName], Path], logs: EventLogs, clock: Clock) -> None:
        self._directory = directory
        self._logs = logs
        self._clock = clock

    async def look(
        self, agent: AgentName, bus: Bus[AnyLiveEvent], command: line.AnyHarnessCommand
    ) -> p.Reply | None:
        """The answer to a command that only looks; None for any other."""
        directory = self._directory(agent)
        match command:
            case line.History():
                display = self._display(agent, bus)
                return await display.history(
                    before=command.before,
                    limit=command.limit,
                    kind=command.kind,
                    q=command.q,
                    since=command.since,
                    until=command.until,
                )
            case line.TurnHistory():
                return p.TurnRows(turns=await TurnStats(directory / STATS_FILE, self._clock).select(command))
            case line.LineStats():
                span = span_of(command.window, unix_seconds(self._clock))
                rows = await TurnStats(directory / STATS_FILE, self._clock).since(span.start, span.end)
                return p.StatsPage(window=command.window, stats=aggregate(rows, span))
            case _:
                return None

    async def handle(
        self, agent: AgentName, bus: Bus[AnyLiveEvent], command: line.AnyHarnessCommand
    ) -> p.Reply:
        """The answer to any command.

        Raises:
            Conflict: it needs a harness that runs.
        """
        if isinstance(command, line.LineModel):
            note = f"model: {command.model}, from the next start on"
            return await self._set_model(agent, bus, command.model, note)
        if isinstance(command, line.ForgetModel):
            return await self._set_model(agent, bus, "", command.note)
        answer = await self.look(agent, bus, command)
        if answer is None:
            raise Conflict(f"{agent} does not run", hint=f"`hyperhive start {agent}` starts it")
        return answer

    async def _set_model(self, agent: AgentName, bus: Bus[AnyLiveEvent], model: str, note: str) -> p.Reply:
        warning = await LineFile(self._directory(agent) / MODEL_FILE).write(model)
        display = self._display(agent, bus)
        await display.open()
        if model:
            display.set_model(model)
        display.note(note + (f" ({warning})" if warning else ""), "operator")
        await display.close()
        return p.Ok(note=warning)

    def _display(self, agent: AgentName, bus: Bus[AnyLiveEvent]) -> Display:
        path = self._directory(agent) / EVENTS_FILE
        return Display(path, self._logs, self._clock, buffer=BUFFER, model="", bus=bus)
