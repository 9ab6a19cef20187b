"""What waits for a human now, gathered from the parts that know: the matters that notices tell of. Changes nothing.

Texts say who needs what, never how it would be answered: no diff, no tool's input, no body of a letter.
"""

from collections.abc import Callable, Sequence
from typing import Final

from hyperhive.accounts import Accounts
from hyperhive.broker import Broker
from hyperhive.broker.storms import DROPPED
from hyperhive.bus import Bus, Missed
from hyperhive.clock import Clock
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.notices import Matter
from hyperhive.protocol.events import (
    AnyDashboardEvent,
    ApprovalAdded,
    ApprovalChanged,
    ApprovalResolved,
    ContainerRemoved,
    ContainerStateChanged,
    MessageState,
    QuestionAdded,
    QuestionResolved,
)
from hyperhive.protocol.types import Approval, ContainerView

DEAD_MAX: Final = 200
QUESTIONS_MAX: Final = 1000
QUESTION_BYTES: Final = 4096
"""Of one question, so much at most is read: a notice is short."""
_ASKED: Final = {
    "storm": "a chain of messages is held as a reply storm",
    "budget": "a budget is used up: raise, wait or stop",
}
"""What the hive itself asks, by the kind of question."""
_OWN_DOING: Final = frozenset({DROPPED, "cancelled by the operator"})
"""Letters that died of the operator's own word are no news."""
NEWS_SECONDS: Final = 86_400
"""A failed deploy is news for so long."""

_TELLING: Final = (
    QuestionAdded,
    QuestionResolved,
    ApprovalAdded,
    ApprovalChanged,
    ApprovalResolved,
    ContainerRemoved,
)


class Attention:
    """Gathers the matters of one hive.

    Args:
        views: the fleet.
        open_approvals: those that wait for the operator.
        failed_approvals: those that failed at or after this unix time.
        users: which agents run under an account.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        accounts: Accounts,
        clock: Clock,
        views: Callable[[], Sequence[ContainerView]],
        open_approvals: Callable[[], Sequence[Approval]],
        failed_approvals: Callable[[int], Sequence[Approval]],
        users: Callable[[str], Sequence[str]],
    ) -> None:
        self._broker = broker
        self._accounts = accounts
        self._clock = clock
        self._views = views
        self._open_approvals = open_approvals
        self._failed_approvals = failed_approvals
        self._users = users
        self._dead: set[int] = set()
        self._rows: dict[str, tuple[object, ...]] = {}

    async def matters(self) -> list[Matter]:
        """All that waits now."""
        return [
            *await self._questions(),
            *self._approvals(),
            *self._account_troubles(),
            *(
                Matter(kind="failed", id=view.name, agent=view.name, title=f"{view.name} keeps crashing")
                for view in self._views()
                if view.state == "failed"
            ),
            *await self._dead_letters(),
        ]

    async def _questions(self) -> list[Matter]:
        found = []
        questions = self._broker.questions
        begun = await self._broker.read(
            lambda conn: questions.beginnings(conn, OPERATOR, QUESTIONS_MAX, QUESTION_BYTES)
        )
        for row in (one.row for one in begun):
            if row.tool is not None:
                title = f"{row.asker} wants to use {row.tool.name}"
                found.append(Matter(kind="tool", id=str(row.id), agent=row.asker, title=title))
            elif row.asker == SYSTEM:
                # What the hive asks may quote a letter, which does not leave the host.
                title = _ASKED.get(row.kind, "the hive asks you something")
                text = f"hyperhive questions {row.id}"
                found.append(Matter(kind="question", id=str(row.id), title=title, text=text))
            else:
                text = "" if not row.options else f"answers: {' / '.join(row.options)}"
                title = f"{row.asker} asks: {row.question}"
                found.append(Matter(kind="question", id=str(row.id), agent=row.asker, title=title, text=text))
        return found

    def _approvals(self) -> list[Matter]:
        waiting = [
            Matter(
                kind="approval",
                id=str(approval.id),
                agent=approval.agent,
                title=f"approval {approval.id}: "
                + (
                    f"a new agent {approval.agent}"
                    if approval.kind == "spawn"
                    else f"a change of {approval.agent}"
                ),
                text=f"asked for by {approval.requested_by}" if approval.requested_by else "",
            )
            for approval in self._open_approvals()
        ]
        failed = [
            Matter(
                kind="deploy",
                id=str(approval.id),
                agent=approval.agent,
                title=f"approval {approval.id} of {approval.agent} failed",
            )
            for approval in self._failed_approvals(int(self._clock.time()) - NEWS_SECONDS)
        ]
        return waiting + failed

    def _account_troubles(self) -> list[Matter]:
        now = self._clock.time()
        found = []
        for state in self._accounts.states():
            limited = state.limited_until is not None and state.limited_until > now
            # Whose it is, is asked of those in trouble alone: each agent may have an account of its own.
            if not (state.needs_login or limited) or not (agents := self._users(state.name)):
                continue
            who = agents[0] if len(agents) == 1 else f"{len(agents)} agents"
            if state.needs_login:
                title = f"account {state.name} needs a login: work of {who} waits"
                found.append(Matter(kind="login", id=state.name, agent=agents[0], title=title))
            else:
                title = f"account {state.name} is at its usage limit: {who} wait"
                found.append(Matter(kind="limit", id=state.name, agent=agents[0], title=title))
        return found

    async def _dead_letters(self) -> list[Matter]:
        letters = await self._broker.dead(DEAD_MAX)
        self._dead = {letter.id for letter in letters}
        return [
            Matter(
                kind="dead",
                id=str(letter.id),
                agent=letter.recipient,
                title=f"a message from {letter.sender} to {letter.recipient} could not be worked",
                text=letter.reason,
            )
            for letter in letters
            if letter.reason not in _OWN_DOING
        ]

    async def watch(self, bus: Bus[AnyDashboardEvent], touch: Callable[[], None]) -> None:
        """Calls `touch` whenever something may wait that did not, or no longer. Runs for ever."""
        stop = self._accounts.subscribe(lambda _: touch())
        try:
            async with bus.subscribe() as events:
                async for item in events:
                    if isinstance(item, Missed) or self._tells(item.event):
                        touch()
        finally:
            stop()

    def _tells(self, event: AnyDashboardEvent) -> bool:
        if isinstance(event, MessageState):
            return event.state == "dead" or event.id in self._dead
        if isinstance(event, ContainerStateChanged):
            return self._row_tells(event.container)
        if isinstance(event, ContainerRemoved):
            self._rows.pop(event.name, None)
        return isinstance(event, _TELLING)

    def _row_tells(self, row: ContainerView) -> bool:
        """Rows change with every step of a turn; few of these steps are anybody's business."""
        told = (row.state, row.account, row.needs_login, row.waiting_reason)
        before, self._rows[row.name] = self._rows.get(row.name), told
        return told != before
