"""The training benchmarks' own parts: what they train on, how they count, and that what they print becomes a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nomoat.formats.gguf_file import read_gguf
from nomoat.formats.vocabulary import Vocabulary
from nomoat.tune.architecture import read_architecture
from nomoat.tune.tokenise import Example

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "scripts")]

import bench_tables  # noqa: E402
from training.random_model import Shape, write_random_model  # noqa: E402
from training.speed_report import result  # noqa: E402
from training.workloads import Workload, make_workload, question_answer_pairs  # noqa: E402

FAQ = """
==========
Design FAQ
==========

.. contents::

Why is it so?
-------------

.. index:: reasons

Because it is::

    so

Is this one empty?
------------------

Another chapter
===============

What comes last?
----------------

The end.
"""


def _documents(*lengths: int) -> tuple[Example, ...]:
    return tuple(Example(np.arange(n, dtype=np.int32), np.arange(n) > 0, str(n), n) for n in lengths)


def test_questions_of_the_faq_keep_their_answers_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "design.rst.txt").write_text(FAQ)
    answers = {"Why is it so?": "Because it is::\n\n    so", "What comes last?": "The end."}
    assert dict(question_answer_pairs(tmp_path)) == answers


def test_a_missing_faq_is_told_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"python3\.11-doc"):
        question_answer_pairs(tmp_path)


def test_padding_is_what_the_longest_document_adds_to_its_batch() -> None:
    work = Workload("chats", ((_documents(10, 30), _documents(20)),), 2048)
    assert work.padding_share == pytest.approx(1 - 60 / 80)
    assert [len(example.tokens) for example in work.largest_batch()] == [10, 30]


def test_both_sides_see_every_document_of_the_tour_once(smollm2_path: Path, tmp_path: Path) -> None:
    work = make_workload("tour", smollm2_path, rounds=2, faq=tmp_path, quick=False)
    assert len({id(example) for example in work.documents}) == len(work.documents) == 2 * 4 * 16
    assert all(example.supervised.any() for example in work.documents)


def _side(rates: list[float], label: str) -> dict[str, Any]:
    return {"label": label, "precision": "fp32", "tokens_per_second": rates, "peak_memory_bytes": 1.5e9}


def test_the_ratio_is_the_median_of_the_rounds_so_a_slow_moment_harms_neither_side() -> None:
    sides = {"nomoat": _side([300.0, 30.0, 280.0], "nomoat"), "fp32": _side([150.0, 15.0, 100.0], "PEFT")}
    work = {"workload": "full", "documents": 4, "tokens": 2048, "padding_share": 0.0, "sides": sides,
            "shared_share": 0.0, "gemm_flops": {"bf16": 4e11, "fp32": 2e11}, "flops_per_token": 5e8}  # fmt: skip
    report = result([work], {"bf16": 7.0}, restricted=True, quick=False)
    text = bench_tables.table({**report, "date": "2026-01-01"})
    assert "| full | PEFT | 100 | 2.00x | 25% | 1.5 |" in text
    assert "restricted to AVX2" in text and "7.0 tok/s on a few tokens" in text


def test_the_random_model_is_one_that_llama_cpp_and_the_trainer_read(tmp_path: Path) -> None:
    shape = Shape(256, 2, 4, 2, 512, vocab_size=300)
    write_random_model(tmp_path / "model.gguf", shape)
    gguf = read_gguf(tmp_path / "model.gguf")
    assert read_architecture(gguf).intermediate_size == 512
    with Vocabulary.open(tmp_path / "model.gguf") as vocabulary:
        assert vocabulary.decode(vocabulary.encode("hello")) == "hello"
