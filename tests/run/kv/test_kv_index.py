"""The index finds what a look at every stored token list would find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nomoat.run.kv.file import Entry, Tokens, as_tokens
from nomoat.run.kv.index import PrefixIndex
from nomoat.run.kv.prefix_tree import common_prefix

# Few different tokens: lists that part and meet again at every depth.
_LISTS = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)


def _entry(tokens: tuple[int, ...]) -> Entry:
    return Entry(Path("x.kv"), "scope", as_tokens(tokens), 0, 0, b"")


def _index(lists: list[tuple[int, ...]]) -> tuple[PrefixIndex, dict[tuple[int, ...], Entry]]:
    index, entries = PrefixIndex(), {tokens: _entry(tokens) for tokens in lists}
    for entry in entries.values():
        index.add(entry)
    return index, entries


def _ids(tokens: Tokens) -> tuple[int, ...]:
    return tuple(tokens.tolist())


def _best(entries: dict[tuple[int, ...], Entry], wanted: tuple[int, ...]) -> tuple[int, int]:
    """Common beginning and length of the best entry: the longest beginning, then the shortest entry."""
    pairs = [(common_prefix(tokens, wanted), len(tokens)) for tokens in entries]
    return max(pairs, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))


@given(st.lists(_LISTS, max_size=12), st.lists(_LISTS, max_size=6), _LISTS)
def test_longest_is_what_a_scan_of_all_entries_finds(
    stored: list[tuple[int, ...]], removed: list[tuple[int, ...]], wanted: tuple[int, ...]
) -> None:
    index, entries = _index(stored)
    for tokens in [*removed, *stored[::3]]:
        entry = entries.pop(tokens, None)
        index.remove(entry or _entry(tokens))
    assert {_ids(entry.tokens) for entry in index} == set(entries)
    common, length = _best(entries, wanted)
    match = index.longest(as_tokens(wanted))
    assert (match.n_tokens, len(match.entry.tokens)) == (common, length) if match else common == 0


@given(st.lists(_LISTS, max_size=12), _LISTS)
def test_whole_entries_are_the_longest_beginnings(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...]
) -> None:
    index, entries = _index(stored)
    beginnings = [tokens for tokens in entries if tokens == wanted[: len(tokens)]]
    match = index.longest(as_tokens(wanted), cuttable_tokens=0)
    assert (_ids(match.entry.tokens) if match else ()) == max(beginnings, key=len, default=())


@given(st.lists(_LISTS, max_size=12), _LISTS, st.integers(0, 6))
def test_only_short_entries_are_cut_back_where_long_ones_cannot_be(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...], cuttable: int
) -> None:
    index, entries = _index(stored)
    common = [(common_prefix(tokens, wanted), tokens) for tokens in entries]
    lengths = [length for length, tokens in common if len(tokens) <= cuttable or length == len(tokens)]
    match = index.longest(as_tokens(wanted), cuttable_tokens=cuttable)
    assert (match.n_tokens if match else 0) == max(lengths, default=0)


def _long(*parts: tuple[int, int]) -> tuple[int, ...]:
    """A token list of runs: (token, how often)."""
    return tuple(token for token, count in parts for _ in range(count))


_RUNS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1, 40, 100])), min_size=1, max_size=5).map(
    lambda parts: _long(*parts)
)


@given(st.lists(_RUNS, min_size=1, max_size=10), _RUNS)
def test_what_is_superseded_costs_no_prompt_a_file_s_worth_of_tokens(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...]
) -> None:
    index, entries = _index(stored)
    before, _ = _best(entries, wanted)
    new = entries[stored[-1]]
    old = index.superseded_by(new)
    assert new not in old
    for entry in old:
        index.remove(entry)
    match = index.longest(as_tokens(wanted))
    assert match is not None or before < 64
    assert before - (match.n_tokens if match else 0) < 64


@given(st.lists(_LISTS, max_size=12), _LISTS, st.integers(1, 12))
def test_what_does_not_fit_the_memory_is_passed_over(
    stored: list[tuple[int, ...]], wanted: tuple[int, ...], most_tokens: int
) -> None:
    index, entries = _index(stored)
    fitting = {tokens: entry for tokens, entry in entries.items() if len(tokens) <= most_tokens}
    common, length = _best(fitting, wanted)
    match = index.longest(as_tokens(wanted), most_tokens=most_tokens)
    assert (match.n_tokens, len(match.entry.tokens)) == (common, length) if match else common == 0


def test_a_grown_conversation_supersedes_its_beginnings() -> None:
    turns = [_long((1, 200)), _long((1, 200), (2, 90)), _long((1, 200), (2, 90), (3, 80))]
    index, entries = _index(turns)
    assert set(index.superseded_by(entries[turns[2]])) == {entries[turns[0]], entries[turns[1]]}


def test_an_answer_that_was_written_differently_is_superseded_too() -> None:
    first, second = _long((1, 200), (2, 20)), _long((1, 200), (3, 100))
    index, entries = _index([first, second])
    assert index.superseded_by(entries[second]) == [entries[first]]


def test_a_beginning_that_two_conversations_share_stays() -> None:
    shared, one, two = _long((1, 200)), _long((1, 200), (2, 90)), _long((1, 200), (3, 90))
    index, entries = _index([shared, one, two])
    assert index.superseded_by(entries[two]) == []


def test_thousands_of_long_entries_are_searched() -> None:
    random = np.random.default_rng(7)
    system = random.integers(0, 49152, 1000)
    index = PrefixIndex()
    lists = [np.concatenate([system, random.integers(0, 49152, 1000)]) for _ in range(3000)]
    for tokens in lists:
        index.add(_entry(tuple(tokens)))
    match = index.longest(as_tokens(np.concatenate([lists[1234][:1900], random.integers(0, 49152, 6000)])))
    assert match is not None
    assert (match.n_tokens, _ids(match.entry.tokens)) == (1900, tuple(lists[1234].tolist()))
