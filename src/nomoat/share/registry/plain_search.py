"""A search without an index: it looks at every repository. Enough for a few thousand."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, or_, select, true

from nomoat.share.registry.accounts import ANONYMOUS, Identity
from nomoat.share.registry.database import Database
from nomoat.share.registry.repos import repo_of
from nomoat.share.registry.schema import repos
from nomoat.share.registry.search import Page, SearchQuery

__all__ = ["Search"]

_ORDERS: dict[str, Any] = {"downloads": repos.c.downloads, "likes": repos.c.likes, "newest": repos.c.created_ms,
                           "updated": repos.c.modified_ms, "size": repos.c.size_bytes}  # fmt: skip
_EXACT = ("artefact", "architecture", "quantisation", "licence", "pipeline_tag", "library", "base_model")


class Search:
    """Finds repositories."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, query: SearchQuery, who: Identity = ANONYMOUS) -> Page:
        """A page of what `who` may see of what `query` asks for."""
        chosen = _chosen(query, who)
        start = int(query.cursor) if query.cursor.isdigit() else 0
        order = _ORDERS.get(query.sort, repos.c.downloads)
        rows = chosen.order_by(order.desc(), repos.c.id.desc()).limit(query.limit).offset(start)
        with self._database.read() as connection:
            found = tuple(repo_of(row) for row in connection.execute(rows))
            total = connection.scalar(select(func.count()).select_from(chosen.subquery())) or 0
        after = start + len(found)
        return Page(found, total, False, str(after) if after < total else "")


def _chosen(query: SearchQuery, who: Identity) -> Select[Any]:
    own = [owner for owner, _ in who.roles] if who.repo_id is None else []
    visible = or_(repos.c.private.is_(False), repos.c.owner_id.in_(own)) if not who.is_admin else true()
    chosen = select(repos).where(repos.c.kind == query.kind, repos.c.taken_down.is_(False), visible)
    for word in query.text.split():
        pattern = f"%{word.lower()}%"
        text = func.lower(repos.c.full_name + " " + repos.c.summary + " " + repos.c.base_model)
        chosen = chosen.where(text.like(pattern))
    if query.owner:
        chosen = chosen.where(func.lower(repos.c.full_name).like(f"{query.owner.lower()}/%"))
    for name in _EXACT:
        if value := getattr(query, name):
            chosen = chosen.where(func.lower(repos.c[name]) == value.lower())
    for tag in query.tags:
        chosen = chosen.where(
            func.lower(func.cast(repos.c.tags, repos.c.summary.type)).like(f'%"{tag.lower()}"%')
        )
    return chosen
