"""RAPL's counters: added up over packages, put right when they wrap, and absent without a fuss."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomoat.measure.energy import EnergyMeter


def _package(folder: Path, name: str, microjoules: int) -> Path:
    package = folder / name
    package.mkdir(exist_ok=True)
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text("1000000\n")
    return package


def test_packages_are_added_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        _package(tmp_path, name, 100)
    meter = EnergyMeter(tmp_path)
    meter.start()
    _package(tmp_path, "intel-rapl:0", 500_100)
    _package(tmp_path, "intel-rapl:1", 50)  # wrapped
    _package(tmp_path, "intel-rapl:0:0", 400_000)
    assert meter.joules() == pytest.approx(0.5 + 0.99995)
    assert meter.problem == ""


def test_no_counters_is_a_reason_and_no_number(tmp_path: Path) -> None:
    meter = EnergyMeter(tmp_path)
    meter.start()
    assert meter.joules() is None
    assert meter.problem.startswith("not available")


def test_counters_that_cannot_be_read_are_a_reason_too(tmp_path: Path) -> None:
    (_package(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    assert "root" in EnergyMeter(tmp_path).problem
