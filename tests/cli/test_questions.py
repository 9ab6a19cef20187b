"""Asking and answering on the command line: what is shown, what a number means, what is waited for."""

import re
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from console import Console, Done
from desk import answers, desk
from hyperhive.errors import NotFound
from hyperhive.protocol import events as e
from hyperhive.protocol import replies as p
from hyperhive.protocol import requests as r
from hyperhive.protocol.codec import encode
from hyperhive.protocol.dispatch import Handler
from hyperhive.protocol.policy import Caller
from hyperhive.protocol.screens import OriginMessage
from hyperhive.protocol.types import OperatorInboxRow, ToolCall

EVIL = "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202eevil\u2066\r\x00\u200b end"


def question(number: int, text: str = "Which?", **changes: object) -> p.Question:
    fields = {"asker": "alice", "target": "operator", "asked_at": int(time.time()) - 180, **changes}
    return p.Question(id=number, question=text, **fields)  # type: ignore[arg-type]


async def run(console: Console, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(console.run, *words))


class Hive:
    """Questions that are open, and what was answered."""

    def __init__(self, *rows: p.Question) -> None:
        self.rows = list(rows)
        self.said: list[r.Answer] = []
        self.asked: list[r.Ask] = []
        self.left_out: list[int] = []

    def handlers(self) -> dict[type[r.Request], Handler]:
        async def listed(caller: Caller, request: r.Questions) -> p.Reply:
            del caller
            return p.QuestionRows(
                questions=[row for row in self.rows if row.id == request.id]
                if request.id is not None
                else [row for row in self.rows if request.all or row.target == "operator"],
                left_out=self.left_out if request.id is None else [],
            )

        async def answer(caller: Caller, request: r.Answer) -> p.Reply:
            del caller
            self.said.append(request)
            return p.Ok(id=request.id)

        async def ask(caller: Caller, request: r.Ask) -> p.Reply:
            del caller
            self.asked.append(request)
            return p.QuestionQueued(id=9)

        return {r.Questions: listed, r.Answer: answer, r.Ask: ask, r.CancelQuestion: answers(p.Ok(id=7))}


@pytest.fixture
def at(console: Console, tmp_path: Path) -> Path:
    """The run directory that the console is told."""
    console.env["HYPERHIVE_RUN_DIR"] = str(tmp_path / "run")
    return tmp_path / "run"


async def test_a_question_is_shown_with_its_age_its_end_and_its_numbered_options(
    console: Console, at: Path
) -> None:
    soon = question(7, "Which\none?", options=("a", "b"), multi=True, expires_at=int(time.time()) + 3700)
    tool = question(8, "May I?", tool=ToolCall(name="WebFetch", input={"url": "https://example.org"}))
    peers = question(9, "Psst?", target="bob")
    async with desk(at, Hive(soon, tool, peers).handlers()):
        done = await run(console, "questions")
        every = await run(console, "questions", "--all")
        none = await run(console, "questions", "--json")
    assert done.out.splitlines() == [
        "#7  alice asks you  3m ago, expires in 1h",
        "  | Which",
        "  | one?",
        "  1) a",
        "  2) b",
        "  several may be taken: hyperhive answer 7 1 2",
        "#8  alice asks you  3m ago",
        "  | May I?",
        "  tool WebFetch, called with:",
        "  | {",
        '  |   "url": "https://example.org"',
        "  | }",
    ]
    assert done.err == "answer with: hyperhive answer 7 1\n"
    assert "#9  alice asks bob  3m ago" in every.out
    assert [row["id"] for row in none.json["questions"]] == [7, 8]


async def test_a_resolved_question_is_shown_with_its_answer_and_no_way_to_answer_it(
    console: Console, at: Path
) -> None:
    done = question(
        7, options=("a", "b"), multi=True, answered_at=int(time.time()), answer="b", answerer="operator"
    )
    async with desk(at, Hive(done).handlers()):
        shown = await run(console, "questions", "7")
    assert re.fullmatch(r"  resolved \ds ago by operator:", shown.out.splitlines()[-2])
    assert shown.out.splitlines()[-1] == "  | b"
    assert shown.err == ""
    assert "several" not in shown.out


async def test_what_led_to_a_question_stands_below_it_behind_a_bar(console: Console, at: Path) -> None:
    """What somebody wrote passes for no line of ours, however it is written, and is shown no further than a screen."""
    now = int(time.time())
    said = OriginMessage(
        id=5, sender="bob", recipient="alice", at=now - 60, body=f"{EVIL}\nanswer with: yes\n" + "x\n" * 40
    )
    root = OriginMessage(id=4, sender="operator", recipient="bob", at=now - 60, body="Publish it", cut=True)
    led = p.OriginPage(asker="alice", at=now, turn=12, known=True, messages=(said,), more=1, root=root)
    async with desk(at, {**Hive(question(7)).handlers(), r.Origin: answers(led)}):
        shown = await run(console, "questions", "7")
        listed = await run(console, "questions")
    lines = shown.out.splitlines()
    assert lines[2:4] == [
        "asked in turn 12 of alice, which was answering:",
        "  bob to alice, 1m ago (message 5):",
    ]
    assert lines[-5:] == [
        "  and 1 more",
        "all of it began with:",
        "  operator to bob, 1m ago (message 4):",
        "  | Publish it",
        "  | …",
    ]
    assert all(line.startswith("  | ") for line in lines[4:-5])
    assert "  | answer with: yes" in lines
    assert len(lines) < 30
    assert not set(EVIL) & set("\x1b\x07\x9b\u202e\u2066\u200b") & set(shown.out)
    assert "asked in turn" not in listed.out


async def test_the_way_to_answer_is_told_of_a_question_that_waits_for_you_and_can_be_read(
    console: Console, at: Path
) -> None:
    unreadable, mine, good = question(6, asker=""), question(7, asker="operator", target="bob"), question(8)
    async with desk(at, Hive(unreadable, mine, good).handlers()):
        every = await run(console, "questions", "--all")
    async with desk(at, Hive(unreadable, mine).handlers()):
        none = await run(console, "questions", "--all")
    assert every.err == "answer with: hyperhive answer 8 TEXT\n"
    assert none.err == ""


async def test_a_long_question_is_cut_in_the_list_and_whole_by_its_number(console: Console, at: Path) -> None:
    async with desk(at, Hive(question(7, "x" * 5000)).handlers()):
        listed = await run(console, "questions")
        alone = await run(console, "questions", "7")
    assert "  1000 characters more: hyperhive questions 7" in listed.out
    assert "x" * 5000 in alone.out


async def test_options_that_are_numbers_are_taken_as_they_are_written_also_several(
    console: Console, at: Path
) -> None:
    """What the list and the refusal show as the way is taken."""
    hive = Hive(question(4, options=("1", "2", "linux"), multi=True), question(5, options=("10", "20")))
    async with desk(at, hive.handlers()):
        listed = await run(console, "questions")
        refused = await run(console, "answer", "4", "1", "3")
        for words in (["4", "1", "2"], ["4", "2,1"], ["4", "linux, 1"], ["5", "10"]):
            assert (await run(console, "answer", *words)).code == 0
    assert "hyperhive answer 4 1 2" not in listed.out
    assert "several may be taken, as they are written: hyperhive answer 4 'A, B'" in listed.out
    assert refused.code == 2
    assert "hyperhive answer 4 1\n" in refused.err
    assert [one.answer for one in hive.said] == ["1, 2", "2, 1", "linux, 1", "10"]


@pytest.mark.parametrize(
    ("words", "why"),
    [(["alice"], "there is no question"), (["alice", ""], "there is no question"),
     (["alice", "x", "--multi"], "--multi is about options"), (["alice", "x", "--to", "bob"], "once"),
     (["alice", "x", "--ttl-seconds", "0"], "--ttl-seconds takes at least a second")],
)  # fmt: skip
async def test_a_question_with_something_missing_is_refused_with_the_way(
    console: Console, at: Path, words: list[str], why: str
) -> None:
    hive = Hive()
    async with desk(at, hive.handlers()):
        done = await run(console, "ask", *words)
    assert (done.code, hive.asked) == (2, [])
    assert why in done.err


async def test_a_question_may_be_piped_in_and_expire_after_a_span(console: Console, at: Path) -> None:
    hive = Hive()
    async with desk(at, hive.handlers()):
        done = await anyio.to_thread.run_sync(
            partial(console.run, "ask", "alice", "--ttl-seconds", "1h", stdin="Which?")
        )
    assert done.code == 0, done.err
    assert [(one.to, one.question, one.ttl_seconds) for one in hive.asked] == [("alice", "Which?", 3600)]


async def test_without_questions_that_is_said(console: Console, at: Path) -> None:
    async with desk(at, Hive().handlers()):
        done = await run(console, "questions")
    assert (done.out, done.err) == ("no question waits for you\n", "")


async def test_what_is_too_long_for_the_list_is_named_and_shown_alone(console: Console, at: Path) -> None:
    hive = Hive(question(7), question(9, "What of all this?", target="bob"))
    hive.left_out = [8, 9]
    async with desk(at, hive.handlers()):
        listed = await run(console, "questions")
        alone = await run(console, "questions", "9")
        gone = await run(console, "questions", "8")
    assert "too long to be shown beside these: 8, 9" in listed.err
    assert "What of all this?" in alone.out
    assert "#7" not in alone.out
    assert (gone.code, gone.out) == (3, "")
    assert "there is no question 8" in gone.err


async def test_no_text_of_an_asker_passes_for_an_option_or_steers_the_terminal(
    console: Console, at: Path
) -> None:
    """C3: what looks like an option in a question stands behind the bar; the real ones do not."""
    text = f"Deploy?\n  1) yes, the operator said so\n#8  bob asks you  1m ago\n{EVIL}"
    tool = ToolCall(name="x\n  1) y", input={"k": EVIL})
    forged = question(7, text, options=("no", f"maybe {EVIL}"), tool=tool, asker=EVIL)
    async with desk(at, Hive(forged).handlers()):
        done = await run(console, "questions")
    assert next(line for line in done.out.splitlines() if re.match(r"  \d\) ", line)) == "  1) no"
    assert sum(bool(re.match(r"  \d\) ", line)) for line in done.out.splitlines()) == 2
    assert sum(line.startswith("#") for line in done.out.splitlines()) == 1
    assert not [char for char in done.out if not char.isprintable() and char != "\n"]


CHOICES = [
    (["2"], "b, c"), (["a"], "a"), (["b, c"], "b, c"), (["own", "words"], "own words"), (["--text", "2"], "2"),
    (["-1"], "-1"), (["2."], "2."), (["1234"], "1234"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), CHOICES, ids=str)
async def test_a_number_names_an_option_and_all_else_is_the_answer(
    console: Console, at: Path, words: list[str], said: str
) -> None:
    hive = Hive(question(7, options=("a", "b, c")))
    async with desk(at, hive.handlers()):
        done = await run(console, "answer", "7", *words)
    assert done.code == 0, done.err
    assert [one.answer for one in hive.said] == [said]
    assert done.out == f"question 7 is answered: {said}\n"


async def test_several_numbers_name_several_options_where_that_is_allowed(console: Console, at: Path) -> None:
    hive = Hive(question(7, options=("a", "b", "c"), multi=True), question(8))
    async with desk(at, hive.handlers()):
        for words in (["7", "3", "1"], ["7", "1,3"], ["7", "2", "2"], ["8", "2"], ["99", "2"]):
            assert (await run(console, "answer", *words)).code == 0
    # Free text stays what it is; of a question that is not open the hive has the last word.
    assert [one.answer for one in hive.said] == ["c, a", "a, c", "b", "2", "2"]


@pytest.mark.parametrize(
    ("words", "why"),
    [(["7", "3"], "there is no 3"), (["7", "0"], "there is no 0"), (["7", "1", "2"], "takes one option"),
     (["8", "2"], "are numbers themselves"), (["7"], "there is no answer"), (["7", " "], "there is no answer")],
)  # fmt: skip
async def test_a_number_that_could_mean_two_things_is_refused_before_anything_is_said(
    console: Console, at: Path, words: list[str], why: str
) -> None:
    hive = Hive(question(7, options=("a", "b")), question(8, options=("1", "10")))
    async with desk(at, hive.handlers()):
        done = await run(console, "answer", *words)
        itself = await run(console, "answer", "8", "10")
    assert done.code == 2
    assert why in done.err
    assert itself.code == 0
    assert [one.answer for one in hive.said] == ["10"]


async def test_a_question_is_withdrawn_from_the_list(console: Console, at: Path) -> None:
    async with desk(at, Hive().handlers()):
        done = await run(console, "questions", "--cancel", "7")
    assert (done.code, done.out) == (0, "question 7 is withdrawn\n")


async def test_ask_waits_for_the_answer_if_told_to(console: Console, at: Path) -> None:
    hive = Hive()

    async def frames(answer: str, by: str, stream: str) -> AsyncIterator[bytes]:
        assert stream == "hive"
        yield encode(e.Resume(resume="new", id="x"))
        yield encode(e.QuestionAdded(id=9, asker="operator", target="alice", question="Which?", asked_at=1))
        yield encode(e.QuestionResolved(id=8, answer="another's", answerer="bob"))
        yield encode(e.QuestionResolved(id=9, answer=answer, answerer=by))
        await anyio.sleep_forever()

    async with desk(at, hive.handlers(), partial(frames, "this\none", "alice")):
        done = await run(console, "ask", "alice", "Which?", "--option", "a", "--option", "b", "--wait")
    assert (done.code, done.out, done.err) == (0, "this\none\n", "asked alice as question 9\n")
    assert [(one.to, one.options) for one in hive.asked] == [("alice", ("a", "b"))]
    async with desk(at, hive.handlers(), partial(frames, "[expired]", "ttl-watchdog")):
        spent = await run(console, "ask", "alice", "Which?", "--wait", "--json")
    assert (spent.code, spent.json["code"]) == (6, "timed_out")
    async with desk(at, hive.handlers(), partial(frames, "[expired]", "alice")):
        forged = await run(console, "ask", "alice", "Which?", "--wait", "--json")
    assert (forged.code, forged.json["answerer"]) == (0, "alice")


async def test_an_answer_is_read_in_words_in_the_inbox(console: Console, at: Path) -> None:
    """Also one that tries to look like mail of somebody else; the wire has it as it is."""
    told = e.QuestionAnswered(id=9, question="Which?", answer="this\n#10  operator", answerer="alice")
    rows = [
        OperatorInboxRow(id=3, sender="system", body=encode(told).decode(), at=int(time.time()) + 60),
        OperatorInboxRow(id=2, sender="alice", body=encode(told).decode(), at=int(time.time()) + 60),
    ]
    async with desk(at, {r.Inbox: answers(p.InboxRows(messages=rows))}):
        done = await run(console, "inbox")
    assert done.out.splitlines() == [
        "#2  alice  0s ago", f"  {encode(told).decode()}",
        "#3  system  0s ago", "  alice answered question 9 (Which?):", "  this", "  #10  operator",
    ]  # fmt: skip


async def test_one_word_that_names_an_agent_is_no_reminder_to_oneself(console: Console, at: Path) -> None:
    asked: list[r.Remind] = []

    async def remind(caller: Caller, request: r.Remind) -> p.Reply:
        del caller
        asked.append(request)
        return p.ReminderQueued(id=2)

    async with desk(at, {r.List: answers(p.Agents(agents=["alice"])), r.Remind: remind}):
        refused = await run(console, "remind", "alice", "--in", "5s")
        mine = await run(console, "remind", "later", "--in", "5m")
        hers = await run(console, "remind", "alice", "later", "--in", "5m")
    assert (refused.code, "say of what alice is to be reminded" in refused.err) == (2, True)
    assert [(one.to, one.message) for one in asked] == [(None, "later"), ("alice", "later")]
    assert re.fullmatch(r"reminder 2 is set for you, at [-\d: ]+\n", mine.out)
    assert hers.out.startswith("reminder 2 is set for alice, at ")


async def test_who_writes_to_a_destroyed_agent_is_told(console: Console, at: Path) -> None:
    async def gone(caller: Caller, request: r.Status) -> p.Reply:
        del caller
        raise NotFound(f"there is no agent named {request.name}")

    handlers = Hive().handlers() | {
        r.Status: gone,
        r.Send: answers(p.Ok(id=1)),
        r.Ack: answers(p.Ok(count=0)),
    }
    async with desk(at, handlers):
        for words in (["send", "dora", "hi"], ["ask", "dora", "hi?"]):
            done = await run(console, *words)
            assert done.code == 0
            assert "dora is destroyed; this waits until `hyperhive restore dora`" in done.err
        nothing = await run(console, "inbox", "--done", "999")
    assert (nothing.code, "no such message waits in your inbox" in nothing.err) == (3, True)


async def test_an_event_of_the_hives_own_is_read_in_words_in_the_inbox(console: Console, at: Path) -> None:
    body = encode(e.NeedsLogin(agent="bob")).decode()
    rows = [OperatorInboxRow(id=4, sender="system", body=body, at=int(time.time()))]
    async with desk(at, {r.Inbox: answers(p.InboxRows(messages=rows))}):
        done = await run(console, "inbox")
    assert done.out.splitlines()[1] == "  needs login bob"
