"""Tool calls: each is made once, however often it is asked for, and what it handed over arrives or goes back.

A call with an id is remembered for a while, so that a call which is replayed (its client, a harness or a bridge lost
the connection) joins the first one or gets its result. Beyond a restart of the core the id does the same in the
handlers' rows. Knows requests only through the table, and nothing of MCP.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from hyperhive.errors import HiveError
from hyperhive.mcp import render, tools
from hyperhive.protocol.dispatch import CALL_ID, Answer, Dispatcher
from hyperhive.protocol.policy import Actor, tool_actor
from hyperhive.protocol.replies import Err, Messages, Unread
from hyperhive.protocol.requests import Status

KEPT_CALLS: Final = 1024
KEPT_CHARACTERS: Final = 16 * 1024 * 1024

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """What a call shows. `took`: the messages that it handed over."""

    text: str
    failed: bool
    took: tuple[int, ...] = ()


class Call:
    """One call under way or done, and everyone who waits for it."""

    def __init__(self, task: "asyncio.Task[tuple[Result, Answer | None]]", *, takes: bool) -> None:
        self.task = task
        self.takes = takes
        self.waiting = 0
        self.written = False


class Handed:
    """A call's result in the hands of one who asked for it. Exactly one of `written` and `undo` must be called."""

    def __init__(self, calls: "Calls", key: Key | None, call: Call, result: Result) -> None:
        self.result = result
        self._calls = calls
        self._key = key
        self._call = call

    def written(self) -> None:
        """It arrived."""
        self._calls.settle(self._key, self._call, arrived=True)

    def undo(self) -> None:
        """It did not: what it handed over goes back, unless another one who asked got it."""
        self._calls.settle(self._key, self._call, arrived=False)


class Calls:
    """Makes tool calls. `aclose` ends those under way."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._open: dict[Key, Call] = {}  # under way, or its result on the way to who asked
        self._kept: OrderedDict[Key, Call] = OrderedDict()  # settled, the oldest first
        self._kept_characters = 0
        self._tasks: set[asyncio.Task[tuple[Result, Answer | None]]] = set()

    async def make(
        self, actor: Actor, name: str, arguments: dict[str, object], call_id: str | None
    ) -> Handed:
        """The call's result; its errors are results too.

        Where this is cancelled, a call that takes messages ends and takes none (unless somebody else waits for it);
        any other one goes on to its end, and its result is kept for a replay.
        """
        key = None if call_id is None else (actor.name, call_id)
        call = None if key is None else self._open.get(key) or self._kept.get(key)
        if call is None:
            call = self._begin(actor, name, arguments, call_id)
            if key is not None:
                self._open[key] = call
        call.waiting += 1
        try:
            result, _ = await asyncio.shield(call.task)
        except BaseException:
            self._leave(key, call)
            raise
        return Handed(self, key, call, result)

    def _begin(self, actor: Actor, name: str, arguments: dict[str, object], call_id: str | None) -> Call:
        known = tools.BY_NAME.get(name)
        task = asyncio.get_running_loop().create_task(
            self._run(actor, name, arguments, call_id), name=f"tool call {name[:80]}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Call(task, takes=known is not None and known.takes)

    async def _run(
        self, actor: Actor, name: str, arguments: dict[str, object], call_id: str | None
    ) -> tuple[Result, Answer | None]:
        CALL_ID.set(call_id)
        try:
            tool = tools.find(self._dispatcher, actor, name)
            request = tools.request_of(tool, arguments)
        except HiveError as error:
            return await self._result(actor, render.error(error), failed=True), None
        answer = await self._dispatcher.dispatch(tool_actor(actor), request)
        try:
            if isinstance(answer.reply, Err):
                return await self._result(actor, render.error(answer.reply), failed=True), answer
            took = answer.reply.messages if isinstance(answer.reply, Messages) else ()
            ids = tuple(message.id for message in took)
            return await self._result(actor, tool.show(answer.reply), failed=False, took=ids), answer
        except BaseException:
            if answer.undo is not None:
                answer.undo()
            raise

    async def _result(self, actor: Actor, text: str, *, failed: bool, took: tuple[int, ...] = ()) -> Result:
        """The text with the status line that ends every result."""
        status = await self._dispatcher.dispatch(tool_actor(actor), Status())
        if isinstance(status.reply, Unread):
            text = f"{text}\n\n{render.status_line(status.reply.unread)}"
        return Result(text, failed, took)

    # --- fates ------------------------------------------------------------------------------------------------------

    def _leave(self, key: Key | None, call: Call) -> None:
        """One who waited for the result gave up, or the call broke."""
        call.waiting -= 1
        if call.waiting:
            return
        if call.task.done():
            self._nobody_got_it(key, call)
            return
        call.task.add_done_callback(lambda _: self._nobody_got_it(key, call))
        if call.takes:
            self._forget(key, call)  # a replay shall take anew
            call.task.cancel()

    def settle(self, key: Key | None, call: Call, *, arrived: bool) -> None:
        """A result was handed to one who asked for it, or could not be."""
        call.waiting -= 1
        if not arrived:
            self._nobody_got_it(key, call)
            return
        if not call.written:
            call.written = True
            _, answer = call.task.result()
            if answer is not None and answer.written is not None:
                answer.written()
        self._keep(key, call)

    def _nobody_got_it(self, key: Key | None, call: Call) -> None:
        """Nobody has the result so far; where nobody waits for it any more, what it took goes back."""
        if call.waiting or call.written:
            return
        if call.task.cancelled() or call.task.exception() is not None:
            self._forget(key, call)
            return
        _, answer = call.task.result()
        if answer is not None and answer.undo is not None:
            answer.undo()
        if call.takes:
            self._forget(key, call)
        else:
            self._keep(key, call)

    def _forget(self, key: Key | None, call: Call) -> None:
        if key is not None and self._open.get(key) is call:
            del self._open[key]

    def _keep(self, key: Key | None, call: Call) -> None:
        """Remember a settled call, and forget the oldest ones beyond the bounds."""
        if key is None or self._open.get(key) is not call:
            return
        self._kept[key] = self._open.pop(key)
        self._kept_characters += len(call.task.result()[0].text)
        while len(self._kept) > KEPT_CALLS or self._kept_characters > KEPT_CHARACTERS:
            _, oldest = self._kept.popitem(last=False)
            self._kept_characters -= len(oldest.task.result()[0].text)

    async def aclose(self) -> None:
        """Ends what is under way."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
