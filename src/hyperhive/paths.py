"""Where everything of one hive lies: the final directory layout, host side and in the box.

One row of the layout is one method. This file makes directories (0700) and checks socket paths; it opens nothing else,
never looks into a directory that an agent can write, and follows no link where an agent's own directories lie.
"""

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from hyperhive.errors import InvalidName, WorldError
from hyperhive.names import MANAGER, AgentName, check_socket_path, parse_resident
from hyperhive.ports import Box

BOX_STATE = "/state"
BOX_CLAUDE = "/claude"
BOX_RUN = "/run/hive"
MODEL_SOCKET = "model.sock"
BOX_HARNESS_RUN = "/run/hive-harness"
BOX_AGENTS = "/agents"
BOX_APPLIED = "/applied"
BOX_WORKSPACE = "/workspace"


@dataclass(frozen=True, slots=True)
class Paths:
    """The layout under a state directory and a run directory. Both are absolute and resolved by `of`."""

    state_dir: Path
    run_dir: Path

    @classmethod
    def of(cls, state_dir: Path, run_dir: Path | None = None) -> "Paths":
        """The layout of a hive; without a run directory its sockets lie in `STATE/run`."""
        state = state_dir.expanduser().resolve()
        return cls(state, run_dir.expanduser().resolve() if run_dir is not None else state / "run")

    # --- the core's alone -------------------------------------------------------------------------------------------

    @property
    def database(self) -> Path:
        """`hive.sqlite`."""
        return self.state_dir / "hive.sqlite"

    @property
    def accounts(self) -> Path:
        """Tokens and keys, one file an account."""
        return self.state_dir / "accounts"

    @property
    def log(self) -> Path:
        """The core's rotating logs."""
        return self.state_dir / "log"

    @property
    def index(self) -> Path:
        """The index of texts; may be deleted while no hive runs, and is made again."""
        return self.state_dir / "search" / "words.sqlite"

    @property
    def cli(self) -> Path:
        """Agent CLIs that the hive installed, as `VERSION/claude`. A box sees the one file it runs."""
        return self.state_dir / "cli"

    @property
    def meta(self) -> Path:
        """`lock.json`, and the flake where Nix is."""
        return self.state_dir / "meta"

    @property
    def staging(self) -> Path:
        """Repos half made and objects half fetched; emptied when the hive starts."""
        return self.state_dir / "staging"

    @property
    def nspawn(self) -> Path:
        """The base of the nspawn containers, and which user ids are whose."""
        return self.state_dir / "nspawn"

    # --- one agent's ------------------------------------------------------------------------------------------------

    @property
    def proposed(self) -> Path:
        """All proposed repos, as `NAME/config`; the manager's box sees each read-write as `/agents/NAME/config`."""
        return self.state_dir / "proposed"

    def proposed_config(self, name: AgentName) -> Path:
        """The agent's proposed repo; its own box sees it read-only as `/agents/NAME/config`."""
        return self.proposed / name / "config"

    @property
    def applied(self) -> Path:
        """All applied repos (bare); the manager's box sees it read-only as `/applied`."""
        return self.state_dir / "applied"

    def applied_repo(self, name: AgentName) -> Path:
        """The agent's applied repo."""
        return self.applied / name

    def agent_dir(self, name: AgentName) -> Path:
        """What holds an agent's three directories."""
        return self.state_dir / "agents" / name

    def agent_state(self, name: AgentName) -> Path:
        """The agent's HOME and cwd; `/state` in its box. The agent writes here: open nothing in it by plain path."""
        return self.agent_dir(name) / "state"

    def agent_claude(self, name: AgentName) -> Path:
        """The agent CLI's config and login; `/claude` in its box."""
        return self.agent_dir(name) / "claude"

    def agent_harness(self, name: AgentName) -> Path:
        """What an embedded harness keeps, outside every box."""
        return self.agent_dir(name) / "harness"

    # --- sockets ----------------------------------------------------------------------------------------------------

    @property
    def host_socket(self) -> Path:
        """The operator's socket, never inside any box."""
        return self.run_dir / "host.sock"

    def tools_dir(self, name: AgentName) -> Path:
        """The directory of the agent's tools socket; `/run/hive` in its box."""
        return self.run_dir / "manager" if name == MANAGER else self.run_dir / "agents" / name

    def tools_socket(self, name: AgentName) -> Path:
        """The tools socket of an agent or of the manager."""
        return self.tools_dir(name) / "mcp.sock"

    def model_socket(self, name: AgentName) -> Path:
        """The agent's way to the model, beside its tools socket; `model.sock` in its box."""
        return self.tools_dir(name) / MODEL_SOCKET

    def harness_dir(self, name: AgentName) -> Path:
        """The directory of the agent's harness socket; no box of a CLI ever sees it."""
        return self.run_dir / "harness" / name

    def harness_socket(self, name: AgentName) -> Path:
        """The socket that an `agent serve` process dials."""
        return self.harness_dir(name) / "harness.sock"

    # --- making -----------------------------------------------------------------------------------------------------

    def check_sockets(self, name: AgentName | None = None) -> None:
        """Checks the socket paths of the hive, or of one agent, against the kernel's limit.

        Raises:
            PathTooLong: one is too long; the hint says how to choose a shorter run directory.
        """
        if name is None:
            check_socket_path(self.host_socket)
        else:
            check_socket_path(self.model_socket(name))
            check_socket_path(self.harness_socket(name))

    def make_hive(self) -> None:
        """Makes the hive's own directories. Idempotent.

        Raises:
            PathTooLong: as `check_sockets`.
        """
        self.check_sockets()
        for path in (
            self.state_dir, self.accounts, self.log, self.cli, self.meta, self.staging, self.proposed, self.applied,
            self.state_dir / "agents", self.run_dir, self.run_dir / "agents", self.run_dir / "harness",
        ):  # fmt: skip
            make_private(path)

    def make_agent(self, name: AgentName) -> None:
        """Makes one agent's directories, and the hive's above them. Idempotent.

        Raises:
            PathTooLong: as `check_sockets`.
            WorldError: one cannot be made: something else has its place, or the disk is full or read-only. A link is
                something else: it could lead out of the hive.
        """
        self.check_sockets(name)
        for base, names in (
            *self._shown_to(name),
            (self.state_dir / "agents", (name, "harness")),
            (self.run_dir / "harness", (name,)),
        ):
            _walk(base, names, make=True)

    def check_agent(self, name: AgentName) -> None:
        """Checks that what an agent's box shows is there, and is the hive's own rather than a link to elsewhere.

        Raises:
            WorldError: one is not.
        """
        for base, names in self._shown_to(name):
            _walk(base, names, make=False)

    def proposed_repos(self) -> list[str]:
        """The names of all agents with a proposed repo, in order; what a link leads to is none. Blocks."""
        found = []
        for name in sorted(os.listdir(self.proposed)):  # noqa: PTH208 - names are wanted, not paths
            try:
                _walk(self.proposed, (name, "config"), make=False)
            except WorldError:  # half made or half deleted, or no repo at all
                continue
            found.append(name)
        return found

    def agents_on_disk(self) -> list[AgentName]:
        """Of whom there is state or an applied repo, in order; what no agent can be called is left out. Blocks."""
        found = set()
        for place, proof in ((self.state_dir / "agents", "state"), (self.applied, "HEAD")):
            for entry in place.iterdir() if place.is_dir() else ():
                with suppress(InvalidName):
                    name = parse_resident(entry.name)
                    if not entry.is_symlink() and (entry / proof).exists():
                        found.add(name)
        return sorted(found)

    def _shown_to(self, name: AgentName) -> list[tuple[Path, tuple[str, ...]]]:
        """What an agent's box shows of the hive, each as a directory of the hive's and the agent's below it."""
        tools = self.tools_dir(name)
        return [
            (self.state_dir / "agents", (name, "state")),
            (self.state_dir / "agents", (name, "claude")),
            (self.proposed, (name, "config")),
            (tools.parent, (tools.name,)),
        ]

    def box(self, name: AgentName, *, isolated: bool) -> Box:
        """The agent's directories as its programs see them: short names in a box, host paths without one."""
        state, claude = self.agent_state(name), self.agent_claude(name)
        return Box(
            agent=name,
            state=BOX_STATE if isolated else str(state),
            claude=BOX_CLAUDE if isolated else str(claude),
            run=BOX_RUN if isolated else str(self.tools_dir(name)),
            config=f"{BOX_AGENTS}/{name}/config" if isolated else str(self.proposed_config(name)),
            host_state=state,
            host_claude=claude,
        )


def make_private(path: Path) -> Path:
    """Makes a directory (and its parents) that only its owner can enter; one that exists keeps its mode."""
    for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    return path


def make_private_file(path: Path) -> Path:
    """Makes an empty file that only its owner can read, where there is none. What SQLite puts beside it follows."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return path


def _walk(base: Path, names: tuple[str, ...], *, make: bool) -> None:
    """Goes from `base` into `names[0]`, from there into `names[1]` and so on, through directories and no link.

    `make`: those that are not there are made, for their owner alone.

    Raises:
        WorldError: one is no directory, or cannot be made or entered.
    """
    place = base
    with ExitStack() as open_ones:
        try:
            if make:
                make_private(base)
            here = os.open(base, os.O_PATH | os.O_DIRECTORY)
            open_ones.callback(os.close, here)
            for name in names:
                place = place / name
                if make:
                    try:  # noqa: SIM105 - the other way round would be two looks
                        os.mkdir(name, 0o700, dir_fd=here)
                    except FileExistsError:  # as what, the next line says
                        pass
                here = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                open_ones.callback(os.close, here)
        except NotADirectoryError as error:
            raise WorldError(
                f"{place} is no directory of the hive",
                hint="move away what has its place, and start the agent again",
            ) from error
        except OSError as error:
            raise WorldError(f"{place} cannot be {'made' if make else 'opened'}: {error.strerror}") from error
