"""Verdicts: against numbers from textbooks, and against what they promise."""

from __future__ import annotations

import pytest
from made_reports import task_json

from nomoat.measure.comparison import compare_tasks, mcnemar, verdict_of
from nomoat.tune.intervals import Interval


def test_mcnemar_agrees_with_the_binomial_test() -> None:
    # R: binom.test(min(b, c), b + c)$p.value
    for gained, lost, expected in [
        (0, 5, 0.0625),
        (1, 9, 0.02148438),
        (6, 16, 0.05247879),
        (5, 5, 1.0),
        (0, 0, 1.0),
    ]:
        assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-6)
        assert mcnemar(lost, gained) == mcnemar(gained, lost)


def test_a_verdict_follows_the_direction_of_the_metric() -> None:
    down = Interval(-0.1, -0.2, -0.05, 50)
    assert verdict_of(down, None, higher_is_better=False) == "better"
    assert verdict_of(down, None, higher_is_better=True) == "worse"
    assert verdict_of(Interval(-0.1, -0.2, 0.05, 50), None, False) == "not shown to differ"
    assert verdict_of(Interval(-0.1, None, None, 1), None, False) == "not shown to differ"
    assert verdict_of(down, 0.2, False) == "not shown to differ", "McNemar decides where it applies"


def test_right_and_wrong_are_paired_item_by_item() -> None:
    before = task_json("knowledge", "acc", [0.0] * 12 + [1.0] * 20)
    after = task_json("knowledge", "acc", [1.0] * 10 + [0.0] * 2 + [1.0] * 19 + [0.0])
    ((found,), notes) = compare_tasks([before], [after])
    assert not notes
    assert (found.gained, found.lost) == (10, 1)
    assert found.p_value == pytest.approx(0.01171875)
    assert found.change.estimate == pytest.approx(9 / 32)
    assert found.verdict == "better"
    assert not found.few


def test_bits_are_weighed_by_bytes_and_few_documents_are_told() -> None:
    before = task_json("text", "bits_per_byte", [1.0, 2.0, 3.0])
    after = task_json("text", "bits_per_byte", [0.9, 1.8, 2.6])
    ((found,), _) = compare_tasks([before], [after])
    assert found.before == pytest.approx((1 + 4 + 9) / 6)
    assert found.change.estimate == pytest.approx(-(0.1 + 0.4 + 1.2) / 6)
    assert (found.gained, found.lost, found.p_value) == (3, 0, None)
    assert found.few
    assert found.verdict == "better"


def test_a_result_never_differs_from_itself() -> None:
    task = task_json("text", "bits_per_byte", [1.0, 2.0, 3.0])
    ((found,), _) = compare_tasks([task], [task])
    assert found.verdict == "not shown to differ"


def test_what_cannot_be_paired_is_told_and_not_compared() -> None:
    one = task_json("text", "bits_per_byte", [1.0, 2.0], {"window_tokens": 512})
    other = task_json("text", "bits_per_byte", [1.0, 2.0], {"window_tokens": 256})
    assert compare_tasks([one], [other]) == ([], ["text: measured with other settings, so not compared"])
    assert compare_tasks([], [one]) == ([], ["text: only one of the two measured it"])
    part = task_json("text", "bits_per_byte", [1.0], {"window_tokens": 512})
    found, notes = compare_tasks([one], [part])
    assert len(found) == 1
    assert notes == ["text: 1 of 2 items are in both and were compared"]
