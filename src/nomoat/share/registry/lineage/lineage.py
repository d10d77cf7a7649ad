"""What was made from what: the edges of the lineage graph, each with how far it can be believed.

verified: a signed provenance, by a key registered for the owner, names the very files of the commit and the base's
digest. declared: the card, the adapter's configuration or the GGUF file says so. unknown: it is an adapter, and
nothing says of what.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, or_, select

from nomoat.base.errors import InputError
from nomoat.share.cards.front_matter import split_front_matter
from nomoat.share.names import is_digest
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.database import Database
from nomoat.share.registry.history import Commit
from nomoat.share.registry.holders import holders_of
from nomoat.share.registry.lineage.edges import (
    CONFIG_NAME,
    Edge,
    EdgeState,
    edges_of_card,
    edges_of_config,
    edges_of_metadata,
    edges_of_provenance,
    merged,
)
from nomoat.share.registry.lineage.vouching import Vouching
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import blobs, lineage, repo_blobs, repos
from nomoat.share.registry.trees import Entry
from nomoat.share.trust.provenance import PROVENANCE_NAME, read_provenance

__all__ = ["Base", "Edge", "Graph", "Lineage", "Node"]

_MOST_BYTES = 1 << 20
_MOST_EDGES = 32
_MOST_HOLDERS = 500


@dataclass(frozen=True)
class Base:
    """An edge, and the repository of this hub that it leads to, if there is one."""

    edge: Edge
    repo: Repo | None
    same_file: bool
    """Whether that repository holds the very file of the edge. Otherwise it has no more than the name."""

    @property
    def state(self) -> EdgeState:
        """How far the way to the repository can be believed: a name leads to it, whatever was proven of the file."""
        return self.edge.state if self.same_file or self.repo is None else "declared"


@dataclass(frozen=True)
class Node:
    """A repository of this hub (`here`), or something that it knows only by name or digest."""

    id: str
    label: str
    here: bool
    depth: int
    """Generations from the repository in the middle: below 0 for what it was made from."""


@dataclass(frozen=True)
class Graph:
    """Nodes and edges `(child's id, parent's id, relation, state)`, for the page of a repository."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str, str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """The graph as the page's script reads it."""
        names = ("child", "parent", "relation", "state")
        return {"nodes": [asdict(node) for node in self.nodes],
                "edges": [dict(zip(names, edge, strict=True)) for edge in self.edges]}  # fmt: skip


class Lineage:
    """Reads edges out of a commit, keeps those of each head, and answers questions about them."""

    def __init__(self, database: Database, vouching: Vouching) -> None:
        self._database, self._vouching = database, vouching

    def record(self, repo: Repo, commit: Commit, files: Sequence[Entry]) -> list[Edge]:
        """Replace the edges of a repository by those that `commit`, its newest one, tells of."""
        edges = self._edges(repo, commit, files)[:_MOST_EDGES]
        with self._database.write() as connection:
            connection.execute(delete(lineage).where(lineage.c.repo_id == repo.id))
            for edge in edges:
                connection.execute(insert(lineage).values(repo_id=repo.id, **asdict(edge)))
        return edges

    def parents(self, repo: Repo) -> list[Edge]:
        """What it was made from."""
        query = select(lineage).where(lineage.c.repo_id == repo.id).order_by(lineage.c.id)
        with self._database.read() as connection:
            return [_edge(row) for row in connection.execute(query)]

    def bases(self, who: Identity, repo: Repo) -> list[Base]:
        """As `parents`, each with the repository that it leads to, where `who` may see that."""
        return [self._base(who, edge, repo) for edge in self.parents(repo)]

    def children(self, who: Identity, repo: Repo, limit: int = 200) -> list[tuple[Repo, Edge]]:
        """Repositories that `who` may see and that were made from this one, by its name or a file of any version."""
        held = select(repo_blobs.c.digest).where(repo_blobs.c.repo_id == repo.id)
        found = self._found(who, [str(repo.name)], held, limit)
        with self._database.read() as connection:
            named = held.where(repo_blobs.c.digest.in_({edge.base_digest for _, edge in found}))
            here = set(connection.scalars(named))
        # What was proven of another file is no more than said of this repository, to which its name has led.
        edges = [edge if edge.base_digest in here else _only_said(edge) for _, edge in found]
        return [(child, edge) for (child, _), edge in zip(found, edges, strict=True) if child.id != repo.id]

    def children_of_digest(self, who: Identity, digest: str, limit: int = 200) -> list[tuple[Repo, Edge]]:
        """The same for a file, whether this hub has it or not."""
        return self._found(who, [], [digest], limit)

    def graph(self, who: Identity, repo: Repo, generations: int = 3, most_nodes: int = 60) -> Graph:
        """Ancestors and direct descendants of a repository."""
        nodes = {str(repo.name): Node(str(repo.name), str(repo.name), True, 0)}
        edges: list[tuple[str, str, str, str]] = []
        level = [repo]
        for depth in range(1, generations + 1):
            above: list[Repo] = []
            for child in level:
                for edge in self.parents(child):
                    base = self._base(who, edge, child)
                    parent = base.repo
                    name = str(parent.name) if parent else edge.base_name or edge.base_digest or "unknown"
                    if name not in nodes and len(nodes) < most_nodes:
                        label = name if not is_digest(name) else f"{name[:19]}..."
                        nodes[name] = Node(name, label, parent is not None, -depth)
                        above += [parent] if parent else []
                    edges.append((str(child.name), name, edge.relation, base.state))
            level = above
        for child, edge in self.children(who, repo, most_nodes):
            nodes.setdefault(str(child.name), Node(str(child.name), str(child.name), True, 1))
            edges.append((str(child.name), str(repo.name), edge.relation, edge.state))
        return Graph(
            tuple(nodes.values()), tuple(dict.fromkeys(e for e in edges if {e[0], e[1]} <= set(nodes)))
        )

    def _found(
        self, who: Identity, names: Sequence[str], digests: Sequence[str] | Select[tuple[str]], limit: int
    ) -> list[tuple[Repo, Edge]]:
        by_name = func.lower(lineage.c.base_name).in_([name.lower() for name in names])
        query = select(lineage).where(or_(by_name, lineage.c.base_digest.in_(digests)))
        with self._database.read() as connection:
            rows = list(connection.execute(query.order_by(lineage.c.repo_id, lineage.c.id).limit(limit)))
            found = [(_repo(connection, row.repo_id), _edge(row)) for row in rows]
        return [(child, edge) for child, edge in found if child is not None and _sees(who, child)]

    def _base(self, who: Identity, edge: Edge, child: Repo) -> Base:
        """By digest if a repository that `who` may see holds the file, else by name."""
        with self._database.read() as connection:
            ids = holders_of(connection, edge.base_digest) if edge.base_digest else []
            holders = _seen(connection, who, ids, child)
            named = [each for each in holders if str(each.name).lower() == edge.base_name.lower()]
            if not holders and edge.base_name:
                named = _seen(connection, who, _ids_named(connection, edge), child)
        return Base(edge, next(iter(named or holders), None), bool(holders))

    def _edges(self, repo: Repo, commit: Commit, files: Sequence[Entry]) -> list[Edge]:
        card, config = self._card(files), self._json(files, CONFIG_NAME)
        proven = self._proven(repo, commit, files)
        declared = [*edges_of_card(card), *edges_of_config(config), *self._from_gguf(files)]
        edges = merged(proven, declared)
        if config and not any(edge.relation == "adapter" for edge in edges):
            edges.append(Edge("adapter", "", "", "unknown", CONFIG_NAME))
        return edges

    def _proven(self, repo: Repo, commit: Commit, files: Sequence[Entry]) -> list[Edge]:
        bundle = self._vouching.read(files, PROVENANCE_NAME)
        if bundle is None:
            return []
        try:
            found = read_provenance(bundle, self._vouching.trusted(repo, commit))
        except InputError as error:
            return [Edge("adapter", "", "", "unknown", PROVENANCE_NAME, {"problem": error.message})]
        here = {entry.path: entry.digest for entry in files if entry.is_file}
        return edges_of_provenance(found, here)

    def _card(self, files: Sequence[Entry]) -> dict[str, Any]:
        text = self._vouching.read(files, "README.md", _MOST_BYTES)
        try:
            return split_front_matter((text or b"").decode("utf-8", "replace"))[0]
        except InputError:
            return {}  # a card that cannot be read declares nothing

    def _json(self, files: Sequence[Entry], path: str) -> dict[str, Any]:
        text = self._vouching.read(files, path, _MOST_BYTES)
        try:
            content = json.loads(text or b"{}")
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _from_gguf(self, files: Sequence[Entry]) -> list[Edge]:
        """`general.base_model.*` of GGUF files, as far as inspection has read their metadata."""
        edges = []
        with self._database.read() as connection:
            for entry in files:
                if entry.path.endswith(".gguf") and entry.digest:
                    facts = connection.scalar(select(blobs.c.facts).where(blobs.c.digest == entry.digest))
                    edges += edges_of_metadata(entry.path, (facts or {}).get("metadata") or {})
        return edges


def _repo(connection: Connection, repo_id: int) -> Repo | None:
    row = connection.execute(select(repos).where(repos.c.id == repo_id)).first()
    return repo_of(row) if row else None


def _ids_named(connection: Connection, edge: Edge) -> list[int]:
    kind = "dataset" if edge.relation == "dataset" else "model"
    named = func.lower(repos.c.full_name) == edge.base_name.lower()
    return list(connection.scalars(select(repos.c.id).where(named, repos.c.kind == kind)))


def _seen(connection: Connection, who: Identity, ids: Sequence[int], child: Repo) -> list[Repo]:
    """Those that `who` may see, oldest first, without `child` itself."""
    query = select(repos).where(repos.c.id.in_(ids[:_MOST_HOLDERS]), repos.c.id != child.id)
    found = [repo_of(row) for row in connection.execute(query.order_by(repos.c.id))]
    return [each for each in found if _sees(who, each)]


def _only_said(edge: Edge) -> Edge:
    return replace(edge, state="declared") if edge.state == "verified" else edge


def _sees(who: Identity, repo: Repo) -> bool:
    return not repo.taken_down and (not repo.private or who.may_read(repo.owner_id, repo.id))


def _edge(row: Any) -> Edge:
    return Edge(row.relation, row.base_name, row.base_digest, row.state, row.path, row.evidence)
