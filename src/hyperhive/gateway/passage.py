"""One request of an agent, through the gateway: let in, sent on with the account's key, its reply metered on the way.

What may pass is `rules`' affair, who may pass `standing`'s. A reply is passed on as it is: errors, `retry-after` and
streams that break off included.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.to_thread

from hyperhive.accounts import AccountState, BoundAccount, Secret
from hyperhive.clock import Clock
from hyperhive.gateway import rules
from hyperhive.gateway.connection import Connection, Request
from hyperhive.gateway.health import limited_until
from hyperhive.gateway.meter import Held, Meter
from hyperhive.gateway.metering import UsageReader, at_least, estimate
from hyperhive.gateway.standing import Standings
from hyperhive.gateway.upstream import Cut, Reply, Unreachable, Upstream
from hyperhive.names import AgentName
from hyperhive.protocol.replies import ModelStanding
from hyperhive.spending.usage import Usage

log = logging.getLogger(__name__)

SMALL_BYTES: Final = 1 << 18
"""A longer request is read off the loop."""


class Passage:
    """Handles the requests of one agent's door.

    Args:
        account: the account that the agent runs under now.
    """

    def __init__(
        self,
        agent: AgentName,
        *,
        account: Callable[[], BoundAccount],
        standings: Standings,
        upstream: Upstream,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._agent = agent
        self._account = account
        self._standings = standings
        self._upstream = upstream
        self._meter = meter
        self._clock = clock

    async def handle(self, client: Connection, request: Request) -> None:
        """See `connection.Handler`."""
        what = (request.method, rules.path_of(request.target))
        if what in rules.GREETINGS:
            await client.answer(200, {"message": "hello"})
        elif what not in rules.FORWARDED:
            await client.refuse(404, "not_found_error", "the hive's gateway does not serve this")
        else:
            await client.while_there(lambda: self._let_in(client, request))

    async def _let_in(self, client: Connection, request: Request) -> None:
        refused, held = await self._admitted(request)
        try:
            await self._pass(client, request, refused, held)
        finally:
            if held is not None:
                held.release()

    async def _admitted(self, request: Request) -> tuple[ModelStanding | None, Held | None]:
        """How it is refused, if it is; else what is set aside for it, where it may cost something."""
        if rules.path_of(request.target) != rules.MESSAGES or not self._meter.limits(self._agent):
            return await self._standings.admitted(self._agent), None
        if len(request.body) <= SMALL_BYTES:
            guess = estimate(request.body)
        else:
            guess = await anyio.to_thread.run_sync(estimate, request.body)
        while (refused := await self._standings.admitted(self._agent)) is None:
            if (held := self._meter.hold(self._agent, guess)) is not None:
                return None, held
            await self._meter.freed()
        return refused, None

    async def _pass(
        self, client: Connection, request: Request, refused: ModelStanding | None, held: Held | None
    ) -> None:
        bound = self._account()
        if refused is None and (bound.account is None or bound.account.kind != "key"):
            refused = self._standings.without_key(self._agent)
        if refused is not None or bound.account is None:
            message = "not now" if refused is None else refused.message or "not now"
            # The one status that ends the CLI's turn at once. It reads it as a failed login; the harness asks us.
            await client.refuse(403, "permission_error", message)
            return
        await _Exchange(self, client, request, bound.state, bound.account.secret, held).run()

    # --- for the exchange -------------------------------------------------------------------------------------------

    async def send(self, request: Request, key: Secret, take: Callable[[Reply], Awaitable[None]]) -> None:
        """Sends it on with the account's key, and hands the reply to `take`."""
        headers = rules.to_upstream(
            request.headers, host=self._upstream.host, key=key.reveal(), length=len(request.body)
        )
        async with self._upstream.send(request.method, request.target, headers, request.body) as reply:
            await take(reply)

    async def observe(self, reply: Reply, state: AccountState, generation: int, key: Secret) -> None:
        """What the head of a reply says of the account: that holds for all its agents.

        A 401 may be the doing of what the agent asked. So it counts only where the key is refused to us, too.
        """
        if reply.status == 401 and (state.needs_login or await self._is_refused(key)):
            state.login_refused(generation)
            self._standings.failed(self._agent, "login")
        elif reply.status == 429:
            until = limited_until(reply.headers, self._clock.time())
            if until is not None:
                self._standings.limit(state, until)
            self._standings.failed(self._agent, "limited")
        else:
            self._standings.passed(self._agent)

    async def _is_refused(self, key: Secret) -> bool:
        """Asks the API for what it has not: with a good key that is an error that costs nothing."""
        headers = rules.to_upstream(
            rules.KEY_CHECK_HEADERS, host=self._upstream.host, key=key.reveal(), length=len(rules.KEY_CHECK)
        )
        try:
            async with self._upstream.send(b"POST", rules.MESSAGES, headers, rules.KEY_CHECK) as reply:
                return reply.status == 401
        except Unreachable as error:
            log.warning("key_not_checked agent=%s error=%s", self._agent, error)
            return False

    async def used(self, usage: Usage | None) -> None:
        """One request has cost so much."""
        if usage is not None:
            await self._meter.used(self._agent, usage)

    def unreachable(self, error: Unreachable) -> str:
        """What the agent and the log are told of an API that gives no reply."""
        self._standings.passed(self._agent)
        log.warning("model_api_unreachable agent=%s error=%s", self._agent, error)
        return f"the hive's gateway cannot reach {self._upstream.base}: {error}"


class _Exchange:
    """One request that is sent on, and its reply."""

    def __init__(
        self,
        passage: Passage,
        client: Connection,
        request: Request,
        state: AccountState,
        key: Secret,
        held: Held | None,
    ) -> None:
        self._passage = passage
        self._client = client
        self._request = request
        self._state = state
        self._generation = state.generation
        self._key = key
        self._held = held
        self._metered = rules.path_of(request.target) == rules.MESSAGES
        self._reader: UsageReader | None = None
        self._over = False
        self._told = False

    async def run(self) -> None:
        try:
            await self._passage.send(self._request, self._key, self._pass_on)
        except Unreachable as error:
            self._told = True  # no reply: nothing that could be known was used
            await self._client.refuse(502, "api_error", self._passage.unreachable(error))
        except Cut:
            pass  # the reply is not ended: the client sees it break off, as we did
        finally:
            with anyio.CancelScope(shield=True):
                await self._tell_usage()

    async def _pass_on(self, reply: Reply) -> None:
        await self._passage.observe(reply, self._state, self._generation, self._key)
        if self._metered and reply.status == 200:
            self._reader = UsageReader(dict(reply.headers).get(b"content-type", b""))
        else:
            self._told = True
        await self._client.head(reply.status, rules.to_client(reply.headers))
        async for piece in reply.body():
            if self._reader is not None:
                self._reader.feed(piece)
                if self._reader.final:
                    # Before the client has the end of it: its next request is admitted by what this one used.
                    await self._tell_usage()
            await self._client.piece(piece)
        self._over = True
        await self._tell_usage()
        await self._client.end()

    async def _tell_usage(self) -> None:
        """Once. What was not answered to its end, because the client hung up, has cost something all the same."""
        if self._told or not self._metered:
            return
        self._told = True
        if self._reader is not None and not self._reader.final:
            self._reader.end()
        used = None if self._reader is None else self._reader.usage()
        if not self._over:
            used = await anyio.to_thread.run_sync(at_least, used, self._request.body)  # it may be large
        await self._passage.used(used)
        if self._held is not None:
            self._held.release()
