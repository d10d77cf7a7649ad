"""Many downloads of one file at once: does each get every byte, and how long do small requests wait meanwhile?

    hub_downloads.py [--clients N] [--megabytes N] [--quick]

Clients are one process of their own; /health is asked ten times a second by this one.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from hub_process import Hub, nomoat_hub, rss_bytes

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad

__all__ = ["main"]

_REPO = "admin/popular"
_PAUSE_SECONDS = 0.1
_IDLE_SECONDS = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="20 clients, 5 MB, to see that it works")
    options = parser.parse_args()
    clients, size = (20, 5) if options.quick else (options.clients, options.megabytes)
    load = OtherLoad()
    with tempfile.TemporaryDirectory() as name, nomoat_hub(Path(name)) as hub:
        digest = _push(hub, size * 1_000_000)
        idle = asyncio.run(_health(hub, _idle()))
        began = time.perf_counter()
        answers: Any = multiprocessing.get_context("spawn").Queue()
        worker = multiprocessing.get_context("spawn").Process(
            target=_download_all, args=(hub.url, clients, digest, answers)
        )
        worker.start()
        busy = asyncio.run(_health(hub, _while_alive(worker)))
        errors = answers.get(timeout=30)
        seconds = time.perf_counter() - began
        report = _report(clients, size, errors, seconds, idle, busy, rss_bytes(hub.pid))
    report["notes"].append(load_words(load))
    print(json.dumps(report, ensure_ascii=False))


def _push(hub: Hub, size: int) -> str:
    os.environ.update(hub.environment)
    from huggingface_hub import HfApi

    content = os.urandom(size)
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(_REPO)
    api.upload_file(path_or_fileobj=content, path_in_repo="model.bin", repo_id=_REPO)
    return hashlib.sha256(content).hexdigest()


async def _idle() -> None:
    await asyncio.sleep(_IDLE_SECONDS)


async def _while_alive(worker: Any) -> None:
    while worker.is_alive():
        await asyncio.sleep(_PAUSE_SECONDS)


async def _health(hub: Hub, until: Any) -> list[float]:
    """Milliseconds of each request, until `until` ends."""
    task, times = asyncio.ensure_future(until), []
    async with httpx.AsyncClient(base_url=hub.url, timeout=60) as client:
        while not task.done():
            began = time.perf_counter()
            (await client.get("/health")).raise_for_status()
            times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(_PAUSE_SECONDS)
    await task
    return times


def _download_all(url: str, clients: int, digest: str, answers: Any) -> None:
    answers.put(asyncio.run(_downloads(url, clients, digest)))


async def _downloads(url: str, clients: int, digest: str) -> list[str]:
    """What went wrong, one line for each download that failed."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(240), limits=limits) as client:
        found = await asyncio.gather(*(_download(client, digest) for _ in range(clients)))
    return [each for each in found if each]


async def _download(client: httpx.AsyncClient, digest: str) -> str:
    hasher = hashlib.sha256()
    try:
        async with client.stream("GET", f"/{_REPO}/resolve/main/model.bin") as answer:
            answer.raise_for_status()
            async for part in answer.aiter_bytes(1 << 18):
                hasher.update(part)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return "" if hasher.hexdigest() == digest else "other bytes came"


def _report(clients: int, size: int, errors: list[str], seconds: float, idle: list[float], busy: list[float],
            memory: int) -> dict[str, Any]:  # fmt: skip
    for error in errors[:5]:
        sys.stderr.write(f"{error}\n")
    return {
        "title": f"{clients} downloads of one file of {size} MB at once",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["hub", "/health median, ms", "p95, ms", "longest, ms", "asked"],
        "rows": [[name, statistics.median(times), sorted(times)[round(0.95 * len(times)) - 1], max(times), len(times)]
                 for name, times in (("idle", idle), ("downloads", busy))],
        "notes": [f"{len(errors)} of {clients} downloads failed; the sha256 of all was computed, in one process beside"
                  f" the hub. With its start together {clients * size / seconds:,.0f} MB/s; most memory of the hub:"
                  f" {memory / 1e6:.0f} MB."],
        "errors": errors, "seconds": seconds, "rss_bytes": memory,
    }  # fmt: skip


if __name__ == "__main__":
    main()
