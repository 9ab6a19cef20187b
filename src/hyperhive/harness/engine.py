"""One agent's CLI process, from start to end, as the turn machine says: launching, deadlines, control, ends.

The engine carries out actions and feeds back what happened. It knows no messages and no events of the bus: what is for
people, or ends a turn, goes to its listener (`runner.TurnRunner`).
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import anyio
import anyio.to_thread

from hyperhive.background import Background
from hyperhive.clock import Clock
from hyperhive.errors import Closed, HiveError, MissingPart
from hyperhive.harness import moves
from hyperhive.harness.conditions import Timing
from hyperhive.harness.drivers.claude import Command
from hyperhive.harness.drivers.link import CliLink, Permits
from hyperhive.harness.machine import TurnMachine
from hyperhive.harness.moves import State
from hyperhive.harness.sessions import SessionFile, transcript_exists
from hyperhive.harness.stream_json import Frame
from hyperhive.ports import Launcher, ToolServer

LOST_SESSION: Final = "No conversation found"
"""What a CLI says of a session that it cannot continue."""


class Listener(Protocol):
    """Who hears of it. Contract: called on the loop, in order; must neither wait nor raise."""

    def on_line(self, line: bytes) -> None:
        """A line of stream-json, before the machine has seen it."""
        ...

    def on_output(self, line: bytes) -> None:
        """Output that is no stream-json, or a line of standard error."""
        ...

    def on_action(self, action: moves.Action) -> None:
        """A note, or the end of a turn or of a compaction."""
        ...

    def on_moved(self) -> None:
        """The machine's state may have changed."""
        ...

    def on_session_in_doubt(self) -> None:
        """What the session holds is not known any more."""
        ...


class Engine:
    """Runs the turn machine of one agent on real processes. Holds no task and no process before it is asked to.

    Args:
        launcher: starts programs in the agent's box.
        tools: the hive's tools for this agent.
        session: which session the CLI continues.
        listener: is told; see `Listener`.
        clock: for deadlines.
        timing: how long to wait for what.
        new_uuid: a fresh uuid for every attempt.
        permits: decides about tools that ask; without it they are denied.
    """

    def __init__(
        self,
        *,
        launcher: Launcher,
        tools: ToolServer,
        session: SessionFile,
        listener: Listener,
        clock: Clock,
        timing: Timing,
        new_uuid: Callable[[], str],
        permits: Permits | None = None,
    ) -> None:
        self._permits = permits
        self.machine = TurnMachine(timing, new_uuid)
        self.command: Command | None = None
        self.session = session
        self.session_id = ""
        self._launcher = launcher
        self._tools = tools
        self._listener = listener
        self._clock = clock
        self._background: Background | None = None
        self._link: CliLink | None = None
        self._launching: anyio.CancelScope | None = None
        self._model = ""
        self._process_model = ""
        self._changed = anyio.Event()
        self._deadline_moved = anyio.Event()
        self._armed: float | None = None

    @property
    def pid(self) -> int | None:
        """The CLI's process id, as the host sees it."""
        return self._link.pid if self._link is not None else None

    # --- asked for ------------------------------------------------------------------------------------------------

    async def make_ready(self, command: Command, model: str) -> None:
        """Have a process of this command and model, or none: one that was started by another command is ended.

        An agent that changed nothing but its own notes keeps a process which has background tasks.
        """
        if self._background is None:
            self._background = await Background(f"turns of {self._launcher.box.agent}").start()
            self._background.spawn(self._keep_time, "deadlines")
        if self.machine.alive and not self._serves(command):
            await self.end()
        if not self.machine.alive:
            self.command = command
        self._model = model
        link = self._link
        if link is not None and self.machine.alive and self._process_model != model:
            link.ask("set_model", {"subtype": "set_model", "model": model})
            self._process_model = model

    def _serves(self, command: Command) -> bool:
        """Whether the running process may go on under this command."""
        if command == self.command:
            return True
        busy = self.machine.has_background_tasks
        return busy and self.command is not None and command.differs_in_prompt(self.command)

    def feed(self, event: moves.Event) -> None:
        """Tell the machine, and do what it says."""
        for action in self.machine.handle(event, self._clock.monotonic()):
            self._carry_out(action)
        deadline = self.machine.deadline
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self._deadline_moved.set()
        self._listener.on_moved()
        if not isinstance(event, moves.FrameSeen) or event.frame.type == "result":
            self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something has happened after which `holds()` is true."""
        while not holds():
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()

    def nudge(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()

    async def end(self) -> None:
        """End the process, if there is one, and wait until nothing of it is left."""
        if self.machine.alive:
            self.feed(moves.EndAsked())
            await self.until(lambda: not self.machine.alive)

    async def rest(self) -> None:
        """Hold no task any more, until the next `make_ready`. Only without a process."""
        background, self._background = self._background, None
        if background is not None:
            await background.aclose()

    # --- carrying out ---------------------------------------------------------------------------------------------

    def _carry_out(self, action: moves.Action) -> None:
        link = self._link
        match action:
            case moves.Launch():
                self._launching = self._spawn(self._launch, "agent CLI")
            case moves.Write(prompt):
                if link is not None:
                    link.send_prompt(prompt.uuid, prompt.text)
            case moves.Ask(what, request):
                if link is not None:
                    link.ask(what, request)
            case moves.CloseInput() | moves.Terminate() | moves.Kill():
                self._end_step(action)
            case moves.SpentSeen(total_cost=float(total)):
                self._spawn(lambda: self.session.keep_total(total), "session cost")
            case _:
                self._listener.on_action(action)

    def _end_step(self, action: moves.Action) -> None:
        link = self._link
        if link is None:
            if self._launching is not None:
                self._launching.cancel()
        elif isinstance(action, moves.CloseInput):
            link.close_input()
        elif isinstance(action, moves.Terminate):
            link.terminate()
        else:
            self._spawn(link.kill, "end of agent CLI")

    def _spawn(self, work: Callable[[], Awaitable[None]], name: str) -> anyio.CancelScope:
        if self._background is None:
            raise Closed("the engine is at rest")
        return self._background.spawn(work, name)

    async def _keep_time(self) -> None:
        """Tell the machine when its deadline has passed. Sleeps without end while there is none."""
        while True:
            self._deadline_moved = moved = anyio.Event()
            self._armed = deadline = self.machine.deadline
            if deadline is None:
                await moved.wait()
                continue
            async with anyio.create_task_group() as group:
                group.start_soon(self._sleep_until, deadline, group.cancel_scope)
                await moved.wait()
                group.cancel_scope.cancel()
            deadline = self.machine.deadline
            if deadline is not None and self._clock.monotonic() >= deadline:
                self.feed(moves.Tick())

    async def _sleep_until(self, deadline: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(deadline - self._clock.monotonic())
        scope.cancel()

    # --- one process ----------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        """One process, from its start to its end."""
        words, by_hive = "it was not started", False
        failed: HiveError | None = None
        try:
            link = await self._start_process()
            try:
                await link.serve()
            finally:
                words, by_hive = link.words(), link.ended_by_hive
                if not link.ended_well:
                    self._listener.on_session_in_doubt()  # what it had not yet stored is lost
        except HiveError as error:
            failed = error
        finally:
            self._link = None
            self._launching = None
            if failed is not None and self.machine.state is State.STARTING:
                park = str(failed) if isinstance(failed, MissingPart) else None
                self.feed(moves.StartFailed(str(failed), park))
            else:
                await self._give_up_lost_session(words)
                self.feed(moves.Exited(words, by_hive))

    async def _start_process(self) -> CliLink:
        command = self.command
        if command is None:
            raise Closed("the engine was not made ready")
        session, model = await self._session_flags(), self._model
        tools = await self._tools.open_session()
        try:
            argv = [*command.prefix, *command.argv, *session, "--model", model]
            child = await self._launcher.launch(argv, command.env, readable=command.readable)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await tools.aclose()
            raise
        self._process_model = model
        self._link = link = CliLink(
            child, tools, self, self._clock, permits=self._permits, rules=command.asks
        )
        link.ask("initialize", {"subtype": "initialize", "appendSystemPrompt": command.append_prompt})
        return link

    async def _session_flags(self) -> list[str]:
        self.session_id = session_id = await self.session.current()
        config_dir = self._launcher.box.host_claude
        exists = await anyio.to_thread.run_sync(transcript_exists, config_dir, session_id)
        if not exists:
            self._listener.on_session_in_doubt()
        self.machine.ledger.seed_total(self.session.total_cost if exists else 0.0)
        return ["--resume" if exists else "--session-id", session_id]

    async def _give_up_lost_session(self, words: str) -> None:
        """A session that the CLI cannot continue is given up: trying again would fail for ever."""
        if self.machine.state is State.STARTING and LOST_SESSION in words:
            self._listener.on_action(
                moves.Note("the CLI cannot continue its session; the next turn starts a new one")
            )
            self._listener.on_session_in_doubt()
            await self.session.renew()

    # --- what the process says (the link's listener) --------------------------------------------------------------

    def on_frame(self, line: bytes, frame: Frame) -> None:
        """A line of stream-json."""
        self._listener.on_line(line)
        self.feed(moves.FrameSeen(frame, len(line)))

    def on_noise(self, line: bytes, size: int) -> None:
        """A line of output that is none."""
        self._listener.on_output(line)
        self.feed(moves.NoiseSeen(size))

    def on_stderr(self, text: str) -> None:
        """A line of standard error."""
        self._listener.on_output(text.encode())
        self.feed(moves.NoiseSeen(len(text)))

    def on_answer(self, what: str) -> None:
        """A control request was answered."""
        self.feed(moves.Ready() if what == "initialize" else moves.Answered(what))

    def on_output_closed(self) -> None:
        """Nothing more will come, though the process is still there."""
        self.feed(moves.OutputClosed())
