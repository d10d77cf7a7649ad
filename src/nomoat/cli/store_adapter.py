"""How a stored adapter looks to `nomoat show`: as JSON for scripts, in rows for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomoat.cli.store_output import size_words

if TYPE_CHECKING:
    from nomoat.store.store import Store

__all__ = ["adapter_json", "adapter_rows"]


def adapter_json(store: Store, name: str) -> dict[str, Any]:
    """The stable form of `nomoat show ADAPTER --json`. Raises `BadFileError` where a file of it is damaged."""
    from nomoat.share.client.pulled import PulledNames
    from nomoat.store.adapter_facts import adapter_facts

    facts = adapter_facts(store.resolve_adapter(name))
    base = store.find_digest(facts.base_digest) if facts.base_digest else None
    pulled = PulledNames(store).of_name("adapter", name)
    return {
        "kind": "adapter", "name": name, "base": base.name if base else None, "base_digest": facts.base_digest,
        "base_called": facts.base_name, "rank": facts.rank, "alpha": facts.alpha,
        "architecture": facts.architecture, "created": facts.created, "bytes": facts.size_bytes,
        "files": [{"path": path, "bytes": size} for path, size in facts.files], "path": str(facts.path),
        "pulled_from": pulled.reference if pulled else "", "commit": pulled.commit if pulled else "",
        "signature": pulled.signature if pulled else "", "signer": (pulled.signer or None) if pulled else None,
    }  # fmt: skip


def adapter_rows(content: dict[str, Any]) -> list[tuple[str, str]]:
    """The rows for people, of what `adapter_json` found."""
    rows = [
        ("name", content["name"]),
        ("kind", "adapter"),
        ("base", _base_words(content)),
        ("base digest", content["base_digest"] or "not pinned: any base of its shape is taken"),
        ("rank", str(content["rank"] or "not stated")),
        ("alpha", f"{content['alpha']:g}" if content["alpha"] else "not stated"),
        ("architecture", content["architecture"] or "not stated"),
        ("size", f"{size_words(content['bytes'])} ({content['bytes']:,} bytes)"),
        ("folder", content["path"]),
        *(("file", f"{file['path']}  {size_words(file['bytes'])}") for file in content["files"]),
    ]
    if content["created"]:
        rows.append(("made", content["created"]))
    if content["pulled_from"]:
        version = f", version {content['commit'][:12]}" if content["commit"] else ""
        rows.append(("pulled from", f"{content['pulled_from']}{version}"))
        rows.append(("signature", content["signature"] or "none"))
    return rows


def _base_words(content: dict[str, Any]) -> str:
    if content["base"]:
        return f"{content['base']}, which is in the store"
    called = f"it calls it {content['base_called']}" if content["base_called"] else "it does not name it"
    return f"not in the store; {called}"
