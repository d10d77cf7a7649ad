"""Search says what a plain reading of the table says, in both databases, for everybody who may ask."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from nomoat.base.errors import InputError
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import ANONYMOUS, Identity
from nomoat.share.registry.registry import Registry, RegistryConfig
from nomoat.share.registry.repos import Repo, repo_of
from nomoat.share.registry.schema import repos, users
from nomoat.share.registry.search import index as search_index
from nomoat.share.registry.search.search import FACETS, SearchQuery
from own_servers import PostgresCluster

_WORDS = ("lora", "adapter", "Größe", "poems", "style", "llama", "chat", "q4_k_m", "日本語", "x-ray")


def names(hub: Any, who: Identity = ANONYMOUS, **fields: Any) -> list[str]:
    return [str(repo.name) for repo in hub.registry.search.find(who, SearchQuery(**fields)).repos]


def change(hub: Any, repo: Repo, **values: Any) -> None:
    with hub.registry.database.write() as connection:
        connection.execute(update(repos).where(repos.c.id == repo.id).values(**values))


def fill(hub: Any, count: int, seed: int = 1) -> list[Repo]:
    """Rows as many pushes would leave them."""
    generator = random.Random(seed)
    owners = {name: hub.person(name).user_id for name in ("ann", "ben", "cem")}
    with hub.registry.database.write() as connection:
        connection.execute(insert(repos), [_row(generator, owners, number) for number in range(count)])
        return [repo_of(row) for row in connection.execute(select(repos))]


def _row(generator: random.Random, owners: dict[str, int], number: int) -> dict[str, Any]:
    owner = generator.choice(sorted(owners))
    name = RepoName("model", owner, f"{generator.choice(('TinyLlama', 'poems', 'Style-LoRA'))}-{number}")
    pick = generator.choice
    return {
        "kind": pick(("model", "model", "dataset")), "owner_id": owners[owner], "full_name": str(name),
        "key": name.key, "name_pieces": "Tiny Llama" if "Tiny" in name.name else "", "private": pick((False, True)),
        "taken_down": generator.random() < 0.1, "created_ms": number, "modified_ms": generator.randint(0, 50),
        "downloads": generator.randint(0, 5), "likes": generator.randint(0, 3), "trending": _trending(number),
        "size_bytes": generator.randint(0, 9), "artefact": pick(("gguf", "adapter", "")),
        "architecture": pick(("llama", "SDXL")), "licence": pick(("MIT", "apache-2.0", "")),
        "rating": pick(("", "general", "mature")), "summary": " ".join(generator.choices(_WORDS, k=3)),
        "tags": generator.sample(_WORDS, 2), "base_model": pick(("org/base", "")),
    }  # fmt: skip


def plainly(found: list[Repo], who: Identity, query: SearchQuery) -> list[Repo]:
    """The same by going through all of them."""
    own = dict(who.roles)

    def holds(repo: Repo) -> bool:
        return (
            repo.name.kind == query.kind and not repo.taken_down
            and (not repo.private or who.is_admin or repo.owner_id in own)
            and (not query.owner or repo.name.owner == query.owner)
            and all(not getattr(query, name) or getattr(repo, name).lower() == getattr(query, name).lower()
                    for name in ("artefact", "architecture", "licence", "base_model"))
            and set(query.tags) <= set(repo.tags) and (not query.ratings or repo.rating in query.ratings)
        )  # fmt: skip

    fields = {
        "newest": "created_ms",
        "updated": "modified_ms",
        "size": "size_bytes",
        "trending": "created_ms",
    }
    order = fields.get(query.sort, query.sort)
    score = _trending if query.sort == "trending" else float
    return sorted(filter(holds, found), key=lambda repo: (score(getattr(repo, order)), repo.id), reverse=True)


def _trending(number: int) -> float:
    """Of the repository that was created at that time."""
    return number * 37 % 101 / 7


def random_query(generator: random.Random) -> SearchQuery:
    pick = generator.choice
    return SearchQuery(
        kind=pick(("model", "dataset")), owner=pick(("", "", "ann")), artefact=pick(("", "", "GGUF")),
        architecture=pick(("", "", "sdxl")), licence=pick(("", "", "mit")), base_model=pick(("", "org/base")),
        tags=pick(((), (), ("lora",), ("日本語",), ("x-ray", "Größe"))), ratings=pick(((), (), ("", "general"))),
        sort=pick(("trending", "downloads", "likes", "newest", "updated", "size")), limit=pick((1, 7, 500)),
    )  # fmt: skip


def all_pages(hub: Any, who: Identity, query: SearchQuery) -> tuple[list[int], int]:
    found: list[int] = []
    while True:
        page = hub.registry.search.find(who, query)
        assert len(page.repos) <= query.limit
        found += [repo.id for repo in page.repos]
        if not page.cursor:
            return found, page.total
        query = replace(query, cursor=page.cursor)


def test_filters_orders_and_pages_agree_with_a_plain_reading(any_hub: Any) -> None:
    everything = fill(any_hub, 300)
    generator = random.Random(2)
    asking = [ANONYMOUS, any_hub.person("ann"), any_hub.person("root", is_admin=True)]
    for _ in range(60):
        query, who = random_query(generator), generator.choice(asking)
        expected = [repo.id for repo in plainly(everything, who, query)]
        assert all_pages(any_hub, who, query) == (expected, len(expected)), query


def test_many_matches_are_found_as_few_are(any_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = fill(any_hub, 300)
    monkeypatch.setattr("nomoat.share.registry.search.search._FEW", 3)
    generator = random.Random(3)
    for _ in range(40):
        query = random_query(generator)
        expected = [repo.id for repo in plainly(everything, ANONYMOUS, query)]
        assert all_pages(any_hub, ANONYMOUS, query) == (expected, len(expected)), query


def test_facets_count_what_is_found(any_hub: Any) -> None:
    everything = fill(any_hub, 300)
    for who in (ANONYMOUS, any_hub.person("ann")):
        for query in (SearchQuery(), SearchQuery(artefact="gguf"), SearchQuery(owner="ann", kind="dataset")):
            matches = plainly(everything, who, query)
            for name, facets in any_hub.registry.search.facets(who, query).items():
                values = [getattr(repo, name) for repo in matches]
                expected = {value: values.count(value) for value in values if value}
                assert {facet.value: facet.count for facet in facets} == expected, (query, name)
                assert [facet.count for facet in facets] == sorted(expected.values(), reverse=True)
    assert set(any_hub.registry.search.facets(ANONYMOUS, SearchQuery())) == set(FACETS)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("notes", True), ("NOT", True), ("ann", True), ("ann/notes-adapter", True), ("tiny", True), ("llama", True),
        ("tinyllama", True), ("TinyLlama-1.1B", True), ("1.1b", True), ("q4_k_m", True), ("q4 m", True),
        ("summer", True), ("größe", True), ("日本語", True), ("base", True), ("tiny poems", False), ("otes", False),
        ("q5_k_m", False), ("!!", False), ('"', False), ('no"thing', False), ("a OR b", False), ("(", False),
        ("filters : x", False), ("public", False), ("\0", False), ("ll' & 'x", False), ("x:*", False),
    ],
)  # fmt: skip
def test_words(any_hub: Any, words: str, found: bool) -> None:
    repo = any_hub.repo("ann/notes-adapter-TinyLlama-1.1B")
    change(
        any_hub,
        repo,
        summary='A "Größe" of summer',
        tags=["日本語"],
        quantisation="Q4_K_M",
        base_model="o/base",
    )
    assert (names(any_hub, text=words, sort="relevance") == [str(repo.name)]) is found


def test_a_name_says_more_than_a_tag(any_hub: Any) -> None:
    for name in ("first", "poems", "second"):
        change(any_hub, any_hub.repo(f"ann/{name}"), tags=["poems"], trending=9.0 if name == "first" else 1.0)
    assert names(any_hub, text="poems", sort="relevance")[0] == "ann/poems"
    assert names(any_hub, text="poems", sort="trending")[0] == "ann/first"


def test_the_index_follows_every_change(any_hub: Any) -> None:
    repo, other = any_hub.repo("ann/notes"), any_hub.repo("ann/other")
    change(any_hub, repo, summary="about whales", tags=["sea"])
    assert names(any_hub, text="whales") == names(any_hub, tags=("SEA",)) == ["ann/notes"]
    any_hub.registry.repos.move(any_hub.person("ann"), repo.name, RepoName.parse("model", "ann/LogBook"))
    assert names(any_hub, text="book") == ["ann/LogBook"]
    assert names(any_hub, text="notes") == []
    any_hub.registry.repos.change(any_hub.person("ann"), RepoName.parse("model", "ann/LogBook"), private=True)
    assert names(any_hub, text="whales") == []
    assert names(any_hub, any_hub.person("ann"), text="whales") == ["ann/LogBook"]
    change(any_hub, repo, taken_down=True)
    assert names(any_hub, any_hub.person("ann"), text="whales") == []
    any_hub.registry.repos.delete(any_hub.person("ann"), other.name)
    assert names(any_hub, text="other") == []
    any_hub.registry.accounts.remove("ann")
    with any_hub.registry.database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM repos_search")) == 0


def test_an_index_out_of_step_is_noticed_and_made_anew(any_hub: Any) -> None:
    fill(any_hub, 20)
    with any_hub.registry.database.write() as connection:
        assert search_index.out_of_step(connection) == 0
        key = "rowid" if any_hub.registry.database.is_sqlite else "id"
        connection.execute(text(f"DELETE FROM repos_search WHERE {key} IN (SELECT id FROM repos LIMIT 3)"))
        assert search_index.out_of_step(connection) == 3
        search_index.rebuild(connection)
        assert search_index.out_of_step(connection) == 0


def test_a_token_for_one_repository_lists_what_everybody_sees(hub: Any) -> None:
    repo = hub.repo("ann/secret", private=True)
    token = hub.registry.accounts.add_token("ann", "ci", repo_id=repo.id)
    assert names(hub, hub.registry.accounts.identify(token)) == []
    assert names(hub, hub.person("ann")) == ["ann/secret"]


@pytest.mark.parametrize("cursor", ["x", "[]", "[1,2,3]", '["likes",1,2]', '["trending","a",1]', '["trending",1e999,1]',
                                    '["trending",1,-1]', '["trending",true,1]', "9" * 5000, "[" * 5000])  # fmt: skip
def test_a_cursor_from_nowhere_is_refused(hub: Any, cursor: str) -> None:
    with pytest.raises(InputError):
        hub.registry.search.find(ANONYMOUS, SearchQuery(cursor=cursor))


@pytest.mark.parametrize("wrong", ["\0", "a\0b", "\ud800"])
def test_what_is_no_text_is_never_found(any_hub: Any, wrong: str) -> None:
    any_hub.repo("ann/notes")
    assert (
        names(any_hub, licence=wrong)
        == names(any_hub, tags=(wrong,))
        == names(any_hub, ratings=(wrong,))
        == []
    )
    assert names(any_hub, text=f"notes {wrong}q") == []


def test_an_order_from_nowhere_is_refused(hub: Any) -> None:
    query: Any = SearchQuery(sort="price")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="price"):
        hub.registry.search.find(ANONYMOUS, query)


def test_removing_its_owner_removes_a_repository_from_the_index(hub: Any) -> None:
    hub.repo("ann/notes")
    with hub.registry.database.write() as connection:
        connection.execute(delete(users))
        assert search_index.out_of_step(connection) == 0
        assert connection.scalar(text("SELECT count(*) FROM repos_search")) == 0


_LETTERS = (
    "Größe", "GRÖSSE", "große", "naïve", "Café", "cafe\u0301", "Łódź", "Żubr", "ПРИВЕТ", "привет", "чай", "ΣΟΦΟΣ",
    "日本語", "が", "한국어", "हिन्दी", "q4_k_m", "Q4", "k-m", "1.1b", "x_y", "a", "İstanbul", "1e5",
    "emoji\U0001f600word", "中文模型",
)  # fmt: skip


@pytest.mark.parametrize("locale", ["", "LOCALE 'C'"])
def test_both_databases_answer_alike(
    hub: Any, postgresql: PostgresCluster, tmp_path: Path, locale: str
) -> None:
    """The same rows and the same questions, in many scripts."""
    url = postgresql.new_database(f"TEMPLATE template0 ENCODING 'UTF8' {locale}")
    with contextlib.closing(Registry(RegistryConfig(tmp_path / "far", database_url=url))) as registry:
        other = type(hub)(registry)
        for each in (hub, other):
            for number, words in enumerate(_texts()):
                change(each, each.repo(f"ann/r{number}"), summary=words, tags=[words.split()[0]])
        different = {
            text: (first, second)
            for text in [*_LETTERS, *(word[:2] for word in _LETTERS), *_texts()[:20]]
            if (first := set(names(hub, text=text, limit=500)))
            != (second := set(names(other, text=text, limit=500)))
        }
        assert different == {}
        assert len(names(other, text="größe", limit=500)) > 2


def _texts() -> list[str]:
    generator = random.Random(5)
    return [" ".join(generator.choices(_LETTERS, k=2)) for _ in range(40)]


def test_a_database_of_other_letters_is_refused(postgresql: PostgresCluster, tmp_path: Path) -> None:
    url = postgresql.new_database("TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(InputError, match="UTF8"):
        Registry(RegistryConfig(tmp_path / "far", database_url=url))
