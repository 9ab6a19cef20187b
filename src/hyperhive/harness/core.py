"""The harness's view of the core: one request in, one reply out, as the harness of one agent.

Embedded, this is a direct call into the core's dispatcher; under `agent serve` it is the harness socket. The harness
cannot tell which, and must not.
"""

from typing import Protocol

from hyperhive.protocol.replies import Reply
from hyperhive.protocol.requests import Request


class Core(Protocol):
    """The core, for the harness of one agent.

    Contract: `ask` runs one request under the role `harness` of this agent. It waits through a restart of the core
    (for as long as the caller lets it); a request with an effect is safe to repeat.

    Raises:
        HiveError: what the core answered, with its code.
    """

    async def ask(self, request: Request) -> Reply: ...
