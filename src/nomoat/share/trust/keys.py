"""Keys that people and hubs sign with: Ed25519 by default, ECDSA P-256 where other tools must verify.

The OpenSSF model-signing tool verifies ECDSA keys only, so a P-256 key makes signatures that both can check.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from nomoat.base.errors import BadFileError, InputError
from nomoat.base.files import disk_errors, fsync_folder
from nomoat.share.names import check_owner

__all__ = ["KeyKind", "PublicKey", "SigningKey", "new_key", "owner_key", "owner_key_path", "read_key"]

KeyKind = Literal["ed25519", "p256"]
_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_Public = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
_OTHERS_MAY = 0o077


@dataclass(frozen=True)
class PublicKey:
    """What verifies. `pem` is its SubjectPublicKeyInfo as PEM."""

    pem: str

    @classmethod
    def parse(cls, pem: str) -> PublicKey:
        """From PEM, in its one canonical form. Raises `InputError` for anything but Ed25519 and P-256."""
        try:
            return _public(serialization.load_pem_public_key(pem.encode()))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InputError("that is no public key in PEM form", "give the text that begins with "
                             "'-----BEGIN PUBLIC KEY-----'") from error  # fmt: skip

    @property
    def key_id(self) -> str:
        """sha256 of the key's SubjectPublicKeyInfo (DER), 64 hex digits."""
        der = serialization.Encoding.DER
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return hashlib.sha256(self._key.public_bytes(der, spki)).hexdigest()

    @property
    def hint(self) -> str:
        """How OpenSSF model-signing names a key in a bundle: sha256 of its PEM, 64 hex digits."""
        return hashlib.sha256(self.pem.encode()).hexdigest()

    @property
    def kind(self) -> KeyKind:
        """Its algorithm."""
        return "ed25519" if isinstance(self._key, ed25519.Ed25519PublicKey) else "p256"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key's owner signed `message` so."""
        key = self._key
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, message)
            else:
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    @property
    def _key(self) -> _Public:
        return _supported(serialization.load_pem_public_key(self.pem.encode()))


@dataclass(frozen=True)
class SigningKey:
    """A private key. Never printed: its `repr` is the public part's id."""

    private: _Private

    @property
    def public(self) -> PublicKey:
        """What verifies its signatures."""
        return _public(self.private.public_key())

    @property
    def key_id(self) -> str:
        """The id of its public part."""
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(message)
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id[:16]})"


def new_key(kind: KeyKind = "ed25519") -> SigningKey:
    """A key that nobody has had before."""
    if kind == "ed25519":
        return SigningKey(ed25519.Ed25519PrivateKey.generate())
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def owner_key_path(home: Path, owner: str) -> Path:
    """Where the key of `owner` is kept: `home/keys/OWNER.pem`."""
    return home / "keys" / f"{check_owner(owner).lower()}.pem"


def owner_key(home: Path, owner: str, passphrase: str | None = None, kind: KeyKind = "ed25519") -> SigningKey:
    """The key with which `owner` signs, made at the first call and readable by nobody else.

    `kind` counts only then. Raises `InputError` for a wrong passphrase, `BadFileError` for a damaged file.
    """
    path = owner_key_path(home, owner)
    if not path.exists():
        _write_new(path, new_key(kind), passphrase)
    return read_key(path, passphrase)


def read_key(path: Path, passphrase: str | None = None) -> SigningKey:
    """A private key in PEM form that is already there.

    Raises `InputError` where others may read the file or the passphrase is wrong, `BadFileError`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such key", "name a PEM file with an Ed25519 or P-256 private key")
    if path.stat().st_mode & _OTHERS_MAY:
        raise InputError(
            f"{path}: others on this machine may read this private key", f"run: chmod 600 {path}"
        )
    try:
        key = serialization.load_pem_private_key(
            path.read_bytes(), passphrase.encode() if passphrase else None
        )
    except TypeError as error:
        hint = "give its passphrase" if not passphrase else "leave the passphrase out"
        raise InputError(f"{path}: {error}".lower(), hint) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase:
            raise InputError(f"{path}: the passphrase does not open it", "try another one") from error
        raise BadFileError(path, "", "is no private key in PEM form", "restore it from a backup") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: is neither an Ed25519 nor a P-256 key", "use one of these kinds")
    _supported(key.public_key())
    return SigningKey(key)


def _write_new(path: Path, key: SigningKey, passphrase: str | None) -> None:
    """Write it whole under `path`, unless another process was faster: then that one's stays."""
    protection = (
        serialization.BestAvailableEncryption(passphrase.encode())
        if passphrase
        else serialization.NoEncryption()
    )
    content = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _public(key: object) -> PublicKey:
    pem = _supported(key).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PublicKey(pem.decode())


def _supported(key: object) -> _Public:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise InputError("that key is neither Ed25519 nor ECDSA P-256", "use one of these kinds")
