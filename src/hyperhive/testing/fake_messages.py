"""What the stand-in of the Messages API reads in a request, and the answers that it makes. No I/O."""

import json
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


# --- reading a request ------------------------------------------------------------------------------------------------


def flat(content: object) -> str:
    """The text of a content value: a string, or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(
        str(b.get("text", "")) for b in blocks if isinstance(b, dict) and b.get("type") == "text"
    )


def read_turn(body: Json) -> tuple[str, int, str]:
    """Last user text, how many tool results came back since, and the text of the last one."""
    rounds, tool_text = 0, ""
    for message in reversed(body.get("messages", [])):
        if message.get("role") != "user":
            continue
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        last = max((at for at, block in enumerate(blocks) if block.get("type") == "tool_result"), default=-1)
        # Text beside a tool result is new text: a message handed in during the turn, or after a failed one.
        texts = [block["text"] for block in blocks[last + 1 :] if block.get("type") == "text"]
        texts = [text for text in texts if not text.lstrip().startswith("<system-reminder>")]
        if texts:
            return texts[-1], rounds, tool_text
        if last >= 0:
            rounds += 1
            tool_text = tool_text or flat(blocks[last].get("content"))
    return "", rounds, tool_text


# --- making an answer -------------------------------------------------------------------------------------------------


def expand(step: Json, facts: Json, ids: Iterator[int]) -> list[Json]:
    """The content blocks of a step."""
    blocks: list[Json] = []
    for raw in step.get("blocks", []):
        block = {"text": raw} if isinstance(raw, str) else raw
        if "tool" in block:
            call_id = f"toolu_fake{next(ids):06d}"
            blocks.append(
                {"type": "tool_use", "id": call_id, "name": block["tool"], "input": block.get("input", {})}
            )
        elif "thinking" in block:
            blocks.append({"type": "thinking", "thinking": block["thinking"], "signature": "ZmFrZQ=="})
        else:
            text = (
                block["text"].replace("{text}", facts["text"]).replace("{tool_result}", facts["tool_result"])
            )
            blocks.append({"type": "text", "text": text})
    return blocks


def message_for(body: Json, step: Json, blocks: list[Json], ids: Iterator[int]) -> Json:
    """The whole message, with usage figures that follow from the request's size unless the step names them."""
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": len(json.dumps(body)) // 4,
        "output_tokens": max(1, len(json.dumps(blocks)) // 4),
        "service_tier": "standard",
        **step.get("usage", {}),
    }
    calls_tool = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": f"msg_fake{next(ids):06d}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "?"),
        "content": blocks,
        "stop_reason": step.get("stop_reason") or ("tool_use" if calls_tool else "end_turn"),
        "stop_sequence": None,
        "usage": usage,
    }


def events_of(message: Json) -> Iterator[Json]:
    """The message as the documented stream of events, each long value cut into a few deltas."""
    usage = message["usage"]
    head = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": head}
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "usage": usage, "delta": delta}
    yield {"type": "message_stop"}


def _block_events(index: int, block: Json) -> Iterator[Json]:
    kind = block["type"]
    empties: dict[str, Json] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    empty = empties[kind]
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
    if kind == "tool_use":
        name, field, value = "input_json_delta", "partial_json", json.dumps(block["input"])
    else:
        name, field, value = f"{kind}_delta", kind, block[kind]
    width = max(1, -(-len(value) // 8))
    for at in range(0, len(value), width):
        delta = {"type": name, field: value[at : at + width]}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    if kind == "thinking":
        signature = {"type": "signature_delta", "signature": block["signature"]}
        yield {"type": "content_block_delta", "index": index, "delta": signature}
    yield {"type": "content_block_stop", "index": index}
