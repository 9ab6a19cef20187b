"""The hive's flake, `meta/flake/`: one input an agent, pinned to a commit of its applied repo. Text and files only.

A bump is two-phase: a copy is made aside, and Nix locks and builds that one; then it takes the flake's place, or is
dropped. `flake.lock` is Nix's own: what is changed of it here is changed as plain JSON. Runs no program.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from hyperhive.errors import BadConfig, WorldError
from hyperhive.lifecycle.runtimes.nixos_lock import shared_digest
from hyperhive.names import MANAGER, AgentName

PINS: Final = "pins.json"
_PLAIN: Final = re.compile(r"/[A-Za-z0-9._/+@-]*")
_SHA: Final = re.compile(r"[0-9a-f]{40}")
_REMOTE: Final = frozenset({"github", "gitlab", "sourcehut"})


class Pin(msgspec.Struct, frozen=True):
    """Where an agent's config is: the commit, and whether it holds a flake.nix of its own."""

    commit: str
    flake: bool = False


def check_plain(path: Path) -> Path:
    """The same path, if Nix, nspawn and a systemd environment file all take it as it is.

    Raises:
        BadConfig: it has blanks, quotes, colons or the like.
    """
    if _PLAIN.fullmatch(str(path)) is None:
        raise BadConfig(
            [
                f"{path} cannot be shown in a NixOS container: only letters, digits and . _ / + @ - may be in its path"
            ]
        )
    return path


def input_of(agent: str) -> str:
    """What an agent's input is called."""
    return f"agent-{agent}"


def flake_text(
    hyperhive: str, applied: Path, pins: Mapping[str, Pin], machine: str = platform.machine()
) -> str:
    """`flake.nix`: `nixosConfigurations.NAME` of every agent, made by the library of the input `hyperhive`.

    Args:
        hyperhive: the flake reference of HyperHive itself.
        applied: the directory of the applied repos.
        pins: the agents.
        machine: as `uname -m` says.

    Raises:
        BadConfig: a path or a reference would need quoting.
    """
    check_plain(applied)
    if re.fullmatch(r"[A-Za-z0-9:._/+@?&=%-]+", hyperhive) is None:
        raise BadConfig([f"{hyperhive!r} is no reference of a flake"])
    inputs, agents = [], []
    for name, pin in sorted(pins.items()):
        if _SHA.fullmatch(pin.commit) is None:
            raise BadConfig([f"{pin.commit!r} is no commit"])
        inputs.append(
            f'    {input_of(name)} = {{ type = "git"; url = "file://{applied / name}"; ref = "main"; allRefs = true; '
            f'rev = "{pin.commit}"; flake = {"true" if pin.flake else "false"}; }};\n'
        )
        role = "manager" if name == MANAGER else "agent"
        agents.append(f'        {name} = {{ input = inputs.{input_of(name)}; role = "{role}"; }};\n')
    return (
        "# Written by HyperHive; whatever is changed here by hand is lost.\n{\n  inputs = {\n"
        f'    hyperhive.url = "{hyperhive}";\n{"".join(inputs)}  }};\n\n  outputs = inputs: {{\n'
        "    nixosConfigurations = inputs.hyperhive.lib.containers {\n"
        f'      system = "{machine}-linux";\n      agents = {{\n{"".join(agents)}      }};\n    }};\n  }};\n}}\n'
    )


def lock_faults(lock: object, agent: str) -> list[str]:
    """What an agent's own inputs may not be: places on this machine, or what is not pinned. Of a decoded `flake.lock`.

    Whatever is fetched becomes readable for everybody on this machine, and is read as root.
    """
    nodes = lock.get("nodes") if isinstance(lock, dict) else None
    if not isinstance(nodes, dict):
        return ["flake.lock: has no nodes"]
    first = _named(nodes.get("root"), input_of(agent))
    faults, seen, todo = [], {first}, [first]
    while todo:
        key = todo.pop()
        node = nodes.get(key)
        inputs = node.get("inputs", {}) if isinstance(node, dict) else {}
        for name, target in sorted(inputs.items()):
            if (
                not isinstance(target, str) or target in seen
            ):  # a list follows another input, which is looked at itself
                continue
            seen.add(target)
            todo.append(target)
            if (why := _unfit(nodes.get(target))) is not None:
                faults.append(f"flake.nix: input {name}: {why}")
    return faults


def _named(root: object, name: str) -> str:
    inputs = root.get("inputs") if isinstance(root, dict) else None
    key = inputs.get(name) if isinstance(inputs, dict) else None
    return key if isinstance(key, str) else name


def _unfit(node: object) -> str | None:
    locked = node.get("locked") if isinstance(node, dict) else None
    if not isinstance(locked, dict):
        return "is not locked"
    kind, url = locked.get("type"), str(locked.get("url", ""))
    if kind in _REMOTE or (kind in {"git", "tarball", "file"} and url.startswith("https://")):
        return None
    return f"comes from {url or locked.get('path') or kind}: only https, github, gitlab and sourcehut may be used"


class MetaFlake:
    """One hive's flake on disk. Its methods block; the caller lets one at a time in."""

    def __init__(self, meta: Path, applied: Path, hyperhive: str) -> None:
        self.directory = meta / "flake"
        self._applied = applied
        self._hyperhive = hyperhive

    def pins(self) -> dict[str, Pin]:
        """Where each agent is pinned; a file that is damaged counts as none: every `up` says its own again."""
        return _read_pins(self.directory)

    def aside(self, agent: AgentName) -> Path:
        """Where a bump of this agent is prepared."""
        return self.directory.with_name(f"flake.{agent}")

    def prepare(self, agent: AgentName, pin: Pin) -> Path:
        """Makes a copy aside in which this agent is at `pin`, in place of an earlier one.

        Raises:
            WorldError: it cannot be written. BadConfig: as `flake_text`.
        """
        return self._copy(self.aside(agent), {**self.pins(), agent: pin})

    def _copy(self, place: Path, pins: Mapping[str, Pin]) -> Path:
        try:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700)
            lock = self.directory / "flake.lock"
            if lock.exists():
                shutil.copyfile(lock, place / "flake.lock")
            self._write(place, pins)
        except OSError as error:
            raise WorldError(f"{place} cannot be written: {error.strerror}") from error
        return place

    def finalize(self, agent: AgentName) -> None:
        """What was prepared is the flake now. Where nothing was, nothing happens.

        Others may have been finalized since it was prepared: theirs stay. Raises: WorldError: it cannot be written.
        """
        place = self.aside(agent)
        now, then = self.pins(), _read_pins(place)
        if agent not in then:
            return
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            merged = {**now, agent: then[agent]}
            # Else Nix fills in what is missing, as pinned; and what all share was bumped meanwhile.
            if merged == then and self._same_shared(place):
                _take_lock(place, self.directory)
            self._write(self.directory, merged)
        except OSError as error:
            raise WorldError(f"{self.directory} cannot be written: {error.strerror}") from error
        shutil.rmtree(place, ignore_errors=True)

    def abort(self, agent: AgentName) -> None:
        """What was prepared is dropped. Idempotent."""
        shutil.rmtree(self.aside(agent), ignore_errors=True)

    # --- what all agents share --------------------------------------------------------------------------------------

    @property
    def shared_aside(self) -> Path:
        """Where a bump of what all share is prepared. No agent's place is called so: theirs have a dot."""
        return self.directory.with_name("flake-inputs")

    def lock(self) -> object:
        """What is locked now, decoded; nothing where that cannot be read."""
        return read_lock(self.directory)

    def lock_aside(self) -> object:
        """What is locked in the bump of what all share."""
        return read_lock(self.shared_aside)

    def pins_aside(self) -> dict[str, Pin]:
        """Where each agent is pinned in the bump of what all share."""
        return _read_pins(self.shared_aside)

    def prepare_shared(self) -> Path:
        """Makes a copy aside, as it is, for Nix to bump what all share in it. Raises: as `prepare`."""
        return self._copy(self.shared_aside, self.pins())

    def finalize_shared(self) -> list[AgentName]:
        """The lock that was prepared is the flake's; returns the agents there are, if it is another one now.

        Agents that were pinned since it was prepared stay where they are pinned: Nix locks them anew, as pinned.
        Raises: WorldError: it cannot be written.
        """
        place, agents = self.shared_aside, self.pins()
        if not (place / "flake.lock").exists():
            return []
        same = shared_digest(self.lock()) == shared_digest(self.lock_aside())
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            _take_lock(place, self.directory)
            self._write(self.directory, agents)
        except OSError as error:
            raise WorldError(f"{self.directory} cannot be written: {error.strerror}") from error
        self.abort_shared()
        return [] if same else sorted(AgentName(agent) for agent in agents)

    def abort_shared(self) -> None:
        """What was prepared is dropped. Idempotent."""
        shutil.rmtree(self.shared_aside, ignore_errors=True)

    def _same_shared(self, place: Path) -> bool:
        """The lock there is one, and has what all share as the flake has it, if that has any."""
        there, here = shared_digest(read_lock(place)), shared_digest(self.lock())
        return (place / "flake.lock").exists() and here in {"", there}

    def remove(self, agent: AgentName) -> None:
        """The agent is gone. Idempotent. Raises: WorldError: it cannot be written."""
        self.abort(agent)
        now = self.pins()
        if now.pop(agent, None) is None:
            return
        try:
            lock = self.directory / "flake.lock"
            if lock.exists():
                _put(lock, json.dumps(without(json.loads(lock.read_text()), agent), indent=2) + "\n")
            self._write(self.directory, now)
        except (OSError, ValueError) as error:
            raise WorldError(f"{self.directory} cannot be written: {error}") from error

    def _write(self, place: Path, pins: Mapping[str, Pin]) -> None:
        _put(place / "flake.nix", flake_text(self._hyperhive, self._applied, pins))
        _put(
            place / PINS, msgspec.json.format(msgspec.json.encode(dict(sorted(pins.items())))).decode() + "\n"
        )


def without(lock: dict[str, object], agent: str) -> dict[str, object]:
    """A `flake.lock` without an agent's input. What only that one used is left to Nix to drop."""
    nodes = lock.get("nodes")
    if isinstance(nodes, dict):
        root = nodes.get("root")
        key = _named(root, input_of(agent))
        if isinstance(root, dict) and isinstance(root.get("inputs"), dict):
            root["inputs"].pop(input_of(agent), None)
        nodes.pop(key, None)
    return lock


def _read_pins(place: Path) -> dict[str, Pin]:
    try:
        return msgspec.json.decode((place / PINS).read_bytes(), type=dict[str, Pin])
    except (OSError, msgspec.DecodeError):
        return {}


def read_lock(place: Path) -> object:
    """The `flake.lock` of a directory, decoded; None where there is none that can be read. Blocks."""
    try:
        return json.loads((place / "flake.lock").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _take_lock(place: Path, to: Path) -> None:
    """Moves a lock that Nix wrote; it is on disk before it counts."""
    with (place / "flake.lock").open("rb") as file:
        os.fsync(file.fileno())
    (place / "flake.lock").replace(to / "flake.lock")


def _put(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
