"""Runtime `nixos-container`: each agent and its harness in a NixOS container of their own, built from the hive's flake.

The containers are `nixos-container`'s; the hive brings them up, takes them down and builds them anew, and acts on none
that does not bear its mark. What they are made of stands in `nixos_conf` and `nixos_flake`, and in nix/. Repos are read
in bubblewrap boxes on the host.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from hyperhive.config import MountSetting, Network, RuntimeName
from hyperhive.errors import BadConfig, Conflict, HiveError, InvalidName, MissingPart, TimedOut, WorldError
from hyperhive.lifecycle.mounts import check_mounts
from hyperhive.lifecycle.runtimes import nixos_conf as conf
from hyperhive.lifecycle.runtimes.base import Lodging, Marks
from hyperhive.lifecycle.runtimes.bwrap import BwrapLauncher, BwrapRuntime
from hyperhive.lifecycle.runtimes.cgroups import ResourceLimits
from hyperhive.lifecycle.runtimes.handed_settings import hand_over, settings_file
from hyperhive.lifecycle.runtimes.nixos_flake import MetaFlake, Pin, check_plain, lock_faults, read_lock
from hyperhive.lifecycle.runtimes.nixos_inputs import SharedInputs
from hyperhive.lifecycle.runtimes.nixos_lock import shared_digest
from hyperhive.names import AgentName, parse_resident
from hyperhive.paths import Paths

T = TypeVar("T")

COMMAND_SECONDS: Final = 150.0
"""Longest run of a command that builds nothing; systemd gives a container 90 s to stop."""
BUILD_SECONDS: Final = 3600.0
TOLD_MAX: Final = 3000
FLAKE: Final = "HYPERHIVE_FLAKE"
"""Where the flake of HyperHive itself is; the host module sets it."""
DEFAULT_FLAKE: Final = "path:/etc/hyperhive/flake"
ROOT: Final = "HYPERHIVE_NIXOS_ROOT"
"""Another root directory than / for /etc/nixos-containers and the units, where the machine is not a real one."""
NO_IMPORT: Final = ("--option", "allow-import-from-derivation", "false")
"""Nothing is built before everything was evaluated: an approved text cannot run programs while it is looked at."""

_PASSED: Final = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")


class NixosContainerRuntime:
    """NixOS containers; see `base.Runtime` and `base.Containers` for the contract.

    Args:
        paths: of the hive.
        environ: PATH, NIX_*, HYPERHIVE_FLAKE and HYPERHIVE_NIXOS_ROOT are taken from it.
        owner: as in `pick_runtime`.
    """

    name: RuntimeName = "nixos-container"
    isolation = "nixos-container"
    isolated = True
    unenforced: Sequence[str] = ("disk",)
    cautions: Sequence[str] = (
        "root in a container is this machine's root, held by systemd-nspawn; agents' programs run as another user",
    )

    def __init__(self, paths: Paths, environ: Mapping[str, str], *, owner: str = "") -> None:
        root = Path(environ.get(ROOT, "/"))
        self._paths = paths
        self._hyperhive = environ.get(FLAKE, DEFAULT_FLAKE)
        self._environ = {
            key: value for key, value in environ.items() if key in _PASSED or key.startswith("NIX_")
        }
        features = "extra-experimental-features = nix-command flakes"
        self._environ["NIX_CONFIG"] = "\n".join((*environ.get("NIX_CONFIG", "").splitlines(), features))
        self.boxes = BwrapRuntime(paths, environ, owner=owner)
        """For what the hive itself runs as an agent, outside its container."""
        self._mark = Marks(paths.state_dir / owner).hive
        self._confs = root / "etc/nixos-containers"
        self._units = root / "run/systemd/system"
        self._lock_file = root / "run/lock/nixos-container"
        self._flake = MetaFlake(paths.meta, paths.applied, self._hyperhive)
        self._flake_turn = anyio.Lock()
        self.inputs = SharedInputs(self._flake, self._on_flake, self._nix, _system, NO_IMPORT)
        """What all containers share; to be bumped by name."""
        self._turns: dict[str, anyio.Lock] = defaultdict(anyio.Lock)

    # --- base.Runtime -----------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Finds the programs. Raises: MissingPart: one is not there, or the hive is not root. BadConfig: its place."""
        for program in ("nixos-container", "nix", "systemctl"):
            if shutil.which(program, path=self._environ.get("PATH", "")) is None:
                raise MissingPart(
                    f"there is no program {program}, and agents live in NixOS containers",
                    hint="this runtime is for NixOS with the module of nix/; elsewhere use bwrap or nspawn",
                )
        if os.geteuid() != 0:
            raise MissingPart("only root can make NixOS containers", hint="use HYPERHIVE_RUNTIME=bwrap")
        check_plain(self._paths.state_dir)
        check_plain(self._paths.run_dir)
        await self.boxes.check()

    async def sweep(self) -> None:
        """Ends what an earlier life of this hive left in boxes. Containers outlive the core."""
        await self.boxes.sweep()

    def launcher(
        self,
        agent: AgentName,
        *,
        mounts: Sequence[MountSetting],
        limits: ResourceLimits,
        network: Network,
        shared: Sequence[Path] = (),
    ) -> BwrapLauncher:
        """Starts programs as the agent, outside its container. Its own are started in there, by its harness."""
        return self.boxes.launcher(agent, mounts=mounts, limits=limits, network=network, shared=shared)

    async def release(self, agent: AgentName) -> None:
        """Takes the agent's container down.

        Raises:
            WorldError: it does not stop.
        """
        await self._stop(agent)
        await self.boxes.release(agent)

    async def _stop(self, agent: AgentName) -> None:
        async with self._turns[agent]:
            keys = await self._keys(agent)
            if keys is not None and self._is_ours(keys) and await self._status(agent) == "up":
                await self._container("stop", agent)

    async def aclose(self) -> None:
        """Ends what runs in boxes. Containers outlive the core."""
        await self.boxes.aclose()

    # --- base.Containers --------------------------------------------------------------------------------------------

    async def admit(self, agent: AgentName) -> None:
        """See `Containers`."""
        conf.check_name(agent)
        keys = await self._keys(agent)
        if keys is not None:
            self._check_ours(agent, keys)

    async def build(self, agent: AgentName, lodging: Lodging) -> bool:
        """See `Containers`. What was built is kept aside for the next `up`."""
        async with self._turns[agent]:
            await self.admit(agent)
            await self._flags(agent, lodging)
            place = await self._prepare(agent, await self._pin(agent, lodging))
            try:
                await self._nix(
                    "build", "--no-link", "--no-update-lock-file", *NO_IMPORT, _system(place, agent)
                )
            except WorldError:
                await self._on_flake(partial(self._flake.abort, agent))
                raise
        return True  # every commit is a system of its own

    async def up(self, agent: AgentName, lodging: Lodging) -> bool:
        """See `Containers`."""
        async with self._turns[agent]:
            await self.admit(agent)
            pin = await self._pin(agent, lodging)
            own = conf.digest(pin, self._hyperhive)
            built = conf.digest(own, await self.inputs.digest())
            flags = await self._flags(agent, lodging)
            limits = conf.drop_in(lodging.limits)
            wanted = _wanted(own, flags, lodging)
            await _in_thread(partial(hand_over, self._paths, agent, lodging))
            keys = await self._keys(agent)
            status = await self._status(agent) if keys is not None else "gone"
            if status == "up":
                if keys is not None and keys.get(conf.STARTED) == wanted:
                    self.inputs.note(agent, outdated=keys.get(conf.BUILT) != built)
                    return False
                await self._container("stop", agent)
            if keys is None or keys.get(conf.BUILT) != built:
                built = conf.digest(own, await self._build_system(agent, pin, fresh=keys is None))
            marks = {conf.MARK: self._mark, conf.BUILT: built, conf.STARTED: wanted}
            await _in_thread(partial(self._write_conf, agent, lodging.network, flags, marks))
            await self._write_drop_in(agent, limits)
            await self._container("start", agent)
            await self._on_flake(partial(self._flake.finalize, agent))
            self.inputs.note(agent, outdated=built != conf.digest(own, await self.inputs.digest()))
        return False  # its agent CLI is part of the system

    async def hand_over(self, agent: AgentName, lodging: Lodging) -> bool:
        """See `Containers`."""
        await _in_thread(partial(hand_over, self._paths, agent, lodging))
        try:
            keys = await self._keys(agent)
            if keys is None or lodging.commit is None or await self._status(agent) != "up":
                return False
            own = conf.digest(await self._pin(agent, lodging), self._hyperhive)
        except HiveError:  # what runs cannot be seen now: no reason to keep the settings from it
            return False
        try:
            return keys.get(conf.STARTED) != _wanted(own, await self._flags(agent, lodging), lodging)
        except HiveError:  # a mount that is refused, say: whoever starts it is told
            return True

    async def log_tail(self, agent: AgentName, lines: int) -> Sequence[str]:
        """See `Containers`. The machine's journal has what the harness writes to the container's console."""
        words = ["journalctl", f"--unit=container@{agent}", f"--lines={lines}", "--output=cat", "--no-pager"]
        try:
            return (await self._run(words, COMMAND_SECONDS)).splitlines()
        except (MissingPart, TimedOut, WorldError) as error:
            return [str(error)]

    async def trim_logs(self) -> None:
        """See `Containers`. The machine's journal sees to itself."""

    async def keep_only(self, agents: Collection[AgentName]) -> None:
        """See `Containers`. What is not to run stays, stopped."""
        names = await _in_thread(lambda: sorted(conf.stem for conf in self._confs.glob("*.conf")))
        failures = []
        for name in names:
            if name not in agents:
                try:
                    await self._stop(parse_resident(name))
                except InvalidName:  # none of a hive's
                    continue
                except WorldError as error:
                    failures.append(error.message)
        if failures:
            raise WorldError("; ".join(failures))

    async def remove(self, agent: AgentName) -> None:
        """See `Containers`."""
        async with self._turns[agent]:
            keys = await self._keys(agent)
            if keys is not None and self._is_ours(keys):
                await self._container("destroy", agent)
            await self._write_drop_in(agent, None)
            await self._on_flake(partial(self._flake.remove, agent))
            self.inputs.note(agent, outdated=False)
            settings = settings_file(self._paths, agent)
            await _in_thread(partial(settings.unlink, missing_ok=True))

    # --- whose it is ------------------------------------------------------------------------------------------------

    async def _keys(self, agent: AgentName) -> dict[str, str] | None:
        """Its conf, where there is one."""

        def read() -> dict[str, str] | None:
            try:
                return conf.parse_conf(self._conf(agent).read_text(errors="replace"))
            except FileNotFoundError:
                return None

        return await _in_thread(read)

    def _conf(self, agent: AgentName) -> Path:
        return self._confs / f"{agent}.conf"

    def _is_ours(self, keys: Mapping[str, str]) -> bool:
        """It bears the hive's mark; or it was made from its flake, and a crash kept it from being marked."""
        if conf.MARK in keys:
            return keys[conf.MARK] == self._mark
        return keys.get("FLAKE", "").startswith(f"path:{self._flake.directory}")

    def _check_ours(self, agent: AgentName, keys: Mapping[str, str]) -> None:
        if not self._is_ours(keys):
            raise Conflict(
                f"there is a NixOS container {agent} that is not this hive's",
                code="foreign",
                hint="choose another name; the hive leaves that container alone",
            )

    # --- what it is made of -----------------------------------------------------------------------------------------

    async def _pin(self, agent: AgentName, lodging: Lodging) -> Pin:
        if lodging.commit is None:
            raise WorldError(f"{agent} has no config repo yet, and its container is built from that")
        from hyperhive.lifecycle.repos.git import Git, find_git  # the repos know the runtimes, so not before

        program = await _in_thread(lambda: find_git(self._environ.get("PATH", "")))
        repo = self._paths.applied_repo(agent)
        git = Git(program, Marks(self._paths.state_dir))
        names = await git.read(repo, "ls-tree", "--name-only", lodging.commit)
        return Pin(lodging.commit, flake=b"flake.nix" in names.splitlines())

    async def _flags(self, agent: AgentName, lodging: Lodging) -> str:
        def judge() -> str:
            mounts = check_mounts(lodging.mounts, self._paths, shared=lodging.shared)
            return conf.flags(conf.binds(self._paths, agent, mounts))

        return await _in_thread(judge)

    async def _prepare(self, agent: AgentName, pin: Pin) -> Path:
        """The flake with this agent at `pin`, aside and locked."""
        place = await self._on_flake(partial(self._flake.prepare, agent, pin))
        try:
            await self._nix("flake", "lock", f"path:{place}")
            text = await anyio.Path(place / "flake.lock").read_text()
            if faults := lock_faults(json.loads(text), agent):
                raise BadConfig(faults)
        except (WorldError, BadConfig):
            await self._on_flake(partial(self._flake.abort, agent))
            raise
        return place

    async def _build_system(self, agent: AgentName, pin: Pin, *, fresh: bool) -> str:
        """Always by name: without `#NAME` another configuration would be built. Returns what it shares with others."""
        place = await self._prepare(agent, pin)
        reference = f"path:{place}#{agent}"
        try:
            verb = "create" if fresh else "update"
            await self._container(verb, agent, "--flake", reference, *NO_IMPORT, seconds=BUILD_SECONDS)
        except WorldError:
            await self._on_flake(partial(self._flake.abort, agent))
            if fresh:  # its conf is there all the same, and would be in the way
                with suppress(WorldError):
                    await self._container("destroy", agent)
            raise
        return shared_digest(await self._on_flake(partial(read_lock, place)))

    def _write_conf(self, agent: AgentName, network: Network, flags: str, marks: Mapping[str, str]) -> None:
        """`create` leaves out what the hive needs; it is written before each start. Blocks."""
        keys = conf.parse_conf(self._conf(agent).read_text())
        pair = keys.get("HOST_ADDRESS", ""), keys.get("LOCAL_ADDRESS", "")
        with conf.addresses_locked(self._lock_file):
            if network == "out" and "" in pair:
                pair = conf.free_addresses(self._confs)
            keys |= conf.network_keys(network, pair)
            keys |= {
                "AUTO_START": "0",
                "FLAKE": f"path:{self._flake.directory}",
                **marks,
                "EXTRA_NSPAWN_FLAGS": flags,
            }
            temporary = self._conf(agent).with_suffix(".new")
            temporary.write_text(conf.render_conf(keys))
            temporary.replace(self._conf(agent))

    async def _write_drop_in(self, agent: AgentName, text: str | None) -> None:
        """The limits, as systemd's; None: there are none any more."""
        directory = self._units / f"container@{agent}.service.d"

        def write() -> bool:
            file = directory / "50-hyperhive.conf"
            before = file.read_text() if file.exists() else None
            if text is not None:
                directory.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            else:
                file.unlink(missing_ok=True)
                with suppress(OSError):
                    directory.rmdir()
            return before != text

        if await _in_thread(write):
            await self._run(["systemctl", "daemon-reload"], COMMAND_SECONDS)

    async def _on_flake(self, work: Callable[[], T]) -> T:
        async with self._flake_turn:
            return await _in_thread(work)

    # --- commands ---------------------------------------------------------------------------------------------------

    async def _status(self, agent: AgentName) -> str:
        """`up`, `down` or `gone`."""
        try:
            return (await self._run(["nixos-container", "status", agent], COMMAND_SECONDS)).strip()
        except WorldError:
            if await self._keys(agent) is None:
                return "gone"
            raise

    async def _container(
        self, verb: str, agent: AgentName, *more: str, seconds: float = COMMAND_SECONDS
    ) -> None:
        await self._run(["nixos-container", verb, agent, *more], seconds)

    async def _nix(self, *words: str) -> str:
        return await self._run(["nix", *words], BUILD_SECONDS)

    async def _run(self, words: Sequence[str], seconds: float) -> str:
        """What it printed. Any exit code but 0 is a failure: the command's are whatever its language's errors are."""
        shown = " ".join(words[:3])
        try:
            with anyio.fail_after(seconds):
                done = await anyio.run_process(words, check=False, env=self._environ, stdin=-3, cwd="/")
        except TimeoutError as error:
            raise TimedOut(f"{shown} did not end within {seconds:.0f} s") from error
        except OSError as error:
            raise MissingPart(f"{words[0]} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            told = done.stderr.decode(errors="replace").strip()[-TOLD_MAX:] or "it said nothing"
            raise WorldError(f"{shown} failed ({done.returncode}): {told}")
        return done.stdout.decode(errors="replace")


async def _in_thread(work: Callable[[], T]) -> T:
    """Work on files. Raises: WorldError: they cannot be read or written."""
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError as error:
        raise WorldError(f"{error.filename} cannot be read or written: {error.strerror}") from error


def _wanted(own: str, flags: str, lodging: Lodging) -> str:
    """What the container is to be started with. A bump of what all share is no part of it: that can wait."""
    return conf.digest(own, flags, conf.drop_in(lodging.limits), lodging.network)


def _system(place: Path, agent: AgentName) -> str:
    return f'path:{place}#nixosConfigurations."{agent}".config.system.build.toplevel'
