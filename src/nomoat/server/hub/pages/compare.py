"""Two models side by side: what the bytes say, what their owners say, which files are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.server.hub.pages import facts
from nomoat.server.hub.pages.opened import Opened, load_repo
from nomoat.server.hub.pages.pictures import LARGE, picture_url
from nomoat.server.hub.pages.render import Visit, page, render
from nomoat.server.hub.pages.scores import scores_of
from nomoat.server.hub.pages.templates import template_in
from nomoat.server.hub.pages.words import ago, count, size
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.search.search import SearchQuery

__all__ = ["ROUTES"]

_LONGEST_NAME = 200
_SUGGESTED = 8


@dataclass(frozen=True)
class _Row:
    name: str
    first: str
    second: str

    @property
    def differs(self) -> bool:
        return self.first != self.second


@page
async def _compare(request: Request, visit: Visit) -> Response:
    names = [request.query_params.get(side, "").strip()[:_LONGEST_NAME] for side in ("a", "b")]
    opened = [await visit.hub.call(load_repo, visit, "model", name) if name else None for name in names]
    first, second = opened
    shown: dict[str, Any] = {"pair": None, "groups": (), "pictures": ("", ""), "suggestions": ()}
    if first is not None and second is not None:
        shown = await visit.hub.call(_compared, visit, first, second)
    elif first is not None:
        shown["suggestions"] = await visit.hub.call(_similar, visit, first.repo)
    return render(request, visit, "compare.html", names=names, **shown)


def _compared(visit: Visit, first: Opened, second: Opened) -> dict[str, Any]:
    pictures = tuple(
        picture_url(visit.hub, each.pictures[0].digest or "", LARGE)
        if each.pictures and each.repo.rating not in {"mature", "explicit"}
        else ""
        for each in (first, second)
    )
    groups = [
        (
            "Read from the bytes",
            _rows(facts.facts_of(first), facts.facts_of(second)) + _files(visit, first, second),
        ),
        (
            "Measured before and after training, each on its own text",
            _rows(_measured(visit, first), _measured(visit, second)),
        ),
        ("Said by their owners", _rows(_claims(first), _claims(second))),
        ("On this hub", _rows(_here(first.repo), _here(second.repo))),
    ]
    groups = [(title, rows) for title, rows in groups if rows]
    return {"pair": (first, second), "groups": groups, "pictures": pictures, "suggestions": ()}


def _rows(first: Sequence[tuple[str, str]], second: Sequence[tuple[str, str]]) -> list[_Row]:
    one, other = dict(first), dict(second)
    return [_Row(name, one.get(name, "-"), other.get(name, "-")) for name in dict.fromkeys([*one, *other])]


def _measured(visit: Visit, opened: Opened) -> list[tuple[str, str]]:
    scores = scores_of(visit.hub, opened, visit.hub.registry.lineage.parents(opened.repo))
    sizes = dict.fromkeys(f"{row.text}: {row.size}" for row in scores.rows if row.size)
    about = [("Measured on", "; ".join(sizes)), ("Dataset of the held-out text", scores.dataset)]
    figures = [
        (
            f"{row.what}, {row.text}",
            f"{' → '.join(str(each) for each in (row.before, row.after) if each)} ({row.state})",
        )
        for row in scores.rows
    ]
    return [*(row for row in about if row[1]), *figures]


def _claims(opened: Opened) -> list[tuple[str, str]]:
    allowed = "; ".join(each.words for each in facts.permissions_of(opened.repo.card))
    tags = ", ".join(tag for tag in opened.repo.tags if ":" not in tag)
    rows = [*facts.claims_of(opened), ("Permissions", allowed), ("Tags", tags),
            ("Trigger words", ", ".join(facts.trigger_words(opened)))]  # fmt: skip
    return [(name, value) for name, value in rows if value]


def _files(visit: Visit, first: Opened, second: Opened) -> list[_Row]:
    digests = [{entry.digest: entry for entry in each.files if entry.size_bytes} for each in (first, second)]
    same = digests[0].keys() & digests[1].keys()
    words = "none" if not same else f"{len(same)} ({size(sum(digests[0][each].size_bytes for each in same))})"
    templates = [template_in(visit.hub, each.files) for each in (first, second)]
    rows = [_Row("Files that are the same, byte for byte", words, words)]
    if any(templates):
        alike = "the same" if templates[0] == templates[1] else "another one"
        rows.append(
            _Row("Chat template", "there" if templates[0] else "none", alike if templates[1] else "none")
        )
    return rows


def _here(repo: Repo) -> list[tuple[str, str]]:
    return [
        ("Downloads", count(repo.downloads)),
        ("Likes", count(repo.likes)),
        ("Last change", ago(repo.modified_ms)),
    ]


def _similar(visit: Visit, repo: Repo) -> list[Repo]:
    """Others of the same kind and architecture."""
    query = SearchQuery(artefact=repo.artefact, architecture=repo.architecture, limit=_SUGGESTED + 1)
    found = visit.hub.registry.search.find(visit.who, query).repos
    return [each for each in found if each.id != repo.id][:_SUGGESTED]


ROUTES = (Route("/compare", _compare),)
