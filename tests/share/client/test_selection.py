"""Which file is meant where a repository holds many."""

from __future__ import annotations

import pytest

from nomoat.base.errors import InputError, NotFoundError
from nomoat.share.client.remote import RemoteFile, Snapshot
from nomoat.share.client.selection import quantisation_of_name, select
from nomoat.share.names import RepoName


def _snapshot(*paths: str) -> Snapshot:
    files = tuple(RemoteFile(path, 5, "0" * 40) for path in paths)
    return Snapshot(RepoName("model", "o", "n"), "c" * 40, files, {})


@pytest.mark.parametrize(
    ("path", "quantisation"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"), ("qwen2.5-0.5b-instruct-q8_0.gguf", "Q8_0"),
        ("model.IQ2_XXS.gguf", "IQ2_XXS"), ("big-Q4_K_M-00001-of-00003.gguf", "Q4_K_M"), ("m-BF16.gguf", "BF16"),
        ("m-fp16.gguf", "FP16"), ("m-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"), ("m-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("plain.gguf", ""), ("Q4.gguf", "Q4"), ("qwen2.gguf", ""), ("sub/Q8_0/m-F16.gguf", "F16"),
    ],
)  # fmt: skip
def test_a_files_name_says_its_quantisation(path: str, quantisation: str) -> None:
    assert quantisation_of_name(path) == quantisation


MANY = _snapshot("m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", "README.md")


@pytest.mark.parametrize(
    ("selector", "path"),
    [("", "m-Q4_K_M.gguf"), ("q8_0", "m-Q8_0.gguf"), ("m-Q2_K.gguf", "m-Q2_K.gguf")],
)
def test_one_of_many_is_found(selector: str, path: str) -> None:
    assert [file.path for file in select(MANY, selector).files] == [path]


def test_without_a_word_the_usual_one_is_meant() -> None:
    assert select(_snapshot("a-Q2_K.gguf", "a-Q8_0.gguf")).label == "Q8_0"
    assert select(_snapshot("only.gguf")).files[0].path == "only.gguf"
    with pytest.raises(InputError, match="several models: Q2_K, Q3_K_S"):
        select(_snapshot("a-Q2_K.gguf", "a-Q3_K_S.gguf"))
    with pytest.raises(InputError, match=r"several models: a-Q4_K_M.gguf, b-Q4_K_M.gguf"):
        select(_snapshot("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"))


def test_what_is_not_there_is_answered_with_what_is() -> None:
    with pytest.raises(NotFoundError, match="no 'Q5_K_M'; there are: Q2_K, Q4_K_M, Q8_0"):
        select(MANY, "Q5_K_M")
    with pytest.raises(NotFoundError, match="neither a model"):
        select(_snapshot("README.md", "model.safetensors"))


def test_parts_belong_together() -> None:
    parts = [f"q/m-Q8_0-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert [file.path for file in select(_snapshot(*reversed(parts))).files] == parts
    assert select(_snapshot(*parts), parts[1]).files[0].path == parts[0]
    with pytest.raises(NotFoundError, match="only 2 of 3 parts"):
        select(_snapshot(*parts[:2]))


def test_an_adapter_is_its_files_and_nothing_else() -> None:
    found = select(
        _snapshot("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "README.md", "a/b")
    )
    assert found.kind == "adapter"
    assert [file.path for file in found.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    ]
