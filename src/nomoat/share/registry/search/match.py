"""What a search asks of the index, in the words of SQLite's FTS5 or of PostgreSQL."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    cast,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.types import Text

from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.schema import repos
from nomoat.share.registry.search.index import EQUAL_FILTERS
from nomoat.share.registry.search.query import SearchQuery

__all__ = ["Match", "match_of"]

_MOST_WORDS, _MOST_TAGS, _LONGEST = 16, 32, 300
_INDEX = table("repos_search", column("rowid"), column("id"), column("words"), column("filters"))
# Weights of the index's columns name, summary, words, filters.
_BM25: ColumnElement[float] = literal_column("bm25(repos_search, 10.0, 4.0, 1.0, 0.0)")


@dataclass(frozen=True)
class Match:
    """What must hold. `index` is asked of the index; None where the table `repos` alone can tell.

    `visible` are conditions of which exactly one holds for each repository that may be seen.
    """

    kind: str
    visible: tuple[ColumnElement[bool], ...]
    index: ColumnElement[bool] | None
    index_id: ColumnElement[int]
    rank: ColumnElement[float]

    def counted(self, bound: int) -> list[Select[Any]]:
        """Selections whose rows together are the matches, each with at most `bound` rows."""
        if self.index is not None:
            return [select(self.index_id).where(self.index).limit(bound)]
        return [select(repos.c.id).where(part).limit(bound) for part in self.parts()]

    def parts(self) -> list[ColumnElement[bool]]:
        """Without `index`: conditions for disjoint parts of the matches, each of which one index answers."""
        return [and_(repos.c.kind == self.kind, ~repos.c.taken_down, part) for part in self.visible]

    def among(self, statement: Select[Any]) -> Select[Any]:
        """`statement` over `repos`, restricted to what matches, to be read in the order of `repos`."""
        if self.index is None:
            return statement.where(repos.c.kind == self.kind, ~repos.c.taken_down, or_(*self.visible))
        # The sign keeps SQLite from fetching what matches one by one and sorting it.
        ids = select(self.index_id).where(self.index)
        return statement.where(repos.c.kind == self.kind, literal_column("+repos.id").in_(ids))

    def first(self, statement: Select[Any], most: int) -> Select[Any]:
        """As `among`, but the newest `most` matches are fetched first. The last column is their rank."""
        if self.index is None:
            return self.among(statement.add_columns(literal(0.0).label("rank")))
        hits = select(self.index_id.label("hit"), self.rank.label("rank")).where(self.index)
        newest = hits.order_by(self.index_id.desc()).limit(most).subquery()
        return statement.add_columns(newest.c.rank).join(newest, newest.c.hit == repos.c.id)


def match_of(who: Identity, query: SearchQuery, *, is_sqlite: bool) -> Match | None:
    """The match for a query; None where nothing can match: its text holds no letter and no digit, or no text at all."""
    words = [pieces for word in query.text.split()[:_MOST_WORDS] if (pieces := _pieces(word))]
    if query.text.strip() and not words:
        return None
    wanted = _filters(query)
    if not all(_storable(value) for value in [*wanted, *query.ratings]):
        return None
    index = None
    if words or wanted or query.ratings:
        ratings = [[f"rating={rating[:_LONGEST]}" for rating in query.ratings]] if query.ratings else []
        one_of = [[f"kind={query.kind}"], *([each] for each in wanted), *ratings, _seen(who)]
        index = _in_sqlite(words, one_of) if is_sqlite else _in_postgresql(words, one_of)
    index_id = _INDEX.c.rowid if is_sqlite else _INDEX.c.id
    return Match(query.kind, _visible(who), index, index_id, _BM25 if is_sqlite else _ts_rank(words))


def _filters(query: SearchQuery) -> list[str]:
    named = {
        name: getattr(query, name) for name in (*EQUAL_FILTERS, "owner") if name not in {"kind", "rating"}
    }
    pairs = [(name, value) for name, value in named.items() if value]
    pairs += [("size", query.size)] if query.size else []
    pairs += [("tag", tag) for tag in query.tags[:_MOST_TAGS]]
    return [f"{name}={value[:_LONGEST]}" for name, value in pairs]


def _storable(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _pieces(word: str) -> list[str]:
    """Runs of letters and digits, as the index has them: `Q4_K_M` is q4, k, m."""
    return re.findall(r"[^\W_]+", _folded(word[:_LONGEST]))


def _folded(word: str) -> str:
    """As both indexes have it: small, without accents on Latin letters, with one sigma."""
    plain = re.sub(r"([A-Za-z])[\u0300-\u036f]+", r"\1", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", plain).lower().replace("\u03c2", "\u03c3")


# -- what somebody may see: the same in the words of the table and of the index ----------------------


def _visible(who: Identity) -> tuple[ColumnElement[bool], ...]:
    if _sees_all(who):
        return ~repos.c.private, repos.c.private
    own = _accounts(who)
    return (
        (~repos.c.private, and_(repos.c.private, repos.c.owner_id.in_(own))) if own else (~repos.c.private,)
    )


def _seen(who: Identity) -> list[str]:
    if _sees_all(who):
        return ["public", "private"]
    return ["public", *(f"private={account}" for account in _accounts(who))]


def _sees_all(who: Identity) -> bool:
    return who.is_admin and who.repo_id is None


def _accounts(who: Identity) -> list[int]:
    """Whose private repositories are listed; to the bearer of a token for one repository nobody's."""
    return [account for account, _ in who.roles] if who.repo_id is None else []


# -- SQLite ------------------------------------------------------------------------------------------


def _in_sqlite(words: Iterable[list[str]], one_of: Iterable[list[str]]) -> ColumnElement[bool]:
    phrases = [f'"{" ".join(pieces)}"{" *" if len(pieces[-1]) > 1 else ""}' for pieces in words]
    groups = [" OR ".join(_hex(value) for value in values) for values in one_of]
    parts = [f"{{name summary words}} : ({' AND '.join(phrases)})"] if phrases else []
    parts.append(f"filters : ({' AND '.join(f'({group})' for group in groups)})")
    return literal_column("repos_search").op("MATCH")(" AND ".join(parts))


def _hex(value: str) -> str:
    # Small letters as SQLite's lower() makes them: of ASCII only.
    return f'"{value.encode().lower().hex()}"'


# -- PostgreSQL --------------------------------------------------------------------------------------


def _in_postgresql(words: list[list[str]], one_of: Iterable[list[str]]) -> ColumnElement[bool]:
    all_of = [values[0] for values in one_of if len(values) == 1]
    conditions = [_INDEX.c.filters.op("@>")(_array(all_of))]
    conditions += [_INDEX.c.filters.op("&&")(_array(values)) for values in one_of if len(values) > 1]
    if words:
        conditions.append(_INDEX.c.words.op("@@")(_tsquery(words)))
    return and_(*conditions)


def _array(values: list[str]) -> ColumnElement[Any]:
    small = [value.encode().lower().decode() for value in values]
    return cast(small, ARRAY(Text))


def _ts_rank(words: list[list[str]]) -> ColumnElement[float]:
    if not words:
        return literal(0.0)
    return -func.ts_rank(_INDEX.c.words, _tsquery(words))


def _tsquery(words: list[list[str]]) -> ColumnElement[Any]:
    # Only letters and digits are left in the pieces: nothing in them needs a quotation mark.
    phrases = [" <-> ".join(pieces) + (":*" if len(pieces[-1]) > 1 else "") for pieces in words]
    return cast(" & ".join(f"({phrase})" for phrase in phrases), TSQUERY)
