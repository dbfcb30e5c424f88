"""Every failure that a user can meet, with its exit code.

ResidencyError                1   a fault of ours, unless a subclass says otherwise
├── InputError                3   usage or input: file, line and hint
│   ├── SettingsError         3   residency.toml
│   ├── DataError             3   a data set
│   └── ModelError            3   a base model that cannot be used
├── StorageError              3   no room, no right to write, a damaged store
├── MissingError              4   something that this machine lacks; the hint installs it
│   └── OutOfMemory           4   memory, when there was none left to do the work
├── RefusedError              2   the honest answer is no
│   ├── FingerprintError      2   a build no longer answers as the model before it did
│   └── EgressRefused         2   a connection that may not leave this machine
│       └── SealedError       2   the same, because the whole process is sealed
└── EngineError               1   the process that runs the model
    ├── EngineLoadError       1   it could not load the model
    ├── EngineUnavailable     1   it is not there
    │   └── EngineLost        1   it went away with a request in its hands
    ├── EngineTimeout         1   it did not answer in time
    └── EngineRejected        1   it refused the request; carries the HTTP status
"""

from __future__ import annotations


class ResidencyError(Exception):
    """Base of all expected failures.

    `message` says what is wrong, with file and line where there is one; `hint` says what to do.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(ResidencyError):
    exit_code = 3


class SettingsError(InputError):
    pass


class DataError(InputError):
    pass


class ModelError(InputError):
    pass


class StorageError(ResidencyError):
    exit_code = 3


class MissingError(ResidencyError):
    exit_code = 4


class OutOfMemory(MissingError):
    pass


class RefusedError(ResidencyError):
    exit_code = 2


class FingerprintError(RefusedError):
    pass


class EgressRefused(RefusedError):
    pass


class SealedError(EgressRefused):
    pass


class EngineError(ResidencyError):
    pass


class EngineLoadError(EngineError):
    pass


class EngineUnavailable(EngineError):
    """`retry_after` is how many seconds it asks to be left alone, where it says so."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class EngineLost(EngineUnavailable):
    pass


class EngineTimeout(EngineError):
    pass


class EngineRejected(EngineError):
    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
