"""The command `doctor`: what a hive needs on this machine, each with the way to get it. `--install-cli` gets the CLI.

It changes nothing but what `--install-cli` installs and `--make-base` makes (a trial of nspawn makes the hive's own
directories), and it looks at the same things as the hive itself does: the same search for the agent CLI, the same trial
of the runtime.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import anyio
import msgspec
from cyclopts import Parameter

from hyperhive import __version__
from hyperhive.agent_cli import OLDEST, TESTED, AgentClis
from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.config import HiveConfig, doubts, load
from hyperhive.errors import HiveError, HiveUnreachable
from hyperhive.names import SOCKET_PATH_MAX_BYTES
from hyperhive.paths import Paths
from hyperhive.protocol import requests as r
from hyperhive.protocol.replies import Accounts, HiveStatus
from hyperhive.terminal import visible

Verdict = Literal["ok", "warning", "missing"]

_COLOURS = {"ok": "green", "warning": "amber", "missing": "red"}
_NAME_COLUMNS = 13
LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and how to mend it."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""


def doctor(
    *,
    install_cli: Annotated[bool, Parameter(negative="")] = False,
    cli_version: str = TESTED,
    make_base: Annotated[bool, Parameter(negative="")] = False,
    runtime: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Check what a hive needs on this machine, and say how to get what is missing.

    Args:
        install_cli: install the tested version of the agent CLI under the hive's state directory, by npm.
        cli_version: install this version instead.
        make_base: make the root file system that containers of the runtime nspawn share, of Debian packages (as root).
        runtime: check this runtime (else HYPERHIVE_RUNTIME, else hive.toml, else auto).
        common: flags of every command.
    """
    session = Session(common)
    if install_cli:
        if not common.as_json:
            session.screen.note(f"installing the agent CLI {cli_version} ...")
        installed = anyio.run(AgentClis(session.environ, session.state_dir()).install, cli_version)
        session.screen.note(f"installed {installed.path}")
    if make_base:
        _make_base(session)
    checks = _checks(session, runtime)
    healthy = all(check.verdict != "missing" for check in checks)
    if common.as_json:
        session.screen.json(msgspec.json.encode({"ok": healthy, "version": __version__, "checks": checks}))
        return 0 if healthy else 1
    for check in checks:
        _print_check(session, check)
    if healthy:
        session.screen.line("a hive can run here: hyperhive up")
    return 0 if healthy else 1


def _make_base(session: Session) -> None:
    from hyperhive.lifecycle.runtimes.nspawn_base import base_place, make_base

    environ = session.environ
    config = load(environ, state_dir=session.common.state_dir, run_dir=session.common.run_dir)
    base = base_place(config.state_dir, config.file.nspawn_base, environ)
    session.screen.note(f"making a base for containers at {base} ...")
    anyio.run(make_base, base, environ)
    session.screen.note(f"the base is at {base}")


def _print_check(session: Session, check: Check) -> None:
    """The verdict in one column, what was found and how to mend it beside it, nothing cut off."""
    screen = session.screen
    verdict = screen.paint(f"{check.verdict:<9}", _COLOURS[check.verdict])
    room = max(30, screen.columns - _NAME_COLUMNS - 11)
    words = [*textwrap.wrap(visible(check.found), room), *textwrap.wrap(visible(check.hint), room)]
    first, *rest = words or [""]
    screen.line(f"{check.name:<{_NAME_COLUMNS}} {verdict} {first}")
    screen.lines(" " * (_NAME_COLUMNS + 11) + line for line in rest)


def _checks(session: Session, runtime: str | None) -> list[Check]:
    environ = session.environ
    try:
        config = load(
            environ, state_dir=session.common.state_dir, run_dir=session.common.run_dir, runtime=runtime
        )
    except HiveError as error:
        return [_python(), Check("configuration", "missing", error.message, error.hint or "mend hive.toml")]
    paths = Paths.of(config.state_dir, config.run_dir)
    checks: list[Callable[[], Check]] = [
        _python,
        lambda: _configuration(config),
        lambda: _state(paths),
        lambda: _sockets(paths),
        lambda: _runtime(config, paths, environ),
        lambda: _agent_cli(environ, config.state_dir),
        lambda: _git(environ),
        lambda: _account(session, paths, environ),
        lambda: _hive(session),
        lambda: _dashboard(session, config),
    ]
    return [check() for check in checks]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{version} ({sys.executable})")


def _configuration(config: HiveConfig) -> Check:
    there = config.source is not None and config.source.exists()
    if wrong := doubts(config.file, config.file.agents):
        return Check("configuration", "warning", str(config.source), "; ".join(wrong))
    return Check("configuration", "ok", str(config.source) if there else f"defaults (no {config.source})")


def _state(paths: Paths) -> Check:
    directory = paths.state_dir
    if not directory.exists():
        parent = next(parent for parent in directory.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Check("state", "ok", f"{directory} (made at the first start)")
        return Check(
            "state", "missing", f"{directory} cannot be made in {parent}", "choose another: --state-dir DIR"
        )
    info = directory.stat()
    if info.st_uid != os.geteuid():
        return Check(
            "state", "missing", f"{directory} belongs to uid {info.st_uid}", "choose another: --state-dir DIR"
        )
    if info.st_mode & 0o077:
        mode = f"{info.st_mode & 0o777:o}"
        return Check("state", "warning", f"{directory} is open to others ({mode})", f"chmod 700 {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        return Check(
            "state", "missing", f"{directory} is not writable", "make it writable, or choose another"
        )
    free = shutil.disk_usage(directory).free // 2**20
    if free < 1024:
        return Check("state", "warning", f"{directory}, only {free} MiB free", "make room: agents need some")
    return Check("state", "ok", f"{directory}, {free // 1024} GiB free")


def _sockets(paths: Paths) -> Check:
    longest = len(os.fsencode(paths.run_dir / "harness" / ("n" * LONGEST_NAME) / "harness.sock"))
    room = LONGEST_NAME - max(0, longest - SOCKET_PATH_MAX_BYTES)
    hint = "choose a shorter run directory: --run-dir DIR, or HYPERHIVE_RUN_DIR"
    if len(os.fsencode(paths.host_socket)) > SOCKET_PATH_MAX_BYTES or room < 1:
        return Check("sockets", "missing", f"{paths.run_dir} is too long for unix sockets", hint)
    if room < LONGEST_NAME:
        return Check("sockets", "warning", f"{paths.run_dir}: names up to {room} characters fit", hint)
    return Check("sockets", "ok", str(paths.run_dir))


def _runtime(config: HiveConfig, paths: Paths, environ: Mapping[str, str]) -> Check:
    from hyperhive.lifecycle.runtimes import pick_runtime

    async def look() -> tuple[str, list[str]]:
        base = config.file.nspawn_base
        found = await pick_runtime(config.runtime, paths, environ, owner="doctor", nspawn_base=base)
        try:
            return found.name, [*found.cautions, *(f"{limit} is not enforced" for limit in found.unenforced)]
        finally:
            await found.aclose()

    try:
        name, cautions = anyio.run(look)
    except HiveError as error:
        return Check("runtime", "missing", error.message, error.hint or "")
    return Check("runtime", "warning" if cautions else "ok", name, "; ".join(cautions))


def _agent_cli(environ: Mapping[str, str], state_dir: Path) -> Check:
    try:
        cli = anyio.run(AgentClis(environ, state_dir).find)
    except HiveError as error:
        return Check("agent CLI", "missing", error.message, error.hint or "")
    found = f"{cli.version} ({cli.path})"
    hint = f"{OLDEST} to {TESTED} are tested" if cli.warning else ""
    return Check("agent CLI", "warning" if cli.warning else "ok", found, hint)


def _git(environ: Mapping[str, str]) -> Check:
    found = shutil.which("git", path=environ.get("PATH") or os.defpath)
    if found is None:
        return Check("git", "warning", "not on PATH", "agents need it to commit: install the package git")
    return Check("git", "ok", found)


def _account(session: Session, paths: Paths, environ: Mapping[str, str]) -> Check:
    hint = "hyperhive login stores a key or a token; or log single agents in: hyperhive login NAME"
    try:
        names = [each.name for each in session.ask(r.Account(), timeout=5.0).read(Accounts).accounts]
    except HiveError:
        names = [name for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN") if environ.get(name)]
        names += _account_files(paths.accounts)
    if not names:
        return Check("account", "warning", "none yet", hint)
    return Check("account", "ok", ", ".join(sorted(names)))


def _account_files(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _hive(session: Session) -> Check:
    try:
        status = session.ask(r.Status(), timeout=5.0).read(HiveStatus)
    except HiveUnreachable:
        return Check("hive", "ok", "not running")
    except HiveError as error:
        return Check("hive", "warning", error.message, error.hint or "")
    return Check("hive", "ok", f"running: pid {status.hive.pid}, {len(status.agents)} agents")


def _dashboard(session: Session, config: HiveConfig) -> Check:
    from hyperhive.web.listening import listen

    try:
        status = session.ask(r.Status(), timeout=5.0).read(HiveStatus)
    except HiveError:
        pass
    else:
        where = status.hive.dashboard
        return Check("dashboard", "ok", f"{where}: hyperhive open" if where else "not served by this hive")
    try:
        found = listen(config.host, config.port)
    except HiveError as error:
        return Check("dashboard", "warning", error.message, error.hint or "set `listen` in hive.toml")
    loopback = found.loopback
    for sock in found.sockets:
        sock.close()
    if not loopback:
        hint = "better: ssh -L, or `tailscale serve`; see docs/web-ui.md"
        return Check("dashboard", "warning", f"{found.name}: other machines reach it, by plain HTTP", hint)
    return Check("dashboard", "ok", f"http://{found.name} is free")
