"""Speculation gains where texts repeat and costs next to nothing where they do not: simulated on real answers.

The answers were recorded from the embedded model; the costs are those measured for it on two cores.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nomoat.run.drafts.cost_curve import CURVE_POINTS, CostCurve
from nomoat.run.drafts.drafter import Draft
from nomoat.run.drafts.history import History
from nomoat.run.drafts.policy import SpeculationPolicy
from nomoat.run.drafts.speculator import Speculator
from nomoat.run.kv.prefix_tree import common_prefix

# Milliseconds of a decode of 1, 2, 4, 8, 16 and 32 tokens.
CURVES = {
    "steep": (6.3, 12.4, 18.5, 31.4, 58.1, 112.0),  # Q4_1 on two cores
    "flat": (6.4, 14.3, 17.7, 25.2, 35.9, 62.0),  # Q8_0 on two cores
    "free": (6.0, 6.2, 6.6, 7.4, 9.0, 14.0),  # a device with arithmetic to spare
    "useless": (6.0, 12.0, 24.0, 48.0, 96.0, 192.0),  # verifying costs as much as decoding
}
ANSWERS = json.loads((Path(__file__).parent / "recorded_answers.json").read_text())
MOST_IN_A_ROW = 4  # decodes without asking for a draft: those of 0.03 seconds
COPIES = [name for name, answer in ANSWERS.items() if answer["copies"]]


def _curve(name: str) -> CostCurve:
    return CostCurve(dict(zip(CURVE_POINTS, CURVES[name], strict=True)))


@dataclass
class Outcome:
    """What an answer cost, in decodes of one token, against plain decoding."""

    speedup: float
    decodes: int
    speculator: Speculator


def _simulate(
    prompt: Sequence[int], answer: Sequence[int], curve: str, history: History | None = None
) -> Outcome:
    """Decode `answer` as a scheduler would, with a model that always says just that."""
    costs = _curve(curve)
    speculator = Speculator(prompt, costs, history)
    spent, decodes, place = 0.0, 0, 0
    while place < len(answer):
        draft = speculator.draft(len(answer) - place - 1)
        made = common_prefix(draft, answer[place:]) + 1
        if draft:
            spent, decodes = spent + costs.relative(1 + len(draft)), decodes + 1
        else:
            made = min(speculator.patience, MOST_IN_A_ROW, len(answer) - place)
            spent, decodes = spent + made, decodes + made
        speculator.accept(answer[place : place + made])
        place += made
    return Outcome(len(answer) / spent, decodes, speculator)


def _match(length: int, available: int = 31, *, copied: bool = False) -> Draft:
    """A draft of the tokens 0, 1, 2 ... behind a match of `length` tokens."""
    return Draft(list(range(available)), length, copied)


def _random(seed: int, length: int, vocabulary: int = 49_152) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(vocabulary) for _ in range(length)]


# -- gains and losses ----------------------------------------------------------------------------


@pytest.mark.parametrize("curve", ["steep", "flat", "free"])
def test_a_copied_passage_is_much_faster(curve: str) -> None:
    document = _random(1, 400)
    outcome = _simulate([5, 6, *document, 7], document, curve)
    assert outcome.speedup > {"steep": 1.5, "flat": 2.2, "free": 8}[curve]


@pytest.mark.parametrize("curve", sorted(CURVES))
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_no_recorded_answer_is_slower_than_plain(name: str, curve: str) -> None:
    answer = ANSWERS[name]
    assert _simulate(answer["prompt"], answer["answer"], curve).speedup > 0.97


@pytest.mark.parametrize("curve", ["steep", "flat", "free"])
def test_recorded_answers_that_copy_gain(curve: str) -> None:
    product = 1.0
    for name in COPIES:
        product *= _simulate(ANSWERS[name]["prompt"], ANSWERS[name]["answer"], curve).speedup
    assert product ** (1 / len(COPIES)) > {"steep": 1.2, "flat": 1.5, "free": 2.5}[curve]


@pytest.mark.parametrize("curve", sorted(CURVES))
@pytest.mark.parametrize("vocabulary", [3, 10, 100, 49_152])
def test_a_text_without_pattern_is_not_slowed_down(curve: str, vocabulary: int) -> None:
    outcome = _simulate(_random(2, 300, vocabulary), _random(3, 500, vocabulary), curve)
    assert outcome.speedup > 0.97


@pytest.mark.parametrize("curve", ["steep", "flat", "free"])
def test_a_text_that_lures_with_long_matches_is_not_slowed_down(curve: str) -> None:
    """Each passage of the prompt begins as copied and then turns off: drafts are wrong when they look best."""
    chance = random.Random(4)
    passages = [_random(seed, 12) for seed in range(40)]
    prompt = [token for passage in passages for token in passage]
    answer: list[int] = []
    for passage in passages:
        answer += passage[: chance.randrange(5, 8)] + [chance.randrange(49_152) for _ in range(4)]
    assert _simulate(prompt, answer, curve).speedup > 0.97


@pytest.mark.parametrize("curve", ["steep", "flat"])
def test_it_adapts_when_the_text_begins_to_copy_and_when_it_ends(curve: str) -> None:
    document, free = _random(5, 300), _random(6, 300)
    prompt = [*document, 1]
    turned = _simulate(prompt, [*free, *document, *_random(7, 300)], curve)
    plain_tokens = 600
    copied_alone = _simulate(prompt, document, curve)
    best = plain_tokens + copied_alone.decodes
    assert turned.decodes < best * 1.05
    assert turned.speedup > 1.1


def test_where_verifying_costs_as_much_as_decoding_nothing_is_drafted() -> None:
    document = _random(1, 200)
    outcome = _simulate(document, document, "useless")
    assert outcome.speculator.draft_tokens == 0


def test_an_earlier_conversation_makes_the_same_answer_faster() -> None:
    answer = ANSWERS[COPIES[0]]
    history = History()
    cold = _simulate([1, 2, 3], answer["answer"], "flat", history)
    history.remember(answer["answer"])
    warm = _simulate([1, 2, 3], answer["answer"], "flat", history)
    assert warm.speedup > 1.5 * cold.speedup


# -- one decision --------------------------------------------------------------------------------


def test_longer_matches_are_trusted_with_longer_drafts() -> None:
    policy = SpeculationPolicy(_curve("flat"))
    policy.verified(_match(20), 8, 8)  # something in the purse
    lengths = [policy.draft_length(_match(length)) for length in (3, 6, 12, 24)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0]


def test_wrong_drafts_make_it_careful_and_right_ones_bold() -> None:
    careful, bold = SpeculationPolicy(_curve("flat")), SpeculationPolicy(_curve("flat"))
    for _ in range(20):
        careful.decoded(_match(10), 1)
        bold.decoded(_match(10), 0)
    assert careful.draft_length(_match(10)) == 0
    assert bold.draft_length(_match(10)) > 0


@pytest.mark.parametrize("curve", ["steep", "flat"])
def test_a_copy_of_the_prompt_is_trusted_earlier_than_a_phrase_that_comes_again(curve: str) -> None:
    policy = SpeculationPolicy(_curve(curve))
    assert policy.draft_length(_match(5)) == 0
    assert policy.draft_length(_match(5, copied=True)) > 0


def test_what_phrases_teach_says_nothing_of_copies() -> None:
    policy = SpeculationPolicy(_curve("flat"))
    for _ in range(20):
        policy.decoded(_match(6), 1)
    assert policy.draft_length(_match(6, copied=True)) > 0


def test_what_was_not_verified_teaches_too() -> None:
    policy = SpeculationPolicy(_curve("steep"))
    assert policy.draft_length(_match(4, 8)) == 0
    for _ in range(40):
        policy.decoded(_match(4), 0)
        policy.decoded(_match(5), 0)
        policy.decoded(_match(6), 0)
    assert policy.draft_length(_match(4, 8)) > 0


def test_a_crowded_batch_drafts_by_its_own_marginal_cost() -> None:
    crowded = CostCurve(dict(zip(CURVE_POINTS, (6.0, 6.1, 6.2, 6.3, 30.0, 90.0), strict=True)))
    policy = SpeculationPolicy(crowded)
    for _ in range(10):
        policy.verified(_match(30), 4, 4)
    assert policy.draft_length(_match(30)) > 0
    assert policy.draft_length(_match(30), others=7) == 0


def test_nothing_is_drafted_without_a_match_or_without_room() -> None:
    policy = SpeculationPolicy(_curve("free"))
    assert policy.draft_length(_match(0, 0)) == 0
    assert policy.draft_length(_match(10, 0)) == 0


# -- the curve -----------------------------------------------------------------------------------


def test_the_curve_goes_through_its_points_and_on_beyond_the_last() -> None:
    curve = _curve("steep")
    for point, cost in zip(CURVE_POINTS, CURVES["steep"], strict=True):
        assert curve.seconds(point) == pytest.approx(cost)
    assert curve.seconds(3) == pytest.approx((12.4 + 18.5) / 2)
    assert curve.seconds(48) == pytest.approx(112 + (112 - 58.1))


def test_the_curve_follows_a_machine_that_becomes_busy() -> None:
    curve = _curve("steep")
    for _ in range(40):
        curve.observe(1, 2 * 6.3)
    assert curve.seconds(1) == pytest.approx(12.6, rel=0.02)
    assert curve.seconds(8) == pytest.approx(62.8, rel=0.02)


def test_the_curve_learns_that_verifying_has_become_cheaper() -> None:
    curve = _curve("steep")
    for _ in range(300):
        curve.observe(1, 6.3)
        curve.observe(8, 12.6)
    assert curve.relative(8) == pytest.approx(2.0, rel=0.1)


def test_one_interrupted_decode_changes_little() -> None:
    curve = _curve("steep")
    curve.observe(8, 3.0)
    curve.observe(1, 900.0)
    assert curve.seconds(1) == pytest.approx(6.3, rel=0.2)


def test_a_curve_measured_on_a_busy_machine_does_not_forbid_drafts_for_good() -> None:
    busy = CostCurve(dict(zip(CURVE_POINTS, (6.3, 16.0, 56.0, 75.0, 113.0, 195.0), strict=True)))
    policy = SpeculationPolicy(busy)
    assert policy.draft_length(_match(30)) == 0
    for _ in range(600):
        busy.observe(1, 6.3)
    assert policy.draft_length(_match(30)) > 0


def test_it_is_asked_less_often_where_nothing_repeats_and_at_once_where_something_does() -> None:
    speculator = Speculator([], _curve("flat"))
    waits = []
    for token in _random(8, 32):
        assert not speculator.draft()
        waits.append(speculator.patience)
        speculator.accept([token])
    assert waits[0] == 1 and waits[-1] == 8 and waits == sorted(waits)
    speculator.accept(_random(8, 32)[:4])
    speculator.draft()
    assert speculator.patience == 1


def test_tokens_made_without_asking_teach_as_those_that_were_asked_for() -> None:
    lured = [*range(9), 50, *range(9), 60]
    asked, unasked = (Speculator(lured, _curve("useless")) for _ in range(2))
    for token in range(9):
        assert not asked.draft()
        asked.accept([token])
    unasked.accept(range(9))
    learnt = [
        (one._policy._purse, [vars(trust) for trust in one._policy._trust.values()])
        for one in (asked, unasked)
    ]
    assert learnt[0] == learnt[1]
