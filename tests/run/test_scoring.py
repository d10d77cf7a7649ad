"""Logits, log-probabilities and embeddings of the real model."""

from __future__ import annotations

import numpy as np
import pytest

from nomoat.base.errors import InputError
from nomoat.run.engine import Engine
from nomoat.run.logprobs import log_softmax
from nomoat.run.sampling import SamplingParams

TEXT = "The quick brown fox jumps over the lazy dog. " * 14


def test_logits_of_every_position_agree_with_the_log_probabilities(engine: Engine) -> None:
    tokens = engine.encode(TEXT)
    assert len(tokens) > 128, "several chunks"
    logits = engine.logits(tokens)
    assert logits.shape == (len(tokens), 49152)
    assert logits.dtype == np.float32
    expected = log_softmax(logits[:-1])[np.arange(len(tokens) - 1), tokens[1:]]
    np.testing.assert_allclose(engine.token_logprobs(tokens), expected, atol=1e-5)


def test_the_last_row_is_what_greedy_decoding_chooses_from(engine: Engine) -> None:
    tokens = engine.encode("1, 2, 3, 4, 5,")
    (chunk, *_) = engine.generate(tokens, SamplingParams(temperature=0, max_tokens=1))
    assert chunk.token_ids == (int(engine.logits(tokens)[-1].argmax()),)


def test_a_repeated_text_is_ever_less_surprising(engine: Engine) -> None:
    logprobs = engine.token_logprobs(engine.encode(TEXT))
    assert logprobs[-50:].mean() > logprobs[:10].mean() + 1


def test_one_token_has_logits_and_no_log_probabilities(engine: Engine) -> None:
    assert engine.logits([500]).shape == (1, 49152)
    assert engine.token_logprobs([500]).shape == (0,)


def test_scoring_more_than_the_context_is_an_error(engine: Engine) -> None:
    with pytest.raises(InputError, match="513"):
        engine.token_logprobs([500] * 513)


def test_embeddings_have_length_one_and_put_the_like_together(engine: Engine) -> None:
    texts = [
        "A cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Import duties on steel rose by 4 %.",
    ]
    vectors = engine.embed(texts)
    assert vectors.shape == (3, 576)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alike, unlike = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert alike > unlike
    np.testing.assert_allclose(engine.embed(texts[2:])[0], vectors[2], atol=1e-3)


def test_an_empty_text_has_no_embedding(engine: Engine) -> None:
    with pytest.raises(InputError):
        engine.embed([""])
    assert engine.embed([]).shape == (0, 576)


def test_tokens_become_text_again(engine: Engine) -> None:
    text = "Grüße — 你好 😀\n\tindented"
    assert engine.detokenize(engine.encode(text)) == text
    assert engine.encode("<|im_end|>") == [2]
    assert len(engine.encode("<|im_end|>", parse_special=False)) > 1
