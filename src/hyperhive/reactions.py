"""What one part's events set off in another: the whole table.

| event | reaction |
| --- | --- |
| a helper event of the lifecycle | mail from `system` to the manager; to the operator, where it is about the manager |
| an account needs a login, or has one again | the same, once for the account |
| the same, or hive.toml was read again | harnesses in containers are handed what is in force now |
| an agent is destroyed | the questions that it asked or was asked are withdrawn |
| an agent is purged | beside that, its mail becomes dead letters, its reminders go |
| mail came or went, a question or reminder changed, a state or login changed | the agents' rows are looked at again |

A reaction that fails is logged and stops nothing. Nothing here keeps state beyond what is under way.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import msgspec

from hyperhive.accounts import Accounts, AccountState
from hyperhive.background import Background
from hyperhive.broker import Broker
from hyperhive.bus import Bus, Missed
from hyperhive.errors import HiveError
from hyperhive.names import MANAGER, OPERATOR, SYSTEM, AgentName
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    AnyHelperEvent,
    Delivered,
    LoggedIn,
    NeedsLogin,
    QuestionAnswered,
    QuestionAsked,
    RemindersChanged,
    Sent,
)

log = logging.getLogger(__name__)


class Herald:
    """Mails helper events. The key makes the same event of two lives of the hive one message."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def tell(self, event: AnyHelperEvent, key: str) -> None:
        """Durable when it returns.

        Raises:
            HiveError: it could not be stored.
        """
        body = msgspec.json.encode(event).decode()
        await self._broker.send(SYSTEM, _recipient(event), body, dedupe_key=key)


class HandingOn:
    """Tells harnesses in containers that the account or the settings of theirs are others."""

    def __init__(
        self,
        background: Background,
        agents_of: Callable[[str], Iterable[AgentName]],
        hand_on: Callable[[AgentName], Awaitable[None]],
    ) -> None:
        self._background = background
        self._agents_of = agents_of
        self._hand_on = hand_on
        self._generations: dict[str, int] = {}

    def account_changed(self, state: AccountState) -> None:
        """There is a new login, or what else is known of it changed, which nobody is handed."""
        if state.generation != self._generations.get(state.name, 0):
            self._generations[state.name] = state.generation
            self.all(self._agents_of(state.name))

    def all(self, agents: Iterable[AgentName]) -> None:
        """These, soon."""
        for agent in agents:
            self._background.spawn(partial(self._quietly, agent), f"handing on to {agent}")

    async def _quietly(self, agent: AgentName) -> None:
        try:
            await self._hand_on(agent)
        except HiveError as error:
            log.warning("not_handed_on agent=%s error=%s", agent, error)


def _recipient(event: AnyHelperEvent) -> AgentName:
    subject = None if isinstance(event, QuestionAsked | QuestionAnswered) else event.agent
    return OPERATOR if subject == MANAGER else MANAGER


class AccountWatch:
    """Tells of logins that were lost and found, once for each account however many agents share it.

    What was lost when the hive ended last was told then. `started_at`: of this life of the hive (unix seconds); an
    account's generations are counted anew in each.
    """

    def __init__(
        self,
        accounts: Accounts,
        herald: Herald,
        background: Background,
        agents_of: Callable[[str], list[AgentName]],
        touch: Callable[[str], None],
        started_at: int,
    ) -> None:
        self._started_at = started_at
        self._herald = herald
        self._background = background
        self._agents_of = agents_of
        self._touch = touch
        self._needs = {state.name for state in accounts.states() if state.needs_login}
        accounts.subscribe(self._changed)

    def _changed(self, state: AccountState) -> None:
        agents = self._agents_of(state.name)
        for agent in agents:
            self._touch(agent)
        needed = state.name in self._needs
        if not agents and not state.needs_login:  # whose it was is gone
            self._needs.discard(state.name)
        if state.needs_login == needed or not agents:
            return
        event: NeedsLogin | LoggedIn
        if state.needs_login:
            self._needs.add(state.name)
            event = NeedsLogin(agent=agents[0])
        else:
            self._needs.discard(state.name)
            event = LoggedIn(agent=agents[0])
        self._background.spawn(lambda: self._tell(event, state), f"login of {state.name}")

    async def _tell(self, event: NeedsLogin | LoggedIn, state: AccountState) -> None:
        tag = type(event).__struct_config__.tag
        try:
            await self._herald.tell(event, f"{tag}:{state.name}:{self._started_at}:{state.generation}")
        except HiveError as error:
            log.warning("account_change_not_told account=%s error=%s", state.name, error)


async def leave_behind(broker: Broker, name: AgentName, *, purged: bool) -> None:
    """An agent is destroyed: nobody answers it or for it any more. Purged: nobody will ever read its mail."""
    reason = f"{name} was {'purged' if purged else 'destroyed'}"
    await broker.questions.close_of(name, reason, told=lambda asker: not purged or asker != name)
    if purged:
        await broker.purge(name)
        await broker.reminders.purge(name)
        await broker.tools.purge(name)


async def watch_mail(
    bus: Bus[AnyDashboardEvent], touch: Callable[[str], None], everyone: Callable[[], Iterable[str]]
) -> None:
    """Mail that comes and goes, and reminders, change an agent's fleet row. Runs for ever."""
    async with bus.subscribe() as events:
        async for item in events:
            if isinstance(item, Missed):
                for name in everyone():
                    touch(name)
            elif isinstance(item.event, Sent | Delivered) and item.event.recipient != OPERATOR:
                touch(item.event.recipient)
            elif isinstance(item.event, RemindersChanged) and item.event.owner != OPERATOR:
                touch(item.event.owner)
