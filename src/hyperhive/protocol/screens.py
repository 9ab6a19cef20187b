"""Values that the operator's screens are made of, beside those of `types`: what a page shows of mail, config, disk.

Same rules as there: frozen, with the names of the wire, times in unix seconds. Nothing here behaves.
"""

from typing import Any, Literal

import msgspec

from hyperhive.protocol.types import FileRef, MessageStateName, Wire, always

HitKind = Literal["message", "event", "question", "decision"]
DigestKind = Literal["failed", "answered", "deployed", "decided", "crashed", "dead"]


class Tombstone(Wire, frozen=True, kw_only=True):
    """A destroyed agent whose state is kept. `size_bytes`: on disk, once it was measured; both may be unknown."""

    name: str
    size_bytes: int | None = None
    destroyed_at: int | None = None


class MetaInput(Wire, frozen=True, kw_only=True):
    """One input of what agents are built from: what all share, or as `agent-NAME` one's own config repo.

    `rev`: what is pinned; `updated_at`: that revision's own time, of an agent's that of its deploy.
    """

    name: str
    rev: str | None = None
    updated_at: int | None = None


class Reminder(Wire, frozen=True, kw_only=True):
    """A reminder that is still to come, or that failed. `message`: its beginning."""

    id: int
    owner: str
    set_by: str
    message: str
    set_at: int
    due_at: int
    file_path: str | None = None
    failure: str | None = None


class ForgeBehind(Wire, frozen=True, kw_only=True):
    """An agent whose copy on the forge lacks something since then; `error`: of the last try."""

    agent: str
    since: int
    error: str | None = None


class HiveSummary(Wire, frozen=True, kw_only=True):
    """The hive itself, as a page's head shows it.

    `dead`, `held`, `operator_unread`, `questions`: how many there are, also where a list beside shows fewer.
    `low_disk`: what is wrong with the disk, in words.
    """

    revision: str
    runtime: str
    started_at: int
    dead: int = always(0)
    held: int = always(0)
    operator_unread: int = always(0)
    questions: int = always(0)
    low_disk: str | None = None
    warnings: tuple[str, ...] = always(())
    forge_behind: tuple[ForgeBehind, ...] = always(())


class FlowRow(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"sender": "from", "recipient": "to"},
):
    """A message and what has become of it.

    Attributes:
        cut: the body goes on; `message` gives it whole.
        turn: the recipient's turn that read it, or that it died in, where that is known.
        note: why it is held or dead.
        tries: how often it made a turn fail.
    """

    id: int
    sender: str
    recipient: str
    body: str
    at: int
    state: MessageStateName
    cut: bool = False
    delivered_at: int | None = None
    acked_at: int | None = None
    tries: int = always(0)
    turn: int | None = None
    note: str | None = None
    file_refs: tuple[FileRef, ...] = always(())


class SnippetPiece(Wire, frozen=True, kw_only=True):
    """A piece of a found text; `hit`: it is what was looked for."""

    text: str
    hit: bool = always(value=False)


class SearchHit(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"sender": "from", "recipient": "to"},
):
    """Something that was found.

    Attributes:
        id: of the message, question or entry of the audit; of an event its `eid`.
        cursor: `before` for what is older.
        agent: whose event it is, or whom a decision is about; with `turn` and `eid` the way to it.
    """

    kind: HitKind
    id: int
    cursor: int
    at: int
    snippet: tuple[SnippetPiece, ...]
    sender: str | None = None
    recipient: str | None = None
    agent: str | None = None
    turn: int | None = None
    eid: int | None = None


class ConfigFile(Wire, frozen=True, kw_only=True):
    """A file of a config repo; `text` where it is text of a size to be shown."""

    path: str
    size: int
    text: str | None = None


class Deployment(Wire, frozen=True, kw_only=True):
    """Something that was deployed and can be gone back to: `rollback {to: id}`."""

    id: int
    sha: str
    at: int | None = None


class ConfigStand(Wire, frozen=True, kw_only=True):
    """A commit of an agent's config, and its files where they are shown."""

    sha: str
    id: int | None = None
    at: int | None = None
    files: tuple[ConfigFile, ...] = ()


class ProposedStand(Wire, frozen=True, kw_only=True):
    """The proposal that was asked for, else the newest that waits, else the newest.

    `differs`: from what is deployed; `approval`: its own; `error`: why that failed.
    """

    sha: str | None = None
    at: int | None = None
    differs: bool = always(value=False)
    approval: int | None = None
    error: str | None = None


class OriginMessage(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"sender": "from", "recipient": "to"},
):
    """A message that led to something; `cut`: the body is its beginning."""

    id: int
    sender: str
    recipient: str
    at: int
    body: str
    cut: bool = False


class Proposal(Wire, frozen=True, kw_only=True):
    """A proposal that waits, by its approval."""

    id: int
    sha: str
    at: int


class DigestAgent(Wire, frozen=True, kw_only=True):
    """One agent's turns since then, and the tokens that it used."""

    name: str
    turns: int = always(0)
    failed: int = always(0)
    tokens: int = always(0)


class DigestItem(Wire, frozen=True, kw_only=True):
    """One thing that happened. `ref`: the id of the approval, question, message or turn that it is about."""

    kind: DigestKind
    at: int
    text: str
    agent: str | None = None
    ref: int | None = None


Effective = dict[str, Any]
"""An agent's settings as they are in force, by their names in agent.toml."""
