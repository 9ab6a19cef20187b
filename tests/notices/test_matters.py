"""What leaves the host is short, shows no control characters and no secret."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.notices.channels import filled
from hyperhive.notices.matters import TEXT_MAX, Matter, masker, presentable, summary
from hyperhive.notices.quiet import quiet_until

MASK = masker(lambda: ["hunter2hunter2"])


@pytest.mark.parametrize(
    "text",
    [
        "the key is sk-ant-api03-AbCdEf123456",
        "password: hunter2hunter2",
        "API_KEY=abcdef",
        "see hunter2hunter2 there",
    ],
)
def test_what_looks_like_a_secret_or_is_one_is_masked(text: str) -> None:
    shown = presentable(text, TEXT_MAX, MASK)
    assert "•••" in shown
    assert "hunter2" not in shown
    assert "AbCdEf" not in shown
    assert "abcdef" not in shown


@given(st.text())
def test_any_text_becomes_one_short_line_without_control_characters(text: str) -> None:
    shown = presentable(text, TEXT_MAX, MASK)
    assert len(shown) <= TEXT_MAX
    assert "\n" not in shown
    assert "\x1b" not in shown


def test_many_matters_are_counted_by_kind_and_agent() -> None:
    matters = [Matter(kind="question", id=str(n), agent=f"a{n}", title="?") for n in range(6)]
    title, text = summary([*matters, Matter(kind="approval", id="1", agent="a1", title="!")])
    assert title == "7 things need you"
    assert text == "6 x question, 1 x approval (a0, a1, a2, a3, a4 and 1 more)"


@given(st.text())
def test_what_a_field_says_cannot_change_the_shape_of_a_template(text: str) -> None:
    template = {"text": "{title}!", "blocks": [{"type": "a", "n": 1, "of": "{agent}"}]}
    made = filled(template, {"title": text, "agent": "alice"})
    assert made == {"text": f"{text}!", "blocks": [{"type": "a", "n": 1, "of": "alice"}]}


BERLIN = ZoneInfo("Europe/Berlin")


def at(*when: int) -> float:
    return datetime(*when, tzinfo=BERLIN).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("now", "end"),
    [
        (at(2026, 11, 20, 23, 0), at(2026, 11, 21, 7, 0)),
        (at(2026, 11, 21, 6, 59), at(2026, 11, 21, 7, 0)),
        (at(2026, 11, 21, 7, 0), None),
        (at(2026, 11, 20, 21, 59), None),
        (at(2026, 3, 28, 23, 0), at(2026, 3, 29, 7, 0)),  # the night in which an hour is left out
        (at(2026, 10, 24, 23, 0), at(2026, 10, 25, 7, 0)),  # the night in which one comes twice
    ],
)
def test_quiet_hours_end_by_the_clock_on_the_wall(now: float, end: float | None) -> None:
    assert quiet_until(now, "22:00-07:00", BERLIN) == end


def test_quiet_hours_may_lie_within_a_day() -> None:
    assert quiet_until(at(2026, 11, 20, 12, 30), "12:00-13:00", BERLIN) == at(2026, 11, 20, 13, 0)
    assert quiet_until(at(2026, 11, 20, 13, 0), "12:00-13:00", BERLIN) is None
