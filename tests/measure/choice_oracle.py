"""Multiple choice computed a second time: transformers on the dequantised weights, float32, one choice at a time.

Shares with nomoat the tokenizer and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nomoat.formats.vocabulary import Vocabulary
from nomoat.measure.questions import ChoiceQuestion

sys.path.append(str(Path(__file__).resolve().parents[1] / "tune"))

from oracle import transformers_model

__all__ = ["OracleAnswer", "assert_same_choice", "oracle_answers", "tolerance"]


def tolerance(scores: Sequence[float]) -> np.ndarray:
    """Nats by which llama.cpp may differ: its activations have 8 bits, which shows more the unlikelier a text is."""
    return 0.25 + 0.03 * np.abs(np.asarray(scores))


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


def assert_same_choice(found: Sequence[float], oracle: OracleAnswer, chosen: tuple[int, int]) -> None:
    """The log-likelihoods agree, and so do the choices (plain, per byte) unless the oracle's tie within tolerance."""
    allowed = tolerance(oracle.scores)
    assert (np.abs(np.asarray(found) - oracle.scores) <= allowed).all(), (found, oracle.scores)
    lengths = np.asarray(oracle.scores) / np.asarray(oracle.per_byte)
    for place, scores, nats in (
        (chosen[0], oracle.scores, allowed),
        (chosen[1], oracle.per_byte, allowed / lengths),
    ):
        best = int(np.argmax(scores))
        assert scores[best] - scores[place] <= nats[best] + nats[place], (place, scores)


@torch.no_grad()
def _loglikelihoods(model: torch.nn.Module, context: list[int], choices: list[list[int]]) -> list[float]:
    """All choices in one batch, padded behind: no token sees what comes after it."""
    longest = max(map(len, choices))
    tokens = torch.tensor([context + choice + [0] * (longest - len(choice)) for choice in choices])
    logits = model(tokens[:, :-1]).logits[:, len(context) - 1 :].float()
    logprobs = torch.log_softmax(logits, -1).gather(2, tokens[:, len(context) :, None])[..., 0]
    return [float(row[: len(choice)].sum()) for row, choice in zip(logprobs, choices, strict=True)]
