"""Chat templates: found in a repository's files, and compared with the one of its base."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nomoat.base.errors import NomoatError
from nomoat.server.hub.hub import Hub
from nomoat.server.hub.pages.opened import Opened, read_text
from nomoat.server.hub.pages.tensors import read_weights
from nomoat.share.names import RepoName
from nomoat.share.registry.accounts import Identity
from nomoat.share.registry.trees import Entry

__all__ = ["base_template", "template_in"]

_MOST_BYTES = 4 << 20


def template_in(hub: Hub, files: Sequence[Entry]) -> str:
    """The chat template that a runner would use; empty where there is none that can be read."""
    named = {entry.path.rpartition("/")[2].lower(): entry for entry in reversed(files)}
    if entry := named.get("chat_template.jinja"):
        return read_text(hub, entry, _MOST_BYTES) or ""
    if entry := named.get("tokenizer_config.json"):
        return _from_config(read_text(hub, entry, _MOST_BYTES) or "{}")
    models = (entry for entry in files if entry.path.lower().endswith(".gguf"))
    first = next(models, None)
    if first is None:
        return ""
    try:
        return read_weights(hub, first).chat_template
    except NomoatError:
        return ""


def base_template(hub: Hub, who: Identity, opened: Opened) -> tuple[str, str]:
    """`(name, template)` of the base where this hub has it; both empty where it has not."""
    graph = hub.registry.lineage.graph(who, opened.repo, generations=1, most_nodes=8)
    for node in graph.nodes:
        if node.here and node.depth == -1:
            repo = hub.registry.repos.get(who, RepoName.parse("model", node.id))
            files = hub.registry.history.files(hub.commit(repo)) if repo.head else []
            if template := template_in(hub, [entry for entry in files if entry.is_file]):
                return node.id, template
    return "", ""


def _from_config(text: str) -> str:
    try:
        found = json.loads(text).get("chat_template", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    if isinstance(found, list):  # several, each with a name
        found = next((each.get("template", "") for each in found if isinstance(each, dict)), "")
    return found if isinstance(found, str) else ""
