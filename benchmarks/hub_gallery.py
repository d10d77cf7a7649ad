"""A gallery of many models: how long a search takes over HTTP, and how much memory the hub's process.

    hub_gallery.py [--models N] [--searches N] [--quick]

The models are rows as pushes leave them, made directly in the registry; the hub that answers is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from hub_process import nomoat_hub, rss_bytes
from sqlalchemy import insert

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad
from nomoat.share.names import RepoName
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.schema import repos

__all__ = ["main"]

_SYLLABLES = ("ba", "cor", "del", "fen", "gra", "hul", "ist", "jor", "kel", "lum", "mar", "nor", "ost", "pra", "qui",
              "ros", "sil", "tan", "ul", "vor")  # fmt: skip
_ARTEFACTS = ("gguf", "adapter", "image-lora", "pipeline", "safetensors")
_ARCHITECTURES = ("llama", "qwen2", "mistral", "gemma2", "phi3", "sdxl", "flux1")
_LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "openrail", "")
_QUANTISATIONS = ("Q4_K_M", "Q8_0", "Q5_K_M", "F16", "")
_SORTS = ("trendingScore", "downloads", "likes", "createdAt", "lastModified")
_AT_ONCE = 5000
Found = dict[str, list[float]]
"""Kind of search -> milliseconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=300, help="of each kind")
    parser.add_argument(
        "--quick", action="store_true", help="2,000 models and 20 searches, to see that it works"
    )
    options = parser.parse_args()
    models, searches = (2000, 20) if options.quick else (options.models, options.searches)
    with tempfile.TemporaryDirectory() as name:
        home, draw, load = Path(name), random.Random(1), OtherLoad()
        token = _fill(home / "hub", models, draw)
        with nomoat_hub(home, token) as hub, httpx.Client(base_url=hub.url, timeout=60) as client:
            before = rss_bytes(hub.pid)
            found = {kind: _times(client, make, searches, draw) for kind, make in _KINDS.items()}
            after = rss_bytes(hub.pid)
            note = load_words(load)
    print(json.dumps(_report(models, searches, found, before, after, note), ensure_ascii=False))


def _fill(root: Path, models: int, draw: random.Random) -> str:
    registry = Registry(RegistryConfig(root))
    owners = [f"{draw.choice(_SYLLABLES)}{draw.choice(_SYLLABLES)}{number}" for number in range(200)]
    ids = {name: registry.accounts.add(name).id for name in owners}
    rows = _rows(models, ids, draw)
    for start in range(0, models, _AT_ONCE):
        with registry.database.write() as connection:
            connection.execute(insert(repos), [next(rows) for _ in range(min(_AT_ONCE, models - start))])
        sys.stderr.write(f"{start + _AT_ONCE:,} models\n")
    token = registry.accounts.add_token(owners[0], "benchmark", "read")
    registry.close()
    return token


def _word(draw: random.Random) -> str:
    return "".join(draw.choices(_SYLLABLES, k=2))


def _rows(models: int, ids: dict[str, int], draw: random.Random) -> Iterator[dict[str, Any]]:
    pick, names, now = draw.choice, sorted(ids), time.time_ns() // 1_000_000
    for number in range(models):
        owner = pick(names)
        name = RepoName("model", owner, f"{_word(draw)}-{_word(draw)}-{number}")
        modified = now - draw.randrange(10**10)
        yield {
            "kind": "model", "owner_id": ids[owner], "full_name": str(name), "key": name.key,
            "created_ms": modified - draw.randrange(10**9), "modified_ms": modified,
            "downloads": int(draw.paretovariate(0.6)) % 10**7, "likes": int(draw.paretovariate(0.8)) % 10**5,
            "trending": draw.random(), "size_bytes": draw.randrange(10**10), "artefact": pick(_ARTEFACTS),
            "architecture": pick(_ARCHITECTURES), "quantisation": pick(_QUANTISATIONS),
            "parameters": draw.randrange(10**10), "licence": pick(_LICENCES),
            "pipeline_tag": pick(("text-generation", "text-to-image", "")),
            "library": pick(("peft", "diffusers", "transformers", "")),
            "base_model": f"{pick(names)}/{_word(draw)}", "rating": pick(("", "general", "mature")),
            "summary": " ".join(_word(draw) for _ in range(12)), "tags": [_word(draw) for _ in range(4)],
            "card": {},
        }  # fmt: skip


_KINDS = {
    "front page": lambda draw: {"sort": draw.choice(_SORTS)},
    "one word": lambda draw: {"search": _word(draw), "sort": draw.choice(_SORTS)},
    "beginning of a word": lambda draw: {"search": draw.choice(_SYLLABLES), "sort": draw.choice(_SORTS)},
    "two words": lambda draw: {"search": f"{_word(draw)} {_word(draw)}"},
    "word and filters": lambda draw: {
        "search": _word(draw),
        "license": "mit",
        "pipeline_tag": "text-generation",
    },
}


def _times(client: httpx.Client, make: Any, searches: int, draw: random.Random) -> list[float]:
    times = []
    for _ in range(searches):
        asked = {"limit": "30", **make(draw)}
        began = time.perf_counter()
        answer = client.get("/api/models", params=asked)
        times.append((time.perf_counter() - began) * 1000)
        if answer.status_code != 200:
            raise RuntimeError(f"{asked}: {answer.status_code} {answer.text[:300]}")
    return times


def _p95(times: list[float]) -> float:
    return sorted(times)[max(0, round(0.95 * len(times)) - 1)]


def _report(models: int, searches: int, found: Found, before: int, after: int, note: str) -> dict[str, Any]:
    together = [each for times in found.values() for each in times]
    return {
        "title": f"A gallery of {models:,} models",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["searches", "median, ms", "p95, ms", "longest, ms"],
        "rows": [[kind, statistics.median(times), _p95(times), max(times)]
                 for kind, times in [*found.items(), ("all together", together)]],
        "notes": [f"{searches} different searches of each kind, one after the other, of an anonymous reader, over HTTP"
                  f" until the last byte. Most memory of the hub's process: {before / 1e6:.0f} MB when it answered,"
                  f" {after / 1e6:.0f} MB after all searches.", note],
        "rss_bytes": {"before": before, "after": after}, "milliseconds": found,
    }  # fmt: skip


if __name__ == "__main__":
    main()
