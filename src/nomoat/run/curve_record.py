"""What was measured for speculation, kept between runs per machine, model, threads and build of llama.cpp."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nomoat.base.digests import sha256_bytes
from nomoat.base.errors import NomoatError
from nomoat.base.files import atomic_write_json
from nomoat.run.drafts.cost_curve import CURVE_POINTS
from nomoat.run.thread_record import processor_name

__all__ = ["CurveRecord"]


@dataclass(frozen=True)
class CurveRecord:
    """A file in `folder`. Absent or damaged, it is only some quiet second lost."""

    folder: Path
    threads: int
    model_path: Path

    def read(self) -> tuple[dict[int, float], int | None] | None:
        """Seconds of a decode by its number of tokens, and what `steady_tokens` found; None where not known."""
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            seconds = {int(n): float(value) for n, value in content["cost_seconds"].items()}
            steady = content["steady_tokens"]
            if any(not seconds[n] > 0 for n in CURVE_POINTS) or not (steady is None or steady >= 1):
                return None
            return seconds, steady if steady is None else int(steady)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, seconds: Mapping[int, float], steady: int | None) -> None:
        """Keep what was measured on a quiet machine."""
        content = {
            "cost_seconds": dict(seconds), "steady_tokens": steady, "threads": self.threads,
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.node()}: {processor_name()}", "model": str(self.model_path),
        }  # fmt: skip
        try:
            atomic_write_json(self._path, content)
        except (OSError, NomoatError):
            pass  # a full disk must not stop an answer; the next start measures again

    @property
    def _path(self) -> Path:
        status = self.model_path.stat()
        build = importlib.metadata.version("llama_cpp_python")
        parts = (platform.node(), processor_name(), self.threads, build, self.model_path.name, status.st_size,
                 status.st_mtime_ns)  # fmt: skip
        return self.folder / f"{sha256_bytes(repr(parts).encode())[7:31]}.json"
