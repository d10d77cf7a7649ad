"""Packing: every token once, no padding, and no document that reads another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nomoat.formats.gguf_file import read_gguf
from nomoat.tune.config import TARGET_MODULES
from nomoat.tune.lora import AdapterParameters
from nomoat.tune.network import Network, adapter_modules
from nomoat.tune.ops import EagerOps, Ops
from nomoat.tune.packing import pack
from nomoat.tune.shared_prefix import families
from nomoat.tune.tokenise import Example

PREFIX = oracle.example(40, 99).tokens
LENGTHS = st.lists(st.integers(2, 60), min_size=1, max_size=12)


def _examples(lengths: list[int]) -> list[Example]:
    return [oracle.example(n, seed, supervised=False) for seed, n in enumerate(lengths)]


def _alike(lengths: list[int], shared: int) -> list[Example]:
    """Documents that begin with the same `shared` tokens."""
    return [
        Example(
            np.concatenate([PREFIX[:shared], example.tokens]),
            np.concatenate([np.arange(shared) > shared // 2, example.supervised]),
            example.document_id,
            example.n_bytes_supervised,
        )
        for example in _examples(lengths)
    ]


@pytest.fixture(scope="module")
def network(tiny_model: Callable[..., Path]) -> Network:
    file = read_gguf(tiny_model("llama", "F32", layers=1))
    parameters = AdapterParameters(adapter_modules(file, ["q_proj"]), 2, 4.0, torch.float32, 0)
    return Network(file, parameters, EagerOps(), torch.float32, 64, keep=True, recompute=False)


@given(LENGTHS)
def test_tokens_are_all_there_and_nothing_else_is(lengths: list[int]) -> None:
    examples = _examples(lengths)
    batch = pack(examples)
    assert batch.n_tokens == sum(lengths)
    assert sorted(batch.tokens.tolist()) == sorted(np.concatenate([e.tokens for e in examples]).tolist())


@given(LENGTHS)
def test_positions_restart_with_every_document(lengths: list[int]) -> None:
    batch = pack(_examples(lengths))
    assert batch.positions.tolist() == [place for n in sorted(lengths) for place in range(n)]


@given(LENGTHS)
def test_each_supervised_token_is_predicted_from_the_one_before_it(lengths: list[int]) -> None:
    examples = _examples(lengths)
    batch = pack(examples)
    for index, example in enumerate(examples):
        mine = batch.target_documents == index
        rows, supervised = batch.target_rows[mine], np.flatnonzero(example.supervised)
        assert batch.targets[mine].tolist() == example.tokens[supervised].tolist()
        assert batch.tokens[rows].tolist() == example.tokens[supervised - 1].tolist()
        assert batch.positions[rows].tolist() == (supervised - 1).tolist()


@given(LENGTHS)
def test_groups_cover_every_row_once(lengths: list[int]) -> None:
    batch = pack(_examples(lengths))
    rows: list[int] = []
    for group in batch.groups:
        if group.rows is None:
            rows += range(group.start, group.start + group.documents * group.length)
        else:
            assert group.real is not None
            rows += group.rows[group.real].tolist()
    assert sorted(rows) == list(range(sum(lengths)))


@given(LENGTHS)
def test_attention_pads_a_document_by_a_quarter_or_by_sixteen_tokens_at_most(lengths: list[int]) -> None:
    batch = pack(_examples(lengths))
    padded = sum(group.documents * group.length for group in batch.groups)
    assert padded <= sum(max(1.25 * length, length + 16) for length in lengths)


@given(lengths=LENGTHS, shared=st.integers(17, 40))
def test_a_beginning_that_documents_share_is_laid_once(lengths: list[int], shared: int) -> None:
    examples = _alike(lengths, shared)
    batch = pack(examples)
    if len(lengths) > 1:
        assert len(batch.tokens) <= shared + sum(lengths)
    assert batch.n_tokens == sum(len(example.tokens) for example in examples)
    for index, example in enumerate(examples):
        mine = batch.target_documents == index
        rows, supervised = batch.target_rows[mine], np.flatnonzero(example.supervised[1:]) + 1
        assert batch.targets[mine].tolist() == example.tokens[supervised].tolist()
        assert batch.tokens[rows].tolist() == example.tokens[supervised - 1].tolist()
        assert batch.positions[rows].tolist() == (supervised - 1).tolist()


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([[1] * 20, [1] * 20], [((0, 1), 19)]),  # at least one token of its own
        ([[1] * 16 + [2], [1] * 16 + [3, 4]], [((0, 1), 16)]),
        ([[1] * 15 + [2, 5], [1] * 15 + [3, 4]], [((0, 1), 0)]),  # too little in common to be worth it
        ([[1] * 16, [1] * 30], [((0, 1), 0)]),
        ([[2] * 3, [1] * 18 + [5], [7] * 17, [1] * 18 + [6]], [((0, 2), 0), ((1, 3), 18)]),
        ([[1] * 17 + [5], [7] * 17 + [1], [1] * 17 + [6], [7] * 17 + [2]], [((0, 2), 17), ((1, 3), 17)]),
    ],
)
def test_families_share_all_that_their_members_have_in_common(
    documents: list[list[int]], expected: list[tuple[tuple[int, ...], int]]
) -> None:
    found = families([np.array(tokens, np.int32) for tokens in documents])
    assert [(family.members, family.prefix_length) for family in found] == expected


def test_a_first_token_is_never_a_target() -> None:
    example = Example(np.arange(5, dtype=np.int32), np.ones(5, np.bool_), "all", 5)
    assert pack([example, example]).targets.tolist() == [1, 2, 3, 4, 1, 2, 3, 4]


def test_documents_without_anything_to_learn_are_packed_all_the_same() -> None:
    silent = Example(np.arange(5, dtype=np.int32), np.zeros(5, np.bool_), "silent", 0)
    batch = pack([silent])
    assert (batch.n_tokens, len(batch.targets)) == (5, 0)


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(2, 40), min_size=2, max_size=8),
    which=st.integers(0, 7),
    seed=st.integers(0, 9),
)
def test_a_document_changes_no_other_documents_losses(
    network: Network, lengths: list[int], which: int, seed: int
) -> None:
    which %= len(lengths)
    examples = _examples(lengths)
    before = pack(examples)
    examples[which] = Example(
        oracle.example(lengths[which], 100 + seed).tokens, examples[which].supervised, "changed", 1
    )
    after = pack(examples)
    others = before.target_documents != which
    assert torch.equal(network.losses(before)[others], network.losses(after)[others])


def test_packed_losses_are_those_of_each_document_alone(ops: Ops, tiny_model: Callable[..., Path]) -> None:
    file = read_gguf(tiny_model("qwen2", "Q8_0"))
    parameters = AdapterParameters(adapter_modules(file, ["v_proj"]), 2, 4.0, torch.float32, 0)
    network = Network(file, parameters, ops, torch.float32, 300, keep=True, recompute=False)
    examples = _examples([3, 200, 41, 38, 250, 7])
    batch = pack(examples)
    together = network.losses(batch)
    for index, example in enumerate(examples):
        alone = network.losses(pack([example]))
        torch.testing.assert_close(together[batch.target_documents == index], alone, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_shared_beginnings_change_neither_losses_nor_gradients(
    architecture: str, ops: Ops, tiny_model: Callable[..., Path]
) -> None:
    file = read_gguf(tiny_model(architecture, "F32"))
    examples = [*_alike([3, 150, 41, 38, 1], 37), *_examples([9, 60])]
    found = []
    for parts in ([examples], [[example] for example in examples]):
        parameters = AdapterParameters(adapter_modules(file, list(TARGET_MODULES)), 4, 8.0, torch.float32, 0)
        parameters.values.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
        network = Network(file, parameters, ops, torch.float32, 300, keep=True, recompute=False)
        sums = torch.zeros(len(examples))
        for part in parts:
            batch = pack(part)
            losses = network.train(batch, 0.01)
            first = next(i for i, example in enumerate(examples) if example is part[0])
            sums.index_add_(0, batch.target_documents + first, losses)
        found.append((sums, parameters.gradients))
    (sums, gradients), (alone_sums, alone_gradients) = found
    torch.testing.assert_close(sums, alone_sums, atol=1e-3, rtol=1e-5)
    assert (gradients - alone_gradients).norm() / alone_gradients.norm() < 1e-5
