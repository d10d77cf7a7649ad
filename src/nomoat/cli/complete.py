"""What the Tab key offers for the names of models and adapters: a look at two folders, nothing heavy."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from nomoat.base.settings import Settings

__all__ = ["complete_adapters", "complete_models", "complete_names", "complete_names_or_files"]


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models of the store; files where none begins so. After `smollm2+`, adapters to stack on it."""
    base, plus, adapter = incomplete.rpartition("+")
    if plus:
        return [CompletionItem(f"{base}+{name}") for name in _adapters() if name.startswith(adapter)]
    return _matching(_models(), incomplete)


def complete_adapters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Adapters of the store; files where none begins so."""
    return _matching(_adapters(), incomplete)


def complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models and adapters of the store."""
    return [CompletionItem(name) for name in [*_models(), *_adapters()] if name.startswith(incomplete)]


def complete_names_or_files(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Models and adapters of the store; files where none begins so."""
    return _matching([*_models(), *_adapters()], incomplete)


def _matching(names: list[str], incomplete: str) -> list[CompletionItem]:
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    # Shells cannot offer words and files at once in the way that click speaks to them.
    return found or [CompletionItem(incomplete, type="file")]


def _models() -> list[str]:
    from nomoat.store.embedded import EMBEDDED_NAME, find_embedded
    from nomoat.store.records import Records

    settings = Settings.from_environment()
    embedded = [EMBEDDED_NAME] if find_embedded(settings) else []
    return sorted({*Records(settings.home).names(), *embedded})


def _adapters() -> list[str]:
    from nomoat.store.names import adapter_names

    return adapter_names(Settings.from_environment().home)
