"""Who asks, and which models exist for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from residency.serve.asked import ANYONE, Caller
from residency.serve.errors import RequestError
from residency.serve.keys import KeyRing


def authenticate(headers: Mapping[str, str], ring: KeyRing | None, now: float) -> Caller:
    """The caller of a request; `headers` in lower case, `now` in seconds since 1970.

    The key stands in `authorization` (OpenAI's clients) or else in `x-api-key` (Anthropic's).
    Without a ring the endpoint asks for no keys. Raises what `KeyRing.verify` raises.
    """
    if ring is None:
        return ANYONE
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return ring.verify(given, now)


def visible(caller: Caller, served: Iterable[str]) -> list[str]:
    """Those of the `served` models that exist for the caller."""
    return [name for name in served if caller.models is None or name in caller.models]


def allow_all(caller: Caller) -> None:
    """Raises `RequestError` (403) for a caller whose key is for some models only: figures of the
    whole endpoint tell of the others."""
    if caller.models is not None:
        raise RequestError(
            f"the key {caller.name!r} is for some models only, and this tells of all",
            status=403,
            code="not_allowed",
        )


def allow_model(caller: Caller, name: str, served: Iterable[str]) -> None:
    """Raises `RequestError` (404) for a model that is not served, and in the same words for one
    that the caller's key does not allow."""
    known = visible(caller, served)
    if name not in known:
        raise RequestError(
            f"the model {name!r} is not served here; known: {', '.join(known) or 'none'}",
            status=404,
            code="model_not_found",
            param="model",
        )
