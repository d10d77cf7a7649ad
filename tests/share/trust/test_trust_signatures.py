"""Signatures over files: what they cover, and that OpenSSF model-signing agrees."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from nomoat.base.errors import InputError
from nomoat.share.errors import RefusedError
from nomoat.share.names import RepoName
from nomoat.share.trust.envelope import seal, statement
from nomoat.share.trust.keys import PublicKey, SigningKey, new_key
from nomoat.share.trust.signatures import SIGNATURE_NAME, SignedFile, files_of, manifest_digest, sign, verify

MINE = RepoName.parse("model", "me/notes")
OTHER = RepoName.parse("model", "me/other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    (path / "dataset").mkdir(parents=True)
    (path / "adapter.gguf").write_bytes(b"GGUF" + bytes(range(256)))
    (path / "README.md").write_text("# notes\n")
    (path / "dataset" / "train.jsonl").write_text('{"text": "a"}\n')
    return path


@pytest.fixture(params=["ed25519", "p256"])
def key(request: pytest.FixtureRequest) -> SigningKey:
    return new_key(request.param)


def test_signed_files_are_verified_as_a_folder_and_as_entries(folder: Path, key: SigningKey) -> None:
    bundle = sign(folder, key, MINE)
    (folder / SIGNATURE_NAME).write_bytes(bundle)
    (folder / ".gitattributes").write_text("written by the hub")
    for source in (folder, files_of(folder)):
        found = verify(bundle, source, [key.public], [MINE])
        assert found.is_valid and found.signer == key.public and not found.problems
    assert found.repository == "model:me/notes"
    assert found.manifest_digest == manifest_digest(files_of(folder))


def _change(folder: Path) -> None:
    (folder / "adapter.gguf").write_bytes(b"GGUF" + bytes(256))


def _rename(folder: Path) -> None:
    (folder / "README.md").rename(folder / "READYOU.md")


def _swap(folder: Path) -> None:
    one, two = folder / "README.md", folder / "dataset" / "train.jsonl"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _add(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")


def _remove(folder: Path) -> None:
    (folder / "README.md").unlink()


@pytest.mark.parametrize("tamper", [_change, _rename, _swap, _add, _remove], ids=lambda f: f.__name__)
def test_tampering_is_found_and_named(folder: Path, key: SigningKey, tamper: Callable[[Path], None]) -> None:
    bundle = sign(folder, key, MINE)
    tamper(folder)
    found = verify(bundle, folder, [key.public], [MINE])
    assert found.state == "invalid" and found.problems
    with pytest.raises(RefusedError, match=r"does not hold"):
        found.require("me/notes")


def test_a_size_that_lies_is_found(folder: Path, key: SigningKey) -> None:
    entries = files_of(folder)
    bundle = sign(entries, key, MINE)
    lying = [replace(entries[0], size_bytes=1), *entries[1:]]
    assert verify(bundle, lying, [key.public]).state == "invalid"


def test_whoever_fetched_only_some_files_can_verify_those(folder: Path, key: SigningKey) -> None:
    bundle = sign(folder, key, MINE)
    some = [file for file in files_of(folder) if file.path == "adapter.gguf"]
    assert verify(bundle, some, [key.public], [MINE], partial=True).is_valid
    assert verify(bundle, some, [key.public], [MINE]).state == "invalid"
    for other in (replace(some[0], digest="sha256:" + "0" * 64), replace(some[0], path="model.gguf")):
        assert verify(bundle, [other], [key.public], [MINE], partial=True).state == "invalid"


def test_a_bundle_of_another_repository_is_refused(folder: Path, key: SigningKey) -> None:
    bundle = sign(folder, key, OTHER)
    found = verify(bundle, folder, [key.public], [MINE])
    assert found.state == "invalid" and "model:me/other" in found.problems[0]
    assert verify(bundle, folder, [key.public], [MINE, OTHER]).is_valid


def test_another_key_is_no_known_signer(folder: Path, key: SigningKey) -> None:
    found = verify(sign(folder, key, MINE), folder, [new_key().public], [MINE])
    assert found.state == "unknown signer" and found.claimed == key.key_id and found.signer is None
    found.require("me/notes")
    with pytest.raises(RefusedError):
        found.require("me/notes", unsigned_too=False)


def _edit(bundle: bytes, edit: Callable[[dict[str, dict]], None]) -> bytes:  # type: ignore[type-arg]
    content = json.loads(bundle)
    edit(content)
    return json.dumps(content).encode()


def test_a_changed_statement_or_signature_is_invalid(folder: Path, key: SigningKey) -> None:
    bundle = sign(folder, key, MINE)

    def payload(content: dict) -> None:  # type: ignore[type-arg]
        text = base64.b64decode(content["dsseEnvelope"]["payload"]).replace(b"me/notes", b"me/other")
        content["dsseEnvelope"]["payload"] = base64.b64encode(text).decode()

    def signature(content: dict) -> None:  # type: ignore[type-arg]
        raw = bytearray(base64.b64decode(content["dsseEnvelope"]["signatures"][0]["sig"]))
        raw[-1] ^= 1
        content["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(raw).decode()

    for edit in (payload, signature):
        assert verify(_edit(bundle, edit), folder, [key.public], [OTHER]).state == "invalid"


def test_a_bundle_signed_by_a_stranger_in_the_owners_name_is_invalid(folder: Path, key: SigningKey) -> None:
    forged = sign(folder, new_key(), MINE)

    def claim(content: dict) -> None:  # type: ignore[type-arg]
        content["dsseEnvelope"]["signatures"][0]["keyid"] = key.key_id

    assert verify(_edit(forged, claim), folder, [key.public], [MINE]).state == "invalid"


@pytest.mark.parametrize(
    "bundle", [b"", b"{}", b"[]", b"null", b"\xff", b'{"dsseEnvelope": 3}', b"[" * 100_000, b'{"mediaType": "x"}']
)  # fmt: skip
def test_what_is_no_bundle_is_invalid(folder: Path, bundle: bytes) -> None:
    found = verify(bundle, folder, [new_key().public])
    assert found.state == "invalid" and "no signature bundle" in found.problems[0]


def test_files_that_the_signer_left_out_are_named(folder: Path, tmp_path: Path) -> None:
    key = _pem_key(tmp_path / "key.pem")
    options = ("--signature", folder / SIGNATURE_NAME, "--private_key", tmp_path / "key.pem")
    made = _model_signing("sign", "key", folder, *options, "--ignore-paths", folder / "README.md")
    assert made.returncode == 0, made.stdout + made.stderr
    (folder / "README.md").write_text("changed")
    found = verify((folder / SIGNATURE_NAME).read_bytes(), folder, [key.public])
    assert found.is_valid and found.uncovered == ("README.md",)


def test_a_strangers_way_to_sign_that_is_not_known_here_is_no_forgery(folder: Path, key: SigningKey) -> None:
    content = statement([("x", "sha256:" + "0" * 64)], "https://somebody.example/v7", {})
    bundle = seal(content, key)
    assert verify(bundle, folder, [new_key().public]).state == "unknown signer"
    assert verify(bundle, folder, [key.public]).state == "invalid"


def test_hostile_fields_are_cut_and_cleaned(folder: Path, key: SigningKey) -> None:
    bundle = sign([SignedFile("a" * 100_000, "sha256:" + "0" * 64, 1)], key, MINE)

    def claim(content: dict) -> None:  # type: ignore[type-arg]
        content["dsseEnvelope"]["signatures"][0]["keyid"] = "\ud800\x00" * 9

    found = verify(_edit(bundle, claim), folder, [])
    assert found.claimed == "" and found.state == "invalid"
    assert all(len(problem) <= 300 for problem in found.problems)


def test_no_bundle_is_unsigned(folder: Path) -> None:
    assert verify(None, folder, []).state == "unsigned"


def test_links_and_empty_folders_are_not_signed(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="link"):
        sign(folder, new_key(), MINE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no file to sign"):
        sign(tmp_path / "empty", new_key(), MINE)


# -- the reference implementation ----------------------------------------------------------------


def _model_signing(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_model_signing_verifies_our_bundle_and_sees_what_we_see(folder: Path, tmp_path: Path) -> None:
    key = new_key("p256")
    (folder / SIGNATURE_NAME).write_bytes(sign(folder, key, MINE))
    (tmp_path / "key.pub").write_text(key.public.pem)
    options = (
        "verify",
        "key",
        folder,
        "--signature",
        folder / SIGNATURE_NAME,
        "--public_key",
        tmp_path / "key.pub",
    )
    accepted = _model_signing(*options)
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    _change(folder)
    assert _model_signing(*options).returncode != 0


def _pem_key(path: Path) -> SigningKey:
    key = new_key("p256")
    pem = serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private.private_bytes(pem, form, serialization.NoEncryption()))
    return key


def test_we_verify_the_bundle_of_model_signing(folder: Path, tmp_path: Path) -> None:
    key = _pem_key(tmp_path / "key.pem")
    options = ("--signature", folder / SIGNATURE_NAME, "--private_key", tmp_path / "key.pem")
    made = _model_signing("sign", "key", folder, *options)
    assert made.returncode == 0, made.stdout + made.stderr
    bundle = (folder / SIGNATURE_NAME).read_bytes()
    assert verify(bundle, folder, [PublicKey.parse(key.public.pem)], [MINE]).is_valid
    assert verify(bundle, folder, [new_key("p256").public]).state == "unknown signer"
    _rename(folder)
    assert verify(bundle, folder, [key.public]).state == "invalid"
