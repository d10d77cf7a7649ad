"""From a name on a hub to a model or adapter in the store: look, fetch what is missing, verify, adopt.

with Puller(store, progress) as puller:
    plan = puller.plan(parse_reference("hub.local/me/notes"))     # asks the hub; plan.missing_bytes
    pulled = puller.pull(plan)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from nomoat.base.errors import InputError, NomoatError, NotFoundError
from nomoat.base.progress import Progress, Silent
from nomoat.formats.peft_folder import CONFIG_NAME, WEIGHTS_NAME
from nomoat.share.client.adopt import Arrival, adopt
from nomoat.share.client.connection import Connection
from nomoat.share.client.delta import Older, older_version
from nomoat.share.client.download import Download, Transfer, discard, fetched
from nomoat.share.client.pulled import Pulled, PulledNames
from nomoat.share.client.ranges import RangeSource
from nomoat.share.client.references import HubAddress, Reference
from nomoat.share.client.remote import RemoteFile, RemoteRepo, Snapshot
from nomoat.share.client.selection import Selection, select
from nomoat.share.client.signed import check_signature
from nomoat.share.client.tokens import Tokens
from nomoat.store.names import check_name, propose_name
from nomoat.store.store import Store

__all__ = ["PullOptions", "PullPlan", "Puller"]

_WEIGHTS = {WEIGHTS_NAME, CONFIG_NAME}  # what makes an adapter the same one; cards change


@dataclass(frozen=True)
class PullOptions:
    """How to pull: under which name (empty: one made from the repository's), and whether it may replace another."""

    name: str = ""
    replace_existing: bool = False
    trust_new_key: bool = False
    transfer: Transfer = field(default_factory=Transfer)


@dataclass(frozen=True)
class PullPlan:
    """What a pull would fetch. `here` maps a file's path to a file of the store that holds its bytes already.

    `known` is what the same parts of the same commit became before: joined, they have another digest.
    """

    reference: Reference
    remote: RemoteRepo
    snapshot: Snapshot
    selection: Selection
    here: dict[str, Path]
    options: PullOptions
    known: Pulled | None = None

    @property
    def missing(self) -> tuple[RemoteFile, ...]:
        """The files to be fetched."""
        if self.known is not None:
            return ()
        return tuple(file for file in self.selection.files if file.path not in self.here)

    @property
    def missing_bytes(self) -> int:
        """What is to be fetched."""
        return sum(file.size_bytes for file in self.missing)

    @property
    def resolved(self) -> Reference:
        """The name with the quantisation that was chosen."""
        return replace(self.reference, selector=self.reference.selector or self.selection.label)


class Puller:
    """Pulls into one store. Keeps a connection for each hub until it is closed."""

    def __init__(self, store: Store, progress: Progress | None = None) -> None:
        self._store, self._progress = store, progress or Silent()
        self._tokens, self._names = Tokens(store.home), PulledNames(store)
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> Puller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.close()

    @property
    def downloads(self) -> Path:
        """Where files come together."""
        return self._store.home / "downloads"

    def connection(self, hub: HubAddress) -> Connection:
        """The connection to a hub, with the token that is kept for it."""
        if hub.host not in self._connections:
            self._connections[hub.host] = Connection(hub, self._tokens.find(hub))
        return self._connections[hub.host]

    def plan(self, reference: Reference, options: PullOptions | None = None) -> PullPlan:
        """Ask the hub what is meant, and see what of it is here. Fetches no content.

        Raises `InputError` where the name would hide another model, `NotFoundError`, `UnauthorizedError`, ...
        """
        remote = RemoteRepo(self.connection(reference.hub), reference.repo)
        snapshot = remote.snapshot(reference.revision)
        try:
            selection = select(snapshot, reference.selector)
        except NotFoundError:
            # What is no quantisation may be a tag: `hub.local/me/notes:v2`.
            if reference.revision or not _may_be_tag(reference.selector, remote):
                raise
            snapshot = remote.snapshot(reference.selector)
            selection = select(snapshot)
        plan = PullPlan(reference, remote, snapshot, selection, {}, options or PullOptions())
        plan = replace(plan, options=replace(plan.options, name=self._name(plan)))
        plan = replace(plan, here=self._here(plan))
        known = (
            self._names.find(plan.resolved)
            if len(selection.files) > 1 and selection.kind == "model"
            else None
        )
        return replace(plan, known=known if known and _is_same(known, plan) else None)

    def pull(self, plan: PullPlan) -> Pulled:
        """Fetch what is missing, verify it, and put it into the store. Raises `RefusedError` for lies."""
        vouched = check_signature(plan.remote, plan.snapshot, self._store.home, plan.options.trust_new_key)
        if plan.known is not None:
            return plan.known
        downloads = [self._download(plan, file) for file in plan.missing]
        label = f"Pulling {plan.options.name}"
        with fetched(downloads, plan.options.transfer, self._progress, label) as count:
            paths = {**plan.here, **{item.file.path: item.path for item in downloads}}
            arrival = Arrival(
                plan.selection,
                paths,
                plan.options.name,
                str(plan.resolved),
                self._may_replace(plan),
                vouched.trained_on,
            )
            adopted = adopt(self._store, arrival, self._progress)
        pulled = Pulled(str(plan.resolved), adopted.kind, plan.options.name, plan.snapshot.commit, adopted.digest,
                        plan.reference.repo_text, vouched.words, vouched.signer, count,
                        vouched.trained_on)  # fmt: skip
        self._names.keep(pulled, {plan.reference, plan.resolved})
        for file in plan.selection.files:
            discard(self.downloads / file.key)
        return pulled

    def _download(self, plan: PullPlan, file: RemoteFile) -> Download:
        url = plan.remote.file_url(plan.snapshot.commit, file.path)
        source = RangeSource(plan.remote.connection, url, file)
        return Download(file, source, self.downloads / file.key, self._older(plan, file))

    def _older(self, plan: PullPlan, file: RemoteFile) -> Older | None:
        """What the store has of an earlier version of the same repository's model."""
        name = plan.options.name
        if plan.selection.kind != "model" or not self._store.has_model(name):
            return None
        if self._names.owner_of("model", name) != plan.reference.repo_text:
            return None
        return older_version(plan.remote.connection, file, self._store.resolve(name).path)

    def _here(self, plan: PullPlan) -> dict[str, Path]:
        if plan.selection.kind == "adapter":
            return self._adapter_files(plan, plan.options.name)
        digests = {file.path: file.digest for file in plan.selection.files if file.digest}
        found = {path: self._store.find_digest(digest) for path, digest in digests.items()}
        return {
            path: model.path for path, model in found.items() if model is not None and model.path.is_file()
        }

    def _name(self, plan: PullPlan) -> str:
        """The name to give it; checked before anything is fetched."""
        options, repo = plan.options, plan.reference.repo_text
        name = check_name(options.name) if options.name else _proposed(plan)
        kind = plan.selection.kind
        taken = name in self._store.adapters() if kind == "adapter" else self._store.has_model(name)
        same = self._names.owner_of(kind, name) == repo
        if taken and not (same or options.replace_existing or self._holds(plan, name)):
            raise InputError(f"the store has another {kind} named {name!r}",
                             "choose another name with --as NAME, or give --force")  # fmt: skip
        return name

    def _may_replace(self, plan: PullPlan) -> dict[str, bool]:
        """Whether the name may come to stand for this model or adapter where it stands for another one now."""
        options, repo = plan.options, plan.reference.repo_text
        may = {
            kind: options.replace_existing or self._names.owner_of(kind, options.name) == repo
            for kind in ("model", "adapter")
        }
        return may | ({"adapter": True} if plan.here.keys() >= _WEIGHTS else {})

    def _adapter_files(self, plan: PullPlan, name: str) -> dict[str, Path]:
        """The files of the store's adapter `name` that are as the hub's."""
        try:
            folder = self._store.resolve_adapter(name) if name in self._store.adapters() else None
        except NomoatError:
            folder = None  # damaged: all of it is fetched again
        if folder is None:
            return {}
        paths = {file.path: folder / file.path for file in plan.selection.files}
        return {
            file.path: paths[file.path]
            for file in plan.selection.files
            if paths[file.path].is_file() and file.is_content_of(paths[file.path])
        }

    def _holds(self, plan: PullPlan, name: str) -> bool:
        if plan.selection.kind == "adapter":
            return self._adapter_files(plan, name).keys() >= _WEIGHTS
        if len(plan.selection.files) != 1:
            return False
        digest = plan.selection.files[0].digest
        return digest in {version.digest for version in self._store.versions(name)}


def _is_same(known: Pulled, plan: PullPlan) -> bool:
    return (known.commit, known.name) == (plan.snapshot.commit, plan.options.name)


def _may_be_tag(selector: str, remote: RemoteRepo) -> bool:
    return bool(selector) and "/" not in selector and remote.has_revision(selector)


def _proposed(plan: PullPlan) -> str:
    """`owner/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M` -> `qwen2.5-1.5b-instruct:q4_k_m`."""
    name = plan.reference.repo.name
    stem = name[: -len("-gguf")] if name.lower().endswith("-gguf") else name
    label = f":{plan.selection.label}" if plan.selection.label and plan.selection.kind == "model" else ""
    return propose_name(stem + label) or "model"
