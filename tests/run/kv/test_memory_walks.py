"""Whatever conversations go through, every answer is that of a model which has read nothing but its prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_walk import Walk
from tiny_models import KINDS, ROUNDED

SEED, STEPS = 2, 30


@pytest.mark.parametrize("kind", KINDS)
def test_alone_every_answer_has_the_bits_of_a_fresh_one(
    kind: str, tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    walk = Walk(tiny_paths[kind], tmp_path, SEED, exact=kind not in ROUNDED)
    walk.run(STEPS)
    assert walk.counts["cached"] and walk.counts["restored"], walk.counts  # else nothing was put to the test


@pytest.mark.parametrize("kind", KINDS)
def test_beside_others_every_answer_is_that_of_a_fresh_one(
    kind: str, tiny_paths: dict[str, Path], tmp_path: Path
) -> None:
    Walk(tiny_paths[kind], tmp_path, SEED, parallel=3).run(STEPS)
