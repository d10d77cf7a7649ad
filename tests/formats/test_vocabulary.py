"""Tokens as the engine sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nomoat.base.errors import BadFileError, InputError
from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.gguf_write import write_gguf
from nomoat.formats.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary(smollm2_path: Path) -> Iterator[Vocabulary]:
    with Vocabulary.open(smollm2_path) as opened:
        yield opened


def test_control_tokens_are_known(vocabulary: Vocabulary) -> None:
    assert vocabulary.n_vocab == 49152
    assert (vocabulary.bos_token_id, vocabulary.eos_token_id, vocabulary.adds_bos) == (1, 2, False)
    assert vocabulary.is_end(2) and not vocabulary.is_end(500)
    assert vocabulary.token_bytes(2) == b"<|im_end|>"


def test_special_text_is_a_token_only_where_it_may_be(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode("<|im_end|>") == [2]
    plain = vocabulary.encode("<|im_end|>", parse_special=False)
    assert 2 not in plain and vocabulary.decode(plain) == "<|im_end|>"
    assert vocabulary.decode([2], special=False) == ""


@settings(max_examples=100, deadline=None)
# The model has no token for some control bytes, nor for those that begin characters beyond U+3FFFF.
@given(st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs", "Cc"]), max_size=200))
def test_any_text_survives_encoding_and_decoding(vocabulary: Vocabulary, text: str) -> None:
    ids = vocabulary.encode(text, parse_special=False)
    assert vocabulary.decode(ids) == text
    assert b"".join(map(vocabulary.token_bytes, ids)) == text.encode()


def test_tokens_agree_with_the_tokenizers_library(vocabulary: Vocabulary, smollm2_path: Path) -> None:
    metadata = read_gguf(smollm2_path).metadata
    ids = {token: index for index, token in enumerate(metadata["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    reference = Tokenizer(models.BPE(ids, merges))
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    reference.decoder = decoders.ByteLevel()
    for text in (
        "Hello, world!",
        "Grüße aus Köln 🙂",
        "def f(x):\n    return x ** 2",
        "call 0171-2345",
        "  a\t\tb ",
    ):
        assert vocabulary.encode(text) == reference.encode(text).ids


def test_what_would_end_the_process_in_c_is_refused_before(vocabulary: Vocabulary) -> None:
    for bad in (-1, 49152, 1 << 30):
        with pytest.raises(InputError, match="not in the vocabulary"):
            vocabulary.token_bytes(bad)
        with pytest.raises(InputError, match="not in the vocabulary"):
            vocabulary.decode([1, bad])
    with pytest.raises(InputError, match="not valid Unicode"):
        vocabulary.encode("\ud800")


def test_nothing_is_written_to_the_terminal(smollm2_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Vocabulary.open(smollm2_path) as opened:
        opened.close()  # closing twice is fine
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({}, "'tokenizer.ggml.model': is None"),
        ({"model": "none"}, "no tokenizer"),
        ({"model": "none such"}, "no tokenizer"),
        ({"model": "gpt2"}, "no list of tokens"),
        ({"model": "gpt2", "tokens": [1, 2]}, "no list of tokens"),
        ({"model": "gpt2", "tokens": ["a", "b", "a"]}, "there twice"),
        ({"model": "bert", "tokens": ["a", "b"]}, "too few"),
        ({"model": "llama", "tokens": ["<unk>", "<s>", "</s>"]}, "single bytes are missing"),
        ({"model": "gpt2", "tokens": ["a", "b"], "scores": [0.5]}, "scores"),
        ({"model": "gpt2", "tokens": ["a", "b"], "eos_token_id": 2}, "eos_token_id"),
        ({"model": "gpt2", "tokens": ["a", "b"], "merges": [1]}, "llama.cpp refuses it"),
    ],
)  # fmt: skip
def test_a_file_without_a_sound_tokenizer_is_refused(
    tmp_path: Path, metadata: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "odd.gguf"
    keys = {f"tokenizer.ggml.{name}": value for name, value in metadata.items()}
    write_gguf(path, {"general.architecture": "llama", **keys}, {"t": np.zeros(4, np.float32)})
    with pytest.raises(BadFileError, match=problem):
        Vocabulary.open(path)
