"""The split: the same every time, by document, never all on one side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nomoat.tune.split import HashSplit, group_key, section_characters, sections

_groups = st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=60)
_texts = st.text(alphabet="ab .!?\n#=é。", min_size=1, max_size=400)


@given(groups=_groups, share=st.floats(0.01, 0.99), seed=st.integers(0, 3))
def test_both_sides_have_documents_and_the_share_is_met(groups: set[str], share: float, seed: int) -> None:
    keys = {group_key(group, seed) for group in groups}
    split = HashSplit(keys, share)
    n_valid = sum(map(split.is_valid, keys))
    assert 1 <= n_valid < len(keys)
    assert n_valid == split.n_valid
    assert abs(n_valid - share * len(keys)) <= 1


@given(groups=_groups, seed=st.integers(0, 3))
def test_the_order_of_documents_does_not_matter(groups: set[str], seed: int) -> None:
    keys = [group_key(group, seed) for group in sorted(groups)]
    forward, backward = HashSplit(set(keys), 0.3), HashSplit(set(reversed(keys)), 0.3)
    assert [forward.is_valid(key) for key in keys] == [backward.is_valid(key) for key in keys]


def test_another_seed_is_another_split() -> None:
    groups = [f"note {number}" for number in range(200)]

    def held_out(seed: int) -> set[str]:
        split = HashSplit({group_key(group, seed) for group in groups}, 0.2)
        return {group for group in groups if split.is_valid(group_key(group, seed))}

    assert len(held_out(0)) == len(held_out(1)) == 40
    assert held_out(0) != held_out(1)


@given(text=_texts, target=st.integers(1, 100))
def test_sections_hold_every_word_in_its_order(text: str, target: int) -> None:
    parts = sections(text, target)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part.strip() for part in parts)


def test_sections_begin_at_headings_and_paragraphs() -> None:
    body = "A sentence of some length. " * 3
    text = f"# One\n\n{body}\n\n## Two\n\n{body}\n\nThree\n=====\n\n{body}"
    assert [part.split("\n")[0] for part in sections(text, 120)] == ["# One", "## Two", "Three"]


def test_a_paragraph_without_empty_lines_is_cut_at_its_sentences() -> None:
    parts = sections("This is a sentence. " * 50, 100)
    assert len(parts) >= 8
    assert all(part.endswith(".") for part in parts)
    assert sections("one sentence and no more", 5) == ["one sentence and no more"]


def test_sections_of_large_sets_are_larger() -> None:
    assert section_characters(5_000, 3, 0.1) < section_characters(50_000, 3, 0.1)
    assert section_characters(10**9, 3, 0.1) == 4000
