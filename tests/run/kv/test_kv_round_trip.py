"""llama.cpp goes on from a state that came from disk as if it had evaluated the prompt itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomoat.run.context import Context, Part
from nomoat.run.error_log import ErrorLog
from nomoat.run.kv.prefix_tree import common_prefix
from nomoat.run.kv.store import KVStore
from nomoat.run.llama import Model

CONTEXT_TOKENS, SEQUENCE = 512, 0
STORY = (
    "The lighthouse keeper counted the ships that passed in the night. One, two, three, four, five. In the "
    "morning he wrote the number into his book, drank his coffee, and went to sleep. The next night he counted "
    "again, and again there were five, although the sea was calm and nobody had been told to sail. So he"
)


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Iterator[Model]:
    loaded = Model(smollm2_path, ErrorLog())
    yield loaded
    loaded.close()


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    made = Context(model, CONTEXT_TOKENS, threads=1)
    yield made
    made.close()


@pytest.fixture
def fresh(model: Model) -> Iterator[Context]:
    made = Context(model, CONTEXT_TOKENS, threads=1)
    yield made
    made.close()


def _evaluate(context: Context, tokens: list[int], start: int) -> None:
    context.evaluate([Part(SEQUENCE, start, tokens, 1)])


def _restore(context: Context, view: memoryview) -> None:
    assert context.restore(SEQUENCE, view)


def _continue(context: Context, tokens: list[int], held: int) -> tuple[list[int], bytes]:
    """Greedy tokens after `tokens`, of which the memory holds the first `held`; and the last logits."""
    _evaluate(context, tokens[held:], held)
    made = [int(context.logits(1)[0].argmax())]
    while len(made) < 12:
        context.evaluate_one(made[-1], len(tokens) + len(made) - 1)
        made.append(int(context.logits(1)[0].argmax()))
    return made, context.logits(1)[0].tobytes()


def test_a_fresh_context_continues_with_the_same_tokens(
    context: Context, fresh: Context, tmp_path: Path
) -> None:
    tokens = context.model.tokenize(STORY, add_special=True, parse_special=False)
    _evaluate(context, tokens[:-1], 0)
    saved = KVStore(tmp_path, 1 << 30)
    saved.save("scope", tokens[:-1], context.state(SEQUENCE).data)
    saved.close()
    expected = _continue(context, tokens, len(tokens) - 1)  # evaluated in the same steps: the same to the bit

    store = KVStore(tmp_path, 1 << 30)
    found = store.longest("scope", tokens)
    assert found is not None
    assert found.n_tokens == len(tokens) - 1
    assert store.load(found, lambda view: _restore(fresh, view))
    assert fresh.held_tokens(SEQUENCE) == len(tokens) - 1
    assert _continue(fresh, tokens, len(tokens) - 1) == expected


def test_a_state_is_cut_back_to_the_common_beginning(
    context: Context, fresh: Context, tmp_path: Path
) -> None:
    tokens = context.model.tokenize(STORY, add_special=True, parse_special=False)
    other = tokens[:70] + context.model.tokenize(" the moon rose, and then", False, False)
    _evaluate(context, tokens, 0)
    store = KVStore(tmp_path, 1 << 30)
    store.save("scope", tokens, context.state(SEQUENCE).data)
    assert store.flush(60)
    assert context.truncate(SEQUENCE, common_prefix(tokens, other))
    expected = _continue(context, other, common_prefix(tokens, other))
    found = store.longest("scope", other)
    assert found is not None
    assert store.load(found, lambda view: _restore(fresh, view))
    assert fresh.truncate(SEQUENCE, found.n_tokens)
    assert _continue(fresh, other, found.n_tokens) == expected


def test_a_state_with_a_flipped_bit_never_reaches_llama_cpp(
    context: Context, fresh: Context, tmp_path: Path
) -> None:
    tokens = context.model.tokenize(STORY, add_special=True, parse_special=False)
    _evaluate(context, tokens, 0)
    store = KVStore(tmp_path, 1 << 30)
    store.save("scope", tokens, context.state(SEQUENCE).data)
    assert store.flush(60)
    found = store.longest("scope", tokens)
    assert found is not None
    content = bytearray(found.entry.path.read_bytes())
    content[found.entry.data_offset + 4] ^= 0x40  # the number of cells, which llama.cpp would believe
    found.entry.path.write_bytes(content)
    assert not store.load(found, lambda view: _restore(fresh, view))
    assert fresh.held_tokens(SEQUENCE) == 0
    assert not list(tmp_path.iterdir())
