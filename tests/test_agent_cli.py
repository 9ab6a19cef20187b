"""Claims about the agent CLI: which one is taken, which are refused, and what installing leaves behind."""

import os
from pathlib import Path

import anyio
import pytest

from hyperhive.agent_cli import OLDEST, TESTED, AgentClis
from hyperhive.errors import BadRequest, MissingPart
from parts import CLEAN_ENV


def program(path: Path, says: str, *, calls: Path | None = None, status: int = 0) -> Path:
    """A program that answers --version; with `calls`, each call leaves a line there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = f"echo call >> '{calls}'\n" if calls else ""
    path.write_text(f"#!/bin/sh\n{count}echo '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


async def test_the_variable_goes_before_the_installed_one_and_that_before_path(tmp_path: Path) -> None:
    given = program(tmp_path / "given" / "claude", "2.1.201 (Claude Code)")
    program(tmp_path / "state" / "cli" / "2.1.202" / "claude", "2.1.202 (Claude Code)")
    program(tmp_path / "bin" / "claude", "2.1.203 (Claude Code)")
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    all_three = AgentClis({"HYPERHIVE_CLAUDE": str(given), "PATH": path}, tmp_path / "state")
    assert (await all_three.find()).version == "2.1.201"
    assert (await AgentClis({"PATH": path}, tmp_path / "state").find()).version == "2.1.202"
    assert (await AgentClis({"PATH": path}, tmp_path / "elsewhere").find()).version == "2.1.203"
    assert (await AgentClis({"PATH": path}, None).find()).version == "2.1.203"


async def test_without_any_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="--install-cli"):
        await AgentClis({"PATH": str(tmp_path)}, tmp_path).find()


@pytest.mark.parametrize("version", ["2.1.199", "2.0.76", "1.99.999"])
async def test_an_older_one_is_refused_with_the_way_to_a_newer(tmp_path: Path, version: str) -> None:
    old = program(tmp_path / "claude", f"{version} (Claude Code)")
    with pytest.raises(MissingPart, match=f"{version}.*{OLDEST}.*--install-cli"):
        await AgentClis({"HYPERHIVE_CLAUDE": str(old)}, None).find()


async def test_the_oldest_and_the_tested_serve_silently_and_a_newer_one_warns(tmp_path: Path) -> None:
    for version, warns in ((OLDEST, False), (TESTED, False), ("2.1.329", True), ("3.0.0", True)):
        path = program(tmp_path / version / "claude", f"{version} (Claude Code)")
        cli = await AgentClis({"HYPERHIVE_CLAUDE": str(path)}, None).find()
        assert (cli.version, cli.warning is not None) == (version, warns)


@pytest.mark.parametrize(("says", "status"), [("hello", 0), ("", 0), ("2.1.328 (Claude Code)", 3)])
async def test_a_program_that_is_no_agent_cli_is_refused(tmp_path: Path, says: str, status: int) -> None:
    path = program(tmp_path / "claude", says, status=status)
    with pytest.raises(MissingPart, match="does not tell its version"):
        await AgentClis({"HYPERHIVE_CLAUDE": str(path)}, None).find()


async def test_a_file_that_cannot_run_or_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "claude").write_text("no program")
    for path in (tmp_path / "claude", tmp_path / "missing"):
        with pytest.raises(MissingPart, match="HYPERHIVE_CLAUDE"):
            await AgentClis({"HYPERHIVE_CLAUDE": str(path)}, None).find()


async def test_the_version_is_asked_once_for_one_file_and_again_for_another(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    path = program(tmp_path / "claude", "2.1.328 (Claude Code)", calls=calls)
    clis = AgentClis({"HYPERHIVE_CLAUDE": str(path)}, None)
    await clis.find()
    await clis.find()
    assert calls.read_text().count("call") == 1
    path.unlink()
    with pytest.raises(MissingPart):
        await clis.find()
    program(path, "2.1.327 (Claude Code)", calls=calls)
    assert (await clis.find()).version == "2.1.327"
    clis.refresh()
    await clis.find()
    assert calls.read_text().count("call") == 3


async def test_one_that_another_process_installs_serves_from_the_next_look_on(tmp_path: Path) -> None:
    program(tmp_path / "cli" / "2.1.300" / "claude", "2.1.300 (Claude Code)")
    clis = AgentClis({}, tmp_path)
    assert (await clis.find()).version == "2.1.300"
    program(tmp_path / "cli" / "2.1.328" / "claude", "2.1.328 (Claude Code)")
    assert (await clis.find()).version == "2.1.328"


async def test_the_newest_installed_serves_until_another_is_chosen(tmp_path: Path) -> None:
    for version in ("2.1.328", "2.1.1000", "2.1.300"):
        program(tmp_path / "cli" / version / "claude", f"{version} (Claude Code)")
    (tmp_path / "cli" / "2.1.2000").mkdir()  # half an installation: no program in it
    clis = AgentClis({}, tmp_path)
    assert await clis.installed() == ["2.1.1000", "2.1.328", "2.1.300"]
    assert (await clis.find()).version == "2.1.1000"
    await clis.use("2.1.300")
    assert (await clis.find()).version == "2.1.300"
    assert (await AgentClis({}, tmp_path).find()).version == "2.1.300"


async def test_what_is_superseded_is_removed_but_for_the_way_back(tmp_path: Path) -> None:
    installed = ["2.1.201", "2.1.202", "2.1.203", "2.1.204", TESTED]
    for age, version in enumerate(installed):
        path = program(tmp_path / "cli" / version / "claude", f"{version} (Claude Code)")
        os.utime(path.parent, (age, age))
    for left in (".install-old", ".install-new"):
        (tmp_path / "cli" / left).mkdir()
    os.utime(tmp_path / "cli/.install-old", (0, 0))
    clis = AgentClis({"PATH": "/usr/bin:/bin"}, tmp_path)
    await clis.use("2.1.202")
    os.utime(tmp_path / "cli/2.1.203", (9, 9))
    assert await clis.prune() == ["2.1.201", "2.1.204"]
    assert await clis.installed() == [TESTED, "2.1.203", "2.1.202"]
    assert (await clis.find()).version == "2.1.202"
    assert sorted(path.name for path in (tmp_path / "cli").glob(".i*")) == [".install-new"]
    assert await clis.prune() == []
    assert await AgentClis({}, tmp_path / "nothing").prune() == []


async def test_one_that_does_not_run_is_not_chosen(tmp_path: Path) -> None:
    program(tmp_path / "cli" / "2.1.328" / "claude", "2.1.328 (Claude Code)")
    program(tmp_path / "cli" / "2.1.300" / "claude", "broken", status=1)
    clis = AgentClis({}, tmp_path)
    with pytest.raises(MissingPart):
        await clis.use("2.1.300")
    with pytest.raises(BadRequest):
        await clis.use("2.1.299")
    assert (await clis.find()).version == "2.1.328"


def fake_npm(tmp_path: Path, body: str) -> str:
    """An npm that runs `body` with $prefix and $version set; gives the PATH that finds it."""
    script = "for a; do case $p in --prefix) prefix=$a;; esac; p=$a; version=${a##*@}; done\n"
    program(tmp_path / "npm-bin" / "npm", "").write_text(f"#!/bin/sh\n{script}{body}\n")
    return f"{tmp_path}/npm-bin:/usr/bin:/bin"


NATIVE = 'd="$prefix/node_modules/@anthropic-ai/claude-code-linux-x64"; mkdir -p "$d"\n'


async def test_a_failed_installation_leaves_nothing_and_the_old_one_serves(tmp_path: Path) -> None:
    program(tmp_path / "cli" / "2.1.300" / "claude", "2.1.300 (Claude Code)")
    for body, message in (
        ("echo 'npm error 404' >&2; exit 1", "npm error 404"),
        (NATIVE + 'echo "#!/bin/sh" > "$d/claude"', "no program of the agent CLI for this platform"),
    ):
        clis = AgentClis({"PATH": fake_npm(tmp_path, body)}, tmp_path)
        with pytest.raises(MissingPart, match=message):
            await clis.install("2.1.328")
        assert sorted(path.name for path in (tmp_path / "cli").iterdir()) == ["2.1.300"]
        assert (await clis.find()).version == "2.1.300"


async def test_npm_sees_no_key_and_the_variables_of_its_operator(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    environ = {
        "PATH": fake_npm(tmp_path, f"env > '{seen}'; exit 1"),
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "ANTHROPIC_API_KEY": "canary",
        "CLAUDE_CODE_OAUTH_TOKEN": "canary",
    }
    with pytest.raises(MissingPart):
        await AgentClis(environ, tmp_path).install()
    assert "HTTPS_PROXY" in seen.read_text()
    assert "canary" not in seen.read_text()


async def test_without_npm_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="npm"):
        await AgentClis({"PATH": str(tmp_path)}, tmp_path).install()
    with pytest.raises(BadRequest):
        await AgentClis({}, tmp_path).install("latest; rm -rf /")


@pytest.mark.needs("claude")
async def test_installing_puts_the_native_program_in_place_and_keeps_the_old_version(
    tmp_path: Path, claude_cli: Path
) -> None:
    program(tmp_path / "cli" / "2.1.300" / "claude", "2.1.300 (Claude Code)")
    body = NATIVE + f"cp --reflink=auto -L '{claude_cli}' \"$d/claude\""
    clis = AgentClis({"PATH": fake_npm(tmp_path, body)}, tmp_path)
    assert (await clis.find()).version == "2.1.300"
    cli = await clis.install()
    assert cli.path == tmp_path / "cli" / TESTED / "claude"
    assert (await clis.find()).version == TESTED
    assert os.access(cli.path, os.X_OK)
    assert sorted(path.name for path in (tmp_path / "cli").iterdir()) == ["2.1.300", TESTED, "current"]
    await clis.install()  # again, over itself
    assert (await clis.use("2.1.300")).version == "2.1.300"


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.needs("npm")
async def test_the_tested_version_comes_from_npm_and_runs(tmp_path: Path) -> None:
    cli = await AgentClis(dict(os.environ), tmp_path).install()
    done = await anyio.run_process([cli.path, "--version"], env=CLEAN_ENV)
    assert done.stdout.startswith(TESTED.encode())
