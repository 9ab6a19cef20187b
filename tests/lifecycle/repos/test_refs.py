"""Attack G3: a commit reference that is something else. And the house rule that one module alone runs git."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperhive
from config_repos import ALICE, PATH, paths_at
from hyperhive.errors import BadRequest
from hyperhive.lifecycle.repos import Repos
from hyperhive.lifecycle.repos.git import environment
from hyperhive.lifecycle.repos.quarantine import check_ref
from hyperhive.paths import Paths

SRC = Path(hyperhive.__file__).parent
NASTY = (
    "", "HEAD", "main", "--output=/tmp/x", "--upload-pack=touch", "-1234567", "1234567\n", "1234567\0", "abcdef@{0}",
    "abcdef1^{/x}", "abcdef1:agent.toml", "abcdef1..", "^abcdef1", "abcdef1~1", ":/fix", "refs/heads/main", "123456",
    "a" * 41, "a" * 64, "１２３４５６７", "abcdefg", " abcdef1", "abcdef1 ",
)  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return paths_at(tmp_path)


@pytest.mark.parametrize("ref", NASTY)
def test_what_is_no_plain_id_is_refused(ref: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_ref(ref)
    assert refused.value.message.isprintable()


@given(st.text(alphabet=st.sampled_from("0af-@{}^/:~. \n\0\u202e=oO"), max_size=50) | st.text(max_size=50))
def test_whatever_gets_past_is_hex(ref: str) -> None:
    try:
        taken = check_ref(ref)
    except BadRequest:
        return
    assert re.fullmatch("[0-9a-f]{7,40}", taken)


async def test_it_is_refused_before_anything_runs(paths: Paths) -> None:
    def reader(_: object) -> object:
        class Never:
            async def upload_pack(self, *_: object) -> object:
                raise AssertionError

        return Never()

    repos = Repos(paths, path="/nonexistent", reader=reader)  # type: ignore[arg-type]
    for ref in NASTY:
        with pytest.raises(BadRequest):
            await repos.propose(ALICE, ref, 1)


def test_git_inherits_nothing() -> None:
    built = environment()
    assert built["GIT_ALLOW_PROTOCOL"] == "none"
    assert PATH not in built.values() or PATH == "/usr/bin:/bin"
    assert {
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_GLOBAL",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_TERMINAL_PROMPT",
    } <= set(built)


def test_one_module_alone_runs_git() -> None:
    """Whoever runs git names it: no other module may hold that word as a string of its own."""
    only_looks = {
        "cli/doctor.py",  # whether there is one on PATH
        "lifecycle/runtimes/nspawn_base.py",  # a package's name
        "lifecycle/runtimes/nixos_flake.py",  # the type of a flake's input
        "testing/fake_nixos.py",  # likewise
    }
    strays = []
    for path in sorted(SRC.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                word = node.value
                if re.fullmatch(r"(.*/)?git(-[a-z-]+)?", word) and path.name != "git.py":
                    strays.append((path.relative_to(SRC).as_posix(), node.lineno, word))
    assert [stray for stray in strays if stray[0] not in only_looks] == []
