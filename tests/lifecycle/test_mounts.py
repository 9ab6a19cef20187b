"""Mounts: which of the operator's directories an agent may be shown."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from hyperhive.config import MountSetting
from hyperhive.errors import BadConfig, BadRequest
from hyperhive.lifecycle.mounts import ResolvedMount, check_mounts, parse_mount
from hyperhive.paths import Paths


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/code/app").mkdir(parents=True)
    (tmp_path / "home/.ssh").mkdir()
    (tmp_path / "home/.config/tool").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths.of(tmp_path / "hive/state", tmp_path / "hive-run")
    paths.make_hive()
    return paths


def mount(source: Path | str, target: str = "/workspace/x", mode: str = "ro") -> MountSetting:
    return MountSetting(source=str(source), target=target, mode=mode)  # type: ignore[arg-type]


def fault(settings: list[MountSetting], paths: Paths, home: Path) -> str:
    with pytest.raises(BadConfig) as caught:
        check_mounts(settings, paths, home)
    return "\n".join(caught.value.faults)


def test_a_directory_of_work_is_shown_where_it_really_is(paths: Paths, home: Path) -> None:
    link = home / "link"
    link.symlink_to(home / "code")
    assert check_mounts([mount(link / "app", mode="rw")], paths, home) == [
        ResolvedMount(home / "code/app", "/workspace/x", writable=True)
    ]


def test_the_hives_own_directories_are_refused_from_both_sides(paths: Paths, home: Path) -> None:
    for source in (
        paths.state_dir,
        paths.accounts,
        paths.state_dir.parent,
        paths.run_dir,
        paths.run_dir / "agents",
    ):
        assert "hive's own" in fault([mount(source)], paths, home)


def test_home_what_holds_it_and_its_dot_directories_are_refused(paths: Paths, home: Path) -> None:
    assert "home directory" in fault([mount(home)], paths, home)
    for source in (".ssh", ".config", ".config/tool"):
        assert "dot directory" in fault([mount(home / source)], paths, home)
    assert fault([mount("/")], paths, home)


def test_a_symlink_hides_nothing(paths: Paths, home: Path) -> None:
    for number, source in enumerate((paths.state_dir, home, home / ".ssh", Path("/dev"), Path("/etc"))):
        link = home / "code" / f"innocent-{number}"
        link.symlink_to(source)
        assert fault([mount(link)], paths, home)


@pytest.mark.parametrize("source", ["/proc", "/sys/kernel", "/dev/shm", "/etc/ssl", "/run"])
def test_the_machines_own_directories_are_refused(source: str, paths: Paths, home: Path) -> None:
    assert fault([mount(source)], paths, home)


def test_sockets_devices_files_and_nothing_are_refused(paths: Paths, home: Path) -> None:
    (home / "code/file").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "s"))
        assert "socket" in fault([mount(home / "s")], paths, home)
    assert "device" in fault([mount("/dev/null")], paths, home)
    assert "no directory" in fault([mount(home / "code/file")], paths, home)
    assert "cannot be resolved" in fault([mount(home / "code/none")], paths, home)
    assert "no absolute path" in fault([mount("code")], paths, home)
    (home / "loop").symlink_to(home / "loop")
    assert "cannot be resolved" in fault([mount(home / "loop")], paths, home)


@pytest.mark.parametrize(
    "target", ["/workspace", "/workspace/", "/etc", "/workspace/../etc", "/workspace/a/", "workspace/a",
               "/workspacex/a", "/workspace//a", "/workspace/a\0b"]
)  # fmt: skip
def test_a_target_elsewhere_than_under_workspace_is_refused(target: str, paths: Paths, home: Path) -> None:
    assert "target" in fault([mount(home / "code", target)], paths, home)


def test_what_lies_in_a_directory_that_an_agent_can_write_is_refused(paths: Paths, home: Path) -> None:
    """It could be exchanged for a link to anything, even between the look at it and the mount."""
    (home / "code/app/sub").mkdir()
    writable, inside = mount(home / "code/app", "/workspace/a", "rw"), mount(home / "code/app/sub")
    for settings in ([writable, inside], [inside, writable]):
        assert "can write" in fault(settings, paths, home)
    check_mounts([inside], paths, home)
    with pytest.raises(BadConfig, match="can write"):
        check_mounts([inside], paths, home, shared=[home / "code/app"])
    (home / "code/app/sub").rmdir()
    (home / "code/app/sub").symlink_to(home / "code")  # what the agent would do
    with pytest.raises(BadConfig, match="can write"):
        check_mounts([inside], paths, home, shared=[home / "code/app"])


@pytest.mark.parametrize("way", ["link", "link/deeper", "relative", "../home/link", "chain"])
def test_a_way_that_only_leads_through_such_a_directory_is_refused_too(
    way: str, paths: Paths, home: Path
) -> None:
    """The operator's own link into it, whatever the agent has put at its end."""
    (home / "private/deeper").mkdir(parents=True)
    (home / "code/app/sub").symlink_to(home / "private")
    (home / "link").symlink_to(home / "code/app/sub")
    (home / "relative").symlink_to("code/./app/../app/sub")
    (home / "chain").symlink_to("link")
    assert (home / way).resolve().is_relative_to(home / "private")
    check_mounts([mount(home / way)], paths, home)
    with pytest.raises(BadConfig, match="can write"):
        check_mounts([mount(home / way)], paths, home, shared=[home / "code/app"])


def test_two_agents_may_share_a_directory(paths: Paths, home: Path) -> None:
    for mode in ("ro", "rw"):
        check_mounts([mount(home / "code/app", mode=mode)], paths, home, shared=[home / "code/app"])
    check_mounts([mount(home / "code")], paths, home, shared=[home / "code/app"])
    check_mounts([mount(home / "code/app")], paths, home, shared=[home / "code/ap", home / "none"])


def test_every_home_of_the_machine_is_as_private_as_the_hives_own(
    paths: Paths, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hive that runs as a service of its own user shows nobody's keys either; ordinary directories it does."""
    users = tmp_path / "users"
    (users / "op/.ssh").mkdir(parents=True)
    (users / "op/code/.git").mkdir(parents=True)
    (users / "link").symlink_to(users / "op")
    known = [(*pwd.getpwuid(os.geteuid())[:5], place, "/bin/sh") for place in
             ("/", "", "relative", str(users / "none"), str(users / "link"))]  # fmt: skip
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.struct_passwd(one) for one in known])
    assert "dot directory" in fault([mount(users / "op/.ssh")], paths, home)
    for place in ("op", "link", "."):
        assert "home directory" in fault([mount(users / place)], paths, home)
    check_mounts([mount(users / "op/code"), mount(users / "op/code/.git", "/workspace/y")], paths, home)


def test_targets_do_not_overlap(paths: Paths, home: Path) -> None:
    for first, second in (("a", "a"), ("a", "a/b"), ("a/b", "a")):
        settings = [mount(home / "code", f"/workspace/{first}"), mount(home / "code", f"/workspace/{second}")]
        assert "overlaps" in fault(settings, paths, home)
    check_mounts([mount(home / "code", "/workspace/a"), mount(home / "code", "/workspace/ab")], paths, home)


def test_every_fault_is_told_at_once(paths: Paths, home: Path) -> None:
    told = fault(
        [mount(home), mount("/proc", "/workspace/y"), mount(home / "code", "/workspace/z")], paths, home
    )
    assert len(told.splitlines()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory of somebody else's")
def test_what_could_not_be_written_in_the_box_is_not_mounted_to_write(paths: Paths, home: Path) -> None:
    os.chown(home / "code", 65534, 65534)
    assert "uid 65534" in fault([mount(home / "code", mode="rw")], paths, home)
    check_mounts([mount(home / "code")], paths, home)
    (home / "code").chmod(0o777)
    check_mounts([mount(home / "code", mode="rw")], paths, home)


def test_the_command_line_says_dir_and_mode(tmp_path: Path) -> None:
    assert parse_mount("/srv/app", tmp_path) == mount("/srv/app", "/workspace/app")
    assert parse_mount("/srv/app:rw", tmp_path) == mount("/srv/app", "/workspace/app", "rw")
    assert parse_mount("/srv/app:ro", tmp_path) == mount("/srv/app", "/workspace/app")
    assert parse_mount("app:rw", tmp_path) == mount(tmp_path / "app", "/workspace/app", "rw")
    assert parse_mount("../x", tmp_path / "y") == mount(tmp_path / "x", "/workspace/x")
    assert parse_mount("/srv/od:d", tmp_path) == mount("/srv/od:d", "/workspace/od:d")
    for text in ("", ":rw", "/", "/:rw"):
        with pytest.raises(BadRequest):
            parse_mount(text, tmp_path)
