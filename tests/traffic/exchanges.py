"""Exchanges for the tests of the traffic store."""

from typing import Any

from residency.types import Exchange

NOON = 1_800_000_000.0


def exchange(number: int, text: str = "hello", **fields: Any) -> Exchange:
    """The exchange `number`, that many seconds after `NOON`, in which `text` was said."""
    values: dict[str, Any] = {
        "id": f"req_{number:06}",
        "time": NOON + number,
        "api": "chat",
        "model": "clinic-desk",
        "key": "ada",
        "request": {"messages": [{"role": "user", "content": text}]},
        "response": {"choices": [{"message": {"role": "assistant", "content": "yes"}}]},
        "status": 200,
        "latency": 0.25,
    }
    return Exchange(**values | fields)
