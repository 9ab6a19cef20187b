"""Names: what an agent may be called is safe wherever a name goes, and nothing else is let in."""

import re
import shlex
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperhive.errors import HiveError, InvalidName
from hyperhive.lifecycle.approvals import ApprovalQueue
from hyperhive.names import AGENT_NAME_PATTERN, RESERVED, parse_agent_name, parse_resident
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import decode_request

TRICKS = [
    "a\n", "-x", "..", "*", ">", "a" * 64, "аlice", "al\u200bice", "a/b", "a;b", "a b", "a'b", "$(id)", "--help", "a\0",
    "Alice", "operator", "manager", "root", "a-", "ａlice", "%s", "a.b", "refs/heads/a", "a@{0}", "",
]  # fmt: skip
anything = st.text(max_size=70) | st.sampled_from(TRICKS) | st.from_regex(AGENT_NAME_PATTERN)


@given(anything)
@example("a\n")
@example("a" * 63)
def test_what_is_accepted_is_harmless_in_paths_arguments_refs_and_queries(text: str) -> None:
    try:
        name = parse_agent_name(text)
    except InvalidName:
        return
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name, re.ASCII)
    assert name == text
    assert name not in RESERVED
    assert PurePosixPath("/x", name).parent == PurePosixPath("/x")
    assert shlex.split(name) == [name]
    assert not name.startswith("-")


@pytest.mark.parametrize("text", TRICKS)
def test_a_trick_is_no_name(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_agent_name(text)
    with suppress(InvalidName):
        assert parse_resident(text) == "manager"


@pytest.mark.parametrize("text", TRICKS)
async def test_no_such_text_gets_into_an_approval(text: str, tmp_path: Path) -> None:
    """Neither as a name nor as a commit: it is refused before any git or file sees it, and nothing is stored."""
    async with ApprovalQueue.open(tmp_path, runtime="process") as queue:
        with pytest.raises(HiveError):
            await queue.request_spawn(text, by="manager")
        with pytest.raises(HiveError):
            await queue.request_apply_commit(text, "0123456", by="manager")
        assert await queue.pending() == []
        assert await queue.audit() == []
    assert {path.name for path in (tmp_path / "applied").iterdir()} == set()


@given(
    st.text(max_size=50)
    | st.sampled_from(["--output=x", "main", "HEAD", "a@{1}", "0123456^{/x}", "0123456\n", ":/x"])
)
def test_a_commit_is_named_by_hex_digits_alone(text: str) -> None:

    line = msgspec.json.encode({"cmd": "request_apply_commit", "agent": "alice", "commit_ref": text})
    if re.fullmatch(r"[0-9a-f]{7,40}", text, re.ASCII):
        assert isinstance(decode_request(line), r.RequestApplyCommit)
    else:
        with pytest.raises(HiveError):
            decode_request(line)
