"""A stand-in for a NixOS host's `nixos-container`, `systemctl` and `nix`, over a directory: `HIVE_FAKE_ROOT`.

It has the real command's grammar and traps (docs/gotchas.md), the conf file as the unit reads it, and containers that
are real boxes (bubblewrap) with the binds that the conf asks for. What runs in them is `HIVE_FAKE_INIT` (a JSON list).
It evaluates no Nix, enforces no limit, and a network with a way out is the host's own. `faults/VERB` makes a verb fail.

Standard library only, and quick to start: `install` writes the programs.
"""

import errno
import fcntl
import hashlib
import itertools
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

TEXT_OPTIONS = (
    "bridge", "port", "system-path", "signal", "nixos-path", "config", "config-file", "host-address", "local-address",
    "flake",
)  # fmt: skip
FLAGS = ("help", "ensure-unique-name", "auto-start")
NIX_FLAGS = (
    "impure", "commit-lock-file", "no-registries", "no-update-lock-file", "no-write-lock-file", "no-allow-dirty",
    "recreate-lock-file",
)  # fmt: skip
NIX_TEXT = ("log-format", "update-input")
NIX_PAIRS = ("option", "override-input")
STOP_SECONDS = 20.0
HIDDEN = {"proc", "dev", "sys", "run", "tmp", "var", "state", "claude", "agents", "applied", "workspace"}
INIT = """trap 'kill -TERM $child 2>/dev/null' TERM
"$@" & child=$!
wait $child; code=$?
wait $child && code=$? || true
exit $code"""

PROGRAMS = ("nixos-container", "systemctl", "nix", "journalctl")


def install(
    directory: Path,
    root: Path,
    init: Sequence[str] = ("sleep", "infinity"),
    env: Mapping[str, str] | None = None,
) -> None:
    """Writes the programs into a directory for PATH.

    Args:
        directory: where to.
        root: the machine's directory.
        init: what runs in a container.
        env: what a container's units would set for that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    fixed = {
        "HIVE_FAKE_ROOT": str(root),
        "HIVE_FAKE_INIT": json.dumps(init),
        "HIVE_FAKE_ENV": json.dumps(env or {}),
    }
    exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in fixed.items())
    for name in PROGRAMS:
        program = directory / name
        words = shlex.join([sys.executable, "-ISB", str(Path(__file__).resolve()), name])
        program.write_text(f'#!/bin/sh\n{exports}exec {words} "$@"\n')
        program.chmod(0o755)


def set_fault(root: Path, verb: str, text: str | None, code: int = 1) -> None:
    """From now on this verb fails with that text; None: no more. `build` is the Nix build inside of others."""
    place = root / "faults" / verb
    if text is None:
        place.unlink(missing_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"text": text, "code": code}))


class Failure(Exception):
    """A verb ends here: what it says and its exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Host:
    """The machine below the root directory."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root = root
        self.environ = environ
        self.configurations = root / "etc/nixos-containers"
        self.states = root / "var/lib/nixos-containers"
        self.profiles = root / "nix/var/nix/profiles/per-container"
        self.units = root / "run/units"
        for place in (self.configurations, self.states, self.profiles, self.units, root / "run/lock"):
            place.mkdir(parents=True, exist_ok=True)

    def check_fault(self, verb: str) -> None:
        place = self.root / "faults" / verb
        if place.exists():
            told = json.loads(place.read_text())
            raise Failure(told["text"], told["code"])

    def conf(self, name: str) -> Path:
        return self.configurations / f"{name}.conf"

    def keys(self, name: str) -> dict[str, str]:
        """The conf, as systemd reads an EnvironmentFile."""
        found = (
            re.match(r"\s*([A-Za-z_][A-Za-z0-9_]*)=(.*)$", line)
            for line in self.conf(name).read_text().splitlines()
        )
        return {one[1]: one[2].strip().strip("\"'") for one in found if one}

    # --- nix --------------------------------------------------------------------------------------------------------

    def build(self, reference: str, attribute: str) -> Path:
        """The system of one configuration of a flake: what the flake says, as a directory in the store."""
        self.check_fault("build")
        place = Path(reference.removeprefix("path:"))
        if not (place / "flake.nix").exists():
            raise Failure(f"error: path '{place}' does not contain a 'flake.nix', searching up", 1)
        text = (place / "flake.nix").read_text()
        found = re.search(rf"^\s*{re.escape(attribute)} = (.*)$", text, re.MULTILINE)
        if found is None:
            raise Failure(
                f"error: flake 'path:{place}' does not provide attribute "
                f"'nixosConfigurations.\"{attribute}\".config.system.build.toplevel'",
                1,
            )
        pin = re.search(rf"^\s*agent-{re.escape(attribute)} = (.*)$", text, re.MULTILINE)
        content = f"{found[0].strip()}\n{pin[0].strip() if pin else ''}\n{self.shared(place)}\n"
        out = (
            self.root
            / "nix/store"
            / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}-nixos-system-{attribute}"
        )
        out.mkdir(parents=True, exist_ok=True)
        (out / "init").write_text(content)
        return out

    def shared(self, place: Path) -> str:
        """What all systems of a flake are built with, as it is locked."""
        nodes = (
            json.loads((place / "flake.lock").read_text())["nodes"] if (place / "flake.lock").exists() else {}
        )
        return " ".join(
            f"{name}={nodes[name]['locked']['rev']}" for name in ("hyperhive", "nixpkgs") if name in nodes
        )

    def set_profile(self, name: str, system: Path) -> None:
        place = self.profiles / name
        place.mkdir(parents=True, exist_ok=True)
        fresh = place / "system.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(system)
        fresh.replace(place / "system")

    # --- the unit ---------------------------------------------------------------------------------------------------

    def leader(self, name: str) -> int | None:
        """The first process of a running container."""
        try:
            told = json.loads((self.units / f"{name}.json").read_text())
            stat = Path(f"/proc/{told['leader']}/stat").read_bytes().rpartition(b") ")[2].split()
        except (OSError, ValueError):
            return None
        # the same number may be another process by now
        return (
            int(told["leader"]) if stat[19].decode() == told["born"] and stat[0] not in {b"Z", b"X"} else None
        )

    def start(self, name: str) -> None:
        self.check_fault("start")
        if self.leader(name) is not None:
            return
        keys = self.keys(name)
        if not (self.profiles / name / "system").exists():
            if "FLAKE" not in keys:
                raise Failure("there is no system to start", 1)
            self.set_profile(
                name, self.build(keys["FLAKE"], "container")
            )  # as the unit does: without the attribute
        init = json.loads(self.environ.get("HIVE_FAKE_INIT", '["sleep", "infinity"]'))
        read, write = os.pipe()
        log = (self.root / "run" / f"{name}.log").open("ab")
        process = subprocess.Popen(
            ["bwrap", "--json-status-fd", str(write), *self.box(name, keys), "/bin/sh", "-c", INIT, "init", *init],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(write,), start_new_session=True, cwd="/",
            env=self.inside(name, keys),
        )  # fmt: skip
        os.close(write)
        told = b""
        while not told.endswith(b"\n") and select.select([read], [], [], STOP_SECONDS)[0]:
            if not (more := os.read(read, 4096)):
                break
            told += more
        os.close(read)
        if b"child-pid" not in told:
            process.kill()
            raise Failure(Path(log.name).read_text()[-2000:].strip() or "the container ended at once", 1)
        leader = json.loads(told.partition(b"\n")[0])["child-pid"]
        born = Path(f"/proc/{leader}/stat").read_bytes().rpartition(b") ")[2].split()[19].decode()
        system = str((self.profiles / name / "system").readlink())
        unit = {"leader": leader, "supervisor": process.pid, "born": born, "system": system, "keys": keys}
        (self.units / f"{name}.json").write_text(json.dumps(unit))

    def box(self, name: str, keys: dict[str, str]) -> list[str]:
        """What nspawn would be told, as bubblewrap's arguments."""
        words = [
            "--cap-add",
            "ALL",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--hostname",
            name,
            "--as-pid-1",
            "--tmpfs",
            "/",
        ]
        for entry in sorted(Path("/").iterdir()):
            if entry.name not in HIDDEN:
                words += (
                    ["--symlink", str(entry.readlink()), str(entry)]
                    if entry.is_symlink()
                    else ["--ro-bind", str(entry), str(entry)]
                )
        words += ["--proc", "/proc", "--dev", "/dev"]
        words += ["--tmpfs", "/run", "--tmpfs", "/var", "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - its own
        # On the real machine they stand in /nix/store.
        for place in (Path(sys.prefix), Path(__file__).parents[3]):
            if place.parts[1] in {"run", "var", "tmp"}:
                words += ["--ro-bind", str(place), str(place)]
        if keys.get("PRIVATE_NETWORK") == "1" and not keys.get("HOST_ADDRESS"):
            words.append("--unshare-net")
        for flag in keys.get("EXTRA_NSPAWN_FLAGS", "").split():  # unquoted: a blank parts, wherever it stands
            bind = re.fullmatch(r"--(bind|bind-ro)=([^:]+)(?::([^:]+))?", flag)
            if bind is None:
                raise Failure(f"systemd-nspawn: unrecognized option '{flag}'", 1)
            source, target = bind[2], bind[3] or bind[2]
            if not Path(source).exists():
                raise Failure(f"Failed to stat {source}: No such file or directory", 1)
            words += ["--bind" if bind[1] == "bind" else "--ro-bind", source, target]
        return [*words, "--"]

    def inside(self, name: str, keys: dict[str, str]) -> dict[str, str]:
        """The environment that the container's first process has. HIVE_FAKE_ENV is what its units would set."""
        handed = {key: keys.get(key, "") for key in ("PRIVATE_NETWORK", "HOST_ADDRESS", "LOCAL_ADDRESS")}
        own = json.loads(self.environ.get("HIVE_FAKE_ENV", "{}"))
        return {
            "PATH": self.environ.get("PATH", "/usr/bin:/bin"),
            "container": "systemd-nspawn",
            **handed,
            "INSTANCE": name,
            **own,
        }

    def stop(self, name: str, *, at_once: bool = False) -> None:
        """TERM, and KILL where that takes too long."""
        self.check_fault("terminate" if at_once else "stop")
        leader = self.leader(name)
        if leader is not None:
            handle = os.pidfd_open(leader)
            signal.pidfd_send_signal(handle, signal.SIGKILL if at_once else signal.SIGTERM)
            if not select.select([handle], [], [], STOP_SECONDS)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
            os.close(handle)
            end = time.monotonic() + STOP_SECONDS
            while self.leader(name) is not None and time.monotonic() < end:
                time.sleep(0.005)
        (self.units / f"{name}.json").unlink(missing_ok=True)


# --- nixos-container ------------------------------------------------------------------------------------------------


def parse(argv: list[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Options, what is for Nix, and the rest. Options stand anywhere before `--`, and may be cut short."""
    known = [*TEXT_OPTIONS, *FLAGS, *NIX_FLAGS, *NIX_TEXT, *NIX_PAIRS]
    options: dict[str, str] = {}
    nix: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += list(words)
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        told, equals, value = word.lstrip("-").partition("=")
        fits = [one for one in known if one == told] or [one for one in known if one.startswith(told)]
        if len(fits) != 1:
            raise Failure(f"Unknown option: {told}" if not fits else f"Option {told} is ambiguous", 1)
        name = fits[0]
        wanted = 0 if name in FLAGS + NIX_FLAGS else 2 if name in NIX_PAIRS else 1
        values = [value] if equals else []
        while len(values) < wanted:
            try:
                values.append(next(words))
            except StopIteration:
                raise Failure(f"Option {name} requires an argument", 1) from None
        if name in TEXT_OPTIONS + FLAGS:
            options[name] = values[0] if values else "1"
        else:
            nix += [f"--{name}", *values]
    return options, nix, rest


def nixos_container(host: Host, argv: list[str]) -> int:
    """The command."""
    options, _, rest = parse(argv)
    if "help" in options:
        sys.stdout.write("Usage: nixos-container list | create | destroy | ... NAME\n")
        return 0
    if ("host-address" in options) != ("local-address" in options):
        raise Failure("With --host-address set, --local-address is required as well!", 255)
    if not rest:
        raise Failure("nixos-container: no action specified", 255)
    action = rest[0]
    if action == "list":
        for conf in sorted(host.configurations.glob("*.conf")):
            sys.stdout.write(f"{conf.stem}\n")
        return 0
    if len(rest) < 2:
        raise Failure("nixos-container: no container name specified", 255)
    name = rest[1]
    if re.match(r"^[a-zA-Z0-9_-]+$", name) is None:  # which lets one line end pass: the real one does, too
        raise Failure("nixos-container: invalid container name", 2)
    if action == "create":
        return create(host, name, options)
    if not host.conf(name).exists():
        if action == "destroy":
            return 0
        if action == "status":
            sys.stdout.write("gone\n")
        raise Failure(f"nixos-container: container ‘{name}’ does not exist", errno.ENOENT)
    return act(host, action, name, options, rest[2:])


def reference(options: dict[str, str]) -> tuple[str | None, str]:
    """The flake and the attribute in it."""
    flake = options.get("flake")
    found = re.fullmatch(r"(.*)#([^#\"]+)", flake) if flake is not None else None
    return (found[1], found[2]) if found else (flake, "container")


def create(host: Host, name: str, options: dict[str, str]) -> int:
    """Takes a free address, writes the conf, and then builds: where that fails, the conf stays."""
    with (host.root / "run/lock/nixos-container").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "ensure-unique-name" in options:
            base, number = name, 0
            while host.conf(name).exists():
                name, number = f"{base}-{number}", number + 1
        if host.conf(name).exists():
            raise Failure(f"nixos-container: container ‘{name}’ already exists", errno.ENOTTY)
        if len(name) > 11:
            raise Failure(f"nixos-container: container name ‘{name}’ is too long", errno.ENOENT)
        host.check_fault("create")
        pair = (
            (options["host-address"], options["local-address"])
            if "host-address" in options
            else free_pair(host)
        )
        flake, attribute = reference(options)
        keys = {
            "PRIVATE_NETWORK": "1", "HOST_ADDRESS": pair[0], "LOCAL_ADDRESS": pair[1],
            "HOST_BRIDGE": options.get("bridge", ""), "HOST_PORT": options.get("port", ""),
            "AUTO_START": options.get("auto-start", "0"), **({"FLAKE": flake} if flake is not None else {}),
        }  # fmt: skip
        host.conf(name).write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
    sys.stderr.write(f"host IP is {pair[0]}, container IP is {pair[1]}\n")
    build(host, name, flake, attribute, options.get("system-path"))
    if "ensure-unique-name" in options:
        sys.stdout.write(f"{name}\n")
    return 0


def free_pair(host: Host) -> tuple[str, str]:
    """The first pair of addresses that no conf has."""
    used = {
        host.keys(conf.stem).get(key)
        for conf in host.configurations.glob("*.conf")
        for key in ("HOST_ADDRESS", "LOCAL_ADDRESS")
    }
    for number in range(1, 255):
        pair = (f"10.233.{number}.1", f"10.233.{number}.2")
        if not used & {*pair}:
            return pair
    raise Failure("nixos-container: out of IP addresses", 255)


def build(host: Host, name: str, flake: str | None, attribute: str, system: str | None = None) -> None:
    """Sets the container's system."""
    if flake is not None:
        try:
            built = host.build(flake, attribute)
        except Failure as error:
            raise Failure(
                f"{error}\nnixos-container: failed to build container from flake '{flake}'", 1
            ) from error
    elif system is not None:
        built = Path(system)
    else:
        raise Failure("nixos-container: failed to build initial container configuration", 1)
    host.set_profile(name, built)


def act(host: Host, action: str, name: str, options: dict[str, str], more: list[str]) -> int:
    """What can be done to a container that is there."""
    if action in {"start", "stop", "restart"}:
        switch(host, action, name)
    elif action == "terminate":
        host.stop(name, at_once=True)
    elif action == "status":
        host.check_fault("status")
        sys.stdout.write("up\n" if host.leader(name) is not None else "down\n")
    elif action == "update":
        update(host, name, options)
    elif action == "destroy":
        destroy(host, name)
    elif action == "show-ip":
        address = re.search(r"^LOCAL_ADDRESS=([0-9.]+)", host.conf(name).read_text(), re.MULTILINE)
        if address is None:
            raise Failure("nixos-container: cannot get IP address", 255)
        sys.stdout.write(f"{address[1]}\n")
    elif action == "run":
        run(host, name, more)
    else:
        raise Failure(f"nixos-container: unknown action ‘{action}’", 255)
    return 0


def switch(host: Host, action: str, name: str) -> None:
    """By the unit; `restart` is one after the other."""
    for verb in ("stop", "start") if action == "restart" else (action,):
        try:
            if verb == "start":
                host.start(name)
            else:
                host.stop(name)
        except Failure as error:
            told = f"Job for container@{name}.service failed.\n{error}\nnixos-container: failed to {verb} container"
            raise Failure(told, error.code) from error


def update(host: Host, name: str, options: dict[str, str]) -> None:
    """Builds, and only then changes anything; a running container is reloaded, with the flags of its start."""
    host.check_fault("update")
    flake, attribute = reference(options)
    build(host, name, flake if flake is not None else host.keys(name).get("FLAKE"), attribute)
    if host.leader(name) is not None:
        sys.stderr.write("reloading container...\n")
        host.check_fault("reload")


def destroy(host: Host, name: str) -> None:
    """Leaves nothing but what was bound into it."""
    host.check_fault("destroy")
    if host.leader(name) is not None:
        host.stop(name, at_once=True)
    for place in (host.profiles / name, host.states / name):
        subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=True)
    host.conf(name).unlink()


def run(host: Host, name: str, words: list[str]) -> NoReturn:
    """Becomes the program, in the container."""
    leader = host.leader(name)
    if leader is None:
        raise Failure("unable to get container's main PID", 255)
    os.execvp("nsenter", ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "--", *words])  # noqa: S606


# --- the other two --------------------------------------------------------------------------------------------------


def systemctl(host: Host, argv: list[str]) -> int:
    """`daemon-reload`, which reads the drop-ins; nothing else is asked of it."""
    if argv != ["daemon-reload"]:
        raise Failure(f"Unknown command verb {shlex.join(argv)}.", 1)
    host.check_fault("daemon-reload")
    found = sorted(
        str(one.relative_to(host.root)) for one in (host.root / "run/systemd/system").glob("*.d/*.conf")
    )
    (host.root / "run/drop-ins.json").write_text(json.dumps(found))
    return 0


def journalctl(host: Host, argv: list[str]) -> int:
    """`--unit=container@NAME --lines=N`: what was written to the container's console last."""
    told = dict(word.removeprefix("--").partition("=")[::2] for word in argv)
    host.check_fault("journalctl")
    log = host.root / "run" / f"{told['unit'].removeprefix('container@')}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else ["-- No entries --"]
    sys.stdout.write("".join(f"{line}\n" for line in lines[-int(told["lines"]) :]))
    return 0


def nix(host: Host, argv: list[str]) -> int:
    """As Nix 2.8: `--version`, `flake lock [--update-input INPUT]... REF` and `build --no-link SYSTEM...`.

    A system is REF#nixosConfigurations."NAME".config.system.build.toplevel.
    """
    if argv == ["--version"]:
        sys.stdout.write("nix (Nix) 2.8.0\n")
        return 0
    bumped = {after for word, after in itertools.pairwise(argv) if word == "--update-input"}
    plain = re.sub(r"--(option\0[^\0]*|update-input)\0[^\0]*\0?", "", "\0".join(argv))
    words = [word for word in plain.split("\0") if not word.startswith("-")]
    if words[:2] == ["flake", "lock"]:
        host.check_fault("lock")
        lock(host, Path(words[2].removeprefix("path:")), bumped)
        return 0
    systems = [
        re.fullmatch(r"(.*)#nixosConfigurations\.\"([^\"]+)\"\.config\.system\.build\.toplevel", word)
        for word in words[1:]
    ]
    if words[0] == "build" and systems and all(systems):
        for found in systems:
            if found is not None:
                host.build(found[1], found[2])
        return 0
    raise Failure(f"error: '{shlex.join(argv)}' is not a recognised command", 1)


def lock(host: Host, place: Path, bumped: set[str]) -> None:
    """Locks the agents as they are pinned, and what all share as it was, or as `inputs/NAME` says it is now."""
    agents = re.findall(
        r"^\s*(agent-[a-z0-9-]+) = .*rev = \"([0-9a-f]{40})\"",
        (place / "flake.nix").read_text(),
        re.MULTILINE,
    )
    file = place / "flake.lock"
    old = json.loads(file.read_text())["nodes"] if file.exists() else {}
    nodes: dict[str, object] = {name: {"locked": {"type": "git", "rev": rev}} for name, rev in agents}
    for name, path, inputs in (
        ("nixpkgs", "hyperhive/nixpkgs", {}),
        ("hyperhive", "hyperhive", {"nixpkgs": "nixpkgs"}),
    ):
        if name in old and not bumped & {path, "hyperhive"}:
            nodes[name] = old[name]
            continue
        newest = host.root / "inputs" / name
        rev = newest.read_text().strip() if newest.exists() else "1"
        nodes[name] = {"locked": {"type": "git", "rev": rev, "lastModified": 1700000000}, "inputs": inputs}
    nodes["root"] = {"inputs": {name: name for name in ("hyperhive", *(name for name, _ in agents))}}
    file.write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))


def main() -> NoReturn:
    """`fake_nixos.py PROGRAM ARGUMENTS`."""
    root = Path(os.environ["HIVE_FAKE_ROOT"])
    host = Host(root, dict(os.environ))
    with (root / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    try:
        program = dict(zip(PROGRAMS, (nixos_container, systemctl, nix, journalctl), strict=True))[sys.argv[1]]
        code = program(host, sys.argv[2:])
    except Failure as error:
        sys.stderr.write(f"{error}\n")
        code = error.code
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
