"""The fleet as the live table knows it: rows, what waits for the operator, and how many of what. Pure.

It begins with a snapshot and goes on with frames, by the contract of `seq`: what came while a snapshot was on its way
is applied after it, and what the snapshot knows already is dropped.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hyperhive.cli.render import age
from hyperhive.names import MANAGER, OPERATOR
from hyperhive.protocol.replies import HiveSnapshot
from hyperhive.protocol.types import ContainerView

Frame = Mapping[str, Any]

STATES: Final = ("needs_you", "failed", "working", "idle", "stopped")
SORTS: Final = ("state", "name", "longest", "unread", "context")
_HELD_MAX: Final = 5000
"""Frames kept while a snapshot is on its way; more than that, and another one is taken."""
_MORE_KINDS: Final = frozenset(
    {
        "approval_added", "approval_changed", "approval_resolved", "question_added", "question_resolved",
        "tombstones_changed", "lagged",
    }
)  # fmt: skip


class Fleet:
    """What is known of the hive. `asked` is called before a snapshot is asked for, `load` with it."""

    def __init__(self) -> None:
        self.views: dict[str, ContainerView] = {}
        self.snapshot: HiveSnapshot | None = None
        self.needs: dict[str, str] = {}
        self._held: list[Frame] | None = None
        self._mail: set[int] = set()

    def asked(self) -> None:
        """A snapshot is on its way."""
        self._held = []

    def load(self, snapshot: HiveSnapshot) -> bool:
        """Begins anew with it; whether another one is wanted, because too much happened meanwhile."""
        held, self._held = self._held or [], None
        self.snapshot = snapshot
        self.views = {view.name: view for view in snapshot.containers}
        self._mail = {row.id for row in snapshot.inbox if row.done_at is None}
        self.needs = {}
        for question in snapshot.questions:
            if question.target == OPERATOR:
                self.needs.setdefault(question.asker, f"asks you: question {question.id}")
        for approval in snapshot.approvals:
            if approval.status == "pending":
                self.needs.setdefault(approval.agent, f"approval {approval.id} waits for you")
        for frame in held:
            if int(frame.get("seq", 0)) > snapshot.seq:
                self.apply(frame)
        return len(held) >= _HELD_MAX

    def apply(self, frame: Frame) -> tuple[ContainerView | None, bool]:
        """Takes a frame of the hive's in: the agent's row that changed, if one did; whether a snapshot is wanted."""
        if self._held is not None and len(self._held) < _HELD_MAX:
            self._held.append(frame)
        kind = frame.get("kind")
        if kind == "container_state_changed":
            return self._view(frame), False
        if kind == "container_removed":
            return self.views.pop(str(frame.get("name")), None), False
        if kind == "message_state":
            return None, frame.get("id") in self._mail or frame.get("state") in {"dead", "held"}
        if kind == "sent":
            return None, frame.get("to") == OPERATOR
        return None, kind in _MORE_KINDS or (kind == "resume" and frame.get("resume") == "gap")

    def _view(self, frame: Frame) -> ContainerView | None:
        try:
            view = msgspec.convert(frame.get("container"), ContainerView)
        except msgspec.ValidationError:  # of a newer hive; its next snapshot is refused in plain words
            return None
        if self.views.get(view.name) == view:
            return None
        self.views[view.name] = view
        return view

    # --- what is shown ----------------------------------------------------------------------------------------------

    def counts(self) -> Counter[str]:
        """How many agents are in each state."""
        return Counter(view.state for view in self.views.values())

    def shown(self, words: str, sort: str, now: float) -> list[ContainerView]:
        """The agents that match all of `words`, in that order; who needs the operator comes first in each."""
        views = [view for view in self.views.values() if self.matches(view, words, now)]
        return sorted(views, key=lambda view: (*_rank(view, sort), view.name != MANAGER, view.name))

    def matches(self, view: ContainerView, words: str, now: float) -> bool:
        """Whether every word is in what its row says, and none that is marked `!`."""
        text = f"{view.name} {state_word(view)} {self.doing(view, now)} {view.model} {view.account}".lower()
        return all(
            (word[1:] not in text) if word.startswith("!") and len(word) > 1 else word in text
            for word in words.lower().split()
        )

    def doing(self, view: ContainerView, now: float) -> str:
        """What an agent does, in a few words; of one that needs the operator, what for."""
        if view.transient:
            return view.transient + "…"
        if view.needs_login:
            return "needs a login"
        if view.state == "needs_you" and view.name in self.needs:
            return self.needs[view.name]
        if not view.running:
            return "stopped by you" if view.held_by_operator else "not running"
        reason = f" ({view.waiting_reason})" if view.waiting_reason else ""
        left = view.waiting_until - now if view.waiting_until else 0
        return f"{view.turn_state}{reason}" + (f", again in {age(left)}" if left > 0 else "")


def state_word(view: ContainerView) -> str:
    """The state as it is read."""
    return view.state.replace("_", " ")


def chips(view: ContainerView) -> str:
    """What else stands out."""
    found = [
        "needs update" if view.needs_update else "",
        f"budget {view.budget_used:.0%}" if view.budget_used is not None and view.budget_used >= 0.8 else "",
        f"{view.pending_reminders} reminders" if view.pending_reminders > 1 else "",
        "1 reminder" if view.pending_reminders == 1 else "",
        "not isolated" if view.isolation == "none" else "",
        "host network" if view.isolation != "none" and view.network == "host" else "",
        view.deployed_sha[:8] if view.deployed_sha else "",
    ]
    return ", ".join(chip for chip in found if chip)


def _rank(view: ContainerView, sort: str) -> tuple[float, ...]:
    first = STATES.index(view.state)
    match sort:
        case "name":
            return (0 if first == 0 else 1,)
        case "longest":
            return (0 if first == 0 else 1, view.turn_state_since)
        case "unread":
            return (0 if first == 0 else 1, -view.unread)
        case "context":
            return (0 if first == 0 else 1, -(view.ctx_tokens or 0))
        case _:
            return (first,)
