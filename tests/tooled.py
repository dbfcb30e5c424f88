"""A tool, calls of it, and a chat template that has a place for both, as Qwen's has."""

from __future__ import annotations

import json
from typing import Any

from residency.types import Conversation, Message

HERMES = (
    "{% if tools %}<|im_start|>system\n"
    "{{ messages[0].content + '\n\n' if messages[0].role == 'system' else '' }}<tools>"
    "{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools><|im_end|>\n"
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}"
    "<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>"
    "{{ 'user' if m.role == 'tool' else m.role }}\n"
    "{% if m.role == 'tool' %}<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% else %}{{ m.content }}{% endif %}"
    "{% for call in m.tool_calls or [] %}<tool_call>\n"
    '{"name": {{ call.function.name | tojson }}, "arguments": '
    "{{ call.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tool(name: str = "free_slots") -> dict[str, Any]:
    properties = {"day": {"type": "string"}, "limit": {"type": "integer"}}
    parameters = {"type": "object", "properties": properties, "required": ["day"]}
    function = {"name": name, "description": "Free hours, 空闲", "parameters": parameters}
    return {"type": "function", "function": function}


def call(name: str = "free_slots", **arguments: Any) -> dict[str, Any]:
    given = json.dumps(arguments, ensure_ascii=False)
    return {"id": "call12345", "type": "function", "function": {"name": name, "arguments": given}}


def asks(*calls: dict[str, Any]) -> Message:
    return Message(role="assistant", content="", extra={"tool_calls": list(calls)})


def conversation(
    question: str, *calls: dict[str, Any], tools: tuple[str, ...] = ("free_slots",)
) -> Conversation:
    """A question that is answered by `calls`, or in words without any."""
    answer = asks(*calls) if calls else Message(role="assistant", content="At nine.")
    messages = (Message(role="user", content=question), answer)
    return Conversation(messages=messages, source="f:1", tools=tuple(map(tool, tools)))
