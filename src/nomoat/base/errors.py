"""The one family of errors a user meets: what happened, and what to do about it."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "BadFileError",
    "BaseMismatchError",
    "ContextOverflowError",
    "DiskFullError",
    "EngineError",
    "InputError",
    "MissingExtraError",
    "NomoatError",
    "NotEnoughMemoryError",
    "NotFoundError",
    "OverloadedError",
    "TimeLimitError",
]


class NomoatError(Exception):
    """An error with its remedy. `code` is stable for scripts; `hint` says what to do next."""

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(NomoatError):
    """The user's text, option or prompt cannot be used as it is."""

    code = "bad_input"


class ContextOverflowError(InputError):
    """A prompt does not fit the context with room for an answer. Nothing is ever cut off silently."""

    code = "context_overflow"


class NotFoundError(NomoatError):
    """A model, adapter, file or folder that was named does not exist."""

    code = "not_found"


class BadFileError(NomoatError):
    """A file is damaged or of another format. Names the file and the place in it."""

    code = "bad_file"

    def __init__(self, path: Path | str, place: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{path}: {place}: {problem}" if place else f"{path}: {problem}", hint)
        self.path = Path(path)
        self.place = place
        self.problem = problem


class BaseMismatchError(NomoatError):
    """An adapter was trained on another base model than the one it is loaded on."""

    code = "base_mismatch"


class NotEnoughMemoryError(NomoatError):
    """The work would not fit in this machine's free memory."""

    code = "not_enough_memory"


class DiskFullError(NomoatError):
    """A write failed because the disk or the quota is full; nothing that existed was changed."""

    code = "disk_full"


class EngineError(NomoatError):
    """The inference worker refused a request or died; the next request starts a new one."""

    code = "engine_failed"


class TimeLimitError(NomoatError):
    """Something took longer than the user allows; it was ended."""

    code = "time_limit"


class OverloadedError(NomoatError):
    """More requests wait than the engine takes; the same request can be sent again after some seconds."""

    code = "overloaded"

    def __init__(self, message: str, hint: str = "", retry_after_seconds: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_seconds = retry_after_seconds


class MissingExtraError(NomoatError):
    """An optional part of nomoat is not installed."""

    code = "missing_extra"

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(
            f"this needs the '{extra}' part of nomoat ({package} is not installed)",
            f"run scripts/setup in a checkout, or: pip install 'nomoat[{extra}]'",
        )
