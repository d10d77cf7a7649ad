"""Thread timings are measured once per machine and model, and never kept from a busy machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomoat.run import thread_record
from nomoat.run.thread_record import decode_timings


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


def _decode(asked: list[int]) -> object:
    def decode(threads: int) -> float:
        asked.append(threads)
        return 0.1 / threads

    return decode


def test_a_quiet_measurement_is_kept(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_record, "OtherLoad", lambda: _Load(0.0))
    asked: list[int] = []
    first = decode_timings(_decode(asked), 2, tmp_path / "cache", model)  # type: ignore[arg-type]
    measured = len(asked)
    assert decode_timings(_decode(asked), 2, tmp_path / "cache", model) == first  # type: ignore[arg-type]
    assert len(asked) == measured
    (record,) = (tmp_path / "cache").iterdir()
    assert json.loads(record.read_text())["other_load_cores"] == 0


def test_a_measurement_of_a_busy_machine_is_not_kept(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_record, "OtherLoad", lambda: _Load(0.8))
    assert decode_timings(_decode([]), 2, tmp_path / "cache", model)  # type: ignore[arg-type]
    assert not (tmp_path / "cache").exists()


def test_another_model_under_the_same_name_is_measured_anew(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_record, "OtherLoad", lambda: _Load(0.0))
    asked: list[int] = []
    decode_timings(_decode(asked), 2, tmp_path / "cache", model)  # type: ignore[arg-type]
    measured = len(asked)
    model.write_bytes(b"other weights")
    decode_timings(_decode(asked), 2, tmp_path / "cache", model)  # type: ignore[arg-type]
    assert len(asked) == 2 * measured


def test_a_damaged_record_is_measured_anew(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_record, "OtherLoad", lambda: _Load(0.0))
    decode_timings(_decode([]), 2, tmp_path / "cache", model)  # type: ignore[arg-type]
    (record,) = (tmp_path / "cache").iterdir()
    record.write_text("{")
    assert set(decode_timings(_decode([]), 2, tmp_path / "cache", model)) == {1, 2}  # type: ignore[arg-type]
