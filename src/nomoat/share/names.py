"""Names on a hub: repositories, paths in them, revisions. Everything that comes from outside passes here first."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from nomoat.base.errors import InputError
from nomoat.share.errors import BadPathError

__all__ = [
    "MAIN",
    "RepoKind",
    "RepoName",
    "check_digest",
    "check_owner",
    "check_path",
    "check_ref_name",
    "is_commit",
    "is_digest",
]

MAIN = "main"
RepoKind = Literal["model", "dataset"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# As Hugging Face has it: letters, digits, '-', '_', '.', no '--' or '..', neither first nor last.
_PART = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REF = re.compile(r"(?!.*(\.\.|//|@\{))[A-Za-z0-9_][A-Za-z0-9._/+-]{0,198}")
_LONGEST_PATH, _LONGEST_SEGMENT, _MOST_SEGMENTS = 1024, 255, 32
_RESERVED = {"api", "datasets", "spaces", "models", "static", "health", "settings", "login", "logout", "join", "new",
             "v1", "v2", "search", "compare", "tokens", "moderation", "userfiles", "docs", "about", "upload",
             "resolve", "blob", "tree", "metrics"}  # fmt: skip
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class RepoName:
    """A repository: `owner/name` of a kind. Names are compared without case, and shown as they were given."""

    kind: RepoKind
    owner: str
    name: str

    @classmethod
    def parse(cls, kind: RepoKind, text: str) -> RepoName:
        """From `owner/name`. Raises `InputError`."""
        owner, slash, name = text.partition("/")
        if not slash:
            raise InputError(f"{text[:120]!r} is no repository", "name it OWNER/NAME")
        check_owner(owner)
        if not _PART.fullmatch(name) or name.lower().endswith((".git", ".ipynb")):
            raise InputError(
                f"{name[:120]!r} cannot name a repository",
                "use letters, digits, '-', '_' and '.', up to 96; not '--' or '..', nor .git at the end",
            )
        return cls(kind, owner, name)

    @property
    def key(self) -> str:
        """What makes it unique."""
        return f"{self.kind}:{self.owner}/{self.name}".lower()

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


def check_owner(text: str) -> str:
    """The name of a person or an organisation, or `InputError`."""
    if not _PART.fullmatch(text) or len(text) > 42 or text.lower() in _RESERVED:
        raise InputError(f"{text[:60]!r} cannot be an owner's name",
                         "use 1 to 42 letters, digits, '-', '_' and '.'; some words are reserved")  # fmt: skip
    return text


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 hex digits. Asked before any digest becomes part of a path."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """`text`, or `InputError` where it is no digest."""
    if not is_digest(text):
        raise InputError(f"{text[:80]!r} is no digest", "a digest is 'sha256:' and 64 hex digits")
    return text


def is_commit(text: str) -> bool:
    """Whether `text` can be the id of a commit."""
    return _COMMIT.fullmatch(text) is not None


def check_ref_name(text: str) -> str:
    """The name of a branch or tag, or `InputError`."""
    if not _REF.fullmatch(text) or text.endswith(("/", ".", ".lock")) or is_commit(text):
        raise InputError(
            f"{text[:80]!r} cannot name a branch or tag", "use letters, digits, '.', '_', '-' and '/'"
        )
    return text


def check_path(text: str) -> str:
    """A file's path in a repository, or `BadPathError`: relative, no way out, nothing that a file system twists."""
    problem = _path_problem(text)
    if problem:
        raise BadPathError(f"{text[:120]!r} cannot be a file's path: {problem}", "rename the file")
    return text


def _path_problem(text: str) -> str:
    segments = text.split("/")
    if (
        not text
        or len(text.encode("utf-8", "surrogatepass")) > _LONGEST_PATH
        or len(segments) > _MOST_SEGMENTS
    ):
        return "it is empty or too long"
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for letter in text):
        return "it holds control or invisible characters"
    if unicodedata.normalize("NFC", text) != text:
        return "it is not in Unicode's composed form (NFC)"
    if "\\" in text or ":" in text:
        return "it holds '\\' or ':'"
    return next((problem for segment in segments if (problem := _segment_problem(segment))), "")


def _segment_problem(segment: str) -> str:
    if segment in {"", ".", ".."}:
        return "it has an empty, '.' or '..' part"
    if segment.lower() == ".git" or len(segment.encode()) > _LONGEST_SEGMENT:
        return "a part is '.git' or too long"
    if segment != segment.strip() or segment.endswith(".") or _DEVICES.fullmatch(segment):
        return "a part begins or ends with a space or dot, or is a device's name on Windows"
    return ""
