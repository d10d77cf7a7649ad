"""What a model was made from, and what was made from it."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from nomoat.server.hub.pages.lineage_svg import drawing_of
from nomoat.server.hub.pages.opened import open_repo, repo_routes
from nomoat.server.hub.pages.render import Visit, page, render
from nomoat.share.registry.lineage.lineage import Graph

__all__ = ["ROUTES"]

_MOST_CHILDREN_DRAWN = 14
_MOST_LISTED = 200


@page
async def _lineage(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    hub, relatives = visit.hub, visit.hub.registry.lineage
    graph = await hub.call(relatives.graph, visit.who, opened.repo)
    bases = await hub.call(relatives.bases, visit.who, opened.repo)
    children = (
        await hub.call(relatives.children, visit.who, opened.repo, _MOST_LISTED) if opened.commit else []
    )
    return render(
        request, visit, "lineage.html", opened=opened, repo=opened.repo, tab="lineage", graph=graph,
        drawing=drawing_of(_trimmed(graph)), bases=bases, children=children,
    )  # fmt: skip


def _trimmed(graph: Graph) -> Graph:
    """With so many descendants as a screen can hold; the list below the drawing has them all."""
    younger = [node for node in graph.nodes if node.depth > 0][_MOST_CHILDREN_DRAWN:]
    left_out = {node.id for node in younger}
    nodes = tuple(node for node in graph.nodes if node.id not in left_out)
    return replace(
        graph, nodes=nodes, edges=tuple(edge for edge in graph.edges if not left_out & {edge[0], edge[1]})
    )


ROUTES = repo_routes("/lineage", _lineage)
