"""Served calls for the tests of the loop."""

from typing import Any

from residency.traffic.feedback import Feedback
from residency.types import Exchange
from tests.traffic.exchanges import NOON, exchange


def served(number: int, text: str, answer: str = "yes", **fields: Any) -> Exchange:
    """An exchange that our model answered; `routes` are the models that were tried."""
    tags = {"routes": fields.pop("routes", ["desk"]), **fields.pop("tags", {})}
    finish = fields.pop("finish", "stop")
    message = {"role": "assistant", "content": answer}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return exchange(number, text, tags=tags, response={"choices": choices}, **fields)


def said(number: int, rating: str = "", correction: str = "", **fields: Any) -> Feedback:
    values = {"exchange": exchange(number).id, "time": NOON + number, "key": "ada"}
    return Feedback(**values | {"rating": rating, "correction": correction} | fields)
