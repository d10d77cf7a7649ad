"""Adapters by name and path, made ready for one base and refused for another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nomoat.base.errors import BadFileError, BaseMismatchError, InputError, NotFoundError
from nomoat.base.manifests import write_manifest
from nomoat.base.settings import Settings
from nomoat.formats.adapter import LoraAdapter
from nomoat.formats.fingerprint import tensor_fingerprint
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME, write_peft
from nomoat.store.adapters import TENSORS_FIELD
from nomoat.store.store import Store, StoredModel

_NAME = "blk.0.attn_q.weight"


def _base(path: Path, seed: int = 0, width: int = 32) -> Path:
    metadata = {
        "general.architecture": "llama", "llama.context_length": 64,
        "llama.attention.head_count": 2, "llama.attention.head_count_kv": 2,
    }  # fmt: skip
    weight = np.random.default_rng(seed).normal(size=(width, width)).astype(np.float32)
    write_gguf(path, metadata, {_NAME: weight})
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", Settings(tmp_path / "home", None, tmp_path / "absent.gguf"))


@pytest.fixture
def model(store: Store, tmp_path: Path) -> StoredModel:
    return store.import_file(_base(tmp_path / "base.gguf"), "base")


@pytest.fixture
def adapter(model: StoredModel) -> LoraAdapter:
    rng = np.random.default_rng(1)
    pair = (rng.normal(size=(4, 32)).astype(np.float32), rng.normal(size=(32, 4)).astype(np.float32))
    return LoraAdapter(model.digest, "llama", 4, 8.0, {_NAME: pair}, 2, 2)


@pytest.fixture
def finished(adapter: LoraAdapter, tmp_path: Path) -> Path:
    """A folder as `nomoat tune` leaves it, with a checkpoint beside the adapter."""
    folder = tmp_path / "out"
    write_peft(adapter, folder)
    write_gguf_lora(adapter, folder / "adapter.gguf")
    names = [WEIGHTS_NAME, CONFIG_NAME, "adapter.gguf"]
    write_manifest(folder, "adapter", names, {"base": adapter.base_digest}, {})
    (folder / "checkpoint.bin").write_bytes(b"large")
    return folder


def test_a_finished_folder_is_ready_as_it_is(store: Store, model: StoredModel, finished: Path) -> None:
    assert store.resolve_adapter(finished) == finished
    assert store.adapter_file(finished, model) == finished / "adapter.gguf"
    assert store.adapter_file(finished / "adapter.gguf", model) == finished / "adapter.gguf"


def test_a_peft_folder_is_converted_once(
    store: Store, model: StoredModel, adapter: LoraAdapter, tmp_path: Path
) -> None:
    write_peft(replace(adapter, base_digest=""), tmp_path / "peft")
    file = store.adapter_file(tmp_path / "peft", model)
    made = read_gguf_lora(file).modules[_NAME]
    assert all(
        np.array_equal(mine, theirs) for mine, theirs in zip(made, adapter.modules[_NAME], strict=True)
    )
    before = file.stat().st_mtime_ns
    assert store.adapter_file(tmp_path / "peft", model) == file and file.stat().st_mtime_ns == before


def test_adapters_get_names_and_lose_them(store: Store, model: StoredModel, finished: Path) -> None:
    folder = store.import_adapter(finished, "me")
    assert store.adapters() == ("me",) and store.resolve_adapter("me") == folder
    assert not (folder / "checkpoint.bin").exists()
    assert store.adapter_file("me", model) == folder / "adapter.gguf"
    with pytest.raises(InputError, match="exists already"):
        store.import_adapter(finished, "me")
    store.import_adapter(finished / "adapter.gguf", "alone")
    assert store.adapter_file("alone", model).name == "adapter.gguf"
    with pytest.raises(NotFoundError) as caught:
        store.resolve_adapter("mee")
    assert "did you mean 'me'?" in caught.value.hint
    store.remove_adapter("me")
    assert store.adapters() == ("alone",) and finished.exists()
    with pytest.raises(NotFoundError):
        store.remove_adapter("me")


def test_an_adapter_of_another_base_is_refused(
    store: Store, finished: Path, adapter: LoraAdapter, tmp_path: Path
) -> None:
    other = store.import_file(_base(tmp_path / "other.gguf", seed=9), "other")
    with pytest.raises(BaseMismatchError, match="not on other"):
        store.adapter_file(finished, other)
    wider = store.import_file(_base(tmp_path / "wider.gguf", width=64), "wider")
    write_peft(replace(adapter, base_digest=""), tmp_path / "peft")
    for text in (tmp_path / "peft", finished):
        with pytest.raises(BadFileError, match="32 x 32, but the base's weight is 64 x 64"):
            store.adapter_file(text, wider)


def test_an_adapter_serves_on_what_was_requantised_from_its_base(
    store: Store, model: StoredModel, finished: Path, tmp_path: Path
) -> None:
    derived = store.add_derived(model, _base(tmp_path / "q8.gguf", seed=2), {"quantised_by": "test"})
    assert store.adapter_file(finished, derived) == finished / "adapter.gguf"
    parent = store.set_active("base", model.digest)
    assert store.adapter_file(finished, parent) == finished / "adapter.gguf"


def test_a_folder_that_differs_from_its_manifest_is_refused(
    store: Store, model: StoredModel, finished: Path
) -> None:
    content = bytearray((finished / "adapter.gguf").read_bytes())
    content[-1] ^= 1
    (finished / "adapter.gguf").write_bytes(content)
    with pytest.raises(BadFileError, match="differs from its manifest"):
        store.adapter_file(finished, model)


def test_a_manifest_that_names_another_base_is_believed(
    store: Store, model: StoredModel, adapter: LoraAdapter, tmp_path: Path
) -> None:
    write_peft(replace(adapter, base_digest=""), tmp_path / "peft")
    parents = {"base": "sha256:" + "0" * 64}
    write_manifest(tmp_path / "peft", "adapter", [WEIGHTS_NAME, CONFIG_NAME], parents, {})
    with pytest.raises(BaseMismatchError):
        store.adapter_file(tmp_path / "peft", model)


def test_what_is_no_adapter_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"neither adapter.gguf nor adapter_config.json"):
        store.resolve_adapter(tmp_path / "empty")
    with pytest.raises(NotFoundError, match="no such adapter"):
        store.resolve_adapter("./none")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / CONFIG_NAME).write_text(json.dumps({}))
    write_manifest(tmp_path / "dataset", "dataset", [CONFIG_NAME], {}, {})
    with pytest.raises(BadFileError, match="is a 'dataset'"):
        store.resolve_adapter(tmp_path / "dataset")


def test_a_forced_adapter_of_another_base_is_loaded_if_its_shapes_fit(
    store: Store, finished: Path, tmp_path: Path
) -> None:
    other = store.import_file(_base(tmp_path / "other.gguf", seed=9), "other")
    assert store.adapter_file(finished, other, force=True) == finished / "adapter.gguf"
    wider = store.import_file(_base(tmp_path / "wider.gguf", width=64), "wider")
    with pytest.raises(BadFileError, match="32 x 32"):
        store.adapter_file(finished, wider, force=True)


@pytest.mark.parametrize("where", ["card", "configuration"])
def test_a_pin_beside_the_weights_is_believed(
    store: Store, model: StoredModel, adapter: LoraAdapter, tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "peft"
    write_peft(replace(adapter, base_digest=""), folder)

    def pin(digest: str) -> None:
        if where == "card":
            text = f"---\nlicense: mit\nnomoat:\n  base_digest: {digest}\n---\n\nNot base_digest: sha256:{'1' * 64}\n"
            (folder / "README.md").write_text(text)
        else:
            config = json.loads((folder / CONFIG_NAME).read_text())
            (folder / CONFIG_NAME).write_text(json.dumps({**config, "base_digest": digest}))

    pin(model.digest)
    assert store.adapter_file(folder, model).is_file()
    pin("sha256:" + "0" * 64)
    with pytest.raises(BaseMismatchError):
        store.adapter_file(folder, model)
    assert store.adapter_file(folder, model, force=True).is_file()


def test_a_file_with_the_same_weights_is_the_same_base(
    store: Store, model: StoredModel, adapter: LoraAdapter, finished: Path, tmp_path: Path
) -> None:
    gguf = read_gguf(model.path)
    weights = {_NAME: gguf.raw(_NAME).view(np.float32).reshape(32, 32)}
    renamed, changed = tmp_path / "renamed.gguf", tmp_path / "changed.gguf"
    write_gguf(renamed, {**gguf.metadata, "general.name": "another name"}, weights)
    write_gguf(changed, gguf.metadata, {_NAME: weights[_NAME] + 1})
    details = {TENSORS_FIELD: tensor_fingerprint(gguf)}
    names = [WEIGHTS_NAME, CONFIG_NAME, "adapter.gguf"]
    write_manifest(finished, "adapter", names, {"base": adapter.base_digest}, details)
    same = store.import_file(renamed, "renamed")
    assert same.digest != model.digest
    assert store.adapter_file(finished, same) == finished / "adapter.gguf"
    with pytest.raises(BaseMismatchError):
        store.adapter_file(finished, store.import_file(changed, "changed"))
