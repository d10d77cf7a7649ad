"""The family of a model as a drawing, made on the server: generations from left to right, each edge with its proof."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

from nomoat.server.hub.pages.render import repo_url
from nomoat.share.names import RepoName
from nomoat.share.registry.lineage.lineage import Graph, Node

__all__ = ["drawing_of"]

_BOX_WIDTH, _BOX_HEIGHT, _COLUMN, _ROW, _MARGIN = 232, 46, 340, 64, 6
_LETTERS = 27
_STATES = ("verified", "declared", "unknown")


@dataclass(frozen=True)
class _Place:
    x: float
    y: float


def drawing_of(graph: Graph) -> Markup:
    """An SVG element. Its colours and line styles are in the style sheet."""
    columns = _columns(graph)
    height = max(len(nodes) for nodes in columns.values()) * _ROW
    places = _places(columns, height)
    width = len(columns) * _COLUMN - (_COLUMN - _BOX_WIDTH) + 2 * _MARGIN
    n_parents = Counter(child for child, *_ in graph.edges)
    parts = [_edge(places, *edge, label_first=n_parents[edge[0]] > 1) for edge in graph.edges]
    datasets = {parent for _, parent, relation, _ in graph.edges if relation == "dataset"}
    parts += [_node(node, places[node.id], is_dataset=node.id in datasets) for node in graph.nodes]
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        f'aria-label="Family tree">{_arrow_heads()}{"".join(parts)}</svg>'
    )


def _columns(graph: Graph) -> dict[int, list[Node]]:
    columns: dict[int, list[Node]] = {}
    for node in graph.nodes:
        columns.setdefault(node.depth, []).append(node)
    return dict(sorted(columns.items()))


def _places(columns: Mapping[int, list[Node]], height: int) -> dict[str, _Place]:
    found = {}
    for column, nodes in enumerate(columns.values()):
        top = (height - len(nodes) * _ROW) / 2 + (_ROW - _BOX_HEIGHT) / 2
        for row, node in enumerate(nodes):
            found[node.id] = _Place(_MARGIN + column * _COLUMN, top + row * _ROW)
    return found


def _node(node: Node, place: _Place, *, is_dataset: bool) -> str:
    kind = "node here" if node.depth == 0 else "node" if node.here else "node away"
    owner, slash, name = node.label.partition("/")
    first, second = (name, owner) if slash else (node.label, "")
    note = second if node.here else f"{second} · elsewhere" if second else "elsewhere"
    box = (
        f'<title>{escape(node.label)}</title><rect x="{place.x}" y="{place.y}" width="{_BOX_WIDTH}" '
        f'height="{_BOX_HEIGHT}" rx="9"/><text x="{place.x + 12}" y="{place.y + 20}">{escape(_short(first))}</text>'
        f'<text class="small" x="{place.x + 12}" y="{place.y + 36}">{escape(_short(note))}</text>'
    )
    if node.here and node.depth and slash:
        address = escape(repo_url(RepoName("dataset" if is_dataset else "model", owner, name)))
        return f'<a href="{address}"><g class="{kind}">{box}</g></a>'
    return f'<g class="{kind}">{box}</g>'


def _edge(
    places: Mapping[str, _Place], child: str, parent: str, relation: str, state: str, *, label_first: bool
) -> str:
    """`label_first` puts the name where the edge begins: where several end in one box, names would cover each other."""
    start, end = places[parent], places[child]
    state = state if state in _STATES else "unknown"
    x1, y1 = start.x + _BOX_WIDTH, start.y + _BOX_HEIGHT / 2
    x2, y2 = end.x - 8, end.y + _BOX_HEIGHT / 2
    if x2 <= x1:  # of one generation, or back: beside the boxes
        x1, x2 = start.x + _BOX_WIDTH / 2, end.x + _BOX_WIDTH / 2
    bend = (x2 - x1) / 2
    curve = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    label = f"{escape(relation)}, {state}"
    x, y = (x1 + 46, y1 - 7) if label_first else (x2 - 58, y2 - 7)
    return (
        f'<path class="edge edge-{state}" d="{curve}" marker-end="url(#arrow-{state})">'
        f"<title>{escape(child)}: {label} ({escape(parent)})</title></path>"
        f'<text class="edge-label" text-anchor="middle" x="{x}" y="{y}">{escape(relation)}</text>'
    )


def _arrow_heads() -> str:
    heads = "".join(
        f'<marker id="arrow-{state}" viewBox="0 0 10 10" refX="4" refY="5" markerWidth="7" markerHeight="7" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path class="arrow-{state}" d="M0 0 10 5 0 10z"/></marker>'
        for state in _STATES
    )
    return f"<defs>{heads}</defs>"


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"
