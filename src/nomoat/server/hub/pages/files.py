"""Files of a repository: the list, and a page for each that shows what can be shown of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from nomoat.base.errors import NomoatError, NotFoundError
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages import facts
from nomoat.server.hub.pages.differences import text_difference
from nomoat.server.hub.pages.opened import (
    Opened,
    kind_of,
    open_repo,
    read_text,
    repo_routes,
    revision_and_path,
)
from nomoat.server.hub.pages.pictures import is_picture
from nomoat.server.hub.pages.render import Visit, page, render
from nomoat.server.hub.pages.templates import base_template
from nomoat.server.hub.pages.tensors import Weights, is_weights, read_weights
from nomoat.share.registry.trees import Entry

__all__ = ["ROUTES"]

_MOST_TEXT_BYTES = 512 << 10
_MOST_TENSORS = 2_000


@dataclass(frozen=True)
class _Slice:
    """A part of the bar that shows how a file's bytes divide among types."""

    kind: str
    n_bytes: int
    start: float
    width: float
    hue: int


@page
async def _tree(request: Request, visit: Visit) -> Response:
    revision, folder = revision_and_path(request)
    opened = await open_repo(request, visit, revision)
    front = f"{folder}/" if folder else ""
    inside = [entry for entry in opened.entries if _parent(entry.path) == folder]
    if folder and not inside:
        raise NotFoundError(f"there is no folder {folder[:120]!r}", "the list of files shows what there is")
    refs = await visit.hub.call(visit.hub.registry.history.refs, opened.repo)
    sizes = {e.path: sum(f.size_bytes for f in opened.files if f.path.startswith(e.path + "/"))
             for e in inside if not e.is_file}  # fmt: skip
    ordered = sorted(inside, key=lambda entry: (entry.is_file, entry.path.lower()))
    return render(
        request, visit, "files.html", opened=opened, repo=opened.repo, tab="files", inside=ordered, folder=folder,
        front=front, crumbs=_crumbs(opened, folder), refs=refs, sizes=sizes,
    )  # fmt: skip


@page
async def _file(request: Request, visit: Visit) -> Response:
    revision, path = revision_and_path(request)
    opened = await open_repo(request, visit, revision)
    entry = next((each for each in opened.files if each.path == path), None)
    if entry is None:
        raise NotFoundError(f"there is no file {path[:120]!r}", "the list of files shows what there is")
    if not is_picture(path):
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        await visit.hub.call(visit.hub.repo_to_download, visit.who, kind_of(request), name)
    query = request.query_params.get("t", "")[:200]
    await visit.hub.call(visit.hub.registry.takedowns.require_served, entry.digest or "")
    content = await visit.hub.call(_content, visit, opened, entry, query)
    return render(
        request, visit, "file.html", opened=opened, repo=opened.repo, tab="files", entry=entry, tensor_query=query,
        crumbs=_crumbs(opened, path), **content,
    )  # fmt: skip


def _content(visit: Visit, opened: Opened, entry: Entry, query: str) -> dict[str, Any]:
    """What the page shows; each part is empty where it is of another kind."""
    shown: dict[str, Any] = {"picture": False, "recipe": None, "weights": None, "n_tensors": 0, "slices": (),
                             "text": None, "template_lines": (), "template_base": "", "problem": ""}  # fmt: skip
    if is_picture(entry.path):
        return shown | {"picture": True, "recipe": facts.recipe_of(opened, entry)}
    if not is_weights(entry.path):
        return shown | {"text": read_text(visit.hub, entry, _MOST_TEXT_BYTES)}
    try:
        weights = read_weights(visit.hub, entry)
    except NomoatError as error:
        return shown | {"problem": error.message}
    name, lines = _template_lines(visit.hub, visit, opened, weights)
    matching = _matching(weights, query)
    return shown | {
        "weights": replace(weights, tensors=tuple(matching[:_MOST_TENSORS])), "n_tensors": len(matching),
        "slices": _slices(weights), "template_base": name, "template_lines": lines,
    }  # fmt: skip


def _template_lines(hub: Hub, visit: Visit, opened: Opened, weights: Weights) -> tuple[str, Sequence[Any]]:
    if not weights.chat_template:
        return "", ()
    name, template = base_template(hub, visit.who, opened)
    return name, text_difference(template, weights.chat_template) if template else ()


def _matching(weights: Weights, query: str) -> list[Any]:
    words = query.lower().split()
    return [
        t for t in weights.tensors if all(word in f"{t.name} {t.kind} {t.shape}".lower() for word in words)
    ]


def _slices(weights: Weights) -> list[_Slice]:
    total = sum(weights.kinds.values()) or 1
    start, found = 0.0, []
    for index, (kind, n_bytes) in enumerate(weights.kinds.items()):
        width = 100 * n_bytes / total
        found.append(_Slice(kind, n_bytes, round(start, 3), round(width, 3), (6 + 5 * index) % 12))
        start += width
    return found


def _crumbs(opened: Opened, path: str) -> list[tuple[str, str]]:
    """`(name, address)` of each folder above, the last one without an address."""
    parts = path.split("/") if path else []
    above = [(part, opened.tree_url("/".join(parts[: n + 1]))) for n, part in enumerate(parts[:-1])]
    return [*above, *((part, "") for part in parts[-1:])]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


ROUTES = (
    *repo_routes("/tree/{rest:path}", _tree),
    *repo_routes("/blob/{rest:path}", _file),
)
