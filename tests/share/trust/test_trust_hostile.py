"""Whatever strangers put into bundles, statements and cards, nothing but the promised errors comes of it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.base.errors import InputError
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.share.names import RepoName
from nomoat.share.registry.lineage.edges import edges_of_card, edges_of_config, edges_of_metadata
from nomoat.share.trust.envelope import seal, statement
from nomoat.share.trust.keys import new_key
from nomoat.share.trust.provenance import read_provenance
from nomoat.share.trust.signatures import SignedFile, sign, verify

_KEY = new_key()
_FILES = [SignedFile("a/b", "sha256:" + "0" * 64, 3), SignedFile("c", "sha256:" + "1" * 64, 4)]
_NAMES = st.sampled_from(
    ["_type", "subject", "predicate", "predicateType", "name", "digest", "sha256", "serialization", "resources",
     "method", "hash_type", "ignore_paths", "algorithm", "nomoat", "buildDefinition", "externalParameters",
     "resolvedDependencies", "base", "base_model", "datasets", "base_digest", "base_model_name_or_path",
     "general.base_model.count", "general.base_model.0.name", "general.base_model.0.repo_url"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["files", "sha256", "0" * 64, "https://in-toto.io/Statement/v1",
                       "https://model_signing/signature/v1.0", "https://slsa.dev/provenance/v1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=6),
    max_leaves=20,
)  # fmt: skip
_DICTS = st.dictionaries(_NAMES, _VALUES, max_size=8)


@given(content=_DICTS)
@settings(max_examples=200, deadline=None)
def test_any_signed_statement_gets_a_verdict(content: dict[str, Any]) -> None:
    for kind in ("https://model_signing/signature/v1.0", "https://slsa.dev/provenance/v1"):
        bundle = seal({**statement([("x", "sha256:" + "0" * 64)], kind, content), **content}, _KEY)
        assert verify(bundle, _FILES, [_KEY.public]).state == "invalid"
        with contextlib.suppress(InputError):
            read_provenance(bundle, [_KEY.public])


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), name=_NAMES, value=_VALUES)
@settings(max_examples=200, deadline=None)
def test_any_change_to_a_bundle_is_never_verified_as_something_else(
    place: int, byte: int, name: str, value: Any
) -> None:
    bundle = sign(_FILES, _KEY, RepoName.parse("model", "me/notes"))
    changed = bytearray(bundle)
    changed[place % len(bundle)] = byte
    other = [SignedFile("a/b", "sha256:" + "2" * 64, 3), _FILES[1]]
    assert not verify(bytes(changed), other, [_KEY.public]).is_valid
    content = json.loads(bundle)
    content["dsseEnvelope"][name], content["verificationMaterial"] = value, value
    assert not verify(json.dumps(content).encode(), other, [_KEY.public]).is_valid


@given(text=st.text(max_size=200), fields=_DICTS)
@settings(max_examples=200, deadline=None)
def test_any_card_gives_fields_or_an_error_and_any_fields_give_edges(
    text: str, fields: dict[str, Any]
) -> None:
    for card in (text, f"---\n{text}\n---\n", f"---\n{json.dumps(fields)}\n---\nbody"):
        with contextlib.suppress(InputError):
            found, _ = split_front_matter(card)
            json.dumps(found, allow_nan=False)
    for edge in [*edges_of_card(fields), *edges_of_config(fields), *edges_of_metadata("m.gguf", fields)]:
        assert len(edge.base_name) <= 300
        edge.base_name.encode()
