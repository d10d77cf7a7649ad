"""The models that a server offers: a name leads to an engine, started when it is first needed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nomoat.base.errors import InputError, NomoatError, NotEnoughMemoryError
from nomoat.base.progress import Progress, Silent
from nomoat.base.settings import Settings
from nomoat.run.adapters import AdapterRef, parse_adapter
from nomoat.run.embedded_choice import choose_embedded
from nomoat.run.engine import Engine
from nomoat.server.errors import BadRequest, UnknownModel
from nomoat.store.names import check_name, is_name, name_for_file, unknown_name
from nomoat.store.store import Store, StoredModel

__all__ = ["AdapterEntry", "ModelEntry", "ModelOptions", "Models", "Target"]


@dataclass(frozen=True)
class ModelOptions:
    """How engines are started: `parallel` answers at once, `queue` requests that may wait.

    With `any_name` the default model answers requests for models that are not there.
    """

    parallel: int = 16
    queue: int = 256
    context_length: int | None = None
    threads: int | None = None
    any_name: bool = False


@dataclass(frozen=True)
class Target:
    """What a request's `model` and `adapters` stand for. `name` is the full name, adapters included."""

    name: str
    base: str
    engine: Engine
    adapters: tuple[AdapterRef, ...] = ()


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter that requests can name. `origin` is "server" (given or loaded by path) or "store".

    `bases` are the models that it was checked against.
    """

    name: str
    path: Path
    origin: str
    bases: tuple[str, ...] = ()


@dataclass(eq=False)
class ModelEntry:
    """A served model. `engine` is None until it is first used."""

    name: str
    stored: StoredModel
    created: int
    engine: Engine | None = None
    used: float = 0.0


class Models:
    """Names of models and adapters, and the engines behind them. Safe to use from several threads."""

    def __init__(
        self, settings: Settings, names: Sequence[str] = (), options: ModelOptions | None = None,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Serve `names` (of the store, or paths of GGUF files); without any, everything in the store.

        Raises `NotFoundError` or `BadFileError` for a model that cannot be served.
        """
        self.settings = settings
        self.store = Store(settings.home, settings)
        self._options, self._progress = options or ModelOptions(), progress or Silent()
        self._whole_store = not names
        self._lock = threading.RLock()
        self._adapters: dict[str, AdapterEntry] = {}
        self._entries: dict[str, ModelEntry] = {}
        for name in names:
            self._add(
                name if is_name(name) else name_for_file(Path(name)), self.store.resolve(name, self._progress)
            )

    # -- models --------------------------------------------------------------------------------------

    def entries(self) -> list[ModelEntry]:
        """The models on offer; the first one is the default."""
        with self._lock:
            if self._whole_store:
                for model in self.store.list(self._progress):
                    if model.name not in self._entries:
                        self._add(model.name, model)
            return list(self._entries.values())

    def entry(self, name: str) -> ModelEntry:
        """The model called `name`; an empty name means the default, and `:latest` may follow it.

        Raises `UnknownModel`.
        """
        entries = self.entries()
        if not name and entries:
            return entries[0]
        for candidate in (name, name.removesuffix(":latest")):
            if candidate in self._entries:
                return self._entries[candidate]
        known = [entry.name for entry in entries]
        remedy = f"this server has: {', '.join(known) or 'none'}; with --any-model the first one answers to any name"
        raise _unknown("model", name, known, remedy)

    def engine(self, name: str = "") -> Engine:
        """The engine that answers for `name`. Raises `UnknownModel`."""
        entry = self._answering(name)
        with self._lock:
            entry.used = time.monotonic()
            if entry.engine is None:
                model = choose_embedded(self.store, entry.stored, self.settings, self._progress)
                options = self._options
                entry.engine = Engine(
                    model, context_length=options.context_length, threads=options.threads,
                    parallel=options.parallel, queue=options.queue, settings=self.settings, progress=self._progress,
                )  # fmt: skip
            return entry.engine

    def resolve(self, spec: str, adapters: Sequence[AdapterRef] = ()) -> Target:
        """What `smollm2+me:0.8+work` stands for, with more `adapters` by name.

        Starts the engine if need be. Raises `UnknownModel`, and whatever is wrong with an adapter.
        """
        base, *parts = spec.split("+")
        refs = [*self.adapter_refs(parts), *adapters]
        found = tuple(AdapterRef(self.adapter(str(ref.path), "adapters").path, ref.scale) for ref in refs)
        entry = self._answering(base)
        engine = self.engine(entry.name)
        self._load(entry, engine)
        return Target("+".join([entry.name, *(_written(ref) for ref in refs)]), entry.name, engine, found)

    def adapter_refs(self, parts: Sequence[str]) -> list[AdapterRef]:
        """`name` or `name:scale` of each part of a model's name. Raises `UnknownModel` or `BadRequest`."""
        try:
            refs = [parse_adapter(part) for part in parts]
        except InputError as error:
            raise BadRequest(error.message, "model", error.hint) from error
        for ref in refs:
            self.adapter(str(ref.path))
        return refs

    @property
    def threads(self) -> int | None:
        """The fixed number of threads of each engine; None where they are measured."""
        return self._options.threads or self.settings.threads

    @property
    def parallel(self) -> int:
        """How many answers each engine works on at once; more requests wait."""
        return self._options.parallel

    def load_all(self) -> None:
        """Start the engines of the models that were named, so that the first request need not wait."""
        for entry in [] if self._whole_store else self.entries():
            self._load(entry, self.engine(entry.name))

    def unload(self, name: str) -> None:
        """Give back the memory of a model, adapters in its name or not; the next request loads it again.

        Raises `UnknownModel`. Nothing may be asked of it meanwhile.
        """
        entry = self.entry(name.partition("+")[0])
        engine = entry.engine
        if (
            engine is not None and engine.worker_pid
        ):  # without the lock: all others would wait for one that just loads
            engine.close()

    def stats(self) -> Mapping[str, Mapping[str, float]]:
        """The engines' own figures by model."""
        entries = [(entry.name, entry.engine) for entry in list(self._entries.values())]
        running = {name: engine for name, engine in entries if engine is not None and engine.worker_pid}
        figures: dict[str, Mapping[str, float]] = {}
        for name, engine in running.items():
            with contextlib.suppress(NomoatError):  # it may have died just now
                figures[name] = engine.stats()
        return figures

    def close(self) -> None:
        """End every engine."""
        for entry in list(self._entries.values()):
            if entry.engine is not None:
                entry.engine.close()

    # -- adapters ------------------------------------------------------------------------------------

    def adapters(self) -> list[AdapterEntry]:
        """All adapters that requests can name: the server's own, then the store's."""
        own = list(self._adapters.values())
        stored = (name for name in self.store.adapters() if name not in self._adapters)
        return [*own, *(AdapterEntry(name, self.store.resolve_adapter(name), "store") for name in stored)]

    def adapter(self, name: str, param: str = "model") -> AdapterEntry:
        """The adapter called `name`; never a path. Raises `UnknownModel`, which blames the request's field `param`."""
        if name in self._adapters:
            return self._adapters[name]
        if is_name(name) and name in self.store.adapters():
            return AdapterEntry(name, self.store.resolve_adapter(name), "store")
        known = [*self._adapters, *self.store.adapters()]
        remedy = (
            f"this server has: {', '.join(known)}"
            if known
            else "load one with --adapter or POST /v1/adapters"
        )
        raise _unknown("adapter", name, known, remedy, param)

    def add_adapter(self, name: str, path: Path, base: str = "") -> AdapterEntry:
        """Let `name` stand for the adapter at `path`, once it is sure that the model `base` takes it.

        A name of the server's own may be given anew. Raises what is wrong with the adapter.
        """
        check_name(name)
        if ":" in name or "+" in name:
            raise InputError(
                f"an adapter cannot be called {name!r} here", "':' and '+' separate names and scales"
            )
        if not path.is_absolute():
            path = Path.cwd() / path
        self.engine(base).check_adapter(AdapterRef(path))
        entry = AdapterEntry(name, path, "server", (self.entry(base).name,))
        self._adapters[name] = entry
        return entry

    def remove_adapter(self, name: str) -> None:
        """Forget a name that `add_adapter` gave; its files stay. Raises `UnknownModel`."""
        entry = self.adapter(name, "name")
        if entry.origin == "store":
            raise InputError(
                f"{name!r} belongs to the store, not to this server", f"remove it with: nomoat rm {name}"
            )
        del self._adapters[name]

    # -- engines -------------------------------------------------------------------------------------

    def _answering(self, name: str) -> ModelEntry:
        """The model that a request for `name` is answered by."""
        try:
            return self.entry(name)
        except UnknownModel:
            if not self._options.any_name or not self._entries:
                raise
            return self.entry("")

    def _add(self, name: str, stored: StoredModel) -> None:
        self._entries[name] = ModelEntry(
            name, stored, int(stored.mtime_ns // 1_000_000_000) or int(time.time())
        )

    def _load(self, entry: ModelEntry, engine: Engine) -> None:
        """Load the model now; where memory lacks, end the engine that was not used for the longest time."""
        while True:
            try:
                engine.load()
                return
            except NotEnoughMemoryError:
                if not self._end_one(entry):
                    raise

    def _end_one(self, keep: ModelEntry) -> bool:
        with self._lock:
            loaded = [e for e in self._entries.values() if e is not keep and e.engine and e.engine.worker_pid]
            if not loaded:
                return False
            oldest = min(loaded, key=lambda entry: entry.used)
            assert oldest.engine is not None
            oldest.engine.close()
            return True


def _unknown(kind: str, name: str, known: Sequence[str], remedy: str, param: str = "model") -> UnknownModel:
    problem = unknown_name(kind, name[:100], known, remedy)
    return UnknownModel(problem.message, problem.hint, param)


def _written(ref: AdapterRef) -> str:
    return str(ref.path) if ref.scale == 1 else f"{ref.path}:{ref.scale:g}"
