"""Attacks G5 and G8 on the way in: names, modes and sizes that a proposal may not have, each refused by name."""

import os
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_repos import ALICE, Desk, paths_at, plain_repos, shell_git
from hyperhive.errors import BadRequest, HiveError, LimitReached
from hyperhive.lifecycle.repos import RepoLimits, Repos
from hyperhive.lifecycle.repos.trees import check_tree, path_fault
from hyperhive.paths import Paths

pytestmark = pytest.mark.needs("git")
SMALL = RepoLimits(pack=1 << 20, file=64 << 10, tree=128 << 10, files=50, heads=5, depth=8, path=100)
ZERO = "0" * 40


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_at(tmp_path)


@pytest.fixture
async def repos(paths: Paths) -> Repos:
    made = plain_repos(paths, SMALL)
    await made.ensure(ALICE)
    return made


@pytest.fixture
def desk(paths: Paths, repos: Repos) -> Desk:  # noqa: ARG001 - the repos must be there
    return Desk(paths.proposed_config(ALICE))


BAD_NAMES = (
    b".git", b".GIT", b".Git", b"git~1", b"GIT~1", b".gitmodules", b".git ", b".git.", b".git\\x", b"..", b".", b"",
    b"a\nb", b"a\x1b[2J", b"a\xff", "é".encode(), "a\u202eb".encode(), "\u200b.git".encode(), b"-rf", b"--output=x",
    b"a ", b"a.", b'a"b', b"a\\b", b"C:x", b"a:b", b"x" * 101, b"a/b",
)  # fmt: skip
BAD_MODES = ("120000", "160000", "100664", "104755", "0100644", "040755", "100600", "777", "0")


async def test_a_forged_tree_is_refused_and_leaves_nothing(repos: Repos, paths: Paths, desk: Desk) -> None:
    """Some of each kind, past what git itself would let one commit; all of them are the campaign's."""
    blob, inner = desk.blob(b"x"), desk.git("hash-object", "-t", "tree", "-w", "--stdin")
    base = desk.git("rev-parse", "HEAD")
    bad = [("100644", blob, name) for name in (b".GIT", b"a\nb", b"-rf")] + [("40000", inner, b".git")]
    bad += [(mode, base if mode == "160000" else blob, b"link") for mode in BAD_MODES[:3]]
    before = sorted(str(place) for place in paths.applied.rglob("*"))
    for number, entry in enumerate(bad, 1):
        sha = desk.tree([entry], onto=base)
        with pytest.raises(HiveError) as refused:
            await repos.propose(ALICE, sha, number)
        assert refused.value.code in {"bad_request", "world", "limit"}, entry
    assert sorted(str(place) for place in paths.applied.rglob("*")) == before


@pytest.mark.campaign
@pytest.mark.timeout(900)
async def test_every_forged_tree_is_refused(repos: Repos, desk: Desk) -> None:
    blob, base = desk.blob(b"x"), desk.git("rev-parse", "HEAD")
    for name in BAD_NAMES:
        for mode in ("100644", "120000", "160000"):
            sha = desk.tree([(mode, base if mode == "160000" else blob, name)], onto=base)
            with pytest.raises(HiveError):
                await repos.propose(ALICE, sha, 1)
    for mode in BAD_MODES:
        with pytest.raises(HiveError):
            await repos.propose(ALICE, desk.tree([(mode, blob, b"x")], onto=base), 1)
    twice = [("120000", desk.blob(b"/etc"), b"a"), ("40000", desk.git("rev-parse", "HEAD^{tree}"), b"a")]
    with pytest.raises(HiveError):
        await repos.propose(ALICE, desk.tree(twice, onto=base), 1)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_wherever_it_stands(name: bytes) -> None:
    for path in (name, b"dir/" + name, name + b"/file"):
        if path == b"a/b" or (name == b"a/b" and b"a/b" in path):  # a name alone, and two as a path
            continue
        listing = b"100644 blob " + ZERO.encode() + b"       1\t" + path + b"\0"
        with pytest.raises(BadRequest) as refused:
            check_tree(listing, SMALL)
        assert refused.value.message.isprintable()


@pytest.mark.parametrize("mode", ["120000", "160000", "100664", "104755", "100600", "040755"])
def test_a_bad_mode_is_refused_with_its_path(mode: str) -> None:
    for kind in ("blob", "commit", "tree"):
        with pytest.raises(BadRequest) as refused:
            check_tree(f"{mode} {kind} {ZERO}       -\tsome/where\0".encode(), SMALL)
        assert "some/where" in refused.value.message


@given(st.lists(st.text(max_size=12), max_size=4))
def test_whatever_is_let_in_is_plain(parts: list[str]) -> None:
    path = "/".join(parts)
    if path_fault(path, SMALL) is None:
        assert path.isascii()
        assert path.isprintable()
        assert len(parts) == len([p for p in path.split("/") if p.strip(" .")])
        assert not any(
            p.lower().startswith((".git", "-")) and p.lower() in {".git", "-"} for p in path.split("/")
        )
        assert Path("/base", path).parts == ("/", "base", *path.split("/"))


def test_ordinary_names_are_let_in() -> None:
    for path in (
        "agent.toml",
        "flake.nix",
        ".gitignore",
        ".gitattributes",
        "a b/c_d-1.2+x@y/~z",
        "x",
    ):
        assert path_fault(path, SMALL) is None


async def test_each_limit_is_named(repos: Repos, desk: Desk) -> None:
    base = desk.git("rev-parse", "HEAD")
    for number, (files, word) in enumerate(
        (
            ({"big": b"x" * (SMALL.file + 1)}, "big"),
            ({f"f{n}": b"x" * SMALL.file for n in range(3)}, str(SMALL.tree)),
            ({f"f{n}": b"x" for n in range(51)}, str(SMALL.files)),
            ({"/".join("d" * 9): b"x"}, str(SMALL.depth)),
        ),
        1,
    ):
        desk.git("checkout", "--quiet", "-B", "work", base)
        sha = desk.commit(files)
        with pytest.raises((LimitReached, BadRequest)) as refused:
            await repos.propose(ALICE, sha, number)
        assert word in refused.value.message
    assert list(await repos.tags(ALICE)) == ["deployed/0"]


async def test_more_bytes_than_allowed_are_not_taken_over(repos: Repos, desk: Desk) -> None:
    sha = desk.commit({"noise": os.urandom(SMALL.pack + 1000)})
    with pytest.raises(LimitReached) as refused:
        await repos.propose(ALICE, sha, 1)
    assert str(SMALL.pack) in refused.value.message


async def test_many_branches_end_in_an_error_soon(repos: Repos, desk: Desk) -> None:
    sha = desk.git("rev-parse", "HEAD")
    lines = "".join(f"{sha} refs/heads/b{n}\n" for n in range(100_000))
    (desk.repo / ".git/packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted\n{lines}")
    with anyio.fail_after(40), pytest.raises(LimitReached):
        await repos.propose(ALICE, sha, 1)


def nest(desk: Desk, depth: int, width: int) -> str:
    """Trees in trees: a commit of width ** depth paths, or one of that depth, in a few kilobytes."""
    blob = desk.blob(b"x")
    raws = [b"".join(b"100644 %d\0" % n + bytes.fromhex(blob) for n in range(width))]
    shas: list[str] = []
    for _ in range(depth):
        shas.append(desk.git("hash-object", "-t", "tree", "-w", "--stdin", stdin=raws[-1]))
        raws.append(b"".join(b"40000 %d\0" % n + bytes.fromhex(shas[-1]) for n in range(width)))
    return desk.tree([("40000", shas[-1], b"d")])


async def test_a_tree_of_a_billion_paths_ends_in_an_error_soon(repos: Repos, desk: Desk) -> None:
    sha = nest(desk, 9, 10)
    with anyio.fail_after(40), pytest.raises((LimitReached, BadRequest)):
        await repos.propose(ALICE, sha, 1)


async def test_a_tree_five_thousand_deep_ends_in_an_error_soon(
    repos: Repos, paths: Paths, desk: Desk
) -> None:
    import hashlib
    import zlib

    content = b"x"
    sha = desk.blob(content)
    mode, objects = b"100644", desk.repo / ".git/objects"
    for _ in range(5000):  # by hand: a process for each would take a minute
        body = mode + b" d\0" + bytes.fromhex(sha)
        raw = b"tree %d\0" % len(body) + body
        sha, mode = hashlib.sha1(raw).hexdigest(), b"40000"
        place = objects / sha[:2] / sha[2:]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(zlib.compress(raw, 1))
    commit = desk.tree([("40000", sha, b"d")])
    with anyio.fail_after(50), pytest.raises(HiveError) as refused:
        await repos.propose(ALICE, commit, 1)
    assert refused.value.code in {"world", "bad_request", "limit"}
    assert shell_git(paths.applied_repo(ALICE), "tag") == "deployed/0"


async def test_a_file_that_grows_when_unpacked_is_refused_by_its_size(repos: Repos, desk: Desk) -> None:
    sha = desk.commit({"zeros": bytes(80 << 20)})
    with anyio.fail_after(50), pytest.raises(LimitReached) as refused:
        await repos.propose(ALICE, sha, 1)
    assert "zeros" in refused.value.message
