"""Who may ask for what, as a table to be read; and that the dispatcher asks it before anything runs."""

import msgspec
import pytest

from hyperhive.errors import Forbidden
from hyperhive.names import AgentName
from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r
from hyperhive.protocol.dispatch import Dispatcher
from hyperhive.protocol.policy import POLICY, Actor, Caller, authorize, may, tool_actor
from hyperhive.protocol.types import Role

# own: what is the caller's; any: everyone's; -: forbidden, and nothing runs. The last two columns are the harness of
# an agent and of the manager: all that its agent may, and what is the harness's alone.
MATRIX = """
                          operator  manager  agent  agent's-harness  manager's-harness
send                      any       own      own    own              own
recv                      -         -        -      own              own
status                    any       own      own    own              own
recent                    -         own      own    own              own
ack_turn                  -         -        -      own              own
requeue_inflight          -         -        -      own              own
operator_msg              -         -        -      -                -
inbox                     any       -        -      -                -
ack                       any       -        -      -                -
dead                      any       -        -      -                -
requeue                   any       -        -      -                -
drop                      any       -        -      -                -
state_file_check          any       -        -      -                -
state_file_read           any       -        -      -                -
search                    any       -        -      -                -
flow                      any       -        -      -                -
message                   any       -        -      -                -
ask                       any       own      own    own              own
answer                    any       own      own    own              own
questions                 any       -        -      -                -
cancel_question           any       -        -      -                -
get_loose_ends            any       any      own    own              any
cancel_loose_end          any       any      own    own              any
remind                    any       own      own    own              own
reminders                 any       -        -      -                -
count_pending_reminders   -         own      own    own              own
whoami                    any       own      own    own              own
hello                     -         -        -      own              own
model_access              -         -        -      own              own
ask_tool                  -         -        -      own              own
withdraw_tools            -         -        -      own              own
may_turn                  -         -        -      own              own
charge                    -         -        -      own              own
attach                    -         -        -      own              own
subscribe                 any       -        -      -                -
spawn                     any       -        -      -                -
request_spawn             any       any      -      -                any
start                     any       own      -      -                own
kill                      any       own      -      -                own
restart                   any       own      -      -                own
rebuild                   any       -        -      -                -
update                    any       own      -      -                own
update_all                any       -        -      -                -
destroy                   any       -        -      -                -
restore                   any       -        -      -                -
list                      any       -        -      -                -
request_apply_commit      -         any      -      -                any
pending                   any       -        -      -                -
show                      any       -        -      -                -
approve                   any       -        -      -                -
deny                      any       -        -      -                -
rollback                  any       -        -      -                -
agent_config              any       -        -      -                -
meta_update               any       -        -      -                -
logs                      any       -        -      -                -
events                    any       -        -      -                -
history                   any       -        -      -                -
agent_state               any       -        -      -                -
agent_loose_ends          any       -        -      -                -
turns                     any       -        -      -                -
stats                     any       -        -      -                -
audit                     any       -        -      -                -
cancel                    any       -        -      -                -
compact                   any       -        -      -                -
model                     any       -        -      -                -
new_session               any       -        -      -                -
login_start               any       -        -      -                -
login_code                any       -        -      -                -
login_cancel              any       -        -      -                -
account                   any       -        -      -                -
budget                    any       -        -      -                -
tool_rules                any       -        -      -                -
notices                   any       -        -      -                -
state                     any       -        -      -                -
origin                    any       -        -      -                -
digest                    any       -        -      -                -
login_link                any       -        -      -                -
web_sessions              any       -        -      -                -
end_web_session           any       -        -      -                -
reload                    any       -        -      -                -
"""


def actor(name: str, role: Role) -> Actor:
    return Actor(name=AgentName(name), role=role, channel="test")


ACTORS = {
    "operator": actor("operator", "operator"),
    "manager": actor("manager", "manager"),
    "agent": actor("alice", "agent"),
    "agent's-harness": actor("alice", "harness"),
    "manager's-harness": actor("manager", "harness"),
}
HEAD, *ROWS = [line.split() for line in MATRIX.strip().splitlines()]
BY_ROW = {row[0]: dict(zip(HEAD, row[1:], strict=True)) for row in ROWS}
CELLS = [(row[0], who, scope) for row in ROWS for who, scope in zip(HEAD, row[1:], strict=True)]


def test_the_table_has_every_request_and_every_kind_of_caller() -> None:
    assert [row[0] for row in ROWS] == [r.tag_of(kind) for kind in r.REQUESTS]
    assert list(ACTORS) == HEAD
    assert set(POLICY) == set(r.REQUESTS), (
        "what has no row would be forbidden to all without anybody having said so"
    )


@pytest.mark.parametrize("cmd", BY_ROW)
def test_who_may_ask_for_what(cmd: str) -> None:
    kind = r.BY_TAG[cmd]
    for who, scope in BY_ROW[cmd].items():
        assert may(ACTORS[who], kind) == (scope != "-"), who
        if scope == "-":
            with pytest.raises(Forbidden):
                authorize(ACTORS[who], kind)
        else:
            assert authorize(ACTORS[who], kind).any == (scope == "any"), who


def test_no_agent_and_no_harness_may_decide_for_the_operator() -> None:
    for kind in (r.Approve, r.Deny, r.Rollback, r.Spawn, r.Destroy, r.Account, r.MetaUpdate, r.OperatorMsg):
        assert not any(may(ACTORS[who], kind) for who in ACTORS if who != "operator"), kind


def test_a_tool_session_acts_as_the_harness_of_its_agent_and_the_operator_has_none() -> None:
    for who in ("manager", "agent", "agent's-harness", "manager's-harness"):
        caller = tool_actor(ACTORS[who])
        channel = "tools" if ACTORS[who].role == "harness" else "box"
        assert (caller.name, caller.channel) == (ACTORS[who].name, channel)
        assert may(caller, r.Recv)
        assert not may(caller, r.Approve)
    with pytest.raises(Forbidden):
        tool_actor(ACTORS["operator"])


async def test_a_forbidden_request_never_runs() -> None:
    async def handler(caller: Caller, request: r.Request) -> a.Reply:
        raise AssertionError(f"{caller} must not get here with {request}")

    dispatcher = Dispatcher(dict.fromkeys(r.REQUESTS, handler), None)  # type: ignore[arg-type]
    for cmd, who, scope in CELLS:
        if scope == "-":
            answer = await dispatcher.dispatch(ACTORS[who], _smallest(r.BY_TAG[cmd]))
            assert isinstance(answer.reply, a.Err)
            assert answer.reply.code == "forbidden", (cmd, who)


@pytest.mark.parametrize("who", [who for who in ACTORS if who != "operator"])
async def test_an_agent_cannot_interrupt_another_and_only_the_manager_can(who: str) -> None:
    async def send(caller: Caller, request: r.Send) -> a.Reply:
        del caller, request
        return a.Ok(id=1)

    dispatcher = Dispatcher({r.Send: send}, None)  # type: ignore[arg-type]
    reply = (await dispatcher.dispatch(ACTORS[who], r.Send(to="bob", body="x", urgency="interrupt"))).reply
    assert isinstance(reply, a.Ok) == who.startswith("manager")


def _smallest(kind: type[r.Request]) -> r.Request:
    """A request of that kind that the codec would let pass; what is in it does not matter here."""
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        if field.required:
            values[field.name] = {
                "id": 1, "to": 1, "protocol": 1, "ids": [1], "inputs": ["x"], "started_at": 1, "since": 1, "input": {},
            }.get(field.name, "a")  # fmt: skip
    if kind is r.RequestApplyCommit:
        values["commit_ref"] = "0123abc"
    if kind is r.CancelLooseEnd:
        values["kind"] = "question"
    return msgspec.convert({**values, "cmd": r.tag_of(kind)}, kind)
