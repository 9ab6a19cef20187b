"""`doctor`: what is missing is named with the way to get it; what is there is no complaint."""

from pathlib import Path
from typing import Any

import pytest

from console import Console
from hyperhive.testing.turns import install_scripted_cli
from parts import NSPAWN_BASE


def checks(console: Console, *words: str) -> dict[str, dict[str, Any]]:
    done = console.run("doctor", "--json", *words, timeout=60)
    assert done.err == ""
    found = {check["name"]: check for check in done.json["checks"]}
    missing = [check for check in found.values() if check["verdict"] == "missing"]
    assert (done.code, done.json["ok"]) == ((1, False) if missing else (0, True))
    return found


def test_on_a_bare_machine_what_is_missing_is_named_with_the_way_to_get_it(
    console: Console, tmp_path: Path
) -> None:
    console.env["PATH"] = str(tmp_path)
    found = checks(console)
    assert (found["python"]["verdict"], found["state"]["verdict"]) == ("ok", "ok")
    assert found["runtime"]["verdict"] == found["agent CLI"]["verdict"] == "missing"
    assert "bubblewrap" in found["runtime"]["found"] + found["runtime"]["hint"]
    assert "doctor --install-cli" in found["agent CLI"]["hint"]
    assert found["git"]["verdict"] == found["account"]["verdict"] == "warning"
    assert list(console.home.iterdir()) == [], "looking changes nothing"
    assert "hyperhive login" in console.run("doctor").out


def test_a_machine_that_has_everything_is_told_so(console: Console, tmp_path: Path) -> None:
    console.env |= {
        "HYPERHIVE_CLAUDE": str(install_scripted_cli(tmp_path / "claude")), "HYPERHIVE_RUNTIME": "process",
        "ANTHROPIC_API_KEY": "dummy",
    }  # fmt: skip
    console.env["HYPERHIVE_RUN_DIR"] = "/tmp/hh-short"
    found = checks(console)
    assert found["account"]["found"] == "ANTHROPIC_API_KEY"
    assert found["runtime"]["verdict"] == "warning"
    assert "in no box" in found["runtime"]["hint"]
    assert "a hive can run here" in console.run("doctor", timeout=60).out


@pytest.mark.needs("root")
def test_a_base_is_made_where_the_hive_looks_for_it_and_stays(console: Console, tmp_path: Path) -> None:
    """In the state directory, or where the setting says; a second time nothing is made."""
    tool = tmp_path / "bin" / "mmdebstrap"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\nfor it; do case $it in */base.new) mkdir -p "$it/usr/bin" "$it/etc"\n'
        f'echo >"$it/usr/bin/python3"; echo made >>{tmp_path}/log;; esac; done\n'
    )
    tool.chmod(0o755)
    console.env |= {"PATH": f"{tool.parent}:/usr/bin:/bin", "HYPERHIVE_STATE_DIR": str(tmp_path / "state")}
    for _ in range(2):
        said = console.run("doctor", "--make-base", "--runtime", "process", timeout=60).err
        assert f"the base is at {tmp_path}/state/nspawn/base" in said
    assert (tmp_path / "state/nspawn/base/etc/hosts").exists()
    assert (tmp_path / "log").read_text() == "made\n"
    config = tmp_path / "hive.toml"
    config.write_text(f'nspawn_base = "{tmp_path}/other/base"\n')
    console.env["HYPERHIVE_CONFIG"] = str(config)
    console.run("doctor", "--make-base", "--runtime", "process", timeout=60)
    assert (tmp_path / "other/base/usr/bin/python3").exists()


@pytest.mark.needs("nspawn")
def test_the_runtime_nspawn_is_tried_out(console: Console, tmp_path: Path) -> None:
    """With a base a container is made; without one it says how to get one."""
    console.env |= {"HYPERHIVE_RUNTIME": "nspawn", "HYPERHIVE_STATE_DIR": str(tmp_path / "state")}
    missing = checks(console)["runtime"]
    assert (missing["verdict"], "doctor --make-base" in missing["hint"]) == ("missing", True)
    console.env["HYPERHIVE_NSPAWN_BASE"] = str(NSPAWN_BASE)
    found = checks(console)["runtime"]
    assert (found["found"], found["verdict"]) == ("nspawn", "warning")
    assert found["hint"].endswith("disk is not enforced")


def test_a_state_directory_that_others_can_enter_is_a_warning(console: Console, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    found = checks(console, "--state-dir", str(tmp_path / "state"))
    assert found["state"]["verdict"] == "warning"
    assert found["state"]["hint"] == f"chmod 700 {tmp_path / 'state'}"


def test_a_path_that_is_too_long_for_sockets_is_found_before_a_hive_is(
    console: Console, tmp_path: Path
) -> None:
    assert checks(console, "--run-dir", str(tmp_path / ("x" * 100)))["sockets"]["verdict"] == "missing"
    room = 107 - len("/harness//harness.sock") - 20
    found = checks(console, "--run-dir", "/tmp/" + "x" * (room - 5))["sockets"]
    assert (found["verdict"], "up to 20 characters" in found["found"]) == ("warning", True)


def test_a_wrong_configuration_is_shown_with_every_fault(console: Console, tmp_path: Path) -> None:
    (tmp_path / "hive.toml").write_text("nonsense = 1\nmax_turns = -2\n")
    console.env["HYPERHIVE_CONFIG"] = str(tmp_path / "hive.toml")
    found = checks(console)["configuration"]
    assert found["verdict"] == "missing"
    assert "nonsense" in found["found"]
    assert "max_turns" in found["found"]
