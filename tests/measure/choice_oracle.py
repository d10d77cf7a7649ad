"""Multiple choice computed a second time: transformers on the dequantised weights, float32, one choice at a time.

Shares with nomoat the tokenizer and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
import torch

from nomoat.formats.vocabulary import Vocabulary
from nomoat.measure.questions import ChoiceQuestion

sys.path.append(str(Path(__file__).resolve().parents[1] / "tune"))

from oracle import transformers_model

__all__ = [
    "FLOAT_NATS",
    "Q4_1_NATS",
    "OracleAnswer",
    "assert_same_choice",
    "oracle_answers",
    "write_float_weights",
]

FLOAT_NATS = 0.05
"""By how much a log-likelihood may differ where llama.cpp has the same weights as floats: its KV is float16."""
Q4_1_NATS = 1.5
"""The same with Q4_1, whose kernels round activations to 8 bits: of 240 choices half differ by 0.13, one by 1.09."""


@dataclass(frozen=True)
class OracleAnswer:
    """Log-likelihoods of the choices, as they are and per byte."""

    scores: tuple[float, ...]
    per_byte: tuple[float, ...]


def oracle_answers(path: Path, questions: Sequence[ChoiceQuestion]) -> list[OracleAnswer]:
    """Score every choice of every question with the model at `path`."""
    model, vocabulary = transformers_model(path), Vocabulary.open(path)
    answers = []
    for question in questions:
        context = vocabulary.encode(f"Question: {question.question}\nAnswer:")
        scores = _loglikelihoods(model, context, [vocabulary.encode(f" {c}") for c in question.choices])
        lengths = [len(choice.encode()) for choice in question.choices]
        per_byte = tuple(score / length for score, length in zip(scores, lengths, strict=True))
        answers.append(OracleAnswer(tuple(scores), per_byte))
    return answers


def assert_same_choice(
    found: Sequence[float], oracle: OracleAnswer, chosen: tuple[int, int], nats: float
) -> None:
    """Log-likelihoods agree within `nats`; so do both choices (plain, per byte), unless the oracle's tie within it."""
    np.testing.assert_allclose(found, oracle.scores, rtol=0, atol=nats)
    lengths = np.asarray(oracle.scores) / np.asarray(oracle.per_byte)
    assert max(oracle.scores) - oracle.scores[chosen[0]] <= 2 * nats
    assert max(oracle.per_byte) - oracle.per_byte[chosen[1]] <= 2 * nats / lengths.min()


def write_float_weights(source: Path, target: Path) -> Path:
    """The model at `source` with its weights dequantised to float32, by llama.cpp itself."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = llama_cpp.LLAMA_FTYPE_ALL_F32, 2
    parameters.allow_requantize = True
    assert llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters) == 0
    return target


@torch.no_grad()
def _loglikelihoods(model: torch.nn.Module, context: list[int], choices: list[list[int]]) -> list[float]:
    """All choices in one batch, padded behind: no token sees what comes after it."""
    longest = max(map(len, choices))
    tokens = torch.tensor([context + choice + [0] * (longest - len(choice)) for choice in choices])
    logits = model(tokens[:, :-1]).logits[:, len(context) - 1 :].float()
    logprobs = torch.log_softmax(logits, -1).gather(2, tokens[:, len(context) :, None])[..., 0]
    return [float(row[: len(choice)].sum()) for row, choice in zip(logprobs, choices, strict=True)]
