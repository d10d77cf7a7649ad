"""The index behind the gallery's search, kept in step with the table `repos` by triggers of the database.

SQLite: an FTS5 table; what filters ask for are words in a column of their own (hex, so that each stays one word).
PostgreSQL: a table with a `tsvector` and an array, under one GIN index.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

__all__ = ["EQUAL_FILTERS", "SIZES", "create", "out_of_step", "rebuild"]

EQUAL_FILTERS = ("kind", "artefact", "architecture", "quantisation", "licence", "pipeline_tag", "library", "base_model",
                 "rating")  # fmt: skip
SIZES = {"tiny": 100 << 20, "small": 1 << 30, "medium": 10 << 30, "large": 0}
"""How large all files of a repository are together: below so many bytes; the last one is the rest."""
_OTHERS_WATCHED = "full_name, name_pieces, owner_id, private, taken_down, size_bytes, summary, tags"
_WATCHED = ", ".join((_OTHERS_WATCHED, *EQUAL_FILTERS))
_OTHER_WORDS = (
    "base_model",
    "architecture",
    "quantisation",
    "artefact",
    "pipeline_tag",
    "library",
    "licence",
)


def create(connection: Connection) -> None:
    """Make the index and its triggers where there are none."""
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in _sqlite_schema() if is_sqlite else [_postgresql_fold(connection), *_postgresql_schema()]:
        connection.execute(text(_literal(statement)))


def rebuild(connection: Connection) -> None:
    """Make the content of the index anew from the repositories."""
    connection.execute(text("DELETE FROM repos_search"))
    connection.execute(
        text(_literal(f"INSERT INTO repos_search{_columns(connection)} {_wanted(connection)}"))
    )


def out_of_step(connection: Connection) -> int:
    """How many repositories the index lacks, has too many, or knows with other words."""
    stored = f"SELECT {_columns(connection)[1:-1]} FROM repos_search"
    wanted = _wanted(connection)
    both = (f"SELECT * FROM ({stored}) AS a EXCEPT SELECT * FROM ({wanted}) AS b",
            f"SELECT * FROM ({wanted}) AS a EXCEPT SELECT * FROM ({stored}) AS b")  # fmt: skip
    return sum(connection.scalar(text(_literal(f"SELECT count(*) FROM ({one}) AS c"))) or 0 for one in both)


def _columns(connection: Connection) -> str:
    return (
        "(rowid, name, summary, words, filters)"
        if connection.dialect.name == "sqlite"
        else "(id, words, filters)"
    )


def _wanted(connection: Connection) -> str:
    document = _sqlite_document if connection.dialect.name == "sqlite" else _postgresql_document
    return f"SELECT {document('repos')} FROM repos"


def _literal(statement: str) -> str:
    return statement.replace(":", "\\:")  # SQLAlchemy takes a colon for a parameter


def _seen(row: str) -> tuple[str, str]:
    """Who finds it: everybody, its owner and who runs the hub, or nobody."""
    seen = f"(CASE WHEN {row}.taken_down THEN '' WHEN {row}.private THEN 'private' ELSE 'public' END)"
    return (
        seen,
        f"(CASE WHEN {row}.private AND NOT {row}.taken_down THEN 'private=' || {row}.owner_id ELSE '' END)",
    )


def _size(row: str) -> str:
    steps = " ".join(
        f"WHEN {row}.size_bytes < {below} THEN '{name}'" for name, below in SIZES.items() if below
    )
    return f"('size=' || CASE {steps} ELSE '{list(SIZES)[-1]}' END)"


# -- SQLite ------------------------------------------------------------------------------------------


def _sqlite_document(row: str) -> str:
    pairs = [f"('{field}=' || {row}.{field})" for field in EQUAL_FILTERS]
    owner = f"('owner=' || substr({row}.full_name, 1, instr({row}.full_name, '/') - 1))"
    fixed = " || ' ' || ".join(f"hex(lower({pair}))" for pair in [*pairs, owner, _size(row), *_seen(row)])
    tags = f"coalesce((SELECT group_concat(hex(lower('tag=' || value)), ' ') FROM json_each({row}.tags)), '')"
    words = " || ' ' || ".join(f"{row}.{field}" for field in ("tags", *_OTHER_WORDS))
    return (f"{row}.id, {row}.full_name || ' ' || {row}.name_pieces, {row}.summary, {words}, "
            f"{fixed} || ' ' || {tags}")  # fmt: skip


def _sqlite_schema() -> list[str]:
    add = f"INSERT INTO repos_search(rowid, name, summary, words, filters) SELECT {_sqlite_document('new')}"
    remove = "DELETE FROM repos_search WHERE rowid = old.id"
    return [
        "CREATE VIRTUAL TABLE IF NOT EXISTS repos_search USING fts5(name, summary, words, filters, "
        "tokenize='unicode61 remove_diacritics 2', prefix='2 3')",
        f"CREATE TRIGGER IF NOT EXISTS repos_search_insert AFTER INSERT ON repos BEGIN {add}; END",
        f"CREATE TRIGGER IF NOT EXISTS repos_search_update AFTER UPDATE OF {_WATCHED} ON repos "
        f"BEGIN {remove}; {add}; END",
        f"CREATE TRIGGER IF NOT EXISTS repos_search_delete AFTER DELETE ON repos BEGIN {remove}; END",
    ]


# -- PostgreSQL --------------------------------------------------------------------------------------


def _postgresql_document(row: str) -> str:
    pairs = [f"'{field}=' || {row}.{field}" for field in EQUAL_FILTERS]
    owner = f"'owner=' || split_part({row}.full_name, '/', 1)"
    fixed = ", ".join(f'lower(({pair}) COLLATE "C")' for pair in [*pairs, owner, _size(row), *_seen(row)])
    tags = f"""(SELECT lower(('tag=' || value) COLLATE "C") FROM json_array_elements_text({row}.tags))"""
    return f"{row}.id, {_vectors(row)}, ARRAY[{fixed}] || ARRAY{tags}"


def _vectors(row: str) -> str:
    others = " || ' ' || ".join(f"{row}.{field}" for field in _OTHER_WORDS)
    parts = {"A": f"{row}.full_name || ' ' || {row}.name_pieces", "B": f"{row}.summary",
             "C": f"{row}.tags::text || ' ' || {others}"}  # fmt: skip
    return " || ".join(
        f"setweight(to_tsvector('simple', repos_search_fold({text_})), '{weight}')"
        for weight, text_ in parts.items()
    )


def _postgresql_fold(connection: Connection) -> str:
    """A function that makes of a text what FTS5's `unicode61 remove_diacritics 2` would.

    With ICU's rules for letters, where the server has them: a database of the locale C knows none but ASCII's. Only
    letters and digits are left, as PostgreSQL's parser would take `owner/name` for the path of a file.
    """
    has_icu = connection.scalar(text("SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'"))
    collation = 'COLLATE "und-x-icu"' if has_icu else ""
    plain = r"normalize(regexp_replace(normalize($1, NFD), '([A-Za-z])[\u0300-\u036f]+', '\1', 'g'), NFC)"
    words = f"regexp_replace(lower({plain} {collation}), '[^[:alnum:]]+', ' ', 'g')"
    return (
        "CREATE OR REPLACE FUNCTION repos_search_fold(text) RETURNS text LANGUAGE sql IMMUTABLE AS "
        f"$$ SELECT translate({words}, '\u03c2', '\u03c3') $$"
    )


def _postgresql_schema() -> list[str]:
    return [
        "CREATE TABLE IF NOT EXISTS repos_search (id bigint PRIMARY KEY REFERENCES repos(id) ON DELETE CASCADE, "
        "words tsvector NOT NULL, filters text[] NOT NULL)",
        "CREATE INDEX IF NOT EXISTS repos_search_index ON repos_search USING gin (words, filters)",
        "CREATE OR REPLACE FUNCTION repos_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"INSERT INTO repos_search(id, words, filters) SELECT {_postgresql_document('new')} "
        "ON CONFLICT (id) DO UPDATE SET words = excluded.words, filters = excluded.filters; RETURN NULL; END $$",
        f"CREATE OR REPLACE TRIGGER repos_search_keep AFTER INSERT OR UPDATE OF {_WATCHED} ON repos "
        "FOR EACH ROW EXECUTE FUNCTION repos_search_keep()",
    ]
