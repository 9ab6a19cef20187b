"""The systemd service: its unit file, and the clear word where there is no systemd."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from console import Console
from hyperhive.cli.service import unit_text


def unit(**changes: object) -> str:
    given = {
        "program": ["/usr/bin/python3", "-m", "hyperhive.cli"],
        "environ": {"PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "sk-ant-dummy", "HOME": "/home/me"},
        "system": False,
        "state_dir": Path("/home/me/.local/state/hyperhive"),
        "runtime": None,
    }
    return unit_text(**{**given, **changes})  # type: ignore[arg-type]


def test_stopping_waits_for_running_turns_and_asks_the_hive_alone() -> None:
    lines = unit().splitlines()
    assert "KillMode=mixed" in lines
    assert "TimeoutStopSec=960" in lines
    assert "Restart=on-failure" in lines
    assert "Delegate=yes" in lines


def test_no_secret_of_the_environment_is_written_into_the_unit() -> None:
    text = unit()
    assert "sk-ant" not in text
    assert "Environment=PATH=/usr/bin:/bin" in text.splitlines()


def test_odd_paths_are_quoted_for_systemd() -> None:
    text = unit(program=["/opt/my python/100%/$bin/python3"], state_dir=Path('/srv/a "b"'))
    [start] = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert '"/opt/my python/100%%/$$bin/python3"' in start
    assert '--state-dir "/srv/a \\"b\\""' in start


def test_the_machines_service_has_its_state_from_systemd() -> None:
    lines = unit(system=True, state_dir=None).splitlines()
    assert "StateDirectory=hyperhive" in lines
    assert "WantedBy=multi-user.target" in lines
    assert not [line for line in lines if "--state-dir" in line]


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, console: Console) -> None:
    made = console.run("service", "install", "--print")
    assert made.code == 0, made.err
    file = tmp_path / "hyperhive.service"
    file.write_text(made.out)
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.read(file)
    assert parsed.sections() == ["Unit", "Service", "Install"]
    assert parsed["Service"]["ExecStart"].startswith("/")
    if shutil.which("systemd-analyze") is None:
        return  # it is a second opinion: not worth installing an init system for
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(file)], capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize("action", ["install", "remove"])
def test_without_systemd_the_command_says_so_and_changes_nothing(console: Console, action: str) -> None:
    console.env["PATH"] = str(console.home)  # no systemctl there, whatever runs this machine
    done = console.run("service", action, "--json")
    assert (done.code, done.json["code"]) == (1, "missing_part")
    assert "systemd does not run this machine" in done.json["error"]
    assert not (console.home / ".config").exists()
