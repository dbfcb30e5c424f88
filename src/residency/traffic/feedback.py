"""What people say of recorded answers: a thumb, a better answer, a word."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace
from typing import Literal

from residency.traffic.mask import masked_text

Source = Literal["client", "review"]
Rating = Literal["", "up", "down"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """One opinion of the exchange whose id is `exchange`; a later one of the same `source` takes
    its place.

    `client` came by the endpoint with the key of that name, `review` from the owner's queue. `time`
    is in seconds since 1970. `correction` is the answer that should have been given; empty fields
    say nothing.
    """

    exchange: str
    time: float
    source: Source = "client"
    key: str = ""
    rating: Rating = ""
    correction: str = ""
    comment: str = ""

    def masked(self) -> Feedback:
        """The same without the personal data that patterns find, as exchanges are kept."""
        return replace(
            self,
            key=masked_text(self.key),
            correction=masked_text(self.correction),
            comment=masked_text(self.comment),
        )


COLUMNS = tuple(field.name for field in fields(Feedback))
_KEY = ("exchange", "source")
KEEP = (
    f"INSERT INTO feedback ({', '.join(COLUMNS)}) SELECT {', '.join('?' * len(COLUMNS))} "
    "WHERE EXISTS (SELECT 1 FROM exchanges WHERE id = ?) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in _KEY)
)
READ = f"SELECT {', '.join(COLUMNS)} FROM feedback ORDER BY time, exchange, source"


def cells(one: Feedback) -> tuple[str | float, ...]:
    """The values of `KEEP`."""
    return (*astuple(one), one.exchange)
