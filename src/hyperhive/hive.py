"""`BareHive`: one host's parts, built, started and stopped in order. No policy of its own.

    store ─ broker ─┐
    accounts, CLIs ─┼─ crew (harnesses) ─ lifecycle ─ dispatcher ─ edges
    bus ────────────┘

What a request does stands in `handlers`, what an event sets off in `reactions`. Edges (sockets, tools) are handed in:
`host.Hive` is this with the ones that ship.
"""

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final, Protocol

import anyio
import anyio.to_thread
import msgspec

import hyperhive
from hyperhive import config as configuration
from hyperhive.account_states import MIGRATIONS as ACCOUNT_TABLES
from hyperhive.account_states import AccountStates
from hyperhive.accounts import Account, Accounts
from hyperhive.agent_cli import AgentClis
from hyperhive.agent_files import AgentFiles
from hyperhive.at_rest import AtRest
from hyperhive.attention import Attention
from hyperhive.background import Background
from hyperhive.broker import MIGRATIONS as MAIL_TABLES
from hyperhive.broker import Broker, Limits
from hyperhive.broker.causes import root_in
from hyperhive.budgets import Budgets
from hyperhive.bus import Bus
from hyperhive.clock import Clock, unix_seconds
from hyperhive.config import HiveConfig
from hyperhive.config_code import ConfigCode
from hyperhive.crew import Crew, Listener
from hyperhive.desk import HiveDesk
from hyperhive.errors import HiveError
from hyperhive.eventlog import EventLogs
from hyperhive.fleet_facts import FleetFacts, adopted
from hyperhive.gateway import Gateway, Upstream
from hyperhive.handlers import request_table
from hyperhive.handlers.access import web_access
from hyperhive.handlers.agent_page import agent_page
from hyperhive.handlers.approvals import approvals
from hyperhive.handlers.budget import with_budgets
from hyperhive.handlers.files import state_files
from hyperhive.handlers.models import models
from hyperhive.handlers.notices import notices
from hyperhive.handlers.past import past
from hyperhive.harness.drivers.authority import caution
from hyperhive.harness.harness import EVENTS_FILE
from hyperhive.harness.stats import STATS_FILE, TurnStats
from hyperhive.hive_history import MIGRATIONS as HISTORY_TABLES
from hyperhive.hive_history import HiveHistory
from hyperhive.lifecycle import MIGRATIONS as AGENT_TABLES
from hyperhive.lifecycle import Lifecycle, pick_runtime
from hyperhive.lifecycle.approvals import MIGRATIONS as APPROVAL_TABLES
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.lifecycle.disk import DiskGuard
from hyperhive.lifecycle.runtimes import Runtime
from hyperhive.lifecycle.tombs import Tombs
from hyperhive.members import Attached
from hyperhive.mirror import Mirror
from hyperhive.names import AgentName
from hyperhive.notices import MIGRATIONS as NOTICE_TABLES
from hyperhive.notices import Notifier
from hyperhive.notices.matters import masker
from hyperhive.outfit import Outfitter
from hyperhive.paths import Paths
from hyperhive.ports import ToolServer
from hyperhive.protocol import replies as p
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Dispatcher, Handler
from hyperhive.protocol.events import AnyDashboardEvent, ContainerRemoved
from hyperhive.protocol.line import LineListener
from hyperhive.protocol.policy import Actor
from hyperhive.protocol.requests import Logs, Request
from hyperhive.reactions import AccountWatch, HandingOn, Herald, leave_behind, watch_mail
from hyperhive.screens import screens
from hyperhive.screens.configs import AgentConfigs
from hyperhive.screens.digest import Digests
from hyperhive.screens.events import AgentEvents
from hyperhive.screens.flow import Flow
from hyperhive.screens.indexer import Indexer
from hyperhive.screens.origins import Origins
from hyperhive.screens.search import Search
from hyperhive.screens.snapshot import Snapshots, Standing, forge_behind
from hyperhive.spending import MIGRATIONS as SPENDING_TABLES
from hyperhive.spending import Spending
from hyperhive.store import Store
from hyperhive.streams import HIVE, AnySource, Source, Streams
from hyperhive.web_access import MIGRATIONS as WEB_TABLES
from hyperhive.web_access import WebAccess

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 3600.0
CRASH_LOG_LINES: Final = 20


class Edges(Listener, Protocol):
    """The entry points of a running hive: sockets, and the tools of embedded harnesses."""

    def tools(self, actor: Actor) -> ToolServer: ...

    async def serve_pages(self, config: Callable[[], HiveConfig], access: WebAccess) -> None:
        """Serves the operator's pages, from now on."""
        ...

    async def preload(self) -> None:
        """Loads what is slow to load, in the background."""
        ...

    async def aclose(self) -> None: ...


OpenEdges = Callable[[Dispatcher, LineListener], Edges]


class BareHive:
    """The whole host but its entry points. Made by `host.Hive.open`."""

    def __init__(
        self, *, config: HiveConfig, environ: Mapping[str, str], clock: Clock, open_edges: OpenEdges
    ) -> None:
        self.config = config
        self.paths = Paths.of(config.state_dir, config.run_dir)
        self.bus: Bus[AnyDashboardEvent] = Bus()
        self.started_at = unix_seconds(clock)
        self._environ = environ
        self._clock = clock
        self._open_edges = open_edges
        self._background = Background("hive")
        self._logs = EventLogs()
        self._clis = AgentClis(environ, self.paths.state_dir)
        self._store: Store
        self.accounts: Accounts
        self.broker: Broker
        self.budgets: Budgets
        self.gateway: Gateway
        self.lifecycle: Lifecycle
        self.config_code: ConfigCode
        self.approvals: ApprovalQueue
        self.indexer: Indexer
        """Keeps the index of texts up."""
        self.notices: Notifier
        """Tells the operator of what waits; `subscribe` to hear it in this process."""
        self.access: WebAccess
        """Who may use the operator's pages, and where those are."""
        self.dispatcher: Dispatcher
        self._edges: Edges
        self._crew: Crew
        self._facts: FleetFacts
        self._closing = False

    # --- coming up --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Builds the parts, listens, and brings back every agent that the operator had not stopped.

        Raises:
            StoreLocked: another hive owns this state directory. MissingPart: the runtime does not work here.
            Conflict: the dashboard is to have the port of an agent's own.
            PathTooLong: the run directory is too long for sockets. Otherwise as the parts do.
        """
        if self.config.pages:
            configuration.check_page_ports(self.config.file.page_ports, self.config.port)
        await anyio.to_thread.run_sync(self.paths.make_hive)
        self._store = await Store.open(
            self.paths.database,
            migrations=[
                MAIL_TABLES,
                AGENT_TABLES,
                APPROVAL_TABLES,
                ACCOUNT_TABLES,
                SPENDING_TABLES,
                NOTICE_TABLES,
                HISTORY_TABLES,
                WEB_TABLES,
            ],
            clock=self._clock,
        )
        try:
            await self._build()
            await self._go()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise

    async def _build(self) -> None:
        await self._background.start()
        self.accounts = await Accounts.open(self.paths.accounts, self._environ)
        runtime = await pick_runtime(
            self.config.runtime,
            self.paths,
            self._environ,
            nspawn_base=self.config.file.nspawn_base,
            serving=self.config.serving,
        )
        herald = self._build_mail(isolated=runtime.isolated)
        await AccountStates(self._store, self.accounts, self._clock).restore()
        await self.broker.start()
        await self.budgets.spending.start()
        self.access = WebAccess(
            self._store, self._clock, sha256(str(self.paths.state_dir).encode()).hexdigest()[:8]
        )
        await self.access.start()
        self._build_crew()
        self._build_config_code(runtime, herald)
        self._build_lifecycle(runtime, herald)
        self._build_notices()
        self._build_edges(runtime)

    def _build_mail(self, *, isolated: bool) -> Herald:
        """Mail, and what stands in the way of what may be spent."""
        self._files = AgentFiles(
            self.paths, isolated=isolated, mounts=lambda name: self.lifecycle.mounts_judge(name)
        )
        self.broker = Broker(
            store=self._store,
            clock=self._clock,
            limits=Limits.of(lambda: self.config),
            directory=lambda name: self.lifecycle.exists(name),
            bus=self.bus,
            files=self._files,
        )
        self._history = HiveHistory(self._store, self.broker, self._clock, lambda: self.bus.current_seq)
        self.bus.tap(self._history.note)
        self.accounts.order = self.broker.order_of
        self.broker.tools.caution_of = lambda name: caution(self.config.agent(name).tools, isolated=isolated)
        self.budgets = self._make_budgets()
        self.gateway = self._make_gateway(isolated=isolated)
        return Herald(self.broker)

    def _build_crew(self) -> None:
        """The agents' harnesses."""
        outfitter = Outfitter(
            config=lambda: self.config,
            paths=self.paths,
            accounts=self.accounts,
            clis=self._clis,
            logs=self._logs,
            environ=self._environ,
            clock=self._clock,
            launcher=lambda name: self.lifecycle.launcher(name),
            dispatch=lambda actor, request: self.dispatcher.dispatch(actor, request),
            tools=lambda actor: self._edges.tools(actor),
        )
        self._crew = Crew(
            paths=self.paths,
            background=self._background,
            clock=self._clock,
            make=outfitter.harness,
            own_process=lambda name: self.lifecycle.lodges or self.config.agent(name).harness == "own",
            lodges=lambda: self.lifecycle.lodges,
            known=lambda name: name in self.lifecycle.names(),
            touch=lambda name: self.lifecycle.touch(name),
            at_rest=AtRest(self.paths.agent_harness, self._logs, self._clock),
            doors=self.gateway,
            buffer=self.config.file.buffer,
        )
        self.bus.tap(self._forget_removed)
        self._background.spawn(outfitter.run, "slots")
        self._facts = FleetFacts(
            self._crew,
            self.broker,
            outfitter.account,
            lambda: self.config,
            self.budgets,
            lambda name: self.config_code.deployed_sha(name),
            lambda name: (
                self.config_code.updates.needs(name) or self.lifecycle.waits_for_start(AgentName(name))
            ),
        )

    def _build_config_code(self, runtime: Runtime, herald: Herald) -> None:
        """Config as code: repos, approvals, deploys, and the copy on a forge."""
        self._disk = DiskGuard(
            self.paths,
            self._clock,
            agents=lambda: self.lifecycle.names(),
            limit_of=lambda name: configuration.parse_size(self.config.agent(name).limits.disk),
        )
        self.config_code = ConfigCode(
            store=self._store,
            paths=self.paths,
            runtime=runtime,
            environ=self._environ,
            clock=self._clock,
            bus=self.bus,
            tell=herald.tell,
            config=lambda: self.config,
            harnesses=self._crew,
            revision=hyperhive.__version__,
            room=self._disk.check,
            admit=self._check_page_port,
        )
        self.approvals = self.config_code.queue
        self._mirror = Mirror(
            self.config_code.on_disk,
            setting=lambda: self.config.file.forge,
            agents=lambda: [*self.lifecycle.names(), *map(AgentName, self.lifecycle.tombstones())],
            clock=self._clock,
        )
        self.config_code.on_disk.changed = self._mirror.touch
        self.config = msgspec.structs.replace(self.config, overlay=self.config_code.overlay)
        self.broker.loose_ends.add("approval", self.config_code)

    def _build_lifecycle(self, runtime: Runtime, herald: Herald) -> None:
        """The agents' lives."""
        self.lifecycle = Lifecycle(
            store=self._store,
            paths=self.paths,
            runtime=runtime,
            harnesses=self._crew,
            bus=self.bus,
            clock=self._clock,
            config_of=lambda name: self.config.agent(name),
            facts_of=self._facts.of,
            behind_gateway=self.gateway.serves,
            tell=herald.tell,
            forget=self._leave_behind,
            provision=self.config_code.provision,
            basis=lambda name: self.config_code.basis(name)._replace(account=self._account_to_hand(name)),
            room=self._disk.check,
            admit=self._check_page_port,
            log_tail=lambda name: self._facts.log(name, Logs(lines=CRASH_LOG_LINES)),
            drain_seconds=self.config.file.drain_seconds,
            stay=self.config.serving,
        )
        self._agent_events = AgentEvents(
            lambda: self.lifecycle.names(),
            lambda name: self.paths.agent_harness(AgentName(name)) / EVENTS_FILE,
        )
        self.indexer = Indexer(
            database=self.broker,
            path=self.paths.index,
            bus=self.bus,
            clock=self._clock,
            events=self._agent_events,
        )
        self._tombs = Tombs(self.paths, lambda: self.lifecycle, self.bus, self._clock)
        self.config_code.serve(self.lifecycle)
        self._handing_on = HandingOn(self._background, self._users, self.config_code.hand_on)
        if self.lifecycle.lodges:
            self.accounts.subscribe(self._handing_on.account_changed)
        self.broker.questions.changed.append(self.lifecycle.touch)
        AccountWatch(
            self.accounts, herald, self._background, self._users, self.lifecycle.touch, self.started_at
        )

    def _build_notices(self) -> None:
        """What waits for the operator, and who says so."""
        self._attention = Attention(
            broker=self.broker,
            accounts=self.accounts,
            clock=self._clock,
            views=lambda: [self.lifecycle.view(name) for name in self.lifecycle.names()],
            open_approvals=self.approvals.pending_now,
            failed_approvals=self.approvals.failed_since,
            users=self._users,
        )
        self.notices = Notifier(
            store=self._store,
            clock=self._clock,
            setting=lambda: self.config.file.notify,
            matters=self._attention.matters,
            mask=masker(self.accounts.secrets),
        )

    def _build_edges(self, runtime: Runtime) -> None:
        """Who answers what, and where it may be asked."""
        desk = HiveDesk(
            info=self._info(runtime.name, runtime.cautions),
            pronouns=lambda: self.config.pronouns,
            log_file=self.paths.log / "hive.log",
            broker=self.broker,
            accounts=self.accounts,
            details=lambda name: self._facts.details(self.lifecycle, name),
            agent_log=self._facts.log,
            users=self._users,
            reread=self.reload,
            cautions=lambda: [
                *self.access.cautions,
                *self._mirror.cautions(),
                *self._disk.cautions(),
                *self.broker.reminders.cautions(),
                *adopted(self.lifecycle),
            ],
            tombstones=lambda: self.lifecycle.tombstones(),
            in_turn=self._crew.in_turn,
            dashboard=lambda: self.access.address,
        )
        streams = Streams(secrets.token_hex(4), self._find_stream)
        more = (
            notices(self.notices),
            models(self.gateway),
            state_files(self.broker, self._files),
            past(self._history),
            web_access(self.access),
        )
        table = request_table(
            self.broker,
            self.lifecycle,
            self._crew,
            desk,
            *more,
            approvals(self.approvals, self.config_code.deployer, self.broker, self.lifecycle),
            self._screens(desk, runtime.name),
            agent_page(
                self.broker, self.lifecycle, self._crew, self._crew.position, lambda: self.access.address
            ),
        )
        known = self.gateway.standings
        table = with_budgets(table, self.budgets, self.lifecycle, self.gateway.serves, known, self._clock)
        self.dispatcher = Dispatcher(table, streams.open)
        self._edges = self._open_edges(self.dispatcher, self._crew)
        self._crew.serve_on(self._edges)

    def _screens(self, desk: HiveDesk, runtime: str) -> Mapping[type[Request], Handler]:
        """What the operator's screens ask for."""
        snapshots = Snapshots(
            broker=self.broker,
            fleet=self.lifecycle,
            seq=lambda: self.bus.current_seq,
            approvals=self.approvals.open_now,
            tombstones=self._tombs.now,
            meta_inputs=self.lifecycle.meta_inputs,
            standing=lambda: Standing(
                revision=hyperhive.__version__,
                runtime=runtime,
                started_at=self.started_at,
                low_disk=self._disk.low,
                warnings=desk.warnings(),
                forge_behind=tuple(map(forge_behind, self._mirror.behind())),
            ),
        )
        return screens(
            self.broker,
            snapshots,
            Flow(self.broker, self.indexer),
            Search(self.broker, self.indexer, self._clock, self._agent_events),
            AgentConfigs(
                self.broker,
                self.config_code.on_disk,
                self.config_code.configs,
                lambda name: self.config.operators(name),
                lambda name: self.lifecycle.exists(name),
            ),
            Digests(
                self.broker,
                self.indexer,
                self._clock,
                agents=lambda: self.lifecycle.names(),
                stats_of=lambda name: TurnStats(
                    self.paths.agent_harness(AgentName(name)) / STATS_FILE, self._clock
                ),
                harnesses=self._crew,
            ),
            Origins(self.broker, self._crew),
        )

    def _make_budgets(self) -> Budgets:
        spending = Spending(
            store=self._store,
            clock=self._clock,
            config=lambda: self.config,
            cause_of=self.broker.at_work_on,
            roots=root_in,
            account_of=lambda name: self.accounts.bind(name, self.config.agent(name).account).name,
        )
        return Budgets(
            spending=spending,
            store=self._store,
            broker=self.broker,
            clock=self._clock,
            background=self._background,
            names=lambda: self.lifecycle.names(),
            stop=lambda name: self.lifecycle.stop(name),
            touch=lambda name: self.lifecycle.touch(name),
        )

    def _make_gateway(self, *, isolated: bool) -> Gateway:
        return Gateway(
            isolated=isolated,
            account=lambda name: self.accounts.bind(name, self.config.agent(name).account),
            socket=self.paths.model_socket,
            upstream=Upstream(self._environ),
            meter=self.budgets,
            clock=self._clock,
        )

    async def _leave_behind(self, name: AgentName, purged: bool) -> None:
        await leave_behind(self.broker, name, purged=purged)
        await self.config_code.leave_behind(name, purged=purged)
        if purged:
            self.accounts.forget_own(name)

    async def _go(self) -> None:
        await self.config_code.start()
        await self.lifecycle.start_up()
        await self.lifecycle.ensure_manager()
        await self.budgets.start()
        await self._edges.listen(self.paths.host_socket, Actor.operator())
        if self.config.pages:
            await self._edges.serve_pages(lambda: self.config, self.access)
        await self.lifecycle.start_all()
        await self.config_code.resume()
        self._background.spawn(
            lambda: watch_mail(self.bus, self.lifecycle.touch, self.lifecycle.names), "watch mail"
        )
        self._background.spawn(self.budgets.run, "budgets")
        self._background.spawn(lambda: self._attention.watch(self.bus, self.notices.touch), "attention")
        self._background.spawn(self.notices.run, "notices")
        self._background.spawn(self._mirror.run, "mirror")
        self._background.spawn(self.config_code.catch_up, "updates")
        self._background.spawn(self._disk.run, "disk")
        self._background.spawn(self._tombs.run, "tombstones")
        self._background.spawn(self.indexer.run, "index")
        self._background.spawn(self._sweep, "sweep")
        self._background.spawn(self._preload, "preload")
        log.info("hive_started agents=%s", len(self.lifecycle.names()))

    async def _preload(self) -> None:
        await self.gateway.preload()
        await self._edges.preload()

    # --- while it runs ----------------------------------------------------------------------------------------------

    async def reload(self) -> str:
        """Reads `hive.toml` again; returns what that means for the running agents.

        Raises:
            BadConfig: it is invalid; the old one stays in force. Conflict: so are two ports of its `page_ports`.
        """
        if self.config.source is None:
            return "there is no configuration file"
        file = await anyio.to_thread.run_sync(configuration.read_file, self.config.source)
        configuration.check_page_ports(file.page_ports, self.access.port)
        self.config = msgspec.structs.replace(self.config, file=file)
        self._clis.refresh()
        for name in self.lifecycle.names():
            self.lifecycle.touch(name)
            self._crew.config_changed(name)
        if self.lifecycle.lodges:
            self._handing_on.all(self.lifecycle.names())
        await self.budgets.reconsider()
        self._mirror.reconsider()
        self.notices.touch()
        names = self.lifecycle.names()
        doubts = await anyio.to_thread.run_sync(lambda: configuration.doubts(file, names))
        return "; ".join([self._told_of_reload(), *(f"look at {one}" for one in doubts)])

    def _told_of_reload(self) -> str:
        said = (
            "the configuration is in force: an agent's own settings from its next turn on, its mounts and limits "
            "from its CLI's next process on (whom it may write to, and how much, at once); what all agents share "
            "(runtime, turns at once, limits of mail) when the hive starts next"
        )
        own = [name for name in self.lifecycle.names() if isinstance(self._crew.find(name), Attached)]
        if self.lifecycle.lodges:
            said += "; a container takes mounts and limits when its agent is started again"
        elif own:
            said += (
                f"; {', '.join(own)}: a harness of its own reads it when its process gets SIGHUP, mounts and "
                "limits when it starts"
            )
        return said

    def _check_page_port(self, name: AgentName) -> None:
        configuration.check_page_ports(self.config.file.page_ports, self.access.port, [name])

    def _account_to_hand(self, name: AgentName) -> Account | None:
        """What a container must hold, because no gateway adds it outside."""
        bound = self.accounts.bind(name, self.config.agent(name).account)
        return None if self.gateway.serves(name) else bound.account

    def _users(self, account: str) -> list[AgentName]:
        return self._facts.users(account, self.lifecycle.names())

    def _find_stream(self, name: str) -> AnySource | None:
        if name == HIVE:
            return Source(self.bus, lambda frame: encode(msgspec.structs.replace(frame.event, seq=frame.seq)))
        return self._crew.source(AgentName(name))

    def _forget_removed(self, event: AnyDashboardEvent) -> None:
        if isinstance(event, ContainerRemoved):
            self._crew.forget(event.name)

    def _info(self, runtime: str, cautions: Sequence[str]) -> p.HiveInfo:
        return p.HiveInfo(
            revision=hyperhive.__version__,
            runtime=runtime,
            started_at=self.started_at,
            pid=os.getpid(),
            state_dir=str(self.paths.state_dir),
            run_dir=str(self.paths.run_dir),
            warnings=tuple(cautions),
        )

    async def _sweep(self) -> None:
        """Retention, hourly."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            for sweep in (
                lambda: self.indexer.forget(self.broker.old_mail),
                self.broker.vacuum,
                self.budgets.sweep,
                self._crew.sweep,
                self.notices.sweep,
                self._history.sweep,
                self.indexer.sweep,
                self.lifecycle.sweep,
            ):
                try:
                    await sweep()
                except HiveError as error:  # a full disk now: tried again in an hour
                    log.warning("sweep_failed error=%s", error)
            await self._clis.prune()

    # --- going down -------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Returns when every running turn has ended; none starts any more. `aclose` hurries it."""
        self._crew.core_is_leaving = self.lifecycle.harnesses_stay
        await self.lifecycle.shutdown()

    async def aclose(self) -> None:
        """Ends everything, running turns at once (their messages come again). From any task, any number of times."""
        if self._closing:
            return
        self._closing = True
        with anyio.CancelScope(shield=True):
            if hasattr(self, "config_code"):
                await self.config_code.aclose()
            if hasattr(self, "lifecycle"):
                self._crew.core_is_leaving = self.lifecycle.harnesses_stay
                await self.lifecycle.aclose()
                await self.lifecycle.runtime.aclose()
            if hasattr(self, "_edges"):
                await self._edges.aclose()
            if hasattr(self, "gateway"):
                await self.gateway.aclose()
            await self._background.aclose()
            await self._logs.aclose()
            if hasattr(self, "broker"):
                await self.broker.aclose()
            await self._store.aclose()
            log.info("hive_stopped")
