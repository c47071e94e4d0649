"""Every error a user of Timonel can cause, under one root.

The HTTP status and the exit code live on the class, so that no caller invents one. A message says
what was expected, what came and where; the remedy says what to do next.
"""

__all__ = [
    "ArtifactError",
    "BadRequest",
    "BodyTooLarge",
    "Busy",
    "DataRefused",
    "DeadlinePassed",
    "DefinitionError",
    "JournalFull",
    "KeyNeeded",
    "MissingExtra",
    "NoKeys",
    "NotAllowed",
    "NotFound",
    "NotReady",
    "Overloaded",
    "ParityError",
    "PromotionRefused",
    "RunFailed",
    "SourceError",
    "SourceMissing",
    "StoreError",
    "TimonelError",
    "TooManyRequests",
]


class TimonelError(Exception):
    """The root: a message for a person, and optionally the next thing to do."""

    status = 500
    exit_code = 1
    retry_after: int | None = None
    """Seconds after which it is worth asking again, where that is known."""

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class DefinitionError(TimonelError):
    """A project's definition is wrong; raised when it is loaded, never later."""

    exit_code = 2


class MissingExtra(TimonelError):
    """A part needs a package that is not installed."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed.",
            remedy=f"Install them with: pip install 'timonel[{extra}]'",
        )


class SourceError(TimonelError):
    """Rows could not be fetched or read."""

    exit_code = 3


class SourceMissing(SourceError):
    """A file is in none of the places where it was looked for."""


class DataRefused(TimonelError):
    """More rows were refused by the quality rules than the project allows."""

    exit_code = 3


class RunFailed(TimonelError):
    """A run of the pipeline ended without what it was for."""

    exit_code = 4


class ParityError(TimonelError):
    """An exported model does not answer as the trained one does."""

    exit_code = 4


class PromotionRefused(TimonelError):
    """A version was to become champion that does not fit, or is not ready to answer."""

    status = 409
    exit_code = 4


class ArtifactError(TimonelError):
    """A version's files are missing, changed or not what their manifest says."""

    exit_code = 5


class StoreError(TimonelError):
    """The database, the object store or the registry could not do what was asked."""

    status = 503
    exit_code = 5


class Busy(TimonelError):
    """The thing asked for is already being done by somebody else."""

    status = 409
    exit_code = 6


class BadRequest(TimonelError):
    """A request that can be read but not answered."""

    status = 400
    exit_code = 2


class BodyTooLarge(BadRequest):
    """A request larger than the configured limit."""

    status = 413


class NotFound(TimonelError):
    """No such project, model, version, run or prediction."""

    status = 404
    exit_code = 2


class NotReady(TimonelError):
    """There is no version to answer with yet."""

    status = 503
    exit_code = 7
    retry_after = 2


class JournalFull(TimonelError):
    """The journal cannot be written and the policy is to refuse unrecorded answers."""

    status = 503
    exit_code = 5


class KeyNeeded(TimonelError):
    """A request without a key that is valid, where one is needed."""

    status = 401
    exit_code = 9


class NotAllowed(TimonelError):
    """Somebody asked for what they may not."""

    status = 403
    exit_code = 9


class NoKeys(TimonelError):
    """A server that asks for keys was to start while there is none."""

    exit_code = 9


class TooManyRequests(TimonelError):
    """A key's requests a minute are used up."""

    status = 429
    exit_code = 6

    def __init__(self, message: str, *, remedy: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class Overloaded(TimonelError):
    """A worker holds as many requests, or bytes of them, as it may."""

    status = 503
    exit_code = 6
    retry_after = 1


class DeadlinePassed(TimonelError):
    """No answer was ready within the time that the caller gave."""

    status = 504
    exit_code = 6
