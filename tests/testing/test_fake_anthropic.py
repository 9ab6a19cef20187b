"""The stand-in of the Messages API as a program and as a part of a test."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hyperhive.testing.fake_anthropic import FakeAnthropic, error, tool_turn


def ask(url: str, text: str, *, stream: bool = False, **more: object) -> tuple[int, str]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream, **more}
    request = urllib.request.Request(
        f"{url}/v1/messages?beta=true", json.dumps(body).encode(), {"x-api-key": "canary"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_it_answers_by_rules_and_records_without_keys() -> None:
    with FakeAnthropic({"rules": [{"match": "^sing", "times": 1, "blocks": ["la la"]}]}) as api:
        assert "la la" in ask(api.url, "sing")[1]
        assert "ok: sing" in ask(api.url, "sing")[1]
        api.scenario = error(529, "overloaded_error", "busy")
        assert ask(api.url, "x")[0] == 529
        assert [request["text"] for request in api.requests] == ["sing", "sing", "x"]
        assert "canary" not in str(api.log)


def test_it_streams_what_it_would_have_answered() -> None:
    with FakeAnthropic(
        {"rules": [{"match": "x", "blocks": [{"thinking": "hm"}, "done"], "usage": {"output_tokens": 9}}]}
    ) as api:
        _, text = ask(api.url, "x", stream=True)
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    said = "".join(
        event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta"
    )
    assert said == "done"
    assert events[-2]["usage"]["output_tokens"] == 9


def test_steps_follow_the_tool_results() -> None:
    rule = tool_turn("go", ("Bash", {"command": "ls"}), end="saw {tool_result}")
    with FakeAnthropic({"rules": [rule]}) as api:
        assert json.loads(ask(api.url, "go")[1])["stop_reason"] == "tool_use"
        history: list[dict[str, Any]] = [
            {"role": "user", "content": "go"},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "files"}]},
        ]
        assert "saw files" in ask(api.url, "", messages=history)[1]


def test_as_a_program_it_tells_its_port_and_swaps_its_scenario(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    argv = [sys.executable, "-m", "hyperhive.testing.fake_anthropic", "--port-file", str(port_file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline().startswith("listening on http://127.0.0.1:")
            url = f"http://127.0.0.1:{port_file.read_text()}"
            swap = json.dumps({"default": {"blocks": ["swapped"]}}).encode()
            urllib.request.urlopen(urllib.request.Request(f"{url}/__scenario", swap), timeout=10).close()
            assert "swapped" in ask(url, "x")[1]
            with urllib.request.urlopen(f"{url}/__log", timeout=10) as log:
                assert len(json.loads(log.read())) == 1
        finally:
            program.terminate()
