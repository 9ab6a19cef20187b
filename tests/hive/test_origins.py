"""What led to a question or an approval is told beside it: its turn, and the messages that this turn was answering."""

import json

import anyio
import pytest

from hyperhive.broker import Broker
from hyperhive.client import RemoteHive
from hyperhive.errors import BadRequest, NotFound
from hyperhive.host import Hive
from hyperhive.names import AgentName
from hyperhive.protocol import harness_line as line
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.screens.origins import BODY_CHARS, SHOWN_MAX, Origins


async def origin(
    operator: RemoteHive, *, question: int | None = None, approval: int | None = None
) -> p.OriginPage:
    reply = await operator.request(r.Origin(question=question, approval=approval))
    assert isinstance(reply, p.OriginPage)
    return reply


async def asked(hive: Hive, operator: RemoteHive) -> p.Question:
    """The first question that waits for the operator."""
    while True:
        reply = await operator.request(r.Questions())
        assert isinstance(reply, p.QuestionRows)
        if reply.questions:
            return reply.questions[0]
        await hive.bus.next_published()


async def test_a_question_names_its_turn_the_message_it_answered_and_who_began_the_chain(
    hive: Hive, operator: RemoteHive
) -> None:
    for name in ("alice", "bob"):
        await hive.lifecycle.spawn(name)
    question = json.dumps({"question": "Shall I publish it?"})
    talked_into = f"The operator is fine with it, just ask. [[call ask {question}]]"
    with anyio.fail_after(50):
        start = await hive.broker.send(
            "operator", "bob", f"[[call send {json.dumps({'to': 'alice', 'body': talked_into})}]]"
        )
        row = await asked(hive, operator)
        found = await origin(operator, question=row.id)
        assert (found.asker, found.at, found.known, found.more) == ("alice", row.asked_at, True, 0)
        [message] = found.messages
        assert (message.sender, message.recipient, message.body, message.cut) == (
            "bob",
            "alice",
            talked_into,
            False,
        )
        assert found.root is not None
        assert (found.root.id, found.root.sender) == (start.id, "operator")
        await operator.broker.questions.answer(row.id, "no")
        await operator.lifecycle.stop("alice")  # when its turns are over
        again = await origin(operator, question=row.id)
        assert (again.messages, again.root) == (found.messages, found.root)
        turns = await operator.request(r.Turns(name="alice", limit=50))
        assert isinstance(turns, p.TurnRows)
        assert again.turn == next(turn.turn for turn in reversed(turns.turns) if turn.message == message.id)


@pytest.mark.needs("git")
async def test_an_approval_names_what_its_requester_was_told(hive: Hive, operator: RemoteHive) -> None:
    with anyio.fail_after(50):
        wish = '[[call request_spawn {"name": "carol"}]] I need help'
        await hive.broker.send("alice", "manager", wish)
        while not hive.approvals.pending_now():
            await hive.bus.next_published()
    [approval] = hive.approvals.pending_now()
    found = await origin(operator, approval=approval.id)
    assert (found.asker, found.known) == ("manager", True)
    assert [(one.sender, one.body) for one in found.messages] == [("alice", wish)]
    assert found.turn is not None
    mine = await operator.approvals.submit("dave", kind="spawn")
    by_hand = await origin(operator, approval=mine.id)
    assert (by_hand.asker, by_hand.turn, by_hand.messages) == ("operator", None, ())


async def test_what_is_not_there_or_not_one_thing_is_refused(operator: RemoteHive) -> None:
    for request in (r.Origin(), r.Origin(question=1, approval=1)):
        with pytest.raises(BadRequest):
            await operator.request(request)
    for request in (r.Origin(question=999), r.Origin(approval=999)):
        with pytest.raises(NotFound):
            await operator.request(request)


class Away:
    """Harnesses of which none can be asked."""

    async def ask(self, name: AgentName, command: line.AnyHarnessCommand) -> p.Reply:
        del command
        raise NotFound(f"{name} is gone")

    def caution(self, name: AgentName) -> str | None:
        del name
        return None


async def test_much_is_cut_and_what_is_gone_is_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """As much as can be read beside a question, the newest of it, also of an agent that is gone."""
    async with Broker.open(tmp_path_factory.mktemp("broker") / "hive.sqlite") as broker:
        for n in range(SHOWN_MAX + 3):
            await broker.send("bob", "alice", f"{n} " + "x" * BODY_CHARS)
        await broker.recv("alice", 32, 0)
        number = await broker.questions.ask("alice", "Well?")
        found = await Origins(broker, Away()).of(r.Origin(question=number))
        assert (found.turn, found.more, len(found.messages)) == (None, 3, SHOWN_MAX)
        assert [one.body.split()[0] for one in found.messages] == [str(n + 3) for n in range(SHOWN_MAX)]
        assert all(one.cut and len(one.body) == BODY_CHARS for one in found.messages)
        quiet = await broker.questions.ask("carol", "Nobody wrote to me")
        none = await Origins(broker, Away()).of(r.Origin(question=quiet))
        assert (none.known, none.messages, none.more) == (True, (), 0)
