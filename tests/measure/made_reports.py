"""Reports with figures from nowhere, for tests of what becomes of them."""

from __future__ import annotations

from typing import Any

from nomoat.measure.results import Item, TaskResult, mean_metric, share_metric

__all__ = ["report", "task_json"]


def task_json(
    name: str, metric: str, values: list[float], settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A task's entry in a report: item n has the id `n` and the weight n + 1 where it is a mean."""
    weighed = metric == "bits_per_byte"
    items = []
    for n, value in enumerate(values):
        shown: dict[str, Any] = {} if weighed else {"question": f"<b>Q{n}</b>", "value": "x", "answer": "y"}
        if metric == "acc":
            shown |= {"choices": ["x", "y"], "gold": 0, "chosen": 1 - int(value)}
        items.append(Item(str(n), {metric: value}, n + 1.0 if weighed else 1.0, shown))
    made = mean_metric(metric, items) if weighed else share_metric(metric, items)
    return TaskResult(name, (made,), tuple(items), settings or {}).as_json()


def report(
    name: str, tasks: list[dict[str, Any]], disk: int = 100, speed: float | None = 50.0
) -> dict[str, Any]:
    """A report as `measure` returns it, with figures from nowhere."""
    rounds = {"median": speed, "quartiles": [40.0, 60.0], "rounds": 5}
    timed = {
        "load_seconds": rounds, "prompt": [{"tokens": 128, "tokens_per_second": rounds, "ttft_seconds": rounds}],
        "decode": {"tokens": 64, "after_tokens": 64, "tokens_per_second": rounds},
        "energy": {"joules_per_token": None, "note": "not available"}, "threads": 2,
    }  # fmt: skip
    model = {"name": name, "digest": f"sha256:{name}", "architecture": "llama", "parameters": 10**8,
             "quantisation": "Q4_0", "bytes": disk}  # fmt: skip
    memory = {"peak_rss_bytes": 10**8, "kv_bytes_per_1000_tokens": 10**6, "context_length": 512,
              "file_bytes": disk, "adapter_bytes": 0}  # fmt: skip
    return {
        "schema": 1, "name": name, "model": model, "adapters": [], "machine": "a machine", "other_load_cores": 0.0,
        "measured": "2026-11-25T00:00:00+00:00", "quick": False, "speed": timed if speed is not None else None,
        "memory": memory, "tasks": tasks, "versus": None, "comparison": [], "notes": [],
    }  # fmt: skip
