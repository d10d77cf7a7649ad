"""Signatures over the files of a repository: made at push, verified by the hub and at pull.

    key = owner_key(home, "me")
    bundle = sign(folder, key, repository=RepoName.parse("model", "me/notes"))     # bytes for `model.sig`
    found = verify(bundle, folder, [public_key], repository=...)                    # found.state, found.problems

The bundle is one of OpenSSF model-signing (predicate v1.0). Its root digest is over the files' digests without their
names, so two files could swap names under it; a nomoat bundle adds a digest over paths, sizes and digests, and the
name of the repository, so that it cannot be moved to another one. `verify` checks all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from nomoat.base.digests import sha256_bytes, sha256_file
from nomoat.base.errors import InputError, NomoatError
from nomoat.share.errors import RefusedError
from nomoat.share.names import RepoName, is_digest
from nomoat.share.trust.envelope import Opened, canonical_json, open_bundle, seal, statement
from nomoat.share.trust.keys import PublicKey, SigningKey

__all__ = ["SIGNATURE_NAME", "FileEntry", "SignatureState", "SignedFile", "Verification", "files_of", "manifest_digest",
           "sign", "verify"]  # fmt: skip

SIGNATURE_NAME = "model.sig"
"""The bundle's path in a repository."""
_PREDICATE = "https://model_signing/signature/v1.0"
# What model-signing leaves out as well: hubs and git write these by themselves.
_UNSIGNED = (SIGNATURE_NAME, ".gitattributes", ".gitignore", ".git", ".github")
_MOST_PROBLEMS, _LONGEST = 20, 300

SignatureState = Literal["verified", "unknown signer", "invalid", "unsigned"]


class FileEntry(Protocol):
    """A file by path, `sha256:...` and size. Folders have no digest and are passed over."""

    @property
    def path(self) -> str:
        """Relative, with '/'."""

    @property
    def digest(self) -> str | None:
        """`sha256:...`."""

    @property
    def size_bytes(self) -> int:
        """Its size."""


@dataclass(frozen=True, order=True)
class SignedFile:
    """A file as it is signed."""

    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Verification:
    """What a signature is worth. `signer` is set where a trusted key made it; `claimed` is the key that it names.

    verified: a trusted key signed exactly these files for this repository. unknown signer: the bundle fits the files,
    but no trusted key made it. invalid: something differs. unsigned: there is no bundle. `problems` says what and
    where. `uncovered` are files that the signer chose to leave out (not those that hubs and git write by themselves).
    """

    state: SignatureState
    signer: PublicKey | None = None
    claimed: str = ""
    repository: str = ""
    manifest_digest: str = ""
    signed_at: str = ""
    problems: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether it is verified."""
        return self.state == "verified"

    def require(self, what: str, *, unsigned_too: bool = True) -> None:
        """Raise `RefusedError` where it is invalid; without `unsigned_too` also where nobody known vouches."""
        if self.is_valid or (unsigned_too and self.state != "invalid"):
            return
        problem = "; ".join(self.problems[:3]) or self.state
        raise RefusedError(f"{what}: its signature does not hold: {problem}",
                           "ask its owner; do not use the files as theirs")  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """For rows, pages and `--json`."""
        return {"state": self.state, "key_id": self.signer.key_id if self.signer else "", "claimed": self.claimed,
                "repository": self.repository, "manifest_digest": self.manifest_digest, "signed_at": self.signed_at,
                "problems": list(self.problems), "uncovered": list(self.uncovered)}  # fmt: skip


def files_of(source: Path | Iterable[FileEntry]) -> list[SignedFile]:
    """The files that a signature covers, by path: those of a folder (digested here) or given as entries.

    Raises `InputError` for a symbolic link, which would lead out of what is signed.
    """
    found = _folder_files(source) if isinstance(source, Path) else _given(source)
    return sorted(file for file in found if not _is_unsigned(file.path))


def manifest_digest(files: Iterable[SignedFile]) -> str:
    """`sha256:...` over every path with its digest and size: what identifies the set of files."""
    listed = [[file.path, file.digest, file.size_bytes] for file in sorted(files)]
    return sha256_bytes(canonical_json({"files": listed, "schema": 1}))


def sign(source: Path | Iterable[FileEntry], key: SigningKey, repository: RepoName) -> bytes:
    """The bundle, to be kept as `SIGNATURE_NAME` beside the files. Raises `InputError` where there are none."""
    files = files_of(source)
    if not files:
        raise InputError("there is no file to sign", "name a folder with a model, adapter or dataset")
    resources = [
        {"name": file.path, "algorithm": "sha256", "digest": _hex(file.digest),
         "annotations": {"size_bytes": file.size_bytes}}
        for file in files
    ]  # fmt: skip
    predicate = {
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False,
                          "ignore_paths": sorted(_UNSIGNED)},
        "resources": resources,
        "nomoat": {"repository": repository.key, "manifest_digest": manifest_digest(files),
                   "signed_at": datetime.now(UTC).isoformat(timespec="seconds")},
    }  # fmt: skip
    return seal(statement([(repository.name, _root(files))], _PREDICATE, predicate), key)


def verify(
    bundle: bytes | None, source: Path | Iterable[FileEntry], trusted: Iterable[PublicKey],
    repositories: Collection[RepoName] = (), *, partial: bool = False,
) -> Verification:  # fmt: skip
    """Whether a trusted key signed exactly the files of `source`, for one of `repositories` (none: for any).

    Never raises for what a bundle holds: the `Verification` says what is wrong. More than one repository is for
    those that were moved: their signatures name the former one. With `partial`, files that were signed and are not in
    `source` are not missed: for whoever fetched only some.
    """
    if bundle is None:
        return Verification("unsigned")
    try:
        opened = open_bundle(bundle, trusted)
    except NomoatError as error:
        return Verification("invalid", problems=(error.message,))
    try:
        signed, own = _signed_files(opened.statement)
    except NomoatError as error:
        # A stranger may sign in ways that are not known here: that is no forgery.
        state: SignatureState = "invalid" if opened.signer else "unknown signer"
        return Verification(state, opened.signer, opened.claimed, problems=(error.message,))
    files, uncovered = _split(files_of(source), opened.statement)
    if partial:
        signed, own = _part(signed, own, files)
    problems = [*_differences(signed, own, files), *_misplaced(own, repositories)]
    state = "invalid" if problems else "verified" if opened.signer else "unknown signer"
    if opened.signer is None:
        problems.append(f"no key that is trusted here made it (it names {opened.claimed[:16] or 'none'})")
    return _verification(state, opened, own, problems, uncovered)


def _verification(
    state: SignatureState, opened: Opened, own: Mapping[str, str], problems: list[str], uncovered: list[str]
) -> Verification:
    told = tuple(problem[:_LONGEST] for problem in problems[:_MOST_PROBLEMS])
    return Verification(
        state, opened.signer, opened.claimed, own.get("repository", ""), own.get("manifest_digest", ""),
        own.get("signed_at", ""), told, tuple(uncovered[:_MOST_PROBLEMS]),
    )  # fmt: skip


def _signed_files(content: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Digest by path, and nomoat's own fields, of a statement that holds together."""
    try:
        if content["predicateType"] != _PREDICATE:
            raise ValueError("of another kind")
        predicate, (subject,) = content["predicate"], content["subject"]
        if (predicate["serialization"]["method"], predicate["serialization"]["hash_type"]) != (
            "files",
            "sha256",
        ):
            raise ValueError("it does not list whole files by sha256")
        listed = [(str(each["name"]), f"sha256:{each['digest']}") for each in predicate["resources"]]
        root, own = f"sha256:{subject['digest']['sha256']}", predicate.get("nomoat", {})
        if not all(is_digest(digest) for _, digest in listed) or len(dict(listed)) != len(listed):
            raise ValueError("a file is listed twice or without a digest")
        if _root(SignedFile(path, digest, 0) for path, digest in listed) != root:
            raise ValueError("its files are not those of its subject")
        return dict(listed), {str(name): str(value)[:_LONGEST] for name, value in own.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"it is no statement on files ({error})", "sign again with `nomoat push`") from error


def _split(files: list[SignedFile], content: Mapping[str, Any]) -> tuple[list[SignedFile], list[str]]:
    """Files that the statement is about, and paths that its signer left out on purpose."""
    left_out = content["predicate"]["serialization"].get("ignore_paths") or []
    names = [str(each).rstrip("/") for each in left_out] if isinstance(left_out, list) else []
    uncovered = {
        file.path for file in files for name in names if file.path == name or file.path.startswith(f"{name}/")
    }
    return [file for file in files if file.path not in uncovered], sorted(uncovered)


def _differences(signed: Mapping[str, str], own: Mapping[str, str], files: list[SignedFile]) -> list[str]:
    here = {file.path: file.digest for file in files}
    problems = [f"{path} is missing" for path in sorted(set(signed) - set(here))]
    problems += [f"{path} was not signed" for path in sorted(set(here) - set(signed))]
    problems += [f"{path} differs from what was signed" for path in sorted(set(here) & set(signed))
                 if here[path] != signed[path]]  # fmt: skip
    digest = own.get("manifest_digest")
    if digest is not None and digest != manifest_digest(files) and not problems:
        problems.append("paths or sizes differ from what was signed")
    return problems


def _part(
    signed: dict[str, str], own: dict[str, str], files: list[SignedFile]
) -> tuple[dict[str, str], dict[str, str]]:
    """What the statement says of these files; the digest over all of them can only be asked for all."""
    here = {file.path for file in files}
    if here >= set(signed):
        return signed, own
    kept = {path: digest for path, digest in signed.items() if path in here}
    return kept, {name: value for name, value in own.items() if name != "manifest_digest"}


def _misplaced(own: Mapping[str, str], repositories: Collection[RepoName]) -> list[str]:
    """A bundle of another tool names no repository, so it cannot be said where it belongs."""
    named = own.get("repository", "")
    if not repositories or not named or named in {name.key for name in repositories}:
        return []
    return [f"it was made for {named}, not for {', '.join(str(name) for name in repositories)}"]


def _root(files: Iterable[SignedFile]) -> str:
    """model-signing's digest over digests, in the order listed."""
    joined = hashlib.sha256()
    for file in files:
        joined.update(bytes.fromhex(_hex(file.digest)))
    return f"sha256:{joined.hexdigest()}"


def _folder_files(folder: Path) -> Iterable[SignedFile]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _is_unsigned(name):
            continue
        if path.is_symlink():
            raise InputError(f"{path}: is a link, and what it leads to is not signed", "copy the file there")
        if path.is_file():
            yield SignedFile(name, sha256_file(path), path.stat().st_size)


def _given(entries: Iterable[FileEntry]) -> Iterable[SignedFile]:
    for entry in entries:
        if entry.digest is not None:
            yield SignedFile(entry.path, entry.digest, entry.size_bytes)


def _is_unsigned(path: str) -> bool:
    return path in _UNSIGNED or path.startswith((".git/", ".github/"))


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
