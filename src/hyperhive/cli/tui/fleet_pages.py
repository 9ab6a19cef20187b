"""Pages over the live table: its keys, one agent's details, what waits for the operator. Text to scroll in. Pure."""

from hyperhive.cli.render import ago, clock
from hyperhive.cli.tui.term import Line
from hyperhive.cli.tui.wrapping import wrapped
from hyperhive.names import OPERATOR
from hyperhive.protocol.replies import AgentDetail, HiveSnapshot
from hyperhive.terminal import pad, visible

_KEYS = (
    ("j k, arrows, PgUp PgDn", "move; G or End: to the last, Home: to the first"),
    ("Enter", "watch the agent and write to it; Esc, then q, comes back here"),
    ("r", "the same, beginning in the send box"),
    ("Space", "peek: what it needs, its session, what is not isolated"),
    ("/", "filter: words that must be there, !word that must not; Esc shows all"),
    ("g a, g n", "all agents, those that need you"),
    ("g q, g p, g i", "questions, approvals, your inbox"),
    ("s", "order: state, name, longest in its state, unread, context"),
    ("x", "mark; S and A are then about all that are marked"),
    ("S, A", "stop, start: asks first; of several, type what it says"),
    ("p", "pause the table, and go on; nothing is lost meanwhile"),
    ("t", "times of day instead of ages"),
    ("q, Ctrl-C", "leave; agents go on working"),
)


class Page:
    """Text with a title, scrolled by lines."""

    def __init__(self, title: str, lines: list[Line], *, hang: int = 0) -> None:
        self.title = title
        self.lines = lines
        self.hang = hang
        """How far a line that is wrapped goes on to the right of where it began."""
        self.top = 0

    def move(self, by: int) -> None:
        """Scrolls."""
        self.top = max(0, min(self.top + by, len(self.lines) - 1))


def picture(page: Page, columns: int, rows: int) -> tuple[list[Line], None]:
    """The page, its long lines wrapped."""
    body: list[Line] = []
    for line in page.lines:
        style = line[0][0] if line else ""
        text = "".join(part for _, part in line)
        indent = " " * (len(text) - len(text.lstrip(" ")))
        first = wrapped(text[len(indent) :], columns - len(indent))[0]
        left = text[len(indent) + len(first) :].lstrip(" ")
        rest = wrapped(left, columns - len(indent) - page.hang) if left else []
        body.append([(style, indent + first)])
        body += [[(style, indent + " " * page.hang + part)] for part in rest]
    room = max(1, rows - 3)
    page.top = min(page.top, max(0, len(body) - room))
    shown = body[page.top : page.top + room]
    more = len(body) - page.top - len(shown)
    foot = f"{more} more lines: j" if more > 0 else ""
    lines = [[("bold", page.title)], [], *shown]
    lines += [[] for _ in range(rows - 1 - len(lines))]
    return [*lines, [("dim", pad("Esc goes back", max(15, columns - 24))), ("dim", foot)]], None


def keys() -> Page:
    """What the keys do."""
    return Page("Keys", [[("", f"{pad(key, 24)}{what}")] for key, what in _KEYS], hang=24)


def page(key: str, snapshot: HiveSnapshot) -> Page | None:
    """What `g` and this key show."""
    match key:
        case "q":
            return _questions(snapshot)
        case "p":
            return _approvals(snapshot)
        case "i":
            return _inbox(snapshot)
        case _:
            return None


def _questions(snapshot: HiveSnapshot) -> Page:
    lines: list[Line] = []
    for question in snapshot.questions:
        if question.target != OPERATOR:
            continue
        lines.append(
            [("amber", f"{question.id}  {visible(question.asker)} asks, {clock(question.asked_at)}")]
        )
        lines += [[("", f"    {visible(part)}")] for part in question.question.splitlines()]
        lines += [[("", f"    {n}. {visible(option)}")] for n, option in enumerate(question.options, 1)]
        lines.append([("dim", f"    hyperhive answer {question.id} ...")])
    return Page("Questions for you", lines or [[("dim", "no question waits for you")]])


def _approvals(snapshot: HiveSnapshot) -> Page:
    lines: list[Line] = []
    for one in snapshot.approvals:
        if one.status == "pending":
            what = one.kind.replace("_", " ")
            lines.append(
                [("amber", f"{one.id}  {visible(one.agent)}: {what} {visible(one.commit_ref[:12])}")]
            )
            lines.append([("dim", f"    {clock(one.requested_at)}; read it with: hyperhive show {one.id}")])
    return Page("Approvals", lines or [[("dim", "nothing waits for your approval")]])


def _inbox(snapshot: HiveSnapshot) -> Page:
    lines: list[Line] = []
    for row in snapshot.inbox:
        if row.done_at is None:
            lines.append([("cyan", f"{row.id}  from {visible(row.sender)}, {clock(row.at)}")])
            lines += [[("", f"    {visible(part)}")] for part in row.body.splitlines()[:20]]
            lines.append([("dim", f"    hyperhive inbox --done {row.id}")])
    return Page("Your inbox", lines or [[("dim", "no message waits for you")]])


def detail(one: AgentDetail, now: float) -> Page:
    """What is known of an agent beyond its row."""
    view = one.view
    facts = [
        (
            "state",
            f"{view.state.replace('_', ' ')}, {view.turn_state} since {ago(view.turn_state_since, now)}",
        ),
        *(("needs you", need) for need in one.needs),
        *((("last error", one.last_error),) if one.last_error else ()),
        ("unread", str(view.unread)),
        ("model", view.model),
        ("account", view.account),
        ("isolation", f"{view.isolation}, network {view.network}"),
        ("session", (one.session or "none yet") + (" (process is warm)" if one.warm else "")),
        ("agent CLI", one.cli_version or "unknown"),
        ("deployed", (view.deployed_sha or "nothing yet")[:12]),
        *(("mount", mount) for mount in one.mounts),
        *(("warning", warning) for warning in one.warnings),
    ]
    amber = {"needs you", "last error", "warning"}
    lines: list[Line] = [
        [("amber" if label in amber else "", f"{pad(label, 12)}{visible(text)}")] for label, text in facts
    ]
    return Page(view.name, lines, hang=12)
