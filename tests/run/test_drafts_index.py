"""Drafts come from where the end of a text occurred before: in itself, and in the history."""

from __future__ import annotations

import random

import pytest

from nomoat.run.drafts.drafter import Drafter
from nomoat.run.drafts.history import History
from nomoat.run.drafts.suffix_index import MIN_MATCH, SuffixIndex


def _longest_match(tokens: list[int]) -> tuple[int, int]:
    """By brute force: `(next, length)` of the longest end that occurred before, the newest of equal ones."""
    best, best_length = 0, MIN_MATCH - 1
    for end in range(1, len(tokens)):
        length = 0
        while length < end and tokens[end - 1 - length] == tokens[-1 - length]:
            length += 1
        if length > MIN_MATCH - 1 and length >= best_length:
            best, best_length = end, length
    return (best, best_length) if best else (0, 0)


def _text(seed: int, vocabulary: int, length: int) -> list[int]:
    """Random tokens with passages copied from what stands before."""
    chance = random.Random(seed)
    tokens: list[int] = []
    while len(tokens) < length:
        if tokens and chance.random() < 0.1:
            start = chance.randrange(len(tokens))
            tokens += tokens[start : start + chance.randrange(1, 20)]
        else:
            tokens.append(chance.randrange(vocabulary))
    return tokens


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("vocabulary", [2, 5, 50, 40_000])
def test_the_index_finds_the_longest_match_after_each_token(seed: int, vocabulary: int) -> None:
    tokens = _text(seed, vocabulary, 200)
    index = SuffixIndex(candidates=1000, enough=1000)
    for count, token in enumerate(tokens, 1):
        index.extend([token])
        following, length = index.match()
        expected, expected_length = _longest_match(tokens[:count])
        assert length == expected_length
        assert (following > 0) == (expected > 0)
        assert tokens[following - length : following] == tokens[count - length : count]


@pytest.mark.parametrize("seed", range(3))
def test_a_bounded_search_still_tells_only_true_matches(seed: int) -> None:
    tokens = _text(seed, 3, 400)
    index = SuffixIndex(tokens[:100])
    for count in range(101, 401):
        index.extend([tokens[count - 1]])
        following, length = index.match()
        assert tokens[following - length : following] == tokens[count - length : count]
        assert (length > 0) == (_longest_match(tokens[:count])[1] > 0)


def test_reading_in_one_go_or_token_by_token_is_the_same() -> None:
    tokens = _text(1, 10, 300)
    whole, single = SuffixIndex(tokens), SuffixIndex()
    for token in tokens:
        single.extend([token])
    assert whole.match() == single.match()


def test_of_equal_matches_the_newest_is_continued() -> None:
    drafter = Drafter([1, 2, 3, 4, 8, 1, 2, 3, 5, 9, 1, 2, 3])
    assert drafter.propose(2) == ([5, 9], 3, True)


def test_a_text_that_repeats_itself_is_continued_beyond_its_end() -> None:
    drafter = Drafter([7, 8, 7, 8, 7, 8])
    assert drafter.propose(5).tokens == [7, 8, 7, 8, 7]


def test_nothing_is_proposed_for_a_new_text() -> None:
    assert Drafter([1, 2, 3, 4]).propose(8) == ([], 0, False)
    assert Drafter([]).propose(8) == ([], 0, False)


def test_a_match_goes_on_while_the_draft_is_right_and_ends_when_it_is_wrong() -> None:
    drafter = Drafter([1, 2, 3, 4, 5, 6, 9, 1, 2, 3])
    drafter.accept(4)
    assert drafter.propose(2) == ([5, 6], 4, True)
    drafter.accept(8)
    assert drafter.propose(2) == ([], 0, False)


def test_what_stands_in_the_answer_alone_is_not_copied_from_the_prompt() -> None:
    drafter = Drafter([1, 2, 3, 4])
    drafter.extend([11, 12, 13, 14, 11, 12, 13])
    assert drafter.propose(1) == ([14], 3, False)
    drafter.extend([1, 2, 3])
    assert drafter.propose(1) == ([4], 3, True)


# -- history -------------------------------------------------------------------------------------


def test_the_history_continues_what_an_earlier_conversation_said() -> None:
    history = History()
    history.remember([10, 11, 12, 13, 14, 15, 16])
    drafter = Drafter([1, 2, 11, 12, 13, 14], history)
    assert drafter.propose(8) == ([15, 16], 4, False)
    drafter.accept(15)
    assert drafter.propose(8) == ([16], 5, False)
    drafter.accept(99)
    assert drafter.propose(8) == ([], 0, False)


def test_the_own_text_wins_over_an_equal_match_in_the_history() -> None:
    history = History()
    history.remember([1, 2, 3, 4, 70, 71])
    assert Drafter([1, 2, 3, 4, 80, 81, 1, 2, 3, 4], history).propose(1).tokens == [80]


def test_a_longer_match_in_the_history_wins() -> None:
    history = History()
    history.remember([9, 1, 2, 3, 4, 70, 71])
    assert Drafter([1, 2, 3, 4, 80, 9, 1, 2, 3, 4], history).propose(1).tokens == [70]


def test_the_newest_conversation_wins_within_the_history() -> None:
    history = History()
    history.remember([1, 2, 3, 4, 5])
    history.remember([1, 2, 3, 4, 6])
    assert history.find([1, 2, 3, 4], 4) == ([6], 4)


def test_what_is_known_is_not_kept_again() -> None:
    history = History()
    first = list(range(100, 200))
    history.remember(first)
    length = len(history)
    history.remember(first)
    assert len(history) == length
    history.remember([*first, 1, 2, 3])
    assert len(history) < length + 10
    assert history.find([198, 199, 1], 2) == ([], 0)  # three tokens are too few
    assert history.find([197, 198, 199, 1], 2)[0] == [2, 3]


def test_a_draft_never_runs_from_one_conversation_into_the_next() -> None:
    history = History()
    history.remember([1, 2, 3, 4, 5])
    history.remember([11, 12, 13, 14, 15])
    assert history.find([1, 2, 3, 4], 8) == ([5], 4)
    assert history.find([4, 5, 11, 12], 8) == ([], 0)


def test_a_full_history_forgets_its_older_half() -> None:
    history = History(most_tokens=1000)
    for start in range(0, 20_000, 100):
        history.remember(list(range(start, start + 100)))
    assert len(history) <= 1000
    assert history.find(list(range(50, 60)), 4) == ([], 0)
    assert history.find(list(range(19_950, 19_960)), 2) == ([19_960, 19_961], 10)


def test_one_conversation_larger_than_the_history_keeps_its_end() -> None:
    history = History(most_tokens=100)
    history.remember(list(range(1000)))
    assert len(history) <= 100
    assert history.find([990, 991, 992, 993], 2)[0] == [994, 995]


@pytest.mark.parametrize("seed", range(4))
def test_the_history_answers_as_a_search_through_all_conversations_would(seed: int) -> None:
    history, said = History(), []
    for number in range(15):
        said.append(_text(seed * 100 + number, 30, 40))
        history.remember(said[-1])
    for text in said:
        for end in range(4, len(text)):
            following, length = history.find(text[:end], 3)
            if not length:
                continue  # another group took its slot, or the group ends a stretch that was kept
            assert length >= 4
            grams = [(one, place) for one in said for place in range(4, len(one) + 1)
                     if one[place - 4 : place] == text[end - 4 : end]]  # fmt: skip
            assert any(one[place : place + len(following)] == following for one, place in grams)
