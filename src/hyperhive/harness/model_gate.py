"""What the hive's model gateway says of this harness's agent, and what follows for its CLI and its turns.

Where the gateway serves the CLI, what the CLI prints is no evidence about the account: a refusal of the gateway reads
there like a failed login, and any text can be forged in the box. So the core is asked.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from hyperhive.accounts import AccountState
from hyperhive.agent_cli import AgentCli
from hyperhive.errors import BadRequest, Forbidden, HiveError, NotAvailable
from hyperhive.harness.core import Core
from hyperhive.harness.drivers.claude import ModelRoute
from hyperhive.harness.socket_probe import SocketProbe
from hyperhive.harness.turns import TurnResult
from hyperhive.paths import MODEL_SOCKET
from hyperhive.ports import Box
from hyperhive.protocol.replies import ModelStanding
from hyperhive.protocol.requests import ModelAccess
from hyperhive.protocol.types import MODEL_WAIT_MAX_SECONDS

log = logging.getLogger(__name__)

HOST: Final = "hive"
NO_KEY: Final = "none"
"""What stands where a key would: the CLI wants one to be there."""
_DOUBTED: Final = frozenset({"failed", "needs_login", "limited"})
"""Endings that a refusal may stand behind."""


class ModelGate:
    """The gateway, as the harness of one agent asks it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def look(self, wait_seconds: float = 0.0) -> ModelStanding:
        """How the agent stands with the model; while it may not use it, the answer may take so long.

        A core without a gateway serves nobody.
        """
        try:
            reply = await self._core.ask(ModelAccess(wait_seconds=wait_seconds))
        except (NotAvailable, BadRequest, Forbidden):
            return ModelStanding()
        return reply if isinstance(reply, ModelStanding) else ModelStanding()

    async def judged(self, result: TurnResult) -> TurnResult:
        """The same result, with the gateway's word in place of the CLI's where the two speak of the same thing."""
        if result.kind not in _DOUBTED:
            return result
        standing = await self.look()
        return judge(result, standing) if standing.served else result

    async def watch_login(self, state: AccountState) -> None:
        """While the account needs a login: tells `state` when the core knows of one.

        Embedded, the two are one and this does nothing. A harness of its own hears of it in no other way.
        """
        while state.needs_login:
            try:
                standing = await self.look(MODEL_WAIT_MAX_SECONDS)
            except HiveError as error:
                log.debug("login_not_watched error=%s", error)
                return
            if not standing.served:
                return
            if standing.refused != "login":
                break
        if state.needs_login:
            state.login_landed()


def judge(result: TurnResult, standing: ModelStanding) -> TurnResult:
    """What became of a turn whose requests the gateway has seen. Pure."""
    said = standing.message or result.note
    before = standing.last_at is not None and standing.last_at < int(result.started_at)
    match None if before else standing.last:
        case "budget":
            return _without_blame(result, kind="limited", note="the budget is used up")
        case "limited":
            until = standing.until if standing.refused == "limited" else None
            return _without_blame(result, kind="limited", note=said, reset_at=until)
        case "login":
            return _without_blame(result, kind="needs_login", note=said)
        case None if result.kind == "needs_login":
            note = f"the CLI says that it is not logged in, and its requests were not refused: {result.note}"
            return msgspec.structs.replace(result, kind="failed", note=note)
        case _:
            return msgspec.structs.replace(result, reset_at=None)


def _without_blame(result: TurnResult, **changes: object) -> TurnResult:
    return msgspec.structs.replace(result, **{"blame": False, "park": None, "reset_at": None, **changes})


class ModelRoutes:
    """How CLIs reach the gateway from their boxes. One for a process: what it has learnt of a CLI holds for all agents.

    Args:
        probe: whether a CLI speaks HTTP over a unix socket.
        environ: the operator's environment.
    """

    def __init__(self, probe: SocketProbe, environ: Mapping[str, str]) -> None:
        self._probe = probe
        self._environ = environ
        self.served = False
        """Whether the gateway served the agent that asked last: a harness of its own has but one."""

    async def to_gateway(self, cli: AgentCli, box: Box) -> ModelRoute:
        """By the socket itself where the CLI can, else through a port of the box's own loopback."""
        socket = f"{box.run}/{MODEL_SOCKET}"
        direct = [HOST, "127.0.0.1", *(self._environ.get(name, "") for name in ("NO_PROXY", "no_proxy"))]
        beside = ",".join(word for word in direct if word)
        env = {"ANTHROPIC_API_KEY": NO_KEY, "NO_PROXY": beside, "no_proxy": beside}
        if await self._probe.speaks(cli):
            return ModelRoute(
                env={**env, "ANTHROPIC_UNIX_SOCKET": socket, "ANTHROPIC_BASE_URL": f"http://{HOST}"}
            )
        script = await anyio.to_thread.run_sync(Path(__file__).with_name("forward.py").resolve)
        return ModelRoute(
            env=env, prefix=("/usr/bin/python3", "-ISB", str(script), socket), readable=(script,)
        )
