"""The weights behind sample chats: each file verified to its last byte and put where an engine reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from nomoat.base.errors import BadFileError, InputError, NotFoundError
from nomoat.base.plain_text import printable
from nomoat.base.progress import Progress
from nomoat.base.work_folders import work_folder
from nomoat.formats.chat_template import ChatTemplate
from nomoat.formats.gguf_file import GGUFFile, read_gguf
from nomoat.formats.peft_config import CONFIG_NAME
from nomoat.formats.peft_folder import WEIGHTS_NAME
from nomoat.server.hub.sample_places import Place, files_to_run, find_base
from nomoat.share.checks.template_trial import try_template
from nomoat.share.client.bases import base_digest, declared_base
from nomoat.share.errors import DamagedBlobError, RefusedError
from nomoat.share.registry.card import read_card
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.history import Commit
from nomoat.share.registry.lineage.edges import edges_of_card
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.samples import WORK_FOLDER
from nomoat.store.adapters import GGUF_NAME
from nomoat.store.describe import describe
from nomoat.store.records import StoredModel

__all__ = ["Weights", "opened_weights"]

_CARD = "README.md"
_LONG_BYTES = 32 << 20  # reading more takes a while, which is to be told


@dataclass(frozen=True)
class Weights:
    """What is run: a model, and the adapter's folder where there is one. Places are where the hub has the files.

    `work` is a folder of this run alone, for whatever it needs meanwhile.
    """

    work: Path
    model: StoredModel
    model_place: Place
    adapter: Path | None = None
    adapter_place: Place | None = None
    adapter_config: Place | None = None
    """What says at which scale the weights count, where that is a file of its own."""


@contextlib.contextmanager
def opened_weights(
    registry: Registry, repo: Repo, commit: Commit, selector: str, progress: Progress
) -> Iterator[Weights]:
    """The weights of a repository at a commit, readable as files inside the block.

    `selector` chooses among several models, as in `NAME:Q4_K_M`. An adapter comes with its base. Raises
    `NotFoundError` where this hub lacks something, `DamagedBlobError` (the blob is marked), `TakenDownError`.
    """
    with ExitStack() as stack:
        # Not among the machine's temporary files: those may be swept while this runs, and stay after a kill.
        work = stack.enter_context(work_folder(registry.config.root / WORK_FOLDER))
        yield _Opening(registry, repo, stack, work, progress).weights(commit, selector)


class _Opening:
    """Opens files for as long as `stack` lives."""

    def __init__(
        self, registry: Registry, repo: Repo, stack: ExitStack, work: Path, progress: Progress
    ) -> None:
        self._registry, self._repo, self._stack = registry, repo, stack
        self._work, self._progress = work, progress

    def weights(self, commit: Commit, selector: str) -> Weights:
        entries = self._registry.history.files(commit)
        chosen = files_to_run(self._repo, commit, entries, selector)
        if not chosen[0].entry.path.endswith(".gguf"):
            return self._with_base(chosen, {place.entry.path: self._verified(place) for place in chosen})
        path = self._verified(chosen[0])
        gguf = read_gguf(path)
        if gguf.metadata.get("general.type") != "adapter":
            return Weights(self._work, self._model(chosen[0], gguf), chosen[0])
        files = {GGUF_NAME: path}
        for entry in entries:
            if entry.path == _CARD and entry.digest:
                files[_CARD] = self._verified(Place(self._repo, commit, entry))
        return self._with_base(chosen, files)

    def _with_base(self, chosen: Sequence[Place], files: dict[str, Path]) -> Weights:
        folder = self._work / "adapter"
        folder.mkdir()
        for name, path in files.items():
            (folder / name).symlink_to(path.absolute())
        digest = base_digest(folder) or _pin_of_card(folder)
        if not digest:
            raise InputError(f"{self._repo.name} does not say which file it was trained on",
                             "`nomoat push` of what `nomoat tune` made says it")  # fmt: skip
        base = find_base(self._registry, self._repo, digest)
        if base is None:
            called = printable(declared_base(folder))
            raise NotFoundError(
                f"this hub does not have the base of {self._repo.name}: {digest}{called and f' ({called})'}",
                "push that very file to this hub (nomoat push FILE.gguf HUB/OWNER/NAME), then run this again",
            )
        model = self._model(base, read_gguf(self._verified(base)))
        by_path = {place.entry.path: place for place in chosen}
        weights = by_path.get(GGUF_NAME) or by_path.get(WEIGHTS_NAME) or chosen[0]
        config = by_path.get(CONFIG_NAME) if weights.entry.path == WEIGHTS_NAME else None
        return Weights(self._work, model, base, folder, weights, config)

    def _verified(self, place: Place) -> Path:
        self._registry.takedowns.require_served(place.digest)
        if place.entry.size_bytes > _LONG_BYTES:
            self._progress.start(f"verifying {place.entry.path}")
        began = now_ms()
        try:
            return self._stack.enter_context(self._registry.store.local(place.digest))
        except DamagedBlobError:
            self._registry.blobs.mark_damaged(place.digest, began)
            raise
        finally:
            self._progress.finish()

    def _model(self, place: Place, gguf: GGUFFile) -> StoredModel:
        # A template that never ends would keep this process for ever: it is foreign code.
        trial = try_template(ChatTemplate.from_gguf(gguf).source)
        if not trial["renders"]:
            raise BadFileError(place.entry.path, "its chat template", f"does not work: {printable(trial['problem'])}",
                               "push the model with a chat template that works")  # fmt: skip
        return StoredModel(
            str(place), gguf.path.absolute(), place.digest, size_bytes=place.entry.size_bytes,
            **asdict(describe(gguf)),
        )  # fmt: skip


def _pin_of_card(folder: Path) -> str:
    if not (folder / _CARD).is_file():
        return ""
    try:
        card = read_card((folder / _CARD).read_text(encoding="utf-8", errors="replace")).data
    except RefusedError:
        return ""  # a card that cannot be read pins nothing
    return next((edge.base_digest for edge in edges_of_card(card) if edge.base_digest), "")
