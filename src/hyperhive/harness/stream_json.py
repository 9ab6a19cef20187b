"""One line of the agent CLI's stream-json, read leniently: the few fields that a turn is judged by, all optional.

The CLI's authors add fields and kinds often, and what a box prints may be forged by the agent in it. So a field of an
unexpected type counts as absent, an unknown kind is kept and means nothing, and a line that is no JSON object is noise
(None). Nothing here decides what a frame means for a turn; `machine` does.
"""

from typing import Any

import msgspec

from hyperhive.protocol.types import TokenUsage

TEXT_MAX = 2000
"""How much of a text the hive keeps for a note."""


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the API names them; null counts as 0."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cache_read_input_tokens: int | None = 0
    cache_creation_input_tokens: int | None = 0

    def tokens(self) -> TokenUsage:
        """The same as the wire has it."""
        return TokenUsage(
            input_tokens=self.input_tokens or 0,
            output_tokens=self.output_tokens or 0,
            cache_read_input_tokens=self.cache_read_input_tokens or 0,
            cache_creation_input_tokens=self.cache_creation_input_tokens or 0,
        )


class Block(msgspec.Struct, frozen=True):
    """One content block. `content` is a tool result's, still encoded."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    is_error: bool | None = None
    content: msgspec.Raw = msgspec.Raw()


class Message(msgspec.Struct, frozen=True):
    """The API message inside an `assistant` or `user` frame."""

    model: str | None = None
    content: str | list[Block] = ""
    usage: Usage | None = None


class ModelUsage(msgspec.Struct, frozen=True):
    """What one model cost, and how large its context is."""

    costUSD: float | None = 0.0  # noqa: N815 (the CLI's name)
    contextWindow: int | None = None  # noqa: N815


class McpServer(msgspec.Struct, frozen=True):
    """One MCP server as `init` lists it."""

    name: str = ""
    status: str = ""


class RateLimit(msgspec.Struct, frozen=True):
    """A usage limit of an account. `resetsAt` is unix seconds."""

    status: str | None = None
    resetsAt: float | None = None  # noqa: N815
    rateLimitType: str | None = None  # noqa: N815


class Origin(msgspec.Struct, frozen=True):
    """Why a turn ran that nobody asked for."""

    kind: str | None = None


class Frame(msgspec.Struct, frozen=True):
    """One frame. Absent and null are the same."""

    type: str = ""
    subtype: str | None = None
    uuid: str | None = None
    session_id: str | None = None
    message: Message | None = None
    parent_tool_use_id: str | None = None
    isReplay: bool | None = None  # noqa: N815
    user_message_uuids: list[str] | None = None
    # what went wrong
    error: str | None = None
    api_error: str | None = None
    api_error_status: int | None = None
    error_status: int | None = None
    rate_limit_info: RateLimit | None = None
    # result
    is_error: bool | None = None
    terminal_reason: str | None = None
    result: str | None = None
    errors: list[str] | None = None
    num_turns: int | None = None
    usage: Usage | None = None
    total_cost_usd: float | None = None
    modelUsage: dict[str, ModelUsage] | None = None  # noqa: N815
    model_usage_since_last_result: dict[str, ModelUsage] | None = None
    origin: Origin | None = None
    # init
    model: str | None = None
    mcp_servers: list[McpServer] | None = None
    # background tasks
    task_id: str | None = None
    tasks: list[msgspec.Raw] | None = None
    status: str | None = None
    # control requests and their answers, still encoded
    request_id: str | None = None
    request: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()

    def text(self) -> str:
        """What a result says for itself, cut to a note's size."""
        said = self.result or "; ".join(self.errors or ())
        return said if len(said) <= TEXT_MAX else said[:TEXT_MAX] + "…"


_DECODER = msgspec.json.Decoder(Frame)
_FIELDS = msgspec.structs.fields(Frame)


def parse_frame(line: bytes) -> Frame | None:
    """The frame of one line (without its newline), or None where the line is no JSON object. Never raises."""
    try:
        return _DECODER.decode(line)
    except (msgspec.ValidationError, RecursionError):
        return _parse_leniently(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _parse_leniently(line: bytes) -> Frame | None:
    """Field by field, dropping those of an unexpected type."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    kept: dict[str, Any] = {}
    for field in _FIELDS:
        raw = fields.get(field.encode_name)
        if raw is None:
            continue
        try:
            kept[field.name] = raw if field.type is msgspec.Raw else msgspec.json.decode(raw, type=field.type)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return Frame(**kept)
