"""Questions: who may answer, who is told, what expires, and what nobody can get wrong."""

import msgspec

from hyperhive.broker import Broker
from hyperhive.protocol.events import QuestionAnswered, QuestionAsked
from hyperhive.testing import FakeClock


async def told(broker: Broker, name: str) -> list[dict[str, object]]:
    """The helper events in somebody's inbox, which is empty afterwards."""
    mail = await broker.recv(name, max=32, wait_seconds=0)
    await broker.ack_turn(name)
    return [msgspec.json.decode(one.body) for one in mail]


async def test_a_question_between_agents_reaches_both(broker: Broker, clock: FakeClock) -> None:
    """The agent that is asked gets `question_asked`, the asker `question_answered`, each from the system."""
    number = await broker.questions.ask("alice", "Which one?", target="bob", options=["a", "b"], multi=True)
    [asked] = await broker.recv("bob", wait_seconds=0)
    assert asked.sender == "system"
    expected = QuestionAsked(id=number, asker="alice", question="Which one?", options=("a", "b"), multi=True)
    assert msgspec.json.decode(asked.body, type=QuestionAsked) == expected
    await broker.questions.answer(number, "a, b", by="bob")
    [answered] = await broker.recv("alice", wait_seconds=0)
    assert answered.sender == "system"
    said = QuestionAnswered(id=number, question="Which one?", answer="a, b", answerer="bob")
    assert msgspec.json.decode(answered.body, type=QuestionAnswered) == said
