"""The real parts that tests run: how each is found, and the one line that says where to get it.

Used by tests/conftest.py for `@pytest.mark.needs(part)`. Nothing is installed from here: tests/parts/install.sh
does that.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "tests/parts/install.sh"

# The environment of every probe: no account, no proxy, no variable of whoever runs the suite.
CLEAN_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
}


@dataclass(frozen=True)
class Part:
    """One real part: `probe` returns None where it works, else what is wrong; `how` says how to get it."""

    probe: Callable[[], str | None]
    how: str


def claude_path(version: str) -> Path:
    """Where the agent CLI of that version is looked for; it need not be there."""
    variable = {"2.1.328": "HYPERHIVE_TEST_CLAUDE", "2.1.200": "HYPERHIVE_TEST_CLAUDE_200"}[version]
    return Path(os.environ.get(variable) or ROOT / ".parts" / f"claude-{version}" / "claude")


def _run(*argv: str) -> str | None:
    try:
        done = subprocess.run(
            argv,
            env=CLEAN_ENV,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return f"{argv[0]} exits {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}"


def _command(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"{name} is not on PATH"


def _claude(version: str) -> Callable[[], str | None]:
    def probe() -> str | None:
        path = claude_path(version)
        if not os.access(path, os.X_OK):
            return f"no program at {path}"
        try:
            done = subprocess.run(
                [path, "--version"],
                env=CLEAN_ENV,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return (
            None
            if done.stdout.startswith(f"{version} ")
            else f"{path} says {done.stdout.strip()!r}, not {version}"
        )

    return probe


def _bwrap() -> str | None:
    # Not only "is it there": a host may forbid user namespaces, and then it is of no use.
    return _run(
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--unshare-user",
        "--unshare-pid",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "true",
    )


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not running as root"


NSPAWN_BASE = Path(os.environ.get("HYPERHIVE_TEST_NSPAWN_BASE") or ROOT / ".parts" / "nspawn-base")


def _nspawn() -> str | None:
    # Whether it works here is what the tests are about: a container that cannot be made fails them.
    if fault := _root() or _command("systemd-nspawn")():
        return fault
    return None if os.path.lexists(NSPAWN_BASE / "usr/bin/python3") else f"no base at {NSPAWN_BASE}"


PARTS: dict[str, Part] = {
    "claude": Part(_claude("2.1.328"), f"run {INSTALL} claude"),
    "claude-2.1.200": Part(_claude("2.1.200"), f"run {INSTALL} claude"),
    "bwrap": Part(
        _bwrap, f"install the package bubblewrap (as root: {INSTALL} bwrap) and allow user namespaces"
    ),
    "pasta": Part(_command("pasta"), f"install the package passt (as root: {INSTALL} pasta)"),
    "ip": Part(_command("ip"), f"install the package iproute2 (as root: {INSTALL} ip)"),
    "git": Part(_command("git"), f"install the package git (as root: {INSTALL} git)"),
    "make": Part(_command("make"), f"install the package make (as root: {INSTALL} make)"),
    "npm": Part(_command("npm"), f"install the package npm (as root: {INSTALL} npm)"),
    "systemd-analyze": Part(
        _command("systemd-analyze"), f"install the package systemd (as root: {INSTALL} systemd-analyze)"
    ),
    "nix": Part(_command("nix"), f"install the package nix-bin (as root: {INSTALL} nix)"),
    "chromium": Part(
        _command("chromium-headless-shell"),
        f"install the package chromium-headless-shell (as root: {INSTALL} chromium)",
    ),
    "nspawn": Part(_nspawn, f"as root, run {INSTALL} nspawn"),
    "mmdebstrap": Part(_command("mmdebstrap"), f"install the package mmdebstrap (as root: {INSTALL} nspawn)"),
    "root": Part(_root, "run the suite as root"),
}


@functools.cache
def missing(name: str) -> str | None:
    """None where the part works here; else one line: its name, what is wrong, how to get it. Probed once."""
    fault = PARTS[name].probe()
    return None if fault is None else f"needs {name}: {fault}; {PARTS[name].how}"
