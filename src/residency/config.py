"""`residency.toml`: strict, one section a stage. Unknown keys fail with the nearest match."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from residency.errors import SettingsError, StorageError
from residency.strict import strict
from residency.types import Level, Method

FILE_NAME = "residency.toml"
DEFAULT_BASE = "SmolLM2-135M-Instruct"

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


class Priced(Endpoint):
    """An API that is paid for: `price_in` and `price_out` are the money for a million tokens."""

    price_in: Annotated[float, Field(ge=0)] | None = None
    price_out: Annotated[float, Field(ge=0)] | None = None

    @property
    def served(self) -> ServedModel:
        prices = {"price_in": self.price_in or 0.0, "price_out": self.price_out or 0.0}
        return super().served.model_copy(update=prices)


class Teacher(Priced):
    """Who answers the rows that have no answer yet.

    `system` is its instruction, which the specialist never sees. `budget` is the money that
    labelling in this workspace may cost in all. Each row is asked `samples` times, `concurrency`
    rows at once, with at most `max_tokens` an answer, at `temperature` (0 for one sample, else
    0.7); it is kept when the share `agreement` of its answers is the same, and the `judge`, if
    there is one, calls it right.
    """

    system: str = ""
    budget: Annotated[float, Field(gt=0)] | None = None
    samples: Positive = 1
    agreement: Share = 0.6
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Positive = 512
    concurrency: Positive = 4
    judge: Priced | None = None


class TrainSettings(Section):
    """What is not given is chosen from model and data size; the reason is printed and recorded.

    `method`: "lora" and "qlora" (the same over weights in 4 bits) make an adapter; "full" trains
    all weights, "distill" learns from a teacher, "scratch" makes a model of its own. `rank`,
    `alpha`, `dropout`, `dora`, `rslora` and `target_modules` ("attention", "all-linear", or a list
    of names) are an adapter's. `turns` says whether the last answer of a conversation is learnt or
    all of them. `batch` is rows a step, over all `processes`; `patience` is in validations without
    improvement; `processes` 0 means as many as are fastest in a few timed steps, and `threads` 0
    every free core, divided among the processes. With `sharded` each process holds its part of the
    weights, gradients and optimizer's states instead of a copy. `checkpointing` computes
    activations twice instead of keeping them; where it is not set, memory decides. `device` "auto"
    takes a GPU where torch sees one.

    For "distill", `teacher` answers what has no answer, or `teacher_model` (as `model.base`) shows
    its probabilities to a student with `student_layers` of the base model's layers, half of them if
    not given. For "scratch",
    `parameters` is the most weights of the model, `vocabulary` the tokens of its tokenizer, and
    `corpus` a text file to read beside the data.
    """

    method: Method = "lora"
    epochs: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    rank: Positive | None = None
    alpha: Positive | None = None
    dropout: Share | None = None
    dora: bool = False
    rslora: bool = False
    target_modules: list[str] | Literal["attention", "all-linear"] = "all-linear"
    turns: Literal["last", "all"] = "last"
    batch: Positive | None = None
    patience: Positive = 2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpointing: bool | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: Annotated[int, Field(ge=0)] = 1
    sharded: bool = False
    threads: Annotated[int, Field(ge=0)] = 0
    seed: int = 17
    teacher: Teacher | None = None
    teacher_model: str = ""
    student_layers: Positive | None = None
    parameters: Annotated[int, Field(ge=100_000)] = 5_000_000
    vocabulary: Annotated[int, Field(ge=300)] | None = None
    corpus: str = ""


Form = Literal["lora", "onnx-int4", "onnx-fp32", "gptq", "merged", "ollama"]


class ExportSettings(Section):
    """What is made beside f16, which always is: `levels` are llama.cpp's, `also` are other forms.

    With `imatrix` the levels below Q8_0 spare what matters most to the training text; "both" makes
    each of these twice, as `Q4_K_M` and `Q4_K_M-imatrix`, so that the gate shows whether it helps.
    `shard` is the most megabytes of a GGUF file, beyond which it is split; 0 splits none.
    `signing_key` is a PEM file with the private key (elliptic curve) that a release is signed with;
    empty signs none.
    """

    levels: list[Level] = ["Q8_0", "Q5_K_M", "Q4_K_M"]
    also: list[Form] = []
    imatrix: bool | Literal["both"] = False
    shard: Annotated[int, Field(ge=0)] = 0
    signing_key: str = ""

    @field_validator("also", mode="before")
    @classmethod
    def _without_awq(cls, value: Any) -> Any:
        if isinstance(value, list) and "awq" in value:
            raise ValueError("awq is made on an accelerator only; gptq is as small, and made here")
        return value


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


class Silence(Section):
    """Alerts that nobody is told of before `until`: those of a `rule`, of a place (`where`), or,
    where neither is given, all."""

    rule: str = ""
    where: str = ""
    until: AwareDatetime


class Mail(Section):
    """A mail server and whom to write to. `password_variable` names the environment variable that
    holds the password of `user`; without a user none is sent."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(gt=0, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_variable: str = "RESIDENCY_SMTP_PASSWORD"
    sender: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
    to: Annotated[list[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]], Field(min_length=1)]


class WatchSettings(Section):
    """What is watched while the gateway runs, and who is told.

    `api_price_in` and `api_price_out` are what the API that is replaced takes for a million tokens:
    money saved is told by them. The gateway looks every `every` seconds; what is wrong for `after`
    seconds is an alert, and what is right for `keep` seconds ends it. `p95` is the most seconds
    that 95 of 100 answers may take, none by default; `error_warn` and `error_page` are shares of
    requests that fail; `disk_free` is the share of the disk that is to stay free.

    Alerts go to the log and, where they are set, to `webhook`, a URL (signed with the secret in the
    environment variable `webhook_secret_variable`), and by `mail`. `silence` lists what nobody is
    to be told. `otlp` is the base URL of an OpenTelemetry collector that takes OTLP over HTTP.
    """

    api_price_in: Money | None = None
    api_price_out: Money | None = None
    every: Seconds = 5.0
    after: Annotated[float, Field(ge=0)] = 60.0
    keep: Annotated[float, Field(ge=0)] = 300.0
    p95: Seconds | None = None
    error_warn: Share = 0.01
    error_page: Share = 0.05
    disk_free: Share = 0.05
    webhook: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    webhook_secret_variable: str = "RESIDENCY_WEBHOOK_SECRET"
    mail: Mail | None = None
    silence: list[Silence] = []
    otlp: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""


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
    watch: WatchSettings = WatchSettings()


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


def overridden(settings: Settings, section: str, values: Mapping[str, Any]) -> Settings:
    """`settings` with those `values` of a section that are not None, as flags give them."""
    given = {name: value for name, value in values.items() if value is not None}
    old = getattr(settings, section)
    new = type(old).model_validate({**old.model_dump(exclude_unset=True), **given})
    return settings.model_copy(update={section: new})


def parse(text: str, place: str) -> Settings:
    """Settings from TOML `text`; `place` is named in errors."""
    return strict(Settings, text, place)
