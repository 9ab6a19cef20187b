"""What the parts know of each agent, put together for its fleet row, for `status` and for its log. Changes nothing."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from hyperhive.accounts import BoundAccount
from hyperhive.broker import Broker
from hyperhive.budgets import Budgets
from hyperhive.config import DEFAULT_MODEL, HiveConfig, page_port
from hyperhive.crew import Crew
from hyperhive.errors import HiveError
from hyperhive.harness.drivers.authority import caution
from hyperhive.lifecycle import Facts, Lifecycle
from hyperhive.members import Attached
from hyperhive.names import OPERATOR, AgentName
from hyperhive.protocol import replies as p
from hyperhive.protocol.harness_line import History, Snapshot
from hyperhive.protocol.requests import Logs
from hyperhive.protocol.types import ContainerView

SAID_MAX: Final = 300
WAITS: Final = (
    "its container takes new mounts, limits, another network or agent CLI when the agent is started again"
)


class FleetFacts:
    """Facts of the agents of one hive."""

    def __init__(
        self,
        crew: Crew,
        broker: Broker,
        account: Callable[[AgentName], BoundAccount],
        config: Callable[[], HiveConfig],
        budgets: Budgets,
        deployed_sha: Callable[[str], str | None] = lambda _: None,
        needs_update: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._crew = crew
        self._broker = broker
        self._account = account
        self._config = config
        self._budgets = budgets
        self._spending = budgets.spending
        self._deployed_sha = deployed_sha
        self._needs_update = needs_update

    def of(self, name: AgentName) -> Facts:
        """What the fleet row shows beside what the lifecycle knows. Returns at once."""
        account = self._account(name)
        model = self._config().agent(name).model or DEFAULT_MODEL
        member = self._crew.find(name)
        if member is None:
            return Facts(
                unread=self._broker.pending_now(name),
                pending_reminders=self._broker.reminders.pending_now(name),
                asks_operator=self._asks(name),
                model=self._crew.model(name) or model,
                account=account.name,
                needs_login=account.state.needs_login,
                budget_used=self._budget_used(name),
                deployed_sha=self._deployed_sha(name),
                needs_update=self._needs_update(name),
                page_port=self._page_port(name),
            )
        gist = member.gist()
        until = gist.until
        if gist.reason == "budget" and until is None:  # a harness of its own does not tell
            over = self._spending.over_budget(name)
            until = None if over is None else over.until
        return Facts(
            turn_state=gist.state,
            turn_state_since=gist.since,
            unread=self._broker.pending_now(name),
            pending_reminders=self._broker.reminders.pending_now(name),
            asks_operator=self._asks(name),
            model=gist.model or model,
            account=account.name,
            waiting_reason=gist.reason,
            waiting_until=until,
            budget_decided=gist.reason == "budget" and self._decided(name),
            budget_used=self._budget_used(name),
            deployed_sha=self._deployed_sha(name),
            needs_update=self._needs_update(name),
            needs_login=gist.needs_login or account.state.needs_login,
            ctx_tokens=None if gist.ctx is None else gist.ctx.context_tokens,
            page_port=self._page_port(name),
        )

    def _page_port(self, name: AgentName) -> int | None:
        return page_port(name) if name in self._config().file.page_ports else None

    def _asks(self, name: AgentName) -> bool:
        return self._broker.questions.asks(name, OPERATOR)

    def _budget_used(self, name: AgentName) -> float | None:
        return self._spending.used(name)

    def _decided(self, name: AgentName) -> bool:
        over = self._spending.over_budget(name)
        return over is not None and self._budgets.decided(over)

    def users(self, account: str, names: Sequence[AgentName]) -> list[AgentName]:
        """Which of these agents run under an account."""
        return [name for name in names if self._account(name).name == account]

    async def details(self, lifecycle: Lifecycle, name: AgentName | None) -> list[p.AgentDetail]:
        """What `status` shows of one agent, or of all.

        Raises:
            NotFound: there is no agent of this name.
        """
        names = lifecycle.names() if name is None else [name]
        return [await self._detail(lifecycle, each, whole=name is not None) for each in names]

    async def _detail(self, lifecycle: Lifecycle, name: AgentName, *, whole: bool) -> p.AgentDetail:
        view = lifecycle.view(name)
        account = self._account(name)
        member = self._crew.find(name)
        warnings = []
        if account.kind != "login" and not lifecycle.behind_gateway(name):
            warnings.append("its account's key is in its CLI's environment, where the agent can read it")
        secretive = [key for key, server in self._config().agent(name).mcp.items() if server.env]
        if secretive:
            warnings.append(
                f"the env of its MCP servers ({', '.join(secretive)}) is where the agent can read it"
            )
        steers = caution(self._config().agent(name).tools, isolated=lifecycle.runtime.isolated)
        if steers is not None:
            warnings.append(f"tools that ask: {steers}")
        if lifecycle.runtime.isolated and view.network == "host":
            warnings.append(
                "its box shares the host's network: what listens on the host's loopback can be reached from inside"
            )
        if lifecycle.waits_for_start(name):
            warnings.append(WAITS)
        if isinstance(member, Attached) and not member.attached:
            warnings.append("its harness has not reported for duty")
        if lifecycle.runtime.unenforced:
            warnings.append(f"limits that are not enforced here: {', '.join(lifecycle.runtime.unenforced)}")
        snapshot = await self._snapshot(name) if whole else None
        gateway = lifecycle.behind_gateway(name)
        return p.AgentDetail(
            view=view,
            mounts=tuple(
                f"{mount.source} -> {mount.target} ({mount.mode})" for mount in lifecycle.mounts(name)
            ),
            cli_version=None if snapshot is None else snapshot.cli_version,
            session=None if snapshot is None else snapshot.session_id,
            warm=snapshot is not None and snapshot.warm,
            last_error=lifecycle.last_error(name),
            key=None if account.kind == "login" else "gateway" if gateway else "environment",
            needs=tuple(await self._needs(view)) if whole else (),
            warnings=tuple(warnings),
        )

    async def _needs(self, view: ContainerView) -> list[str]:
        """What the agent needs the operator for, each with what to do about it."""
        if view.state != "needs_you":
            return []
        name = AgentName(view.name)
        needs = [
            f"it asks you question {one.id}: `hyperhive questions {one.id}`"
            for one in self._broker.questions.open_now(OPERATOR, asker=name)
        ]
        if view.needs_login:
            said = await self._last(name, "turn_end")
            own = self._account(name).kind == "login"
            how = f"`hyperhive login {name}` logs it in" if own else "`hyperhive login` stores another key"
            needs.append(f"its account needs a login: {how}" + (f" (the API said: {said})" if said else ""))
        if view.waiting_reason == "budget" and (over := self._spending.over_budget(name)) is not None:
            asked = self._budgets.question_of(over)
            how = f"`hyperhive budget {name} --tokens-per-day N` sets another for today"
            needs.append(f"{over.message}: {how if asked is None else f'`hyperhive questions {asked}`'}")
        if view.waiting_reason == "operator" and not needs:
            said = await self._last(name, "note")
            needs.append(said or f"its harness waits for you: `hyperhive logs {name}` may say why")
        return needs

    async def _last(self, name: AgentName, kind: str) -> str | None:
        """What its last event of this kind says."""
        try:
            reply = await self._crew.ask(name, History(req=0, limit=1, kind=kind))
        except HiveError:
            return None
        events = reply.events if isinstance(reply, p.EventPage) else []
        said = events[-1].get("text") or events[-1].get("note") if events else None
        return None if said is None else " ".join(str(said).split())[:SAID_MAX]

    async def _snapshot(self, name: AgentName) -> p.AgentSnapshot | None:
        try:
            reply = await self._crew.ask(name, Snapshot(req=0))
        except HiveError:
            return None
        return reply if isinstance(reply, p.AgentSnapshot) else None

    async def log(self, name: AgentName, asked: Logs) -> list[str]:
        """An agent's log: what its events say in words, oldest first, each with its time (ISO, UTC)."""
        history = History(req=0, limit=2000, since=asked.since, until=asked.until, before=asked.before)
        reply = await self._crew.ask(name, history)
        if not isinstance(reply, p.EventPage):
            return []
        said = [f"{_stamp(event)} {line}" for event in reply.events if (line := _in_words(event)) is not None]
        return said[-asked.lines :]


def adopted(lifecycle: Lifecycle) -> list[str]:
    """What `status` says of agents of which only the files are left."""
    left = [name for name in lifecycle.adopted if name in lifecycle.tombstones()]
    if not left:
        return []
    how = "`hyperhive restore NAME` (or --all) brings them back, as they were deployed last"
    return [f"found without being known: {', '.join(left)}; {how}"]


_LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999, where dates end."""


def _stamp(event: dict[str, object]) -> str:
    at = event.get("ts")
    # From a harness that its agent may have in its hands: any number.
    return datetime.fromtimestamp(min(max(0, at), _LAST_SECOND) if isinstance(at, int) else 0, UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


def _in_words(event: dict[str, object]) -> str | None:
    match event.get("kind"):
        case "note":
            return str(event.get("text", ""))
        case "turn_start":
            return f"turn {event.get('turn', '?')} starts with a message from {event.get('from')}"
        case "turn_end":
            how = "ended well" if event.get("ok") else "failed"
            note = f": {event['note']}" if event.get("note") else ""
            return f"turn {event.get('turn', '?')} {how}{note}"
        case "status_changed":
            return f"login: {event.get('status')}"
        case "model_changed":
            return f"model: {event.get('model')}"
        case _:
            return None
