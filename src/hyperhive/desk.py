"""What the hive itself answers: its status, who a caller is, logs, accounts, reading the configuration again.

It gathers from the parts and changes nothing of theirs but the accounts. What is in an agent's turns is the harness's
to answer, what is in its mail the broker's.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio.to_thread

from hyperhive.accounts import DEFAULT, Accounts, check_secret
from hyperhive.broker import Broker
from hyperhive.errors import BadRequest
from hyperhive.log_lines import own_log
from hyperhive.names import OPERATOR, AgentName
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.policy import Caller

AgentLog = Callable[[AgentName, r.Logs], Awaitable[Sequence[str]]]
Details = Callable[[AgentName | None], Awaitable[Sequence[p.AgentDetail]]]


class HiveDesk:
    """Answers for the hive.

    Args:
        info: the hive's own facts; the counts in it are filled in anew each time.
        pronouns: the operator's.
        log_file: the hive's own log.
        details: what `status` shows of one agent, or of all.
        agent_log: the last lines of an agent's log.
        users: who uses an account.
        reread: puts the configuration in force as it is on disk now; gives what changed. Raises where it is invalid.
        cautions: what is not as it should be now, beside what was so at the start.
        tombstones: destroyed agents whose state is kept.
        in_turn: whether a turn of this agent runs.
        dashboard: where the operator's pages are served; None: nowhere.
    """

    def __init__(
        self,
        *,
        info: p.HiveInfo,
        pronouns: Callable[[], str],
        log_file: Path,
        broker: Broker,
        accounts: Accounts,
        details: Details,
        agent_log: AgentLog,
        users: Callable[[str], Sequence[AgentName]],
        reread: Callable[[], Awaitable[str]],
        cautions: Callable[[], Sequence[str]] = tuple,
        tombstones: Callable[[], Sequence[str]] = tuple,
        in_turn: Callable[[AgentName], bool] = lambda _: False,
        dashboard: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._info = info
        self._pronouns = pronouns
        self._log_file = log_file
        self._broker = broker
        self._accounts = accounts
        self._details = details
        self._agent_log = agent_log
        self._users = users
        self._reread = reread
        self._cautions = cautions
        self._tombstones = tombstones
        self._in_turn = in_turn
        self._dashboard = dashboard

    async def status(self, name: AgentName | None) -> p.HiveStatus:
        """The hive, and one agent or all.

        Raises:
            NotFound: there is no agent of this name.
        """
        details = list(await self._details(name))
        counts = await self._broker.counts()
        dead = sum(inbox.dead for inbox in counts.values())
        info = self._info
        hive = p.HiveInfo(
            revision=info.revision,
            runtime=info.runtime,
            started_at=info.started_at,
            pid=os.getpid(),
            state_dir=info.state_dir,
            run_dir=info.run_dir,
            dashboard=self._dashboard(),
            operator_unread=self._broker.pending_now(OPERATOR),
            questions=len(self._broker.questions.open_now(OPERATOR)),
            dead=dead,
            held=sum(inbox.held for inbox in counts.values()),
            tombstones=tuple(self._tombstones()),
            warnings=self.warnings(),
        )
        return p.HiveStatus(hive=hive, agents=details)

    def warnings(self) -> tuple[str, ...]:
        """What is not as it should be, at the start and now."""
        return (*self._info.warnings, *self._cautions())

    def identity(self, caller: Caller) -> p.Identity:
        """Who asks, as the socket says."""
        return p.Identity(
            name=caller.name,
            role=caller.label,
            pronouns=self._pronouns(),
            hyperhive_rev=self._info.revision,
        )

    def hello(self, caller: Caller, request: r.Hello) -> p.Ok:
        """A harness reports for duty.

        Raises:
            BadRequest: it speaks another protocol.
        """
        del caller
        if request.protocol != PROTOCOL:
            raise BadRequest(
                f"this hive speaks protocol {PROTOCOL}, not {request.protocol}",
                hint="run the harness from the hive's own version",
            )
        return p.Ok()

    def in_turn(self, name: AgentName) -> bool:
        """Whether a turn of this agent runs, as far as its harness has said."""
        return self._in_turn(name)

    async def logs(self, name: AgentName | None, request: r.Logs) -> p.LogLines:
        """The last lines of an agent's log, or of the hive's own; oldest first.

        Of an agent's within a time: what the hive's own log says of it then comes before its own.
        """
        bounded = request.since is not None or request.until is not None
        if name is None:
            return p.LogLines(lines=await anyio.to_thread.run_sync(own_log, self._log_file, request, None))
        about = await anyio.to_thread.run_sync(own_log, self._log_file, request, name) if bounded else []
        return p.LogLines(lines=[*about, *await self._agent_log(name, request)])

    async def account(self, request: r.Account) -> p.Accounts:
        """Sets or removes an account, and lists them all.

        Raises:
            BadRequest: more than one thing is asked, or the secret is none.
            NotFound: there is nothing to remove.
        """
        name = request.name or DEFAULT
        asked = [request.key is not None, request.token is not None, request.remove]
        if sum(asked) > 1:
            raise BadRequest("give one of key, token and remove")
        if request.remove:
            await self._accounts.remove(name)
        elif request.key is not None:
            await self._accounts.set(name, "key", check_secret(request.key))
        elif request.token is not None:
            await self._accounts.set(name, "token", check_secret(request.token))
        return p.Accounts(accounts=self._views())

    def _views(self) -> list[p.AccountView]:
        views = []
        for name in self._accounts.names():
            state = self._accounts.state(name)
            views.append(
                p.AccountView(
                    name=name,
                    kind=self._accounts.kind(name),
                    agents=tuple(self._users(name)),
                    limited_until=None if state.limited_until is None else int(state.limited_until),
                    needs_login=state.needs_login,
                )
            )
        return views

    async def reload(self) -> p.Ok:
        """Reads hive.toml again.

        Raises:
            BadConfig: it is invalid; the old one stays in force.
        """
        return p.Ok(note=await self._reread())


PROTOCOL = 1
"""The protocol's number, which a harness says in its `hello`."""
