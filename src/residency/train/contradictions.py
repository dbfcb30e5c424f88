"""Settings that contradict each other, found before anything is loaded."""

from __future__ import annotations

from residency.config import Settings, TrainSettings
from residency.errors import SettingsError

_OF_ADAPTERS = ("rank", "alpha", "dropout", "dora", "rslora", "target_modules")
_WHOLE = ("full", "scratch")
_OF_SCRATCH = ("parameters", "vocabulary", "corpus")
_OF_TEACHERS = ("teacher", "teacher_model", "student_layers")


def check_all(settings: Settings) -> None:
    """Raise `SettingsError` where one setting makes another meaningless for training."""
    check(settings.train)
    if settings.train.method != "scratch":
        return
    if "base" in settings.model.model_fields_set:
        raise SettingsError(
            f"[model] base is {settings.model.base}, and method scratch begins from no model",
            hint="leave base out, or take method full to train all of its weights",
        )
    for name in ("gain", "forgetting"):
        if getattr(settings.gate, name) not in (None, False):
            raise SettingsError(
                f"[gate] {name} compares with the base model, and method scratch has none",
                hint=f"leave {name} out; what the answers must reach by themselves is gate.exact",
            )


def check(settings: TrainSettings) -> None:
    """The same for `[train]` alone."""
    method = settings.method
    # What is written as it would be anyway contradicts nothing.
    given = settings.model_dump(exclude_defaults=True)
    whole = method in _WHOLE or (method == "distill" and settings.teacher_model)
    if whole and (name := next((n for n in _OF_ADAPTERS if n in given), "")):
        raise SettingsError(
            f"[train] {name} is an adapter's, and method {method} makes none",
            hint=f"leave {name} out, or take method lora",
        )
    if method == "qlora" and settings.precision == "float32":
        raise SettingsError(
            "[train] precision float32 contradicts method qlora, which unpacks its 4 bits to 16",
            hint='leave precision out, or take method lora or full for "float32"',
        )
    _check_teachers(settings)
    if settings.sharded:
        _check_shards(settings)
    if not settings.target_modules:
        raise SettingsError(
            "[train] target_modules is an empty list, so nothing would be trained",
            hint='name linear layers, or take "attention" or "all-linear"',
        )


def _check_shards(settings: TrainSettings) -> None:
    """Raise `SettingsError` where the model cannot be divided among processes."""
    if settings.processes < 2:
        raise SettingsError(
            f"[train] sharded divides the model among processes, and processes is "
            f"{settings.processes}",
            hint="set processes to the number of GPUs, 2 at least, or leave sharded out",
        )
    if settings.method == "qlora":
        raise SettingsError(
            "[train] sharded contradicts method qlora: weights in 4 bits are not divided, "
            "and each process would hold all of them",
            hint="leave sharded out, or take method lora",
        )
    if settings.teacher_model:
        raise SettingsError(
            "[train] sharded divides one model, and with teacher_model there are two",
            hint="leave sharded out",
        )


def _check_teachers(settings: TrainSettings) -> None:
    """Raise `SettingsError` where there is not one teacher for distillation, or one for others."""
    method = settings.method
    given = settings.model_dump(exclude_defaults=True)
    strange = [*(_OF_TEACHERS if method != "distill" else ())]
    strange += _OF_SCRATCH if method != "scratch" else ()
    if name := next((n for n in strange if n in given), ""):
        right = "distill" if name in _OF_TEACHERS else "scratch"
        raise SettingsError(
            f"[train] {name} belongs to method {right}, and the method is {method}",
            hint=f'leave {name} out, or set method = "{right}"',
        )
    if method != "distill":
        return
    if not settings.teacher and not settings.teacher_model:
        raise SettingsError(
            "[train] method distill has no teacher",
            hint="add [train.teacher] with url and model to learn from answers, or teacher_model "
            "to learn from the probabilities of a model on this machine",
        )
    if settings.teacher and settings.teacher_model:
        raise SettingsError(
            "[train] has two teachers: [train.teacher] gives answers, teacher_model probabilities",
            hint="label the file first (residency data label), then train with teacher_model on it",
        )
    if settings.teacher and settings.student_layers:
        raise SettingsError(
            "[train] student_layers is for a student of teacher_model's probabilities",
            hint="leave it out: what learns from answers is the whole base model",
        )
