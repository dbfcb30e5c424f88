"""`residency.toml`: strict, one section a stage. Unknown keys fail with the nearest match."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from residency.errors import SettingsError, StorageError

FILE_NAME = "residency.toml"
DEFAULT_BASE = "SmolLM2-135M-Instruct"

Model = TypeVar("Model", bound=BaseModel)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of a file that a user writes: what is not known there is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelSettings(Section):
    """`base`: a carried model's name, a local folder, a GGUF file, or a name on the hub."""

    base: str = DEFAULT_BASE


class DataSettings(Section):
    """What to learn from, and how it is split.

    `map` names the columns of a CSV (`prompt`, `completion`, optionally `system`). `near_duplicate`
    is the similarity (0..1) from which two questions count as the same. `max_tokens` is the longest
    row, prompt and answer together.
    """

    file: str
    map: dict[str, str] = {}
    system: str = ""
    validation: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.2
    near_duplicate: Share = 0.85
    max_tokens: Positive = 1024
    seed: int = 17


class TrainSettings(Section):
    """What is not given is chosen from model and data size; the reason is printed and recorded.

    `rank`, `alpha`, `dropout` and `target_modules` are LoRA's; `batch` is rows a step; `patience`
    is in validations without improvement; `threads` 0 means every free core.
    """

    method: Literal["lora"] = "lora"
    epochs: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    rank: Positive | None = None
    alpha: Positive | None = None
    dropout: Share | None = None
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    batch: Positive | None = None
    patience: Positive = 2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    seed: int = 17


Level = Literal["bf16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K"]
Form = Literal["lora", "onnx-int4", "onnx-fp32", "gptq", "merged", "ollama"]


class ExportSettings(Section):
    """What is made beside f16, which always is: `levels` are llama.cpp's, `also` are other forms.

    With `imatrix` the levels below Q8_0 spare what matters most to the training text. `shard` is
    the most megabytes of a GGUF file, beyond which it is split; 0 splits none. `signing_key` is a
    PEM file with the private key (elliptic curve) that a release is signed with; empty signs none.
    """

    levels: list[Level] = ["Q8_0", "Q5_K_M", "Q4_K_M"]
    also: list[Form] = []
    imatrix: bool = False
    shard: Annotated[int, Field(ge=0)] = 0
    signing_key: str = ""

    @field_validator("also", mode="before")
    @classmethod
    def _without_awq(cls, value: Any) -> Any:
        if isinstance(value, list) and "awq" in value:
            raise ValueError("awq is made on an accelerator only; gptq is as small, and made here")
        return value


class Endpoint(Section):
    """An API that speaks OpenAI's: `url` is its base, `model` its name there, `key_variable` the
    environment variable that holds the key. `timeout` is in seconds, for one answer."""

    url: Annotated[str, Field(min_length=1)]
    model: str = ""
    key_variable: str = ""
    timeout: Seconds = 120.0

    @property
    def served(self) -> ServedModel:
        """The same as what a gateway would pass a request on to."""
        return ServedModel(url=self.url, model=self.model, key_variable=self.key_variable)


class GateSettings(Section):
    """What a build must reach to ship; what is not set is not asked.

    `exact`, `fields`, `valid_json`, `similarity` and `score` are lowest values of the rates of the
    gate's report; `gain` is the lead over the base model in the main rate, which is `exact`, or of
    free text `similarity` where `exact` is not set. `different` is the largest share of
    answers that may differ from f16's, `drop` the largest loss against f16 in the main rate,
    `worse_than_api` how much worse than the API it may be in it, with 95% certainty. `latency` is
    in seconds, for 95 of 100 answers; `memory` in megabytes.

    `recorded` has the API's answers: a file of conversations, or "traffic" for what is imported;
    `api` is asked where a case has none. `scorer` is a `FILE.py:FUNCTION` of your own, whose mean
    is `score`. `judge` is a language model that compares answers. `users` are the numbers of
    concurrent users to time. `divergence` measures distributions, `forgetting` general knowledge.
    `max_tokens` 0 means half as many again as the longest answer of the training split.
    """

    exact: Share | None = None
    fields: Share | None = None
    valid_json: Share | None = None
    similarity: Share | None = None
    score: Share | None = None
    gain: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    different: Share = 0.10
    drop: Share | None = None
    worse_than_api: Share | None = None
    latency: Seconds | None = None
    memory: Positive | None = None
    recorded: str = ""
    api: Endpoint | None = None
    judge: Endpoint | None = None
    scorer: str = ""
    users: list[Positive] = []
    divergence: bool = False
    forgetting: bool = False
    max_tokens: Annotated[int, Field(ge=0)] = 0


class EngineSettings(Section):
    """How the model is run. `threads` 0 means the cores that are free; `server` is the path of a
    native `llama-server`, and empty means the one that comes with the package."""

    server: str = ""
    threads: Annotated[int, Field(ge=0)] = 0
    context: Positive = 2048
    slots: Positive = 4


ContextPolicy = Literal["error", "prune", "summarize"]
Money = Annotated[float, Field(ge=0)]


class ServedModel(Section):
    """A model that the endpoint lists: a release on an engine of ours, or an API at `url`.

    `release` is a release's name, and empty means the current one. For an API, `model` is its name
    there, `key_variable` the environment variable that holds its key, `price_in` and `price_out`
    the money for a million tokens, and `budget` what may be spent in a month. `fallback` names the
    models to ask, in this order, when this one fails, is overloaded or late. `timeout` is for a
    whole answer and `ttft_timeout` for its first token, in seconds. An answer that contains one of
    `banned` is cut off before it.
    """

    release: str = ""
    engine: Literal["llama.cpp", "vllm", "onnx"] = "llama.cpp"
    url: str = ""
    model: str = ""
    key_variable: str = ""
    price_in: Money = 0.0
    price_out: Money = 0.0
    budget: Money | None = None
    fallback: list[str] = []
    timeout: Seconds | None = None
    ttft_timeout: Seconds | None = None
    context: ContextPolicy = "error"
    banned: list[Annotated[str, Field(min_length=1)]] = []


Exposure = Literal["", "without keys", "without TLS", "without keys and TLS"]


class ServeSettings(Section):
    """Where the gateway listens, whom it serves, and within which bounds.

    `timeout` and `drain` are in seconds. `keys` asks every client for a key of `residency keys`.
    Beyond loopback it listens only with keys and TLS (`tls_certificate` and `tls_key`, PEM files),
    or with the words of `exposed`. `queue` is how many requests may wait for a model, `wait` for
    how many seconds; `body_limit` is in bytes, `message_limit` in messages of a request.
    `record` says how exchanges are kept: masked (personal data replaced), whole, or none; for
    `retention` days, 0 meaning for ever. `memory` is the engine's limit in megabytes, past which
    it is drained and replaced; 0 sets none. Without `models` the current release is served.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    timeout: Seconds = 120.0
    drain: Annotated[float, Field(ge=0)] = 30.0
    keys: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    exposed: Exposure = ""
    queue: Annotated[int, Field(ge=0)] = 64
    wait: Seconds = 30.0
    body_limit: Positive = 10_000_000
    message_limit: Positive = 1000
    record: Literal["masked", "whole", "none"] = "masked"
    retention: Annotated[int, Field(ge=0)] = 90
    memory: Annotated[int, Field(ge=0)] = 0
    models: dict[str, ServedModel] = {}


class TrafficSettings(Section):
    """Where exchanges are kept, and how logs are imported.

    `store` empty means SQLite in the workspace; else it is a database of its own on PostgreSQL,
    `postgresql://USER@HOST:PORT/DATABASE`, whose password is best left to the variable PGPASSWORD.
    `personal` says what an import does where personal data is found: mask it, keep it, or drop the
    text. `rejects` is how many bad lines an import bears before it stops.
    """

    store: Annotated[str, Field(pattern=r"^(postgres(ql)?://.*)?$")] = ""
    personal: Literal["mask", "keep", "drop"] = "mask"
    rejects: Annotated[int, Field(ge=0)] = 1000


class Settings(Section):
    """The whole file. `name` is the specialist's, and what `/v1/models` lists.

    With `sealed` no process of ours opens a connection that leaves this machine.
    """

    sealed: bool = False
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    model: ModelSettings = ModelSettings()
    data: DataSettings
    train: TrainSettings = TrainSettings()
    export: ExportSettings = ExportSettings()
    gate: GateSettings = GateSettings()
    engine: EngineSettings = EngineSettings()
    serve: ServeSettings = ServeSettings()
    traffic: TrafficSettings = TrafficSettings()


def load(workspace: Path) -> Settings:
    """The settings of `workspace`. Raises `SettingsError` with file, line and nearest match."""
    path = workspace / FILE_NAME
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise SettingsError(
            f"{path}: there is no {FILE_NAME} here",
            hint="make a workspace with: residency init DIR, or name one with --workspace DIR",
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path}: not UTF-8 (byte {error.start})", hint="save the file as UTF-8"
        ) from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(text, str(path))


def parse(text: str, place: str) -> Settings:
    """Settings from TOML `text`; `place` is named in errors."""
    return strict(Settings, text, place)


def strict(kind: type[Model], text: str, place: str) -> Model:
    """A `kind` from TOML `text`. Raises `SettingsError` with `place`, line and nearest match."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"{place}: not valid TOML: {error}", hint="see https://toml.io for the format"
        ) from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        loc = [str(part) for part in problem["loc"] if isinstance(part, str)]
        message, hint = _explain(kind, dict(problem), loc)
        more = error.error_count() - 1
        also = f" (and {more} more)" if more else ""
        raise SettingsError(f"{place}:{_line(text, loc)}: {message}{also}", hint=hint) from None


def strict_file(kind: type[Model], path: Path) -> Model:
    """The same from a file. Raises `StorageError` too."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: cannot be read: {error}", hint="check the path") from None
    return strict(kind, text, str(path))


def _explain(kind: type[BaseModel], problem: dict[str, Any], loc: list[str]) -> tuple[str, str]:
    name = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(kind, loc[:-1])
        near = difflib.get_close_matches(loc[-1], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown setting {name}", hint
    if problem["type"] == "missing":
        return f"{name} is missing", f"add {loc[-1]} = ..."
    return (
        f"{name}: {problem['msg']}, not {problem['input']!r}",
        "docs/reference/settings.md and the comments in the file say what it takes",
    )


def _known_keys(kind: Any, section: list[str]) -> list[str]:
    for part in section:
        tables = get_origin(kind) is dict  # its keys are names that the user gives
        kind = get_args(kind)[1] if tables else kind.model_fields[part].annotation
        if type(None) in get_args(kind):  # a table that may be left out
            kind = get_args(kind)[0]
    return sorted(kind.model_fields)


def _line(text: str, loc: list[str]) -> int:
    """The line of the key `loc`, or of its section, or 1."""
    section, best = "", 1
    wanted = ".".join(loc[:-1])
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\]]+)\]", line):
            section = header[1].strip().replace('"', "")
            if section in (wanted, loc[0], loc[-1]):
                best = number
        elif section == wanted and re.match(rf"\s*[\"']?{re.escape(loc[-1])}[\"']?\s*=", line):
            return number
    return best
