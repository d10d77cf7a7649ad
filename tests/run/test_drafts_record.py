"""Cost curves are measured once per machine, model and thread count, and never kept from a busy machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nomoat.run import curve_record
from nomoat.run.curve_record import cost_curve


class _Load:
    """A pretended load of other programs."""

    def __init__(self, cores: float) -> None:
        self._cores = cores

    def cores(self) -> float:
        return self._cores


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights")
    return path


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_record, "OtherLoad", lambda: _Load(0.0))


def _decode(asked: list[int]) -> Callable[[int], float]:
    def decode(tokens: int) -> float:
        asked.append(tokens)
        return 0.006 + 0.003 * tokens

    return decode


def test_a_curve_is_measured_once(tmp_path: Path, model: Path) -> None:
    asked: list[int] = []
    first = cost_curve(_decode(asked), 2, tmp_path / "cache", model)
    measured = len(asked)
    again = cost_curve(_decode(asked), 2, tmp_path / "cache", model)
    assert again.points() == pytest.approx(first.points())
    assert len(asked) == measured


def test_other_threads_or_other_weights_have_a_curve_of_their_own(tmp_path: Path, model: Path) -> None:
    asked: list[int] = []
    cost_curve(_decode(asked), 2, tmp_path / "cache", model)
    measured = len(asked)
    cost_curve(_decode(asked), 1, tmp_path / "cache", model)
    model.write_bytes(b"other weights")
    cost_curve(_decode(asked), 1, tmp_path / "cache", model)
    assert len(asked) == 3 * measured


def test_a_busy_machine_is_not_kept(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_record, "OtherLoad", lambda: _Load(0.8))
    cost_curve(_decode([]), 2, tmp_path / "cache", model)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"verify_seconds": {"1": 0.1}}', '{"verify_seconds": 3}'])
def test_a_damaged_record_is_measured_anew(tmp_path: Path, model: Path, content: str) -> None:
    cost_curve(_decode([]), 2, tmp_path / "cache", model)
    (record,) = (tmp_path / "cache").iterdir()
    record.write_text(content)
    assert cost_curve(_decode([]), 2, tmp_path / "cache", model).seconds(2) == pytest.approx(0.012)
