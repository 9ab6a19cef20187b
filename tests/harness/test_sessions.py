"""Which session a CLI continues, and that it is asked of the disk each time."""

import itertools
from pathlib import Path

from hyperhive.harness.sessions import SessionFile, transcript_exists

FIRST = "00000000-0000-0000-0000-000000000001"
SECOND = "00000000-0000-0000-0000-000000000002"


def session_file(directory: Path) -> SessionFile:
    ids = itertools.cycle([FIRST, SECOND])
    return SessionFile(directory / "hyperhive-session", lambda: next(ids))


async def test_the_id_is_made_once_and_kept(tmp_path: Path) -> None:
    session = session_file(tmp_path)
    assert [await session.current(), await session.current()] == [FIRST, FIRST]
    assert await session_file(tmp_path).current() == FIRST, "another harness continues it"
    assert await session.renew() == SECOND
    assert await session_file(tmp_path).current() == SECOND


async def test_the_running_cost_is_kept_beside_it(tmp_path: Path) -> None:
    session = session_file(tmp_path)
    await session.current()
    await session.keep_total(1.25)
    again = session_file(tmp_path)
    assert (await again.current(), again.total_cost) == (FIRST, 1.25)
    await again.renew()
    assert again.total_cost == 0


async def test_a_spoilt_file_starts_a_new_session(tmp_path: Path) -> None:
    for spoilt in (b"", b"\xff\xff", b"--resume=evil\n", b"../../etc/passwd\n"):
        (tmp_path / "hyperhive-session").write_bytes(spoilt)
        assert await session_file(tmp_path).current() == FIRST


async def test_a_file_that_cannot_be_written_costs_nothing_but_the_memory_of_it(tmp_path: Path) -> None:
    session = session_file(tmp_path / "missing")
    assert [await session.current(), await session.current()] == [FIRST, FIRST]


def test_a_transcript_counts_only_where_it_really_is(tmp_path: Path) -> None:
    assert not transcript_exists(tmp_path, FIRST)
    project = tmp_path / "projects/-state"
    project.mkdir(parents=True)
    (project / f"{FIRST}.jsonl").write_text("")
    assert not transcript_exists(tmp_path, FIRST), "an empty one cannot be resumed"
    (project / f"{FIRST}.jsonl").write_text("{}\n")
    assert transcript_exists(tmp_path, FIRST)
    assert not transcript_exists(tmp_path, SECOND)


def test_links_planted_by_the_agent_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside/-state"
    outside.mkdir(parents=True)
    (outside / f"{FIRST}.jsonl").write_text("{}\n")
    config = tmp_path / "config"
    config.mkdir()
    (config / "projects").symlink_to(tmp_path / "outside")
    assert not transcript_exists(config, FIRST)
    (config / "projects").unlink()
    (config / "projects").mkdir()
    (config / "projects/-state").symlink_to(outside)
    assert not transcript_exists(config, FIRST)
