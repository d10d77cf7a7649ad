"""Keys: made once, readable by their owner only, and refused where others could have read them."""

from __future__ import annotations

import hashlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nomoat.base.errors import BadFileError, InputError
from nomoat.share.trust.keys import PublicKey, new_key, owner_key, owner_key_path, read_key


def test_an_owners_key_is_made_once_and_private(tmp_path: Path) -> None:
    key = owner_key(tmp_path, "Me")
    path = owner_key_path(tmp_path, "me")
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert owner_key(tmp_path, "me").key_id == key.key_id
    assert key.public.kind == "ed25519"
    assert "PRIVATE" not in repr(key)
    assert [each.name for each in path.parent.iterdir()] == ["me.pem"]


def test_two_first_pushes_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: owner_key(tmp_path, "me").key_id, range(16)))
    assert len(set(keys)) == 1


def test_a_key_with_a_passphrase_opens_with_it_only(tmp_path: Path) -> None:
    key = owner_key(tmp_path, "me", "correct horse")
    assert owner_key(tmp_path, "me", "correct horse").key_id == key.key_id
    for wrong in (None, "battery staple"):
        with pytest.raises(InputError):
            owner_key(tmp_path, "me", wrong)


def test_openssl_made_keys_are_taken_and_agree_on_the_key_id(tmp_path: Path) -> None:
    for options in (["ED25519"], ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]):
        path = tmp_path / f"{options[0]}.pem"
        _openssl("genpkey", "-algorithm", *options, "-out", str(path))
        path.chmod(0o600)
        der = _openssl("pkey", "-in", str(path), "-pubout", "-outform", "DER")
        assert read_key(path).key_id == hashlib.sha256(der).hexdigest()


def _openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    owner_key(tmp_path, "me")
    owner_key_path(tmp_path, "me").chmod(0o644)
    with pytest.raises(InputError, match="others"):
        owner_key(tmp_path, "me")


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(BadFileError):
        read_key(path)
    with pytest.raises(InputError):
        read_key(tmp_path / "none.pem")
    with pytest.raises(InputError):
        PublicKey.parse("ssh-ed25519 AAAA")
    _openssl("genpkey", "-algorithm", "RSA", "-out", str(path))
    with pytest.raises(InputError, match="neither"):
        read_key(path)


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_signature_fits_one_message_and_one_key(kind: str) -> None:
    key = new_key(kind)  # type: ignore[arg-type]
    signature = key.sign(b"message")
    assert key.public.verifies(signature, b"message")
    assert not key.public.verifies(signature, b"massage")
    assert not new_key(kind).public.verifies(signature, b"message")  # type: ignore[arg-type]
    assert not key.public.verifies(b"", b"message")
    assert PublicKey.parse(key.public.pem.replace("\n", "\r\n")) == key.public
