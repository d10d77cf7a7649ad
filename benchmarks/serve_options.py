"""What the serving benchmarks are asked for on the command line: the options they share, and their quick form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["Options"]


class Options(argparse.ArgumentParser):
    """A parser with the shared options; `--quick` sets `quick` instead of what was asked for, and waits for nobody."""

    def __init__(self, doc: str | None, **quick: Any) -> None:
        super().__init__(description=(doc or "").splitlines()[0])
        self._quick = {"patience": 0.0, "rounds": 1, **quick}
        self.add_argument("--model", type=Path, help="GGUF file (default: the embedded one as shipped)")
        self.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine")
        self.add_argument("--quick", action="store_true", help="one short round, to see that it works")

    def number(self, flag: str, default: int, help: str) -> None:
        """A whole number."""
        self.add_argument(flag, type=int, default=default, help=help)

    def read(self) -> argparse.Namespace:
        """What the user gave."""
        options = self.parse_args()
        if options.quick:
            vars(options).update(self._quick)
        return options
