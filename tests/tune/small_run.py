"""A training run small enough for a test: some text, a tiny base, and a child process that can be killed.

As a program: `python small_run.py '{"folder": ..., "resume": true, "kill_after_step": 3}'`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nomoat.base.digests import sha256_file
from nomoat.base.progress import Silent
from nomoat.store.records import StoredModel
from nomoat.tune import checkpoint
from nomoat.tune.config import TuneConfig
from nomoat.tune.export import LogitsOracle
from nomoat.tune.pipeline import finish, tune
from nomoat.tune.result import TuneRequest, TuneResult

__all__ = ["metrics", "request", "run", "run_child", "stored", "write_source"]

STEPS = 12
_OPTIONS: dict[str, Any] = {
    "max_steps": STEPS, "batch_tokens": 200, "max_length": 128, "r": 4, "learning_rate": 5e-3, "precision": "bf16",
    "valid_share": 0.25, "checkpoint_seconds": 0.0,
}  # fmt: skip


def write_source(folder: Path) -> Path:
    """A folder of notes and chats of different lengths."""
    folder.mkdir(parents=True)
    for i in range(8):
        lines = [f"The key of shed {i} hangs on hook {(7 * i + n) % 23}." for n in range(1 + i)]
        (folder / f"note{i}.md").write_text(f"# Shed {i}\n\n" + "\n".join(lines) + "\n")
    chats = [{"prompt": f"Where is key {i}?", "completion": f"On hook {(7 * i) % 23}."} for i in range(12)]
    (folder / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return folder


def stored(path: Path) -> StoredModel:
    """`path` as the store would describe it."""
    return StoredModel("tiny", path, sha256_file(path), "llama", 1, "Q8_0", 512, "none", path.stat().st_size)


def request(
    folder: Path, cache: Path, *, base: Path | None = None, resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False, **options: Any,
) -> TuneRequest:  # fmt: skip
    """To learn `folder/source` on `folder/base.gguf` into `folder/out`."""
    bounds = {"epochs", "budget_seconds"} & options.keys()
    config = TuneConfig(**{**_OPTIONS, **({"max_steps": None} if bounds else {}), **options})
    return TuneRequest(
        folder / "source", stored(base or folder / "base.gguf"), folder / "out", config, cache, resume,
        should_stop=should_stop,
    )  # fmt: skip


def run(asked: TuneRequest, oracle: LogitsOracle | None = None) -> TuneResult:
    """Train in this process and finish the folder."""
    result = tune(asked, Silent(), oracle)
    finish(result)
    return result


def run_child(folder: Path, cache: Path, **order: Any) -> int:
    """Train in a process of its own; returns its exit status, negative for the signal that ended it."""
    told = json.dumps({"folder": str(folder), "cache": str(cache), **order})
    return subprocess.run([sys.executable, __file__, told], check=False).returncode


def metrics(out: Path) -> list[dict[str, float]]:
    """metrics.jsonl without what depends on the clock."""
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "tokens_per_second"} for line in lines]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stopper(after: int | None, within_save: int | None) -> Callable[[], bool]:
    """Kills this process after its step number `after`, or half-way through its save number `within_save`."""
    steps = saves = 0
    real_save = checkpoint.save_file

    def save(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal saves
        saves += 1
        real_save(tensors, path, metadata)
        if saves == within_save:
            os.truncate(path, path.stat().st_size // 2)
            _die()

    def should_stop() -> bool:
        nonlocal steps
        steps += 1
        if steps == after:
            _die()
        return False

    checkpoint.save_file = save
    return should_stop


def _main(order: dict[str, Any]) -> None:
    folder, cache = Path(order.pop("folder")), Path(order.pop("cache"))
    stop = _stopper(order.pop("kill_after_step", None), order.pop("kill_within_save", None))
    run(request(folder, cache, should_stop=stop, **order))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
