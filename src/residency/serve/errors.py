"""Every failure as OpenAI writes it, and who is at fault: the client, the gateway or the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal

from residency.errors import (
    EgressRefused,
    EngineError,
    EngineLoadError,
    EngineRejected,
    EngineTimeout,
    EngineUnavailable,
    InputError,
    ResidencyError,
)

Party = Literal["client", "gateway", "engine"]
RETRY_SECONDS = 2


class RequestError(InputError):
    """The client's request cannot be answered: as it stands, or (with a status from 500 on, which
    makes it the gateway's fault) now.

    `status` is the HTTP status; `code` and `param` are OpenAI's; `headers` go out with it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers or {}


def stalled(message: str, code: str = "record_stalled") -> RequestError:
    """What the gateway cannot do now, and can in a few seconds."""
    return RequestError(message, status=503, code=code, headers={"retry-after": "5"})


class ClosingError(ResidencyError):
    """The gateway is shutting down and takes no more work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A failure as it goes over HTTP: `type`, `code` and `param` as in OpenAI's error body; `more`
    are headers of its own."""

    status: int
    party: Party
    type: str
    code: str
    message: str
    param: str | None = None
    hint: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The body of the answer, or of the event that ends a stream."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        about = {"party": self.party} | ({"hint": self.hint} if self.hint else {})
        return {"error": error, "residency": about}

    def headers(self) -> dict[str, str]:
        """Who is at fault, and when to come again if that helps."""
        retry = {"retry-after": str(RETRY_SECONDS)} if self.status == 503 else {}
        return {"x-residency-party": self.party, **retry, **self.more}


# The first class that fits decides, so a subclass stands before its base.
_SERVER_FAULTS: tuple[tuple[type[ResidencyError], int, Party, str], ...] = (
    (EngineLoadError, 503, "engine", "engine_load_failed"),
    (EngineUnavailable, 503, "engine", "engine_unavailable"),
    (EngineTimeout, 504, "engine", "engine_timeout"),
    (EngineError, 500, "engine", "engine_error"),
    (ClosingError, 503, "gateway", "shutting_down"),
    (EgressRefused, 403, "gateway", "may_not_leave"),
    (ResidencyError, 500, "gateway", "internal_error"),
)


def fault_of(error: Exception) -> Fault:
    """How `error` is told to the client. What we did not foresee is a fault of the gateway."""
    if isinstance(error, RequestError):
        fault = _client_fault(error.message, error.status, error.code, error.param)
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            fault = replace(fault, party="gateway", type="server_error")
        return replace(fault, more=error.headers)
    if isinstance(error, EngineRejected):
        return _rejection(error)
    for kind, status, party, code in _SERVER_FAULTS:
        if isinstance(error, kind):
            return Fault(
                status=status,
                party=party,
                type="server_error",
                code=code,
                message=error.message,
                hint=error.hint,
            )
    return Fault(
        status=500,
        party="gateway",
        type="server_error",
        code="internal_error",
        message="the gateway failed; its log says why",
    )


def _client_fault(message: str, status: int, code: str, param: str | None) -> Fault:
    return Fault(
        status=status,
        party="client",
        type="invalid_request_error",
        code=code,
        message=message,
        param=param,
    )


def _rejection(error: EngineRejected) -> Fault:
    """A 400 is the request's fault, a 5xx the engine's; any other means that we asked wrongly."""
    if error.status == 400:
        return _client_fault(error.message, 400, "rejected_by_engine", None)
    engine = error.status >= 500
    return Fault(
        status=502 if engine else 500,
        party="engine" if engine else "gateway",
        type="server_error",
        code="engine_error" if engine else "internal_error",
        message=error.message,
        hint=error.hint,
    )
