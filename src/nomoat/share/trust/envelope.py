"""Signed statements: an in-toto statement in a DSSE envelope in a Sigstore bundle, as OpenSSF model-signing has it.

Formats: https://github.com/in-toto/attestation (Statement v1), https://github.com/secure-systems-lab/dsse (v1.0),
https://docs.sigstore.dev/about/bundle (v0.3, with a public key instead of a certificate).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nomoat.base.errors import InputError
from nomoat.share.trust.keys import PublicKey, SigningKey

__all__ = ["Opened", "canonical_json", "open_bundle", "seal", "statement"]

_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_MOST_BYTES = 16 << 20
_KEY_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Opened:
    """A bundle's statement. `signer` is the trusted key that signed it, None where no trusted key did.

    `claimed` is the id of the key that the bundle names: a hint for messages, proof of nothing.
    """

    statement: Mapping[str, Any]
    signer: PublicKey | None
    claimed: str


def canonical_json(value: Any) -> bytes:
    """The one way to write a JSON value: keys in order, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def statement(
    subject: Iterable[tuple[str, str]], predicate_type: str, predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """An in-toto statement on artefacts `(name, "sha256:...")`."""
    subjects = [
        {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}} for name, digest in subject
    ]
    return {"_type": _STATEMENT_TYPE, "subject": subjects, "predicateType": predicate_type,
            "predicate": predicate}  # fmt: skip


def seal(content: Mapping[str, Any], key: SigningKey) -> bytes:
    """The bundle of a statement, signed."""
    payload = canonical_json(content)
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _base64(payload),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": _base64(key.sign(_pae(payload))), "keyid": key.key_id}],
        },
    }
    return json.dumps(bundle, indent=2).encode() + b"\n"


def open_bundle(bundle: bytes, trusted: Iterable[PublicKey]) -> Opened:
    """The statement of a bundle and who of `trusted` signed it.

    Raises `InputError` where it is no bundle, or names a trusted key whose signature it does not carry.
    """
    payload, signatures, claimed = _parts(bundle)
    keys = list(trusted)
    signed = _pae(payload)
    signer = next((key for key in keys for each in signatures if key.verifies(each, signed)), None)
    if signer is None and any(claimed in {key.key_id, key.hint} for key in keys):
        raise InputError(
            "the signature is not the one of the key that it names", "what was signed has been changed"
        )
    return Opened(_statement(payload), signer, claimed)


def _parts(bundle: bytes) -> tuple[bytes, list[bytes], str]:
    """Payload, signatures and the id of the key named."""
    try:
        if len(bundle) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES:,} bytes")
        content = json.loads(bundle)
        envelope, material = content["dsseEnvelope"], content["verificationMaterial"]
        if content["mediaType"] != _BUNDLE_TYPE or envelope["payloadType"] != _PAYLOAD_TYPE:
            raise ValueError("of another type")
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]]
        named = envelope["signatures"][0].get("keyid") or material.get("publicKey", {}).get("hint", "")
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        binascii.Error,
    ) as error:
        raise InputError(f"that is no signature bundle ({error})", "sign again with `nomoat push`") from error
    # Only what can be the id of a key: it is shown, and kept in databases.
    return payload, signatures, named if isinstance(named, str) and _KEY_ID.fullmatch(named) else ""


def _statement(payload: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(payload)
        if content["_type"] != _STATEMENT_TYPE:
            raise ValueError("of another type")
        for part, kind in (("subject", list), ("predicateType", str), ("predicate", dict)):
            if not isinstance(content[part], kind):
                raise ValueError(f"its {part} is of another type")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"what was signed is no in-toto statement ({error})", "sign again with `nomoat push`"
        ) from error
    return dict(content)


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what the signature is over."""
    return f"DSSEv1 {len(_PAYLOAD_TYPE)} {_PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
