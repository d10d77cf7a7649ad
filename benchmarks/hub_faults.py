"""Hubs and pushing clients killed with SIGKILL at random moments: is anything lost, or half visible?

    hub_faults.py [--trials N] [--seed N] [--quick]

Every other trial kills `nomoat hub serve`, the others the client (huggingface_hub, LFS or Xet by the toss of a coin);
after each one every acknowledged commit is looked for and the whole registry is checked. 50 trials share a hub.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from nomoat.measure.machine import describe_machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "server" / "hub"))
from killed_pushers import Figures, kill

__all__ = ["main"]

_PER_HUB = 50


def main() -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--quick", action="store_true", help="four trials, to see that it works")
    options = parser.parse_args()
    left, seed, total = 4 if options.quick else options.trials, options.seed, Figures()
    while left > 0:
        with tempfile.TemporaryDirectory() as folder:
            figures = kill(Path(folder), min(left, _PER_HUB), seed)
        sys.stderr.write(f"seed {seed}: {figures}\n")
        for name, value in asdict(figures).items():
            setattr(total, name, getattr(total, name) + value)
        left, seed = left - figures.trials, seed + 1
    print(json.dumps(_report(total, options.seed), ensure_ascii=False))


def _report(total: Figures, seed: int) -> dict[str, object]:
    return {
        "title": "Hubs and clients killed while people push",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["trials", "hub killed", "client killed", "by Xet", "commits acknowledged", "problems"],
        "rows": [[total.trials, total.hub_kills, total.client_kills, total.xet_trials, total.acknowledged_commits,
                  len(total.problems)]],
        "notes": [f"Seed {seed}. A problem: an acknowledged commit that is gone, or anything that"
                  f" `nomoat hub check` finds. {total.kills_before_first_commit} kills came before the first commit"
                  " of their trial."],
        "problems": total.problems,
    }  # fmt: skip


if __name__ == "__main__":
    main()
