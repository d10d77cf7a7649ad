"""Clients that are killed at random moments while they pull and push, and go on afterwards.

As a program: `python killed_clients.py TRIALS` for more trials than a test suite has patience for.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nomoat.base.errors import NotFoundError
from nomoat.base.progress import Silent
from nomoat.base.settings import Settings
from nomoat.formats.gguf_write import write_gguf
from nomoat.server.hub.hub import HubConfig
from nomoat.server.hub.serving import HubOptions, serve_hub
from nomoat.share.client.connection import Connection
from nomoat.share.client.download import Transfer
from nomoat.share.client.outgoing import gather
from nomoat.share.client.pull import Puller, PullOptions
from nomoat.share.client.push import Pusher, PushOptions
from nomoat.share.client.references import parse_hub, parse_reference
from nomoat.share.client.remote import RemoteRepo
from nomoat.share.names import RepoName
from nomoat.share.registry.registry import RegistryConfig
from nomoat.store.store import Store

__all__ = ["big_model", "kill_pulls", "kill_pushes", "started_hub"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["killed_clients"])
_PULL_SECONDS = 0.5  # about how long an undisturbed pull shall take


def big_model(path: Path, seed: int) -> Path:
    """A model of 40 MB that no other seed makes."""
    metadata = {"general.architecture": "qwen2", "qwen2.context_length": 32}
    values = (
        np.random.default_rng(seed).integers(0, 2**31, size=(160_000, 64), dtype=np.int32).view(np.float32)
    )
    write_gguf(path, metadata, {"output.weight": values})
    return path


def started_hub(root: Path) -> tuple[Any, str, str]:
    """`(process, host, token)` of a hub of its own."""
    answers = _CONTEXT.Queue()
    process = _CONTEXT.Process(target=_serve, args=(root, answers), daemon=True)
    process.start()
    url, token = answers.get(timeout=30)
    return process, url.removeprefix("http://"), token


def kill_pulls(host: str, token: str, folder: Path, trials: int, chance: random.Random) -> int:
    """Kill `trials` pulls; returns how many pulls ended by themselves. Raises where anything half is seen."""
    path = big_model(folder / "pulled.gguf", 1)
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    _push(host, token, folder / "author", path, "admin/killed-pull")
    killed = whole = 0
    home = folder / "reader0"
    while killed < trials:
        died = _killed(_pull, (host, home, path.stat().st_size), chance.uniform(0.0, _PULL_SECONDS * 1.6))
        killed += died
        store = _store(home)
        for model in store.list():
            assert hashlib.sha256(model.path.read_bytes()).hexdigest() == wanted, (
                "half a model became visible"
            )
        if not died:
            whole += 1
            assert store.list() and not list((home / "downloads").iterdir())
            home = folder / f"reader{whole}"
    _pull(host, home, 10**12)
    assert _store(home).list()[0].digest == f"sha256:{wanted}"
    return whole


def kill_pushes(host: str, token: str, folder: Path, trials: int, chance: random.Random) -> int:
    """Kill `trials` pushes; returns how many ended by themselves. Raises where a commit is seen without its bytes."""
    killed = whole = 0
    model = big_model(folder / "pushed0.gguf", 100)
    while killed < trials:
        arguments = (host, token, folder / "author", model, "admin/killed-push")
        died = _killed(_push, arguments, chance.uniform(0.0, 0.3))
        killed += died
        _check_pushed(host, token, folder)
        if not died:
            whole += 1
            model = big_model(folder / f"pushed{whole}.gguf", 100 + whole)
    _push(host, token, folder / "author", model, "admin/killed-push")
    _check_pushed(host, token, folder)
    return whole


def _check_pushed(host: str, token: str, folder: Path) -> None:
    """Whatever a commit names is there, and is what its digest says: the client compares every byte."""
    repo = RepoName("model", "admin", "killed-push")
    with Connection(parse_hub(host), token) as connection:
        remote = RemoteRepo(connection, repo)
        try:
            snapshot = remote.snapshot()
        except NotFoundError:  # not created yet
            return
        for file in snapshot.files:
            hasher = file.hasher()
            with connection.stream("GET", remote.file_url(snapshot.commit, file.path)) as answer:
                for chunk in answer.iter_raw():
                    hasher.update(chunk)
            assert hasher.hexdigest() == file.expected, f"{file.path} is not whole"


def _killed(work: Callable[..., None], arguments: tuple[Any, ...], after_seconds: float) -> bool:
    """Run `work` in a process, kill it after some time; whether it was still at work then."""
    process = _CONTEXT.Process(target=work, args=arguments, daemon=True)
    process.start()
    process.join(after_seconds)
    alive = process.is_alive()
    process.kill()
    process.join()
    assert alive or process.exitcode == 0, "it failed by itself"
    return alive


def _pull(host: str, home: Path, bytes_per_transfer: int) -> None:
    transfer = Transfer(4, bytes_per_transfer / _PULL_SECONDS)
    with Puller(_store(home), Silent()) as puller:
        reference = parse_reference(f"{host}/admin/killed-pull")
        puller.pull(puller.plan(reference, PullOptions(transfer=transfer)))


def _push(host: str, token: str, home: Path, path: Path, name: str) -> None:
    outgoing = gather(_store(home), str(path), Silent())
    with Connection(parse_hub(host), token) as connection:
        pusher = Pusher(connection, RepoName.parse("model", name))
        pusher.create(private=False)
        pusher.push(outgoing, PushOptions(), pusher.head())


def _store(home: Path) -> Store:
    return Store(home, Settings(home, None, home / "absent.gguf"))


def _serve(root: Path, answers: Any) -> None:
    options = HubOptions(RegistryConfig(root), HubConfig(), 0, root / "home")
    serve_hub(options, lambda ready: answers.put((ready.url, ready.admin_token)))


def _main(trials: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, host, token = started_hub(folder / "root")
        began = time.monotonic()
        for what in (kill_pulls, kill_pushes):
            whole = what(host, token, folder, trials // 2, random.Random(seed))
            print(
                f"{what.__name__}: {trials // 2} killed, {whole} ended before, {time.monotonic() - began:.0f} s"
            )
        process.terminate()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
