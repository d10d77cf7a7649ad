"""The prefix tree finds the longest beginning that somebody holds, as a search through all lists would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nomoat.run.kv.prefix_tree import PrefixTree, common_prefix

LISTS = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=8)


def _tree(lists: list[list[int]]) -> PrefixTree:
    tree = PrefixTree()
    for holder, tokens in enumerate(lists):
        tree.insert(tokens, holder)
    return tree


def _longest(tree: PrefixTree, tokens: list[int]) -> tuple[int, frozenset[int]]:
    """How many of the first `tokens` some holder holds, and who holds them: the last place along them."""
    return [(0, frozenset[int]()), *tree.along(tokens)][-1]


@given(LISTS, st.lists(st.integers(0, 2), max_size=12))
def test_the_longest_beginning_and_all_who_hold_it_are_found(
    lists: list[list[int]], wanted: list[int]
) -> None:
    length, holders = _longest(_tree(lists), wanted)
    shared = [common_prefix(tokens, wanted) for tokens in lists]
    assert length == max([0, *shared])
    assert holders == {holder for holder, n in enumerate(shared) if length and n == length}


@given(LISTS, st.data())
def test_what_is_removed_is_forgotten_and_the_rest_is_not(
    lists: list[list[int]], data: st.DataObject
) -> None:
    tree = _tree(lists)
    gone = data.draw(st.sets(st.sampled_from(range(len(lists))))) if lists else set()
    for holder in gone:
        tree.remove(lists[holder], holder)
    for holder, tokens in enumerate(lists):
        _, holders = _longest(tree, tokens)
        assert holder in gone or not tokens or holder in holders
        assert not gone & holders


@given(LISTS)
def test_shared_tokens_are_counted_once(lists: list[list[int]]) -> None:
    beginnings = {tuple(tokens[:end]) for tokens in lists for end in range(1, len(tokens) + 1)}
    assert _tree(lists).count(set(range(len(lists)))) == len(beginnings)


def test_a_holders_list_may_grow() -> None:
    tree = PrefixTree()
    tree.insert([1, 2], 7)
    tree.insert([1, 2, 3, 4], 7)
    assert _longest(tree, [1, 2, 3, 9]) == (3, {7})
    tree.remove([1, 2, 3, 4], 7)
    assert _longest(tree, [1, 2]) == (0, set())
