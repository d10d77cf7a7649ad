"""Releases: tags that never move, on hubs that know how to keep them; elsewhere tags like any other.

That a tag is immutable is an addition of nomoat's hubs to Hugging Face's protocol: they take `immutable` where a tag is
made, and say it of each tag that they list. Other hubs take no notice of the word.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from nomoat.base.errors import NomoatError
from nomoat.share.client.remote import RemoteRepo, api_path
from nomoat.share.errors import ConflictError
from nomoat.share.names import check_ref_name

__all__ = ["Release"]


@dataclass(frozen=True)
class _Tag:
    """A tag as the hub lists it. `immutable` is None where the hub does not say."""

    commit: str
    immutable: bool | None


class Release:
    """A release that is to be made of a repository."""

    def __init__(self, remote: RemoteRepo, name: str) -> None:
        """Raises `InputError` where `name` cannot be a tag's."""
        self._remote, self._name = remote, check_ref_name(name)

    def require_free(self, commit: str) -> None:
        """Raise `ConflictError` unless the name is free, or stands for `commit` already (empty: a new one)."""
        tag = self._tag()
        if tag is not None:
            self._require_same(tag, commit)

    def make(self, commit: str) -> bool:
        """Let the name stand for `commit`, unless it does; whether the hub keeps it so.

        Raises `ConflictError` where it stands for something else, or did once.
        """
        tag = self._tag()
        if tag is None:
            tag = self._create(commit)
        self._require_same(tag, commit)
        return tag.immutable is True

    def _create(self, commit: str) -> _Tag:
        refused: ConflictError | None = None
        try:
            place = f"{api_path(self._remote.repo)}/tag/{quote(commit, safe='')}"
            self._remote.connection.post(place, {"tag": self._name, "immutable": True})
        except ConflictError as error:
            # An answer may have been lost, and the request been sent again: what counts is what is there.
            refused = error
        tag = self._tag()
        if tag is not None:
            return tag
        if refused is not None:
            raise ConflictError(f"{refused.message}; {commit[:10]} was pushed, without a release",
                                self._remedy) from refused  # fmt: skip
        raise NomoatError(
            f"{self._place} took the tag {self._name} and does not list it", "look at its page; push it again"
        )

    def _require_same(self, tag: _Tag, commit: str) -> None:
        if tag.commit != commit:
            kind = "release" if tag.immutable else "tag"
            raise ConflictError(f"{self._place} has a {kind} {self._name} already, of commit {tag.commit[:10]}; "
                                "what you push is another version", self._remedy)  # fmt: skip
        if tag.immutable is False:
            raise ConflictError(f"{self._place} has a tag {self._name} already, which may be moved",
                                f"delete that tag, or: {self._remedy}")  # fmt: skip

    def _tag(self) -> _Tag | None:
        refs = self._remote.refs()
        if any(entry.get("name") == self._name for entry in refs.get("branches") or []):
            raise ConflictError(f"{self._name} is a branch of {self._place}, and would hide a release of that name",
                                self._remedy)  # fmt: skip
        for entry in refs.get("tags") or []:
            if entry.get("name") == self._name:
                immutable = entry.get("immutable")
                return _Tag(
                    str(entry.get("targetCommit")), immutable if isinstance(immutable, bool) else None
                )
        return None

    @property
    def _place(self) -> str:
        return f"{self._remote.connection.hub.host}/{self._remote.repo}"

    @property
    def _remedy(self) -> str:
        return "give the release another name: --release NAME"
