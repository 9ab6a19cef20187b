"""An agent's question reaches the operator's phone once, through restarts, and is taken back when it is answered."""

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console import Console
from receiver import Receiver, receiver
from up import Running, scripted

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hh-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 40
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)  # another process's doing: there is nothing to wait on


def test_a_question_reaches_the_phone_once_and_is_taken_back(console: Console, place: Path) -> None:
    user = scripted(console, place)
    with receiver() as phone:
        config = place / "hive.toml"
        config.write_text(
            f'[notify.channels.phone]\nkind = "ntfy"\nurl = "{phone.url}/hive"\nafter_seconds = 0\n'
        )
        user.env["HYPERHIVE_CONFIG"] = str(config)
        with Running(user) as hive:
            hive.ready()
            assert user.run("notices", "--test", "phone").code == 0
            assert phone.bodies[0]["title"] == "hyperhive"
            assert user.run("spawn", "alice", "--json").code == 0
            ask = '[[call ask {"question": "blue or red?", "options": ["blue", "red"]}]]'
            assert user.run("send", "alice", ask, "--json").code == 0
            until(lambda: len(phone.posts) == 2)
            until(
                lambda: "sent" in user.run("notices").out
            )  # killed sooner, nobody could say that it arrived
            hive.signal(signal.SIGKILL)
            hive.end()
        with Running(user) as hive:
            hive.ready()
            [question] = user.run("questions", "--json").json["questions"]
            assert user.run("answer", str(question["id"]), "red", "--json").code == 0
            until(lambda: len(phone.posts) == 3)
            _told_once_and_taken_back(phone)
            until(lambda: "resolved" in user.run("notices").out)
            [notice] = user.run("notices", "--json").json["notices"]
            assert (notice["state"], notice["agent"]) == ("resolved", "alice")
            hive.signal(signal.SIGTERM)
            assert hive.end() == 0


def _told_once_and_taken_back(phone: Receiver) -> None:
    told, settled = phone.bodies[1:]
    assert told["title"] == "alice asks: blue or red?"
    assert told["message"] == "answers: blue / red"
    assert settled["sequence_id"] == told["sequence_id"]
    assert settled["title"] == "settled: alice asks: blue or red?"
