"""What can go wrong between people who share: each has an HTTP status that every hub client understands."""

from __future__ import annotations

from nomoat.base.errors import InputError, NomoatError

__all__ = [
    "BadPathError",
    "ConflictError",
    "DamagedBlobError",
    "ForbiddenError",
    "GatedError",
    "PeersError",
    "QuotaError",
    "RefusedError",
    "TakenDownError",
    "UnauthorizedError",
]


class BadPathError(InputError):
    """A path that leads out of a repository, or that some file system reads as another one."""


class UnauthorizedError(NomoatError):
    """Nobody is known by this token, or a token is needed."""

    code = "unauthorized"


class ForbiddenError(NomoatError):
    """This person may not do that."""

    code = "forbidden"


class GatedError(ForbiddenError):
    """The owner wants to know who downloads this; access must be asked for."""

    code = "gated"


class ConflictError(NomoatError):
    """Somebody else was faster, or the name is taken: nothing was changed."""

    code = "conflict"


class QuotaError(NomoatError):
    """More than this account may store."""

    code = "quota"


class RefusedError(NomoatError):
    """The content is not what it says, or could do harm; nothing of it was kept."""

    code = "refused"


class PeersError(NomoatError):
    """Nobody in this network has it, or whoever had it went away or sent something else."""

    code = "peers"


class TakenDownError(NomoatError):
    """It was here and has been removed for a stated reason."""

    code = "taken_down"


class DamagedBlobError(NomoatError):
    """Stored bytes differ from what was stored; they are not handed out."""

    code = "damaged_blob"
