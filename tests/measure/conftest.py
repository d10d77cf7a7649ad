"""What the tests of measuring share: the real model in an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from choice_oracle import OracleAnswer, oracle_answers, write_float_weights

from nomoat.base.settings import Settings
from nomoat.measure.multiple_choice import MultipleChoice
from nomoat.measure.questions import ChoiceQuestion
from nomoat.measure.subject import Subject
from nomoat.measure.tasks import built_in_tasks
from nomoat.run.engine import Engine


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home of the tests' own, and one thread: tests run beside other work."""
    return Settings(home=tmp_path_factory.mktemp("home"), threads=1, embedded_model=None)


@pytest.fixture(scope="session")
def subject(smollm2_path: Path, settings: Settings) -> Iterator[Subject]:
    """The embedded model without adapters."""
    with Engine(smollm2_path, context_length=512, settings=settings) as engine:
        yield Subject(engine)


@pytest.fixture(scope="session")
def float_model(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with float32 weights."""
    return write_float_weights(smollm2_path, tmp_path_factory.mktemp("float") / "smollm2-f32.gguf")


@pytest.fixture(scope="session")
def questions() -> Sequence[ChoiceQuestion]:
    """Some of the built-in questions."""
    (task,) = built_in_tasks(("knowledge",), quick=True)
    assert isinstance(task, MultipleChoice)
    return task.questions[::2]


@pytest.fixture(scope="session")
def oracle(smollm2_path: Path, questions: Sequence[ChoiceQuestion]) -> list[OracleAnswer]:
    """What transformers says to them."""
    return oracle_answers(smollm2_path, questions)
