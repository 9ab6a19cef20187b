"""What a terminal that runs a hive is told as it happens."""

import io
from collections.abc import Mapping

from hyperhive.cli.common import Screen
from hyperhive.cli.live import Live


async def told(*frames: Mapping[str, object]) -> list[str]:
    """The lines, without their stamps."""
    out = io.StringIO()
    live = Live(Screen(out, io.StringIO(), {}), stamp=lambda: "")
    for frame in frames:
        await live.show(lambda frame=frame: live._hive(frame), frame)  # type: ignore[misc]
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def row(state: str, unread: int = 0) -> Mapping[str, object]:
    return {
        "kind": "container_state_changed",
        "container": {"name": "bob", "state": state, "unread": unread},
    }


async def test_an_agent_is_well_again_only_when_it_needs_nobody_any_more() -> None:
    lines = await told(row("idle"), row("needs_you"), row("needs_you", 1), row("stopped"), row("idle"))
    assert lines == ["bob needs you", "bob is stopped", "bob is well again"]


async def test_a_question_is_told_with_who_asks_what_and_how_it_ended() -> None:
    lines = await told(
        {"kind": "question_added", "id": 4, "asker": "bob", "target": "operator", "question": "red?\nblue?"},
        {"kind": "question_resolved", "id": 4, "answer": "red", "answerer": "operator"},
    )
    assert lines == ["bob asks operator, question 4: red? …", "question 4 is answered by operator: red"]


async def test_an_approval_is_told_with_what_it_is_where_to_look_and_how_it_ended() -> None:
    one = {"id": 3, "agent": "bob", "kind": "apply_commit", "requested_by": "manager"}
    one |= {"status": "pending", "stage": "proposal"}
    lines = await told(
        {"kind": "approval_added", "approval": one, "diff": ""},
        {"kind": "approval_changed", "approval": {**one, "stage": "building"}},
        {
            "kind": "approval_resolved",
            "approval": {**one, "stage": "failed", "note": "agent.toml:2: no\nmore"},
        },
        {"kind": "approval_added", "approval": {**one, "id": 4, "kind": "spawn"}, "diff": ""},
    )
    assert lines == [
        "manager asks for a change of bob: hyperhive approve 3",
        "approval 3, a change of bob: building",
        "approval 3, a change of bob: failed: agent.toml:2: no …",
        "manager asks for a new agent bob: hyperhive approve 4",
    ]
