"""Lineage and vouching on a hub: what is verified, what is only said, and what nobody knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from adapter_folder import BASE_DIGEST, write_adapter
from trust_hub import Hub

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import InputError
from nomoat.share.registry.accounts import ANONYMOUS
from nomoat.share.registry.repos import Repo
from nomoat.share.trust.keys import SigningKey, new_key
from nomoat.share.trust.provenance import PROVENANCE_NAME, provenance_of, sign_provenance
from nomoat.share.trust.signatures import SIGNATURE_NAME, SignedFile, sign

_SENT = ("adapter.gguf", "adapter_model.safetensors", "adapter_config.json", "manifest.json")
CARD = b"---\nbase_model: somebody/tiny-chat\nlibrary_name: peft\ndatasets: [me/letters]\n---\n# notes\n"


@pytest.fixture
def key(hub: Hub) -> SigningKey:
    """My key, which the hub knows."""
    made = new_key()
    hub.registry.accounts.change("me", public_key=made.public.pem)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "notes")


def _files(folder: Path, *names: str) -> dict[str, bytes | None]:
    return {name: (folder / name).read_bytes() for name in names or _SENT}


def _signed(files: Mapping[str, bytes | None], key: SigningKey, repo: Repo) -> dict[str, bytes | None]:
    listed = [
        SignedFile(path, sha256_bytes(data), len(data)) for path, data in files.items() if data is not None
    ]
    return {**files, SIGNATURE_NAME: sign(listed, key, repo.name)}


def test_a_signed_commit_is_vouched_for(hub: Hub, key: SigningKey, folder: Path) -> None:
    repo = hub.repo()
    commit = hub.commit(repo, _signed(_files(folder), key, repo))
    found = hub.registry.vouching.verification(repo, commit)
    assert found.is_valid and found.signer == key.public
    hub.registry.accounts.change("me", public_key=new_key().public.pem)
    remembered = hub.registry.vouching.verification(repo, commit)
    assert remembered.is_valid and remembered.signer == key.public
    moved = hub.registry.repos.move(hub.me, repo.name, hub.name("me/diary"))
    assert (
        hub.registry.vouching.record(moved, commit, hub.registry.history.files(commit)).state
        == "unknown signer"
    )


def test_only_a_key_can_be_registered_as_one(hub: Hub) -> None:
    with pytest.raises(InputError, match="public key"):
        hub.registry.accounts.change("me", public_key="ssh-ed25519 AAAA")
    hub.registry.accounts.change("me", public_key="")


def test_a_commit_after_the_signed_one_is_not_vouched_for(hub: Hub, key: SigningKey, folder: Path) -> None:
    repo = hub.repo()
    hub.commit(repo, _signed(_files(folder), key, repo))
    later = hub.commit(repo, {"adapter.gguf": b"GGUF something else"})
    found = hub.registry.vouching.verification(repo, later)
    assert found.state == "invalid" and found.problems == ("adapter.gguf differs from what was signed",)
    unsigned = hub.commit(repo, {SIGNATURE_NAME: None})
    assert hub.registry.vouching.verification(repo, unsigned).state == "unsigned"
    junk = hub.commit(repo, {SIGNATURE_NAME: b"x"})
    assert hub.registry.vouching.verification(repo, junk).state == "invalid"


def test_a_signature_copied_from_another_repository_is_invalid(
    hub: Hub, key: SigningKey, folder: Path
) -> None:
    first, second = hub.repo(), hub.repo("me/copy")
    files = _signed(_files(folder), key, first)
    commit = hub.commit(second, files)
    found = hub.registry.vouching.verification(second, commit)
    assert found.state == "invalid" and "model:me/notes" in found.problems[0]


def test_a_signed_run_of_known_files_is_a_verified_edge(hub: Hub, key: SigningKey, folder: Path) -> None:
    repo = hub.repo()
    hub.commit(repo, {**_files(folder), PROVENANCE_NAME: sign_provenance(folder, key), "README.md": CARD})
    edges = hub.registry.lineage.parents(repo)
    assert [(edge.relation, edge.base_name, edge.state) for edge in edges] == [
        ("adapter", "somebody/tiny-chat", "verified"), ("dataset", "", "verified"),
        ("dataset", "me/letters", "declared"),
    ]  # fmt: skip
    assert edges[0].base_digest == BASE_DIGEST and edges[0].evidence["key_id"] == key.key_id


@pytest.mark.parametrize("fault", ["stranger", "other weights", "changed statement"])
def test_a_claim_that_does_not_hold_is_not_verified(
    hub: Hub, key: SigningKey, folder: Path, tmp_path: Path, fault: str
) -> None:
    repo, files = hub.repo(), _files(folder)
    bundle = sign_provenance(folder, new_key() if fault == "stranger" else key)
    if fault == "other weights":
        files |= _files(write_adapter(tmp_path / "other", seed=5), "adapter.gguf")
    if fault == "changed statement":
        content = json.loads(bundle)
        content["dsseEnvelope"]["payload"] = json.loads(sign_provenance(write_adapter(tmp_path / "x", seed=9), key))[
            "dsseEnvelope"]["payload"]  # fmt: skip
        bundle = json.dumps(content).encode()
    hub.commit(repo, {**files, PROVENANCE_NAME: bundle})
    assert hub.registry.lineage.parents(repo)
    assert not [edge for edge in hub.registry.lineage.parents(repo) if edge.state == "verified"]


def test_an_adapter_that_names_no_base_is_unknown(hub: Hub, folder: Path) -> None:
    repo = hub.repo()
    hub.commit(repo, _files(folder, "adapter_config.json"))
    (edge,) = hub.registry.lineage.parents(repo)
    assert (edge.relation, edge.state, edge.base_name) == ("adapter", "unknown", "")
    hub.commit(repo, {"adapter_config.json": b'{"base_model_name_or_path": "some/base"}'})
    (edge,) = hub.registry.lineage.parents(repo)
    assert (edge.relation, edge.state, edge.base_name) == ("adapter", "declared", "some/base")
    hub.commit(repo, {"adapter_config.json": b'{"base_model_name_or_path": "/home/me/models/secret"}'})
    assert hub.registry.lineage.parents(repo)[0].state == "unknown"


@pytest.mark.parametrize(
    "card", [b"---\n[\n---\n", b"---\n- a\n---\n", b"---\na: &x [*x]\n---\n", b"\xff\xfe"]
)
def test_a_card_that_cannot_be_read_declares_nothing(hub: Hub, card: bytes) -> None:
    repo = hub.repo()
    hub.commit(repo, {"README.md": card})
    assert hub.registry.lineage.parents(repo) == []


def test_hostile_names_are_cleaned_before_they_are_kept(hub: Hub) -> None:
    repo = hub.repo()
    card = '---\nbase_model: ["a\\0\\eb", 7, {x: 1}, "  ", "' + "n" * 5000 + '"]\n---\n'
    hub.commit(repo, {"README.md": card.encode(), "m.gguf": b"GGUF", SIGNATURE_NAME: b"{}"})
    digest = sha256_bytes(b"GGUF")
    hub.registry.blobs.set_facts(digest, {"metadata": {"general.base_model.count": "many"}})
    hub.commit(repo, {"x": b"x"})
    assert [len(edge.base_name) for edge in hub.registry.lineage.parents(repo)] == [2, 300]
    facts = {"metadata": {"general.base_model.count": 1, "general.base_model.0.name": "Tea Base"}}
    hub.registry.blobs.set_facts(digest, facts)
    hub.commit(repo, {"README.md": b"no card"})
    (edge,) = hub.registry.lineage.parents(repo)
    assert (edge.relation, edge.base_name, edge.state, edge.path) == (
        "quantized",
        "Tea Base",
        "declared",
        "m.gguf",
    )


def test_children_and_the_graph_show_only_what_one_may_see(hub: Hub, key: SigningKey, folder: Path) -> None:
    base = hub.repo("you/base")
    hub.commit(base, {"sub/base.gguf": b"the base's bytes"})
    digest = sha256_bytes(b"the base's bytes")
    card = f"---\nlibrary_name: peft\nnomoat:\n  base_digest: {digest}\n---\n".encode()
    hub.commit(hub.repo("me/by-digest"), {"README.md": card})
    hub.commit(hub.repo("me/by-name"), {"README.md": b"---\nbase_model: You/Base\n---\n"})
    hub.commit(hub.repo("me/hidden", private=True), {"README.md": card})
    lineage, base = hub.registry.lineage, hub.again(base)

    def names(children: list[tuple[Repo, object]]) -> set[str]:
        return {str(child.name) for child, _ in children}

    assert names(lineage.children(ANONYMOUS, base)) == {"me/by-digest", "me/by-name"}
    assert names(lineage.children(hub.me, base)) == {"me/by-digest", "me/by-name", "me/hidden"}
    assert names(lineage.children_of_digest(ANONYMOUS, digest)) == {"me/by-digest"}
    child = hub.registry.repos.get(hub.me, hub.name("me/by-digest"))
    graph = lineage.graph(ANONYMOUS, child).as_json()
    assert {node["id"]: node["depth"] for node in graph["nodes"]} == {"me/by-digest": 0, "you/base": -1}
    assert graph["edges"] == [
        {"child": "me/by-digest", "parent": "you/base", "relation": "adapter", "state": "declared"}
    ]
    assert len(lineage.graph(hub.me, base).nodes) == 4


def test_a_base_is_found_by_its_digest_in_any_version_and_else_by_its_name(hub: Hub) -> None:
    base, other = hub.repo("you/base"), hub.repo("you/other")
    hub.commit(base, {"base.gguf": b"the base's bytes"})
    hub.commit(base, {"base.gguf": b"a newer version"})
    hub.commit(other, {"notes.txt": b"none of it"})
    digest = sha256_bytes(b"the base's bytes")
    pinned = f"nomoat:\n  base_digest: {digest}\nlibrary_name: peft\n"
    child, lineage = hub.repo("me/child"), hub.registry.lineage
    hub.commit(child, {"README.md": f"---\n{pinned}base_model: you/other\n---\n".encode()})
    (found,) = lineage.bases(ANONYMOUS, child)
    assert found.repo and str(found.repo.name) == "you/base" and found.same_file
    assert [str(repo.name) for repo, _ in lineage.children(ANONYMOUS, hub.again(base))] == ["me/child"]
    hub.commit(child, {"README.md": b"---\nbase_model: You/Other\nlibrary_name: peft\n---\n"})
    (found,) = lineage.bases(ANONYMOUS, child)
    assert found.repo and str(found.repo.name) == "you/other" and not found.same_file
    assert lineage.children(ANONYMOUS, hub.again(base)) == []


def test_a_private_base_is_none_for_others_and_nothing_is_its_own(hub: Hub) -> None:
    card = f"---\nbase_model: me/child\nnomoat:\n  base_digest: {sha256_bytes(b'weights')}\n---\n".encode()
    child, lineage = hub.repo("me/child"), hub.registry.lineage
    hub.commit(child, {"README.md": card, "m.gguf": b"weights"})
    assert [base.repo for base in lineage.bases(hub.me, child)] == [None]
    hub.commit(hub.repo("me/secret", private=True), {"m.gguf": b"weights"})
    assert [base.repo for base in lineage.bases(ANONYMOUS, child)] == [None]
    (found,) = lineage.bases(hub.me, child)
    assert found.repo and str(found.repo.name) == "me/secret"


def test_what_is_proven_of_a_file_is_only_said_of_a_repository_of_its_name(
    hub: Hub, key: SigningKey, folder: Path
) -> None:
    hub.registry.accounts.add("somebody")
    child, namesake = hub.repo(), hub.repo("somebody/tiny-chat")
    hub.commit(child, {**_files(folder), PROVENANCE_NAME: sign_provenance(folder, key), "README.md": CARD})
    hub.commit(namesake, {"base.gguf": b"not what it was trained on"})
    lineage = hub.registry.lineage
    found = lineage.bases(ANONYMOUS, child)[0]
    assert found.repo and found.repo.id == namesake.id and not found.same_file
    assert (found.edge.state, found.state) == ("verified", "declared")
    ((_, edge),) = lineage.children(ANONYMOUS, hub.again(namesake))
    assert (edge.state, edge.base_digest) == ("declared", BASE_DIGEST)
    states = {each[1]: each[3] for each in lineage.graph(ANONYMOUS, child).edges}
    assert states["somebody/tiny-chat"] == "declared"


def test_two_repositories_that_name_each_other_make_a_finite_graph(hub: Hub) -> None:
    one, two = hub.repo("me/one"), hub.repo("me/two")
    hub.commit(one, {"README.md": b"---\nbase_model: me/two\n---\n"})
    hub.commit(two, {"README.md": b"---\nbase_model: me/one\n---\n"})
    graph = hub.registry.lineage.graph(hub.me, hub.again(one), generations=9)
    assert {node.id for node in graph.nodes} == {"me/one", "me/two"} and len(graph.edges) == 2


def test_the_statement_tells_the_run_and_nothing_of_its_owners_disk(folder: Path) -> None:
    content = provenance_of(folder)
    text = json.dumps(content)
    assert "my-diary.md" not in text and str(folder) not in text
    predicate = content["predicate"]
    assert predicate["buildDefinition"]["externalParameters"] == {
        "base": "tiny",
        "recipe": {"r": 4, "seed": 0},
    }
    needed = {each["name"]: each["digest"] for each in predicate["buildDefinition"]["resolvedDependencies"]}
    assert set(needed) == {"base", "dataset", "train.jsonl", "valid.jsonl", "source"}
    assert f"sha256:{needed['base']['sha256']}" == BASE_DIGEST
