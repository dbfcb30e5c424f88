"""One request that is over, as the watch sees it: figures and names, none of its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from residency.config import WatchSettings

_MILLION = 1_000_000

Route = Literal["local", "remote", "none"]
"""Where the answer came from: an engine of ours, an API elsewhere, or nowhere."""


class Finished(NamedTuple):
    """`time` is when it ended, in seconds since 1970; `latency`, `ttft` (to the first token; None
    where none came) and `queued` are in seconds; tokens include those of answers that were given
    up; `cost` is money.

    `model` is the one asked for ("" where the request was not understood), `target` the one tried
    last, `build` what answered. `status` is the HTTP status, or 499 for a client that left; `error`
    is a failure's code. `guards` are the events of the guards, `context` what was done to a long
    conversation, `finish` how an answer ended that OpenAI has no word for.
    """

    id: str
    time: float
    api: str
    model: str
    status: int
    latency: float
    ttft: float | None = None
    queued: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    route: Route = "none"
    target: str = ""
    build: str = ""
    error: str = ""
    guards: tuple[str, ...] = ()
    context: str = ""
    finish: str = ""

    @property
    def failed(self) -> bool:
        """Whether we failed it. What the client did wrong, and that it left, does not count."""
        return self.status >= 500

    @property
    def answered(self) -> bool:
        return self.status < 400

    @property
    def per_token(self) -> float | None:
        """Seconds for each token after the first; None where there are not two."""
        if self.ttft is None or self.completion_tokens < 2:
            return None
        return (self.latency - self.ttft) / (self.completion_tokens - 1)


def made_to_fit(receipt: Any) -> str:
    """What the `receipt` of a conversation that was too long says was done to it: summarised or
    pruned; empty where nothing was."""
    if not isinstance(receipt, Mapping):
        return ""
    if receipt.get("summarised_messages"):
        return "summarised"
    return "pruned" if receipt.get("dropped_messages") else ""


def money_saved(event: Finished, settings: WatchSettings) -> float:
    """What the answer would have cost at the API that is replaced, in money; 0 where another API
    answered, or no price is set. What our own machine costs is the memo's to tell."""
    if not event.answered or event.route != "local":
        return 0.0
    prompt = event.prompt_tokens * (settings.api_price_in or 0.0)
    answer = event.completion_tokens * (settings.api_price_out or 0.0)
    return (prompt + answer) / _MILLION
