"""Attacks G1, G2, G5: a proposed repo that would make git run its programs, read what it should not, or forge."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from config_repos import ALICE, PATH, Desk, boxed_repos, paths_at, plain_repos, shell_git
from hyperhive.errors import HiveError, NotFound, WorldError
from hyperhive.lifecycle.repos import Repos, reader
from hyperhive.lifecycle.runtimes.launch import Plan, launch
from hyperhive.paths import Paths
from hyperhive.ports import ChildProcess
from trap_repo import arm

pytestmark = pytest.mark.needs("git")
ATTRIBUTES = (
    "* filter=trap diff=trap merge=trap -diff export-subst ident eol=crlf working-tree-encoding=UTF-16\n"
)
EVERYWHERE = [
    pytest.param("plain"),
    pytest.param("bwrap", marks=pytest.mark.needs("bwrap")),
    pytest.param("nspawn", marks=pytest.mark.needs("nspawn")),
]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_at(tmp_path)


@pytest.fixture
async def repos(paths: Paths, request: pytest.FixtureRequest) -> AsyncIterator[Repos]:
    where = getattr(request, "param", "plain")
    if where == "plain":
        yield plain_repos(paths)
        return
    made, runtime = await boxed_repos(paths, where)
    yield made
    await runtime.aclose()


@pytest.fixture
async def desk(paths: Paths, repos: Repos) -> Desk:
    await repos.ensure(ALICE)
    return Desk(paths.proposed_config(ALICE))


def attributes() -> str:
    return (
        "* filter=trap diff=trap merge=trap -diff export-subst ident eol=crlf working-tree-encoding=UTF-16\n"
    )


@pytest.mark.parametrize("repos", EVERYWHERE, indirect=True)
async def test_no_program_of_a_trap_repo_ever_runs(repos: Repos, desk: Desk, tmp_path: Path) -> None:
    base = await repos.main(ALICE)
    desk.commit({"agent.toml": "model = 'x'\n", "b/c.nix": "{}\n"})
    sha = desk.sneak(".gitattributes", ATTRIBUTES)
    trap = arm(desk, tmp_path / "outside")
    await repos.ensure(ALICE)
    proposed = await repos.propose(ALICE, sha[:9], 1)
    shown = await repos.diff(ALICE, base, sha)
    assert "+model = 'x'" in shown.text
    await repos.tag(ALICE, "approved/1", sha)
    await repos.tag(ALICE, "failed/1", sha, "no")
    await repos.advance_main(ALICE, proposed.base_sha, sha)
    assert await repos.read(ALICE, sha, "b/c.nix", 100) == b"{}\n"
    await repos.rollback_commit(ALICE, base, sha, "back")
    assert trap.disarmed(), trap.sprung.read_text()
    (desk.repo / ".git").rename(tmp_path / "kept")
    await repos.ensure(ALICE)  # checks out what a hostile .gitattributes is part of
    assert (desk.repo / "agent.toml").read_bytes() == b"model = 'x'\n"
    await repos.purge(ALICE)
    assert trap.disarmed(), trap.sprung.read_text()


async def test_the_trap_is_armed(desk: Desk, tmp_path: Path) -> None:
    """What the test above relies on: plain git in that repo does run them."""
    desk.commit({"agent.toml": "x"})
    trap = arm(desk, tmp_path / "outside")
    done = await anyio.run_process(["git", "status"], cwd=desk.repo, env={"PATH": PATH}, check=False)
    assert not trap.disarmed(), done
    assert "trap" in trap.sprung.read_text()


@pytest.mark.parametrize("repos", EVERYWHERE, indirect=True)
async def test_a_repo_that_promises_objects_makes_nobody_fetch_them(
    repos: Repos, desk: Desk, tmp_path: Path
) -> None:
    """A partial clone whose missing objects would come from an address that runs a program."""
    sha = desk.commit({"agent.toml": "model = 'x'\n"})
    outside = tmp_path / "outside"
    trap = arm(desk, outside)
    blob = desk.git("rev-parse", "HEAD:agent.toml", env={"GIT_CONFIG_COUNT": "0"})
    (desk.repo / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with (desk.repo / ".git/config").open("a") as config:
        config.write(
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = origin\n"
            f'[remote "origin"]\n\turl = ext::{trap.program}\n\tpromisor = true\n\tpartialclonefilter = blob:none\n'
        )
    trap.sprung.unlink(missing_ok=True)
    with pytest.raises(WorldError):
        await repos.propose(ALICE, sha, 1)
    assert trap.disarmed(), trap.sprung.read_text()
    assert list(await repos.tags(ALICE)) == ["deployed/0"]


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("repos", ["boxed"], indirect=True)
async def test_a_git_that_was_taken_over_can_do_nothing_from_its_box(
    repos: Repos, paths: Paths, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the repo's bytes had won: its own program in the place of upload-pack."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    canary = tmp_path / "outside"
    canary.mkdir()
    (canary / "secret").write_text("canary")
    places = "/repo/x /tmp/x /dev/shm/x /dev/x /x /usr/x /etc/x /home/x"
    shown = "/sys /run /home /root /var/lib /state /claude /agents /applied /workspace /proc/self /etc/shadow"
    (desk.repo / "evil.sh").write_text(
        "exec 3>&2 2>/dev/null\n"
        f"cat {canary}/secret {paths.applied}/alice/HEAD >&3\n"
        f"for f in {canary}/sprung {places}; do (echo x > $f) && echo WROTE $f >&3; done\n"
        f"for f in {shown}; do test -e $f && echo SEES $f >&3; done\n"
        f"(exec 4<>/dev/tcp/127.0.0.1/{port}) && echo NET >&3\n"
        "unshare -U true && echo NAMESPACE >&3\n"
        "test -r /repo/agent.toml && echo RAN as $(id -u) >&3\n"
    )
    monkeypatch.setattr(
        reader, "upload_pack", lambda *_: (["/bin/bash", "/repo/evil.sh"], {"PATH": "/usr/bin:/bin"})
    )
    with pytest.raises(WorldError) as refused:
        await repos.propose(ALICE, "1234567", 1)
    said = str(refused.value)
    assert "(RAN as 1000)" in said  # and nothing else
    assert [place.name for place in canary.iterdir()] == ["secret"]
    assert not (desk.repo / "x").exists()
    server.close()


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("repos", ["boxed"], indirect=True)
async def test_objects_of_elsewhere_cannot_be_borrowed(repos: Repos, desk: Desk, tmp_path: Path) -> None:
    """Alternates would hand another repo's objects out; in the box there is no other repo."""
    (tmp_path / "private").mkdir()
    shell_git(tmp_path / "private", "init", "-q", "-b", "main")
    secret = Desk(tmp_path / "private").commit({"secret": "canary"})
    (desk.repo / ".git/objects/info").mkdir(exist_ok=True)
    (desk.repo / ".git/objects/info/alternates").write_text(f"{tmp_path}/private/.git/objects\n")
    (desk.repo / ".git/refs/heads/stolen").write_text(f"{secret}\n")
    with pytest.raises(HiveError):
        await repos.propose(ALICE, secret, 1)
    assert list(await repos.tags(ALICE)) == ["deployed/0"]


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("repos", ["boxed"], indirect=True)
async def test_a_link_put_in_a_repos_place_just_before_it_is_bound_leads_nowhere(
    repos: Repos, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a manager could that may write above it: what the box shows is the directory that was looked at."""
    mine = desk.commit({"agent.toml": "model = 'x'\n"})
    (tmp_path / "private").mkdir()
    shell_git(tmp_path / "private", "init", "-q", "-b", "main")
    Desk(tmp_path / "private").commit({"secret": "canary"})
    place, swapped = anyio.Path(desk.repo), []

    async def swap_and_launch(plan: Plan) -> ChildProcess:
        aside = await place.rename(tmp_path / "aside")
        await place.symlink_to(tmp_path / "private")
        try:
            return await launch(plan)  # returns when the box is there
        finally:
            await place.unlink()
            swapped.append(await aside.rename(desk.repo))

    monkeypatch.setattr(reader, "launch", swap_and_launch)
    await repos.propose(ALICE, mine, 1)
    assert len(swapped) == 2, "its branches are listed, and then fetched"


async def test_replaced_and_grafted_history_is_not_believed(repos: Repos, desk: Desk) -> None:
    base = await repos.main(ALICE)
    desk.git("checkout", "--quiet", "--orphan", "other")
    orphan = desk.commit({"a": "1"})
    desk.git("replace", "--graft", orphan, base)
    (desk.repo / ".git/info").mkdir(exist_ok=True)
    (desk.repo / ".git/info/grafts").write_text(f"{orphan} {base}\n")
    with pytest.raises(HiveError) as refused:
        await repos.propose(ALICE, orphan, 1)
    assert refused.value.code == "stale_base"
    good = desk.git("rev-parse", "main")
    evil = desk.commit({"b": "evil"})
    desk.git("checkout", "--quiet", "main")
    shown = desk.commit({"b": "good"})
    desk.git("replace", shown, evil)
    await repos.propose(ALICE, shown, 2)
    assert await repos.read(ALICE, shown, "b", 10) == b"good"
    assert await repos.descends(ALICE, good, shown)


async def test_forged_objects_are_refused(repos: Repos, paths: Paths, desk: Desk) -> None:
    head, tree = desk.git("rev-parse", "HEAD"), desk.git("rev-parse", "HEAD^{tree}")
    forged = (
        f"tree {tree}\nparent {head}\nauthor m <m@x> 1 +0000\ncommitter nobody\n\nx\n",
        f"tree {tree}\nparent {head}\nauthor m <m@x> 99999999999999999999 +0000\ncommitter m <m@x> 1 +0000\n\nx\n",
        f"tree {'1' * 40}\nparent {head}\nauthor m <m@x> 1 +0000\ncommitter m <m@x> 1 +0000\n\nx\n",
    )
    before = sorted(str(place) for place in paths.applied.rglob("*"))
    for number, text in enumerate(forged, 1):
        commit = desk.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=text.encode())
        (desk.repo / ".git/refs/heads/main").write_text(f"{commit}\n")
        with pytest.raises(WorldError):
            await repos.propose(ALICE, commit, number)
    assert sorted(str(place) for place in paths.applied.rglob("*")) == before


async def test_a_repo_that_is_none_is_named(repos: Repos, desk: Desk, tmp_path: Path) -> None:
    git = desk.repo / ".git"
    git.rename(tmp_path / "kept")
    with pytest.raises(NotFound):
        await repos.propose(ALICE, "1234567", 1)
    for make in (lambda: git.write_text("gitdir: /etc\n"), lambda: git.symlink_to("/etc")):
        make()
        with pytest.raises(WorldError) as refused:
            await repos.propose(ALICE, "1234567", 1)
        assert "proposed repo" in str(refused.value)
        git.unlink(missing_ok=True)
    shell_git(desk.repo, "init", "-q")
    with pytest.raises(NotFound):
        await repos.propose(ALICE, "1234567", 1)
