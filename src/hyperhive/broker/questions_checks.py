"""What a question and its answer must be to be stored. Pure but for the question of who exists."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

from hyperhive.broker.bodies import check_body
from hyperhive.broker.questions_changes import fits
from hyperhive.broker.questions_sql import QuestionRow
from hyperhive.broker.sending import checked_principal
from hyperhive.errors import BadRequest, InvalidName, NotFound
from hyperhive.names import OPERATOR, SYSTEM
from hyperhive.protocol.events import EVENT_BODY_MAX_BYTES, QuestionAnswered, QuestionAsked

OPTIONS_MAX: Final = 100
TTL_MAX_SECONDS: Final = 10 * 365 * 86_400
LAST_ID: Final = 2**63 - 1


def check_pair(asker: str, target: str, directory: Callable[[str], bool] | None) -> None:
    """Whether the one can ask the other.

    Raises:
        InvalidName, BadRequest, NotFound: see `Questions.ask`.
    """
    checked_principal(asker)
    checked_principal(target)
    if target == SYSTEM:
        raise InvalidName(target, "nobody answers for the system")
    if asker == target:
        hint = (
            "name an agent"
            if asker == OPERATOR
            else "name another agent, or leave `to` out to ask the operator"
        )
        raise BadRequest("one cannot ask oneself", hint=hint)
    if directory is not None and target != OPERATOR and not directory(target):
        raise NotFound(f"there is no agent named {target!r}", hint="`hyperhive list` shows who there is")


def check_question(draft: QuestionRow, ttl_seconds: int | None) -> None:
    """Whether this can be asked.

    Raises:
        BadRequest: see `Questions.ask`.
    """
    check_body(draft.question, "question")
    _check_options(draft.options)
    if ttl_seconds is not None and not 0 < ttl_seconds <= TTL_MAX_SECONDS:
        raise BadRequest(f"ttl_seconds is {ttl_seconds}; it must be from 1 to {TTL_MAX_SECONDS}")
    mail = QuestionAsked(
        id=LAST_ID, asker=draft.asker, question=draft.question, options=draft.options, multi=draft.multi
    )
    if not fits(mail):
        raise BadRequest(
            "question and options together are too long for a message",
            hint="write the long part to a file and ask with its path",
        )


def _check_options(options: Sequence[str]) -> None:
    if len(options) > OPTIONS_MAX:
        raise BadRequest(f"there are {len(options)} options; at most {OPTIONS_MAX} are taken")
    for option in options:
        check_body(option, "option")
        if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in option):
            raise BadRequest(f"the option {option[:80]!r} is more than one plain line of text")
    if len(set(options)) < len(options):
        raise BadRequest("two of the options are the same")


def check_answer(answer: str, by: str) -> None:
    """Whether this can be an answer.

    Raises:
        BadRequest: see `Questions.answer`.
    """
    check_body(answer, "answer")
    longest = "\x01" * (EVENT_BODY_MAX_BYTES + 4)  # of the question, in what takes most room in JSON
    if not fits(QuestionAnswered(id=LAST_ID, question=longest, answer=answer, answerer=by)):
        raise BadRequest("the answer is too long for a message", hint="write it to a file and send the path")
