"""`AgentFiles`: files in agents' directories, by the paths that the agents see; what the broker's ports need of them.

Translates a path of an agent into a root of the host and a way below it, and goes that way through `safe_open` alone.
Which agent may have whose files read is not asked here.
"""

import os
import posixpath

import anyio.to_thread

from hyperhive.errors import BadRequest
from hyperhive.names import AgentName
from hyperhive.paths import Paths
from hyperhive.safe_open import parts_beneath, write_beneath


class AgentFiles:
    """See the file's header.

    Args:
        paths: the hive's layout.
        isolated: whether agents see their state as `/state`, rather than by the host's path.
    """

    def __init__(self, paths: Paths, *, isolated: bool) -> None:
        self._paths = paths
        self._isolated = isolated

    def check(self, owner: str, path: str) -> None:
        """Raises BadRequest where `path` can be no file in this agent's state. Looks at nothing on disk."""
        self._below_state(owner, path)

    async def write(self, owner: str, path: str, text: str, tag: str) -> str:
        """Makes `path` in the agent's state a file of this text, and gives the path as the agent sees it.

        `path` is relative to the state, or absolute as the agent sees it. See `safe_open.write_beneath`.

        Raises:
            BadRequest: it leads elsewhere. WorldError: it cannot be written.
        """
        below = self._below_state(owner, path)
        root = self._paths.agent_state(AgentName(owner))
        await anyio.to_thread.run_sync(lambda: write_beneath(root, below, text.encode(), tag=tag))
        return posixpath.join(self._seen_state(owner), below)

    def _below_state(self, owner: str, path: str) -> str:
        """The way below the agent's state."""
        if any(ord(char) < 32 or ord(char) == 127 for char in path):
            raise BadRequest("a path with control characters is not taken")
        state = self._seen_state(owner)
        below = path
        if path.startswith("/"):
            if not path.startswith(f"{state}/"):
                raise BadRequest(f"{path[:200]!r} is not in the agent's state", hint=f"a path below {state}")
            below = path[len(state) + 1 :].lstrip("/")
        if path.endswith("/"):
            raise BadRequest(f"{path[:200]!r} names a directory", hint="name a file in it")
        return os.path.join(*parts_beneath(below))  # noqa: PTH118 - in the agent's world, not ours

    def _seen_state(self, owner: str) -> str:
        return self._paths.box(AgentName(owner), isolated=self._isolated).state
