"""Bytes of one peer: lines in, lines out, and every bound that has to do with bytes or time.

Owns framing (length, a line that is never finished), back-pressure in both directions, the lingering end of a refused
peer, and half-closed ones. What a line means is its subclass's business.
"""

import asyncio
import logging
import select
import socket
import struct
from collections import deque
from typing import cast

from hyperhive.errors import BadRequest, Closed, HiveError, TimedOut
from hyperhive.protocol.codec import LineSplitter, LineTooLong
from hyperhive.sockets.limits import Limits

log = logging.getLogger(__name__)


class Wire(asyncio.Protocol):
    """One accepted connection. All of it runs on the event loop.

    A subclass says what to do with a line (`take`), when it can take none (`busy`), what to tell a refused peer
    (`refusal`), and what to do when the peer is gone (`gone`).
    """

    transport: asyncio.Transport

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.lost = False
        self.ending = False  # no further line is read
        self.patient = False  # a reader of frames may leave them unread: it loses frames instead
        self._splitter = LineSplitter()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._reading = True
        self._blocked = False
        self._flushed: list[asyncio.Future[None]] = []
        self._frame_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    # --- for the subclass -------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """The connection is there."""

    def busy(self) -> bool:
        """Whether no further line can be taken now; `pump` is called again later."""
        raise NotImplementedError

    def take(self, line: bytes) -> None:
        """One line, without its newline."""
        raise NotImplementedError

    def drained(self) -> bool:
        """Whether nothing is under way: a half-closed connection may end."""
        raise NotImplementedError

    def refusal(self, error: HiveError) -> bytes:
        """The last line to a peer that broke the framing."""
        raise NotImplementedError

    def gone(self) -> None:
        """The connection is lost; called once."""

    # --- out --------------------------------------------------------------------------------------------------------

    async def send(self, line: bytes, *, flushed: bool = False) -> None:
        """Hands one line to the peer, after it has read what was sent before.

        Args:
            line: without its newline.
            flushed: return only when the kernel has all of it.

        Raises:
            Closed: the peer is gone or was refused; it got nothing, or only a part, of this line.
        """
        await self.drain()
        self.send_now(line)
        if self.transport.is_closing():
            raise Closed("the peer is gone")
        if flushed and self._blocked:
            await self._flush()

    async def drain(self) -> None:
        """Returns when the peer has read what was sent. Raises `Closed` if it is gone or was refused."""
        while self._blocked and not self.ending:
            await self._flush()
        if self.ending:
            raise Closed("the connection is ending")

    def send_now(self, line: bytes) -> None:
        """The same without waiting: for the few bytes of an error or a heartbeat. A peer that was refused gets none."""
        if not self.ending:
            self.transport.write(line + b"\n")

    async def _flush(self) -> None:
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._flushed.append(waiter)
        await waiter

    @property
    def blocked(self) -> bool:
        """Whether the peer has not yet read what was sent."""
        return self._blocked

    def pause_writing(self) -> None:
        self._blocked = True
        if not self.patient:
            self._stall_timer = self.loop.call_later(self.limits.stall, self._stalled)

    def resume_writing(self) -> None:
        self._blocked = False
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self._release(None)
        self.pump()

    def _stalled(self) -> None:
        log.warning("peer_stalled seconds=%s", self.limits.stall)
        self.transport.abort()

    def _release(self, error: Exception | None) -> None:
        waiters, self._flushed = self._flushed, []
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    # --- in ---------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(
            high=0
        )  # so that `blocked` means: not all is in the kernel yet
        self.opened()

    def data_received(self, data: bytes) -> None:
        if self.ending:
            return
        try:
            lines = self._splitter.feed(data)
        except LineTooLong as error:
            self.refuse(error)
            return
        if len(lines) == 1 and not (self._backlog or self._blocked or self.busy()):
            self.take(lines[0])
        elif lines:
            self._backlog.extend(lines)
            self._backlog_bytes += sum(map(len, lines))
            self.pump()
        if self._splitter.pending or self._frame_timer is not None:
            self._watch_frame(restart=bool(lines))

    def go_on(self) -> None:
        """Something under way has ended: take more, if there is more."""
        if self._backlog or self._half_closed:
            self.pump()

    def pump(self) -> None:
        """Take what was read, as far as the bounds allow; read on, or stop reading."""
        while self._backlog and not self.ending and not self._blocked and not self.busy():
            line = self._backlog.popleft()
            self._backlog_bytes -= len(line)
            self.take(line)
        full = (
            len(self._backlog) > self.limits.backlog_lines or self._backlog_bytes > self.limits.backlog_bytes
        )
        if full == self._reading and not self.lost:
            self._reading = not full
            if full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
            self._watch_frame(restart=True)
        if self._half_closed and not self._backlog and self.drained():
            self.transport.close()

    def _watch_frame(self, *, restart: bool) -> None:
        """A line that was begun must end in time, as long as it is us who wait for it."""
        waiting = self._splitter.pending > 0 and self._reading and not self.ending
        if self._frame_timer is not None and (restart or not waiting):
            self._frame_timer.cancel()
            self._frame_timer = None
        if waiting and self._frame_timer is None:
            self._frame_timer = self.loop.call_later(self.limits.frame, self._frame_timed_out)

    def _frame_timed_out(self) -> None:
        self.refuse(TimedOut(f"a line was begun and not ended within {self.limits.frame:g} seconds"))

    # --- the end ----------------------------------------------------------------------------------------------------

    _half_closed = False

    def eof_received(self) -> bool:
        if self.ending or _hung_up(self.transport):
            return False
        # The peer will say no more but still listens (`printf … | nc -U`): answer what it asked, then close.
        if self._splitter.pending:
            self.send_now(self.refusal(BadRequest("the last line does not end in a newline")))
        self._half_closed = True
        self.loop.call_soon(self.pump)
        return True

    def refuse(self, error: HiveError) -> None:
        """Tell the peer what it did wrong and end. It may read the answer, also while it is still writing."""
        if self.ending or self.lost:
            return
        self.finish(self.refusal(error))

    def finish(self, last_line: bytes | None = None) -> None:
        """End the connection after this line: nothing more is read, and the peer has a moment to take it."""
        if self.lost or self.ending:
            return
        self.ending = True
        self._backlog.clear()
        self._watch_frame(restart=True)
        if last_line is not None:
            self.transport.write(last_line + b"\n")  # whoever waits to send more is told that it is too late
        if self.transport.is_closing():
            return
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()  # a peer that still writes must not be reset before it read the answer
        self.transport.write_eof()
        self._frame_timer = self.loop.call_later(self.limits.linger, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = self.ending = True
        for timer in (self._frame_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._backlog.clear()
        self._release(Closed("the peer is gone"))
        self.gone()


def _hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has closed both directions: nothing that we could say would be read."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def peer_of(transport: asyncio.BaseTransport) -> tuple[int, int, int]:
    """The peer's pid, uid and gid as the kernel saw them when it connected. For the log: they prove nothing.

    Processes of different user namespaces may show the same uid, and a pid may be another's by now.
    """
    raw = transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid, uid, gid = struct.unpack("3i", raw)
    return pid, uid, gid
