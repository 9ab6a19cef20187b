"""Claims about pauses after failures, and about the small state files."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.harness.backoff import Backoff
from hyperhive.harness.files import LineFile, TurnNumbers


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_pauses_double_from_five_seconds_to_five_minutes_and_start_over_after_a_success() -> None:
    backoff = Backoff(5, 300, lambda: 0.0)
    assert [backoff.next_seconds() for _ in range(9)] == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert backoff.failures == 9
    backoff.reset()
    assert backoff.next_seconds() == 5


@given(st.integers(1, 2000), st.floats(0, 1, exclude_max=True))
def test_jitter_shortens_a_pause_by_at_most_a_quarter(failures: int, random: float) -> None:
    plain, jittered = Backoff(5, 300, lambda: 0.0), Backoff(5, 300, lambda: random)
    for _ in range(failures - 1):
        plain.next_seconds()
        jittered.next_seconds()
    full = plain.next_seconds()
    assert 0.75 * full <= jittered.next_seconds() <= full <= 300


async def test_a_line_is_read_back_without_white_space_and_replaced_whole(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "hyperhive-model")
    assert await file.read() is None
    assert await file.write("sonnet") is None
    assert await file.read() == "sonnet"
    assert await file.write("opus") is None
    assert file.path.read_text() == "opus\n"
    assert names_in(tmp_path) == ["hyperhive-model"]
    await file.write("")
    assert await file.read() is None


@pytest.mark.parametrize("content", [b"", b"\n", b"   \nsonnet", b"\xff\xfe"])
async def test_an_empty_or_broken_line_counts_as_unset(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    assert await LineFile(tmp_path / "f").read() is None


async def test_a_line_that_cannot_be_written_says_why_and_raises_nothing(tmp_path: Path) -> None:
    assert "hyperhive-model could not be written" in str(
        await LineFile(tmp_path / "no" / "hyperhive-model").write("x")
    )


async def test_turn_numbers_grow_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "hyperhive-turn"
    numbers = TurnNumbers(path)
    assert [await numbers.next() for _ in range(3)] == [1, 2, 3]
    await numbers.keep()
    assert await TurnNumbers(path).next() == 4
    path.write_text("rubbish")
    assert await TurnNumbers(path).next() == 1


async def test_turn_numbers_grow_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    numbers = TurnNumbers(tmp_path / "file" / "hyperhive-turn")
    assert await numbers.next() == 1
    await numbers.keep()
    assert await numbers.next() == 2
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)
