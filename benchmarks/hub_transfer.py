"""A large file through a hub and back, beside what disk and hash alone need and beside an OCI registry.

    hub_transfer.py [--megabytes N] [--rounds N] [--quick]

Pushed and pulled by huggingface_hub (LFS, and Xet), by nomoat's own verbs, and by oras with Debian's docker-registry
where both are installed. Prints one JSON object for scripts/bench_tables.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hub_process import Hub, Relay, docker_registry, nomoat_hub

from nomoat.measure.machine import describe_machine, load_words
from nomoat.run.machine_load import OtherLoad

__all__ = ["main"]

_FILE = "model.safetensors"
_LIMIT = "cp + sync + sha256sum"
_TERMS = ("--licence", "CC0-1.0", "--no-sign")
_HF = """
import sys, time
from huggingface_hub import HfApi, hf_hub_download
verb, repo, path = sys.argv[1:]
api = HfApi()
if verb == "push":
    api.create_repo(repo, exist_ok=True)
began = time.perf_counter()
if verb == "push":
    api.upload_file(path_or_fileobj=path, path_in_repo="model.safetensors", repo_id=repo)
else:
    hf_hub_download(repo, "model.safetensors", local_dir=path)
print(time.perf_counter() - began)
"""
_ORAS = """
import sys, time, oras.client
verb, target, path = sys.argv[1:]
client = oras.client.OrasClient(insecure=True)
began = time.perf_counter()
if verb == "push":
    client.push(target=target, files=[path], disable_path_validation=True, quiet=True)
else:
    client.pull(target=target, outdir=path)
print(time.perf_counter() - began)
"""
Times = dict[str, dict[str, list[float]]]
"""Side -> push or pull -> seconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="30 MB, once, to see that it works")
    options = parser.parse_args()
    size, rounds = (30, 1) if options.quick else (options.megabytes, options.rounds)
    times: Times = defaultdict(lambda: defaultdict(list))
    load = OtherLoad()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(rounds):
            shares = _round(folder / str(number), size * 1_000_000, times)
            shutil.rmtree(folder / str(number))
    report = _report(size, rounds, times, shares)
    report["notes"].append(load_words(load))
    print(json.dumps(report, ensure_ascii=False))


def _round(folder: Path, size: int, times: Times) -> dict[str, float]:
    folder.mkdir()
    (folder / "sent").mkdir()
    file = folder / "sent" / _FILE
    with nomoat_hub(folder) as hub:
        _write(file, size)
        _time(times, _LIMIT, "push", lambda: _limit(file, folder / "copy"))
        times[_LIMIT]["pull"].append(times[_LIMIT]["push"][-1])
        (folder / "copy").unlink()
        for side, xet in (("huggingface_hub, LFS", False), ("huggingface_hub, Xet", True)):
            repo = f"admin/hf-{'xet' if xet else 'lfs'}"
            _write(file, size)  # new bytes for each side: a hub knows those that it has
            for verb, path in (("push", file), ("pull", folder / "got")):
                seconds = _script(_HF, hub, verb, repo, str(path), HF_HUB_DISABLE_XET="0" if xet else "1")
                times[side][verb].append(seconds)
            _compare(file, folder / "got" / _FILE, side)
        _write(file, size)
        _nomoat(hub, folder, file, times)
        shares = _shares(hub, folder, file, size)
    program = shutil.which("docker-registry")
    if program and find_spec("oras"):
        _write(file, size)
        with docker_registry(program, folder / "registry") as address:
            for verb, path in (("push", file), ("pull", folder / "got")):
                seconds = _script(_ORAS, None, verb, f"{address}/bench/model:v1", str(path))
                times["oras + docker-registry"][verb].append(seconds)
    return shares


def _write(path: Path, size: int) -> None:
    """A safetensors file of random bytes."""
    count = size // 4096 * 4096
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    header += b" " * (-len(header) % 8 + 128)
    with path.open("wb") as handle:
        handle.write(len(header).to_bytes(8, "little") + header)
        for _ in range(0, count, 1 << 24):
            handle.write(os.urandom(min(1 << 24, count + len(header) + 8 - handle.tell())))
        os.fsync(handle.fileno())


def _limit(source: Path, target: Path) -> None:
    for argv in (["cp", str(source), str(target)], ["sync", str(target)], ["sha256sum", str(target)]):
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def _time(times: Times, side: str, verb: str, work: Callable[[], None]) -> None:
    began = time.perf_counter()
    work()
    times[side][verb].append(time.perf_counter() - began)
    sys.stderr.write(f"{side}, {verb}: {times[side][verb][-1]:.2f} s\n")


def _script(script: str, hub: Hub | None, *arguments: str, **more: str) -> float:
    environment = {**(hub.environment if hub else os.environ), **more}
    argv = [sys.executable, "-c", script, *arguments]
    answer = subprocess.run(argv, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds = float(answer.stdout.splitlines()[-1])
    sys.stderr.write(f"{' '.join(arguments[:2])}: {seconds:.2f} s\n")
    return seconds


def _nomoat(hub: Hub, folder: Path, file: Path, times: Times) -> None:
    place = f"{_login(hub, hub.url)}/admin/own"
    _time(times, "nomoat", "push", lambda: _verb(hub, "push", str(file.parent), place, *_TERMS))
    _time(times, "nomoat", "pull", lambda: _verb(hub, "pull", place, "--to", str(folder / "own")))
    _compare(file, folder / "own" / _FILE, "nomoat")


def _login(hub: Hub, url: str) -> str:
    host = url.removeprefix("http://")
    _verb(hub, "login", host, "--token-file", "-", typed=hub.token)
    return host


def _verb(hub: Hub, *arguments: str, typed: str = "") -> None:
    argv = [sys.executable, "-P", "-m", "nomoat.cli.main", *arguments, "--json"]
    answer = subprocess.run(
        argv, env=hub.environment, input=typed, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise RuntimeError(f"{arguments}: {answer.stdout}{answer.stderr}")


def _compare(sent: Path, got: Path, side: str) -> None:
    if subprocess.run(["cmp", "-s", str(sent), str(got)], check=False).returncode:
        raise RuntimeError(f"{side}: other bytes came back")
    got.unlink()


def _shares(hub: Hub, folder: Path, file: Path, size: int) -> dict[str, float]:
    """Of each client the bytes that it sends for a file with a changed header, as a share of the file."""
    relay, shares = Relay(hub.url), {}
    sides: dict[str, Callable[[], object]] = {
        "huggingface_hub, Xet": lambda: _script(
            _HF, hub, "push", "admin/again", str(file), HF_ENDPOINT=relay.url, HF_HUB_DISABLE_XET="0"
        ),
        "nomoat push": lambda: _verb(
            hub, "push", str(file.parent), f"{_login(hub, relay.url)}/admin/mine", *_TERMS
        ),
    }
    for side, push in sides.items():
        _write(file, size)
        push()
        shares[side] = _sent_again(relay, file, push)
        if side.startswith("huggingface_hub"):
            # What the client remembers of its uploads is gone: it knows what the hub tells it.
            shutil.rmtree(folder / "hf")
            shares[f"{side}, another machine"] = _sent_again(relay, file, push)
    return shares


def _sent_again(relay: Relay, file: Path, push: Callable[[], object]) -> float:
    _change_header(file)
    relay.sent_bytes = 0
    push()
    return relay.sent_bytes / file.stat().st_size


def _change_header(file: Path) -> None:
    """Another value in the metadata; nothing moves."""
    with file.open("r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length)) | {"__metadata__": {"changed": str(time.time_ns())}}
        handle.seek(8)
        handle.write(json.dumps(header).encode().ljust(length))


def _report(size: int, rounds: int, times: Times, shares: dict[str, float]) -> dict[str, Any]:
    limit = statistics.median(times[_LIMIT]["push"])
    rows = []
    for side, verbs in times.items():
        medians = [statistics.median(verbs[verb]) for verb in ("push", "pull")]
        rows.append([side, *medians, *(f"{limit / each:.0%}" for each in medians)])
    again = "; ".join(f"{side} {share:.2%}" for side, share in shares.items())
    missing = "" if "oras + docker-registry" in times else " oras or docker-registry is not installed here."
    return {
        "title": f"A file of {size:,} MB to a hub and back",
        "machine": describe_machine(),
        "detail": True,
        "columns": ["client", "push, s", "pull, s", "push, of the limit", "pull, of the limit"],
        "rows": rows,
        "notes": [f"Random bytes, new ones for each side, {rounds} rounds, medians; everything on one machine and disk."
                  f" The limit is {_LIMIT} of the same file, one after the other. nomoat's times include the start"
                  " of its process, the others' do not. Bytes sent again after a change in the file's header, of its"
                  f" size: {again}.{missing}"],
        "seconds": times, "sent_again": shares,
    }  # fmt: skip


if __name__ == "__main__":
    main()
