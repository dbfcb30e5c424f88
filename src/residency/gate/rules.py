"""The rules that a build must meet, as the settings have them, checked and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from residency.config import GateSettings
from residency.errors import SettingsError
from residency.gate.score import Kind
from residency.gate.tally import Main, measured
from residency.types import Rate

RATE_WORDS: Mapping[str, str] = {
    "exact": "exact match",
    "fields": "share of right fields",
    "valid_json": "share of valid JSON",
    "similarity": "similarity",
    "score": "score of your own scorer",
    "gain": "lead over the base model",
    "lead": "lead over the API",
    "loss": "loss against f16",
    "different": "share of answers that differ from f16's",
}
LOWEST = ("exact", "fields", "valid_json", "similarity", "score", "gain")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The settings, for answers of `kind`. `noise` is how often a build asked twice differed from
    itself."""

    settings: GateSettings
    kind: Kind
    noise: Rate | None = None

    @property
    def main(self) -> Main:
        """The rate in which builds are compared; see `GateSettings`."""
        return "similarity" if self.kind == "text" and self.settings.exact is None else "exact"

    @property
    def lowest(self) -> dict[str, float]:
        """The lowest values that are set, by the name of their rate."""
        values = {name: getattr(self.settings, name) for name in LOWEST}
        return {name: value for name, value in values.items() if value is not None}

    def words(self, name: str) -> str:
        """A rate's name; that of a comparison says in what."""
        inside = f" in {RATE_WORDS[self.main]}" if name in ("gain", "lead", "loss") else ""
        return RATE_WORDS[name] + inside

    def check(self) -> None:
        """Raise `SettingsError` where a rule is set for what is not measured."""
        wanted = self.settings
        for name in ("fields", "valid_json", "similarity"):
            if getattr(wanted, name) is not None and name not in measured(self.kind):
                answers = {"json": "JSON objects", "label": "labels", "text": "free text"}
                raise SettingsError(
                    f"gate.{name} is set, but the answers of this data set are "
                    f"{answers[self.kind]}, which have no {RATE_WORDS[name]}",
                    hint=f"remove gate.{name} from residency.toml; "
                    f"measured here: {', '.join(measured(self.kind))}",
                )
        if wanted.score is not None and not wanted.scorer:
            raise SettingsError("gate.score is set, but no scorer", hint="set gate.scorer")
        if wanted.worse_than_api is not None and not (wanted.recorded or wanted.api):
            raise SettingsError(
                "gate.worse_than_api is set, but nothing has the API's answers",
                hint="set gate.recorded, or url and model of [gate.api]",
            )

    def in_words(self) -> str:
        """The rule that `decide` applies."""
        wanted = self.settings
        asked = [f"its {self.words(n)} is at least {value:g}" for n, value in self.lowest.items()]
        limits = [f"at most {percent(wanted.different)} of its answers differ from those of f16"]
        if wanted.drop is not None:
            limits.append(f"its {self.words('loss')} is at most {wanted.drop:g}")
        if wanted.worse_than_api is not None:
            limits.append(
                f"by its whole 95% interval it is worse than the API by no more than "
                f"{wanted.worse_than_api:g} in {RATE_WORDS[self.main]}"
            )
        if wanted.latency is not None:
            limits.append(f"95 of 100 answers take at most {wanted.latency:g} s")
        if wanted.memory is not None:
            limits.append(f"its engine takes at most {wanted.memory} MB of memory")
        limit = ", and ".join([", ".join(limits[:-1]), limits[-1]] if limits[1:] else limits)
        if asked:
            rule = f"A build passes when {', '.join(asked)}, and {limit}."
        else:
            rule = f"No threshold of quality is set: a build passes when {limit}."
        return (
            f"{rule} The measured value decides, not the lower end of its interval. "
            "Of the builds that pass, the smallest becomes the release; f16 is a candidate, "
            "the base model is not."
        )


def percent(share: float) -> str:
    return f"{100 * share:.3g}%"
