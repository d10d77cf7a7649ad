"""Energy from RAPL, where the kernel lets us read it: joules of the processor packages between two readings."""

from __future__ import annotations

from pathlib import Path

__all__ = ["EnergyMeter"]

_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Sums the packages' counters. `problem` says why there is nothing to read, and is empty otherwise.

    The counters hold what the whole machine used, other programs included.
    """

    def __init__(self, folder: Path = _POWERCAP) -> None:
        # intel-rapl:0 is a package (AMD's too, under the same name), intel-rapl:0:0 a part of it.
        self._packages = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
        self._last: list[int] = []
        self.problem = ""
        if not self._packages:
            self.problem = "not available: this machine shows no RAPL counters"
        elif self._read() is None:
            self.problem = "not available: the RAPL counters may only be read by root"

    def start(self) -> None:
        """Take the first reading."""
        self._last = self._read() or []

    def joules(self) -> float | None:
        """Joules since `start`; None where there are none to read. A counter that wrapped is put right."""
        now = self._read()
        if self.problem or now is None or len(now) != len(self._last):
            return None
        spans = [_count(path / "max_energy_range_uj") for path in self._packages]
        parts = zip(self._last, now, spans, strict=True)
        return sum(after - before + (span if after < before else 0) for before, after, span in parts) / 1e6

    def _read(self) -> list[int] | None:
        try:
            return [_count(path / "energy_uj") for path in self._packages]
        except (OSError, ValueError):
            return None


def _count(path: Path) -> int:
    return int(path.read_text())
