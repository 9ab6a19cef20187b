"""The command `service`: a systemd unit that runs `hyperhive serve`, for this user or for the machine.

It writes one file and asks systemctl to use it. Removing leaves all state where it is, and says so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from hyperhive.cli.common import DEFAULTS, Common, Session
from hyperhive.errors import HiveError, MissingPart, NotFound
from hyperhive.terminal import visible

Flag = Annotated[bool, Parameter(negative="")]

UNIT: Final = "hyperhive.service"
BOOTED: Final = Path("/run/systemd/system")
STOP_SECONDS: Final = 960
"""How long systemd waits for running turns: the hive's own limit of 900 seconds, and a minute to spare."""

_HANDED_ON: Final = (
    "PATH",
    "HYPERHIVE_CLAUDE",
    "HYPERHIVE_CONFIG",
    "HYPERHIVE_RUNTIME",
    "HIVE_OPERATOR_PRONOUNS",
)


def service(
    action: Literal["install", "remove"],
    /,
    *,
    system: Flag = False,
    print_only: Annotated[bool, Parameter(name="--print", negative="")] = False,
    runtime: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Install the hive as a systemd service and start it, or stop and remove it.

    Args:
        action: install or remove.
        system: a service of the machine (as root) rather than of this user.
        print_only: print the unit file; change nothing.
        runtime: what agents live in (else hive.toml, else auto).
        common: flags of every command.
    """
    session = Session(common)
    path = unit_path(session.environ, system=system)
    if print_only:
        text = _unit(session, system=system, runtime=runtime)
        return session.say({"path": str(path), "unit": text}, text.rstrip("\n"))
    _check_systemd(session.environ, system=system)
    if action == "remove":
        return _remove(session, path, system=system)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_unit(session, system=system, runtime=runtime))
    _systemctl("daemon-reload", system=system)
    _systemctl("enable", "--now", UNIT, system=system)
    text = f"{path} is installed and started; its log: journalctl {'' if system else '--user '}-u {UNIT}"
    if not system:
        session.screen.note("to keep it running while you are logged out: loginctl enable-linger")
    return session.say({"path": str(path), "unit": UNIT}, visible(text))


def unit_path(environ: Mapping[str, str], *, system: bool) -> Path:
    """Where the unit file is put."""
    if system:
        return Path("/etc/systemd/system") / UNIT
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".config")
    return Path(base) / "systemd" / "user" / UNIT


def unit_text(
    *,
    program: list[str],
    environ: Mapping[str, str],
    system: bool,
    state_dir: Path | None,
    runtime: str | None,
) -> str:
    """The unit file. `program` is what starts the command line; of `environ` only what the hive needs goes in."""
    arguments = [*map(_escape, program), "serve", "--run-dir", "%t/hyperhive"]
    if state_dir is not None:
        arguments += ["--state-dir", _escape(str(state_dir))]
    if runtime is not None:
        arguments += ["--runtime", _escape(runtime)]
    words = " ".join(_quoted(word).replace("$", "$$") for word in arguments)
    handed_on = [
        f"Environment={_quoted(_escape(f'{name}={environ[name]}'))}"
        for name in _HANDED_ON
        if environ.get(name)
    ]
    return "\n".join(
        [
            "[Unit]",
            "Description=HyperHive: a hive of coding agents",
            "Wants=network-online.target",
            "After=network-online.target",
            "StartLimitIntervalSec=300",
            "StartLimitBurst=10",
            "",
            "[Service]",
            f"ExecStart={words}",
            *handed_on,
            *(
                ["StateDirectory=hyperhive", "StateDirectoryMode=0700"]
                if system and state_dir is None
                else []
            ),
            "RuntimeDirectory=hyperhive",
            "RuntimeDirectoryMode=0700",
            "UMask=0077",
            "# Running turns end first. Only the hive is asked to: it ends its agents itself.",
            f"TimeoutStopSec={STOP_SECONDS}",
            "KillMode=mixed",
            "Restart=on-failure",
            "RestartSec=2",
            "# The hive makes a control group for each agent, which holds its limits.",
            "Delegate=yes",
            "LimitCORE=0",
            "",
            "[Install]",
            f"WantedBy={'multi-user.target' if system else 'default.target'}",
            "",
        ]
    )


def _unit(session: Session, *, system: bool, runtime: str | None) -> str:
    named = session.common.state_dir is not None or "HYPERHIVE_STATE_DIR" in session.environ
    return unit_text(
        program=[sys.executable, "-m", "hyperhive.cli"],
        environ=session.environ,
        system=system,
        state_dir=None if system and not named else session.state_dir(),
        runtime=runtime,
    )


def _remove(session: Session, path: Path, *, system: bool) -> int:
    if not path.exists():
        raise NotFound(f"there is no {path}", hint="a service of the machine is removed with --system")
    session.screen.note("stopping: running turns end first")
    _systemctl("disable", "--now", UNIT, system=system)
    path.unlink()
    _systemctl("daemon-reload", system=system)
    state = "/var/lib/hyperhive" if system and session.common.state_dir is None else session.state_dir()
    return session.say(
        {"path": str(path)}, visible(f"{path} is removed; what the hive keeps stays in {state}")
    )


def _check_systemd(environ: Mapping[str, str], *, system: bool) -> None:
    if shutil.which("systemctl", path=environ.get("PATH") or os.defpath) is None or not BOOTED.is_dir():
        raise MissingPart(
            "systemd does not run this machine",
            hint="start `hyperhive serve` by what does; `hyperhive service install --print` shows how systemd would",
        )
    if system and os.geteuid() != 0:
        raise MissingPart(
            "a service of the machine is installed as root", hint="leave --system out, or use sudo"
        )
    if not system and not environ.get("XDG_RUNTIME_DIR"):
        raise MissingPart(
            "this user has no systemd of its own (XDG_RUNTIME_DIR is not set)",
            hint="log in as that user, or install with --system as root",
        )


def _systemctl(*words: str, system: bool) -> None:
    argv = ["systemctl", *([] if system else ["--user"]), *words]
    # Stopping waits for running turns, so there is no limit shorter than the unit's own.
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=STOP_SECONDS + 60)
    if done.returncode != 0:
        raise HiveError(
            f"`{' '.join(argv)}` failed: {done.stderr.strip() or f'exit code {done.returncode}'}",
            hint=f"systemctl {'' if system else '--user '}status {UNIT}",
        )


def _escape(text: str) -> str:
    """What `systemd` would take for a specifier is no part of somebody's path."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"' if any(char.isspace() or char in "\"'\\;" for char in text) else text
