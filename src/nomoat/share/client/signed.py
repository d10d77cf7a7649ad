"""Who vouches for files on a hub: signatures checked at pull, made at push, and the keys that hubs know people by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.share.client.connection import Connection
from nomoat.share.client.outgoing import LocalFile, Outgoing
from nomoat.share.client.refusals import UnreachableError
from nomoat.share.client.remote import RemoteFile, RemoteRepo, Snapshot, api_path
from nomoat.share.errors import ConflictError, RefusedError
from nomoat.share.trust.keys import PublicKey, SigningKey
from nomoat.share.trust.known_keys import KnownKeys
from nomoat.share.trust.provenance import PROVENANCE_NAME, read_provenance
from nomoat.share.trust.signatures import SIGNATURE_NAME, SignedFile, sign, verify

__all__ = ["Vouched", "check_signature", "is_signed_by", "read_small", "register_key", "sign_outgoing"]

_MOST_SMALL_BYTES = 16 << 20
_MOST_SMALL_FILES = 200


@dataclass(frozen=True)
class Vouched:
    """What a signature says. `signer` is empty unless it was verified; `words` are for people.

    `trained_on` is the base's digest by a provenance of these files that the same person signed.
    """

    words: str
    signer: str = ""
    key_id: str = ""
    trained_on: str = ""


def check_signature(remote: RemoteRepo, snapshot: Snapshot, home: Path, trust_new_key: bool) -> Vouched:
    """Who signed the files of `snapshot`.

    Raises `RefusedError` where the signature does not hold, `ChangedKeyError` where its owner has another key than
    the one known here.
    """
    hub, owner, known = remote.connection.hub.host, remote.repo.owner, KnownKeys(home)
    file = snapshot.file(SIGNATURE_NAME)
    if file is None:
        return Vouched(
            "not signed, although its owner has signed before" if known.get(hub, owner) else "not signed"
        )
    signers = _signers(remote)
    own = known.get(hub, owner)
    trusted = [*signers.values(), *([own] if own else [])]
    small = [each for each in snapshot.files if each.digest is None]
    partial = len(small) > _MOST_SMALL_FILES
    entries = _signed_files(remote, snapshot, [] if partial else small)
    found = verify(read_small(remote, snapshot, file), entries, trusted, [remote.repo], partial=partial)
    found.require(f"{hub}/{remote.repo}")
    if found.signer is None:
        return Vouched(f"signed by a key that nobody vouches for ({found.claimed[:16]}...)")
    name = next((name for name, key in signers.items() if key == found.signer), owner)
    if trust_new_key:
        known.accept(hub, name, found.signer)
    elif own is not None and found.signer != own and known.get(hub, name) is None:
        known.meet(hub, owner, found.signer)  # a hub could invent a co-signer for an owner who signs alone
    new = known.meet(hub, name, found.signer)
    words = f"signed by {name} (key {found.signer.key_id[:16]}{', seen for the first time' if new else ''})"
    return Vouched(words, name, found.signer.key_id, _trained_on(remote, snapshot, found.signer, entries))


def sign_outgoing(
    remote: RemoteRepo, outgoing: Outgoing, head: Snapshot | None, key: SigningKey
) -> LocalFile:
    """The signature over the repository as it will be: what is sent, and what stays there beside it."""
    sent = {file.path for file in outgoing.files}
    kept = (
        [file for file in head.files if file.path not in sent and file.path != SIGNATURE_NAME] if head else []
    )
    entries = [SignedFile(file.path, file.digest, file.size_bytes) for file in outgoing.files]
    if head is not None:
        small = [file for file in kept if file.digest is None]
        if len(small) > _MOST_SMALL_FILES:
            raise InputError(f"{remote.repo}: {len(small)} small files are there that would have to be signed, too",
                             "push to a repository of its own, or give --no-sign")  # fmt: skip
        entries += [
            entry for entry in _signed_files(remote, head, small) if entry.path in {f.path for f in kept}
        ]
    return LocalFile.of_bytes(SIGNATURE_NAME, sign(entries, key, remote.repo))


def is_signed_by(remote: RemoteRepo, head: Snapshot, key: PublicKey) -> bool:
    """Whether `key` vouches for the repository just as it is; not where the hub cannot show what it is."""
    file = head.file(SIGNATURE_NAME)
    if file is None:
        return False
    small = [each for each in head.files if each.digest is None]
    if any(each.damaged for each in (file, *small)):
        return False
    entries = _signed_files(remote, head, small)
    return verify(read_small(remote, head, file), entries, [key], [remote.repo]).is_valid


def register_key(connection: Connection, key: PublicKey, replace: bool) -> bool:
    """Tell the hub which key its token's owner signs with; False where the hub keeps no keys.

    Raises `ConflictError` where it knows another one, unless `replace`.
    """
    try:
        connection.send_json("PUT", "/api/nomoat/key", {"public_key": key.pem, "replace": replace})
    except NotFoundError:
        return False
    except ConflictError as error:
        raise ConflictError(
            error.message,
            "copy that key to this machine (keys/NAME.pem in the store), or give --new-key: "
            "everybody who pulled from you will be asked to accept it",
        ) from error
    return True


def read_small(remote: RemoteRepo, snapshot: Snapshot, file: RemoteFile) -> bytes:
    """The bytes of a small file, verified. Raises `RefusedError`, `UnreachableError`."""
    if file.size_bytes > _MOST_SMALL_BYTES:
        raise RefusedError(
            f"{remote.repo}: {file.path} has {file.size_bytes:,} bytes", "report it to the hub"
        )

    def once() -> bytes:
        content = bytearray()
        with remote.connection.stream("GET", remote.file_url(snapshot.commit, file.path)) as answer:
            for chunk in answer.iter_raw():
                content += chunk
                if len(content) > file.size_bytes:
                    break
        if len(content) < file.size_bytes:
            raise UnreachableError(
                f"{remote.connection.hub.host}: the connection ended too early", "run it again"
            )
        return bytes(content)

    content = remote.connection.retried(once)
    hasher = file.hasher()
    hasher.update(content)
    if hasher.hexdigest() != file.expected:
        raise RefusedError(f"{file.path}: the bytes that came are not those that the hub announced",
                           "nothing was kept; report it to the hub")  # fmt: skip
    return content


def _signed_files(remote: RemoteRepo, snapshot: Snapshot, small: list[RemoteFile]) -> list[SignedFile]:
    """Large files by the digest that the hub announces (their bytes are compared when fetched), small ones read."""
    large = [SignedFile(file.path, file.digest, file.size_bytes) for file in snapshot.files if file.digest]
    read = [file for file in small if file.path not in {SIGNATURE_NAME, ".gitattributes"}]
    return large + [
        SignedFile(file.path, sha256_bytes(read_small(remote, snapshot, file)), file.size_bytes)
        for file in read
    ]


def _signers(remote: RemoteRepo) -> dict[str, PublicKey]:
    """Name and key of those who may sign for the repository, as the hub knows them; none where it knows of no keys."""
    try:
        content, _ = remote.connection.get(f"{api_path(remote.repo)}/keys")
    except NotFoundError:
        return {}
    entries: list[Mapping[str, Any]] = content.get("keys", []) if isinstance(content, dict) else []
    try:
        return {str(entry["name"]): PublicKey.parse(str(entry["public_key"])) for entry in entries}
    except (KeyError, TypeError) as error:
        raise NomoatError(f"{remote.repo}: the hub's list of keys is none", "report it to the hub") from error


def _trained_on(
    remote: RemoteRepo, snapshot: Snapshot, signer: PublicKey, entries: Iterable[SignedFile]
) -> str:
    """The base by a provenance of these very files. Raises `RefusedError` where it is about others."""
    file = snapshot.file(PROVENANCE_NAME)
    if file is None:
        return ""
    found = read_provenance(read_small(remote, snapshot, file), [signer])
    if found.signer is None:
        return ""
    here = {entry.path: entry.digest for entry in entries}
    for path, digest in found.outputs.items():
        if here.get(path, digest) != digest:
            raise RefusedError(f"{remote.repo}: its provenance is about another {path} than the one that is there",
                               "nothing was kept; ask its owner to push again what was trained")  # fmt: skip
    return found.base_digest
