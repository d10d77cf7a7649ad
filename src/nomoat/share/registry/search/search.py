"""The gallery: full-text search, filters, sorting and facets over many thousand repositories.

Few matches are fetched and sorted; with many, the gallery is read in the wanted order until the page is full. Which of
the two is told by a count of the matches that stops early. Both ways take time by the page, not by the gallery.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    func,
    literal,
    literal_column,
    or_,
    select,
)

from nomoat.base.errors import InputError
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.database import Database
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import repos
from nomoat.share.registry.search.match import Match, match_of
from nomoat.share.registry.search.query import SearchQuery, Sort

__all__ = ["FACETS", "Facet", "Page", "Search", "SearchQuery", "Sort"]

FACETS = ("artefact", "architecture", "quantisation", "licence", "pipeline_tag", "library", "rating")
_ORDERS = {"trending": repos.c.trending, "downloads": repos.c.downloads, "likes": repos.c.likes,
           "newest": repos.c.created_ms, "updated": repos.c.modified_ms, "size": repos.c.size_bytes}  # fmt: skip
_FEW = 2_000  # matches that are fetched and sorted one by one
_COUNTED = 100_000
_FACETED = 3_000
_LARGE, _KEPT_SECONDS = (
    10_000,
    5.0,
)  # counting the facets of a large gallery takes as long as several searches
_LONGEST_PAGE = 1_000
_LONGEST_CURSOR = 100


@dataclass(frozen=True)
class Facet:
    """A value that a filter can take, and how many repositories have it."""

    value: str
    count: int


@dataclass(frozen=True)
class Page:
    """Some of what was found. `total` is exact unless `total_is_bound`: then there are at least that many."""

    repos: tuple[Repo, ...]
    total: int
    total_is_bound: bool
    cursor: str
    """For the next page; empty on the last one."""


class Search:
    """Finds repositories. What an `Identity` may not see, and what was taken down, is never found nor counted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, tuple[float, dict[str, tuple[Facet, ...]]]] = {}

    def find(self, who: Identity, query: SearchQuery) -> Page:
        """One page of what matches. Raises `InputError` for an order or cursor that there is not."""
        match = match_of(who, query, is_sqlite=self._database.is_sqlite)
        if match is None:
            return Page((), 0, False, "")
        limit = max(1, min(query.limit, _LONGEST_PAGE))
        with self._database.read() as connection:
            total = self._count(connection, match)
            if query.sort == "relevance" and total <= _FEW:
                rows, cursor = self._by_relevance(connection, match, query.cursor, limit)
            else:
                rows, cursor = self._in_order(connection, match, query, limit, few=total <= _FEW)
        return Page(tuple(repo_of(row) for row in rows), total, total >= _COUNTED, cursor)

    def facets(self, who: Identity, query: SearchQuery) -> dict[str, tuple[Facet, ...]]:
        """For each of `FACETS` the values among the matches, most frequent first.

        Of all repositories where the query restricts nothing (a large gallery's may be some seconds old), else of the
        newest 3,000 matches.
        """
        match = match_of(who, query, is_sqlite=self._database.is_sqlite)
        if match is None:
            return {name: () for name in FACETS}
        if match.index is not None or len(match.visible) > 1:
            return self._count_facets(match)[0]
        kept = self._kept.get(query.kind)
        if kept is None or time.monotonic() > kept[0]:
            facets, total = self._count_facets(match)
            kept = time.monotonic() + (_KEPT_SECONDS if total > _LARGE else 0.0), facets
            self._kept[query.kind] = kept
        return kept[1]

    def _count_facets(self, match: Match) -> tuple[dict[str, tuple[Facet, ...]], int]:
        counts: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
        for statement in _facet_rows(match):
            with self._database.read() as connection:
                for *values, count in connection.execute(statement):
                    for name, value in zip(FACETS, values, strict=True):
                        counts[name][value] += count
        return {name: _facets(values) for name, values in counts.items()}, counts[FACETS[0]].total()

    def _count(self, connection: Connection, match: Match) -> int:
        rows = [select(func.count()).select_from(each.subquery()) for each in match.counted(_COUNTED)]
        return min(_COUNTED, sum(connection.scalar(each) or 0 for each in rows))

    def _in_order(
        self, connection: Connection, match: Match, query: SearchQuery, limit: int, *, few: bool
    ) -> tuple[list[Any], str]:
        sort = "trending" if query.sort == "relevance" else query.sort
        if sort not in _ORDERS:
            raise InputError(f"{sort[:40]!r} is no order", f"use one of {', '.join((*_ORDERS, 'relevance'))}")
        column = _ORDERS[sort]
        statement = match.first(select(repos), _FEW) if few else match.among(select(repos))
        if query.cursor:
            statement = statement.where(_after(column, *_read_cursor(query.cursor, sort, 2)))
        # Few are sorted after they were found (hence the sign); many are found by reading in order.
        first = literal_column(f"+repos.{column.name}").desc() if few else column.desc()
        statement = statement.order_by(first, repos.c.id.desc()).limit(limit + 1)
        rows = list(connection.execute(statement))
        if len(rows) <= limit:
            return rows, ""
        last = rows[limit - 1]
        return rows[:limit], json.dumps([sort, getattr(last, column.name), last.id])

    def _by_relevance(
        self, connection: Connection, match: Match, cursor: str, limit: int
    ) -> tuple[list[Any], str]:
        start = int(_read_cursor(cursor, "relevance", 1)[0]) if cursor else 0
        statement = match.first(select(repos), _FEW)
        statement = statement.order_by(literal_column("rank"), repos.c.trending.desc(), repos.c.id.desc())
        rows = list(connection.execute(statement.offset(start).limit(limit + 1)))
        more = len(rows) > limit
        return rows[:limit], json.dumps(["relevance", start + limit]) if more else ""


def _facet_rows(match: Match) -> list[Select[Any]]:
    """Statements that give values of `FACETS` and how often they occur together."""
    if match.index is None:
        return [_grouped(repos).where(part) for part in match.parts()]
    return [_grouped(match.first(select(*_columns(repos)), _FACETED).subquery())]


def _grouped(source: FromClause) -> Select[Any]:
    columns = _columns(source)
    return select(*columns, func.count()).group_by(*columns)


def _columns(source: FromClause) -> list[ColumnElement[Any]]:
    return [source.c[name] for name in FACETS]


def _facets(values: Counter[str]) -> tuple[Facet, ...]:
    return tuple(Facet(value, count) for value, count in values.most_common() if value)


def _after(column: ColumnElement[Any], value: float, repo_id: float) -> ColumnElement[bool]:
    return or_(column < literal(value), and_(column == literal(value), repos.c.id < literal(int(repo_id))))


def _read_cursor(cursor: str, sort: str, count: int) -> list[float]:
    wrong = InputError("this is no place to continue a search from", "begin again at the first page")
    if len(cursor) > _LONGEST_CURSOR:
        raise wrong
    try:
        content = json.loads(cursor)
    except ValueError as error:
        raise wrong from error
    if not isinstance(content, list) or len(content) != count + 1 or content[0] != sort:
        raise wrong
    numbers = [value for value in content[1:] if type(value) in {int, float} and abs(value) < 2**63]
    if len(numbers) != count or numbers[-1] < 0:
        raise wrong
    return numbers
