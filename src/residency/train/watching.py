"""The doctor beside a run: looks at the model before it, says what it sees, stops what breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from residency.progress import say
from residency.train import checkup, ranks
from residency.train.diagnosis import Diagnosis, History, diagnose, explosion, history_of
from residency.train.job import Job
from residency.train.plan import Plan

_FIRST = 3
_RECENT = 64  # log entries that are looked at after each step; at a validation it is all of them


def doctor(job: Job, plan: Plan) -> Any:
    """A callback for transformers' Trainer, with `before` (`checkup.Before`) from the first step on
    and `history` (`diagnosis.History`) after the last."""
    from transformers import TrainerCallback

    class Doctor(TrainerCallback):
        """Judges from the logged history alone, so that a resumed run is judged alike."""

        before: checkup.Before
        history: History
        said = "too early"

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.before = checkup.before(given["model"], job)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if explosion(self._course(state, state.log_history[-_RECENT:])):
                control.should_training_stop = True
                # No checkpoint of a broken model: a retry would have to tell it from a good one.
                control.should_save = control.should_evaluate = False

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            found = diagnose(self._course(state, state.log_history))
            if found.state != self.said and ranks.rank() == 0:
                tell(found, "so far ")
            self.said = found.state

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.history = self._course(state, state.log_history, finished=True)

        def _course(
            self, state: Any, log: Sequence[Mapping[str, Any]], *, finished: bool = False
        ) -> History:
            return history_of(
                log,
                start=self.before.start,
                batch=plan.batch * int(state.logging_steps),
                planned=state.max_steps,
                epochs=plan.epochs,
                finished=finished,
                train_start=_own_start(state.log_history) if job.teacher else None,
            )

    return Doctor()


def _own_start(log: Sequence[Mapping[str, Any]]) -> float | None:
    """The first training losses, which with a teacher are no answers' losses alone. The rate is
    still warming up there, so that hardly anything is learnt."""
    first = [float(entry["loss"]) for entry in log if "loss" in entry][:_FIRST]
    return sum(first) / len(first) if first else None


def tell(found: Diagnosis, when: str = "") -> None:
    """Say a diagnosis to the person who waits."""
    say(f"  {when}{found.state}: {found.words}")
    if found.remedy:
        say(f"    {found.remedy}")
