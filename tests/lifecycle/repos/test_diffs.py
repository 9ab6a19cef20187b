"""Attacks G4, G7 and G8 on what the operator sees: the diff hides nothing, and is bound to what it was made of."""

import hashlib
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_repos import ALICE, Desk, paths_at, plain_repos
from hyperhive.errors import Conflict
from hyperhive.lifecycle.repos import Diff, RepoLimits, Repos, show_hidden
from hyperhive.lifecycle.repos.diffs import strangers
from hyperhive.paths import Paths

pytestmark = pytest.mark.needs("git")
LIMITS = RepoLimits(diff=100_000, diff_line=1000)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_at(tmp_path)


@pytest.fixture
async def repos(paths: Paths) -> Repos:
    made = plain_repos(paths, LIMITS)
    await made.ensure(ALICE)
    return made


@pytest.fixture
def desk(paths: Paths, repos: Repos) -> Desk:  # noqa: ARG001 - the repos must be there
    return Desk(paths.proposed_config(ALICE))


async def proposed(repos: Repos, desk: Desk, files: dict[str, str | bytes], number: int = 1) -> Diff:
    pinned = await repos.propose(ALICE, desk.commit(files), number)
    return await repos.diff(ALICE, pinned.base_sha, pinned.sha)


async def test_the_diff_is_one_text_with_one_hash(repos: Repos, desk: Desk) -> None:
    shown = await proposed(repos, desk, {"agent.toml": 'model = "sonnet"\n', "new/file.nix": "{}\n"})
    assert shown.sha256 == hashlib.sha256(shown.text.encode()).hexdigest()
    assert '+model = "sonnet"' in shown.text
    assert [(file.path, file.status, file.binary) for file in shown.files] == [
        ("agent.toml", "M", False),
        ("new/file.nix", "A", False),
    ]
    assert not shown.too_big
    assert shown.hidden == []
    base, sha = desk.git("rev-parse", "HEAD^"), desk.git("rev-parse", "HEAD")
    assert await repos.diff(ALICE, base, sha) == shown


async def test_nothing_in_a_tree_can_hide_a_change(repos: Repos, desk: Desk) -> None:
    desk.commit({"a.nix": "one\n", "b.nix": "two\n"})
    desk.sneak(".gitattributes", "* -diff binary diff=x -text linguist-generated merge=ours\n")
    first = await repos.propose(ALICE, desk.git("rev-parse", "HEAD"), 1)
    await repos.advance_main(ALICE, first.base_sha, first.sha)
    desk.git("mv", "b.nix", "c.nix")
    shown = await proposed(repos, desk, {"a.nix": "ONE\n"}, 2)
    for line in ("-one", "+ONE", "-two", "+two"):  # a renamed file is shown whole, on both sides
        assert line in shown.text.splitlines()
    assert {(file.path, file.status) for file in shown.files} == {
        ("a.nix", "M"),
        ("b.nix", "D"),
        ("c.nix", "A"),
    }


async def test_modes_and_empty_files_are_changes_too(repos: Repos, desk: Desk) -> None:
    (desk.repo / "agent.toml").chmod(0o755)
    shown = await proposed(repos, desk, {"empty": ""})
    assert "new mode 100755" in shown.text
    assert "b/empty" in shown.text
    assert {(file.path, file.new_mode) for file in shown.files} == {
        ("agent.toml", "100755"),
        ("empty", "100644"),
    }


async def test_what_is_no_text_is_named_by_its_contents_id(repos: Repos, desk: Desk) -> None:
    shown = await proposed(repos, desk, {"logo": b"\x89PNG\0\1\2", "latin": b"caf\xe9\n"})
    by_path = {file.path: file for file in shown.files}
    assert by_path["logo"].binary
    assert not by_path["latin"].binary
    assert by_path["logo"].new_blob in shown.text
    assert r"+caf\xe9" in shown.text
    assert shown.sha256 == hashlib.sha256(shown.text.encode()).hexdigest()
    assert any("logo is no text" in line for line in shown.hidden)
    assert any("no UTF-8" in line for line in shown.hidden)


async def test_two_contents_that_are_shown_alike_have_two_hashes(repos: Repos, desk: Desk) -> None:
    base = await repos.main(ALICE)
    one = await proposed(repos, desk, {"x": b"caf\xe9\n"}, 1)
    desk.git("checkout", "--quiet", "-B", "work", base)
    two = await proposed(repos, desk, {"x": rb"caf\xe9" + b"\n"}, 2)
    assert one.text.splitlines()[-1] == two.text.splitlines()[-1]
    assert one.sha256 != two.sha256


@pytest.mark.parametrize(
    "files",
    [
        {"long": "x" * 2000 + "\n"},
        {f"f{n}": "line\n" * 2000 for n in range(15)},
        {"filler": "filler\n" * 90_000 + "the real change\n", "agent.toml": "x"},
    ],
)
async def test_a_diff_that_nobody_can_read_lists_every_path_and_is_not_for_approval(
    repos: Repos, desk: Desk, files: dict[str, str | bytes]
) -> None:
    shown = await proposed(repos, desk, files)
    assert shown.too_big
    assert {file.path for file in shown.files} == set(files)
    for file in shown.files:
        assert f"{file.new_blob} {file.path}\n" in shown.text
    assert len(shown.text) < LIMITS.diff


async def test_characters_that_hide_or_reorder_are_named_with_their_place(repos: Repos, desk: Desk) -> None:
    trojan = "if admin\u202e \u2066# check\u2069 \u2066then\n"
    shown = await proposed(
        repos, desk, {"a.nix": trojan, "b.nix": "x\u200by\x1b[2K\r\nz\U000e0041\n", "c": "tab\there\n"}
    )
    said = "\n".join(shown.hidden)
    for word in ("a.nix", "U+202E", "U+2066", "U+2069", "b.nix", "U+200B", "U+001B", "U+000D", "U+E0041"):
        assert word in said
    assert "c:" not in said
    assert "\u202e" in shown.text  # the text is what it is; a screen shows it by
    assert "\\u{202e}" in show_hidden(shown.text)


async def test_a_word_with_letters_of_two_scripts_is_named(repos: Repos, desk: Desk) -> None:
    """Homoglyphs: what looks like a known name, and is another."""
    alike = "p\u0430yload = p\u0430yload_2\n\u03bfs_name = 1\nsum = \U0001d41aB\n"
    plain = "na\u00efve caf\u00e9 \u043f\u0440\u0438\u0432\u0435\u0442 \u65e5\u672c\u3054 2\u0436 x-\u0436 alpha\n"
    shown = await proposed(repos, desk, {"alike": alike, "plain": plain})
    said = "\n".join(shown.hidden)
    for word in (
        "alike: line",
        "U+0430 (CYRILLIC SMALL LETTER A, in a word of another script)",
        "U+03BF",
        "U+1D41A",
    ):
        assert word in said
    assert len(shown.hidden) == 3, "each letter of a file once"
    assert "plain" not in said


@given(st.text())
def test_looking_for_letters_of_other_scripts_takes_any_text(text: str) -> None:
    found = strangers(text)
    assert all(char in text and char.isalpha() for char in found)
    assert not (text.isascii() and found)


@given(st.text())
def test_what_a_screen_shows_has_no_power_and_says_all(text: str) -> None:
    shown = show_hidden(text)
    assert all(char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in shown)
    assert re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: chr(int(found[1], 16)), shown) == text


async def test_what_moves_between_looking_and_deciding_changes_nothing(repos: Repos, desk: Desk) -> None:
    """G4: the manager moves its branches and tags as it likes; the proposal is the commit that was pinned."""
    one = desk.commit({"agent.toml": "one\n"})
    pinned = await repos.propose(ALICE, one[:8], 1)
    seen = await repos.diff(ALICE, pinned.base_sha, pinned.sha)
    desk.git(
        "checkout", "--quiet", "-b", one[:8], pinned.base_sha
    )  # a branch that is called as the commit was
    evil = desk.commit({"agent.toml": "evil\n"})
    desk.git("tag", "-f", one[:7], evil)
    desk.git("branch", "-f", "main", evil)
    desk.git("update-ref", f"refs/heads/{one}", evil)
    desk.git("reflog", "expire", "--expire=now", "--all")
    desk.git("gc", "--quiet", "--prune=now")
    assert await repos.propose(ALICE, one[:8], 1) == pinned
    assert await repos.diff(ALICE, pinned.base_sha, pinned.sha) == seen
    with pytest.raises(Conflict):
        await repos.propose(ALICE, evil, 1)
    await repos.advance_main(ALICE, pinned.base_sha, pinned.sha)
    assert await repos.read(ALICE, await repos.main(ALICE), "agent.toml", 100) == b"one\n"
    with pytest.raises(Conflict):  # the base moved: what was seen against it is no more
        await repos.advance_main(ALICE, pinned.base_sha, evil)
