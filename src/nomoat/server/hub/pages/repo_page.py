"""The page of a model or dataset: pictures, the card, what the bytes say, how to use it, what it answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages import facts
from nomoat.server.hub.pages.cards import MOST_CARD_BYTES, card_html
from nomoat.server.hub.pages.components import components_of
from nomoat.server.hub.pages.opened import Opened, open_repo, read_text, repo_routes
from nomoat.server.hub.pages.pictures import LARGE, picture_url
from nomoat.server.hub.pages.render import Form, Visit, form, page, redirect, render, repo_url
from nomoat.server.hub.pages.samples import shown_samples
from nomoat.server.hub.pages.scores import scores_of
from nomoat.server.hub.wire import base_url
from nomoat.share.registry.lineage.lineage import Edge
from nomoat.share.registry.repos import Repo
from nomoat.share.registry.trees import Entry

__all__ = ["ROUTES"]

_MOST_PICTURES = 24
_MOST_BASES, _MOST_USERS = 4, 6


@dataclass(frozen=True)
class _Shown:
    """A picture of the gallery, with how it was made."""

    entry: Entry
    recipe: facts.Recipe | None

    @property
    def words(self) -> str:
        """What it shows, for who cannot see it."""
        prompt = self.recipe.prompt if self.recipe else ""
        return f"Example: {prompt[:160]}" if prompt else f"Example {self.entry.path}"


@page
async def _repo(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    base = base_url(request)
    more = await visit.hub.call(_more, visit, opened, base)
    return render(
        request, visit, "repo.html", opened=opened, repo=opened.repo, tab="card", facts=facts.facts_of(opened),
        claims=facts.claims_of(opened), permissions=facts.permissions_of(opened.repo.card),
        trigger_words=facts.trigger_words(opened), ways=facts.ways_to_use(opened, base),
        components=components_of(opened), **more,
    )  # fmt: skip


def _more(visit: Visit, opened: Opened, base: str) -> dict[str, Any]:
    hub, lineage = visit.hub, visit.hub.registry.lineage
    bases = lineage.bases(visit.who, opened.repo)
    users: dict[int, tuple[Repo, Edge]] = {}
    for child, edge in lineage.children(visit.who, opened.repo):
        users.setdefault(child.id, (child, edge))  # what is proven of it comes before what is only said
    pictures = [_Shown(entry, facts.recipe_of(opened, entry)) for entry in opened.pictures[:_MOST_PICTURES]]
    return {
        "card": _card(hub, opened),
        "pictures": pictures,
        "users": list(users.values())[:_MOST_USERS],
        "n_users": len(users),
        "bases": bases[:_MOST_BASES],
        "samples": shown_samples(hub, opened, base),
        "scores": scores_of(hub, opened, [base.edge for base in bases]),
    }


def _card(hub: Hub, opened: Opened) -> Markup | None:
    readme = opened.find("README.md")
    if readme is None:
        return None
    text = read_text(hub, readme, MOST_CARD_BYTES)
    if text is None:
        return Markup("<p>The card is too long to be shown here, or no text. It is among the files.</p>")
    veiled = opened.repo.rating in {"mature", "explicit"}
    shown = {} if veiled else {e.path: picture_url(hub, e.digest or "", LARGE) for e in opened.pictures}
    html = card_html(text, shown, opened.file_url)
    return html if html.strip() else None


@form
async def _like(request: Request, visit: Visit, fields: Form) -> Response:
    opened = await open_repo(request, visit)
    name = opened.repo.name
    await visit.hub.call(visit.hub.registry.repos.like, visit.who, name, fields.get("liked") == "yes")
    return redirect(repo_url(name))


@form
async def _ask(request: Request, visit: Visit, fields: Form) -> Response:
    opened = await open_repo(request, visit)
    await visit.hub.call(visit.hub.registry.repos.ask_for_access, visit.who, opened.repo.name)
    return redirect(repo_url(opened.repo))


ROUTES = (
    *repo_routes("", _repo),
    *repo_routes("/like", _like, "POST"),
    *repo_routes("/ask", _ask, "POST"),
)
