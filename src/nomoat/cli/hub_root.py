"""What the parts of `nomoat hub` have in common: where the hub is, and opening it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nomoat.base.errors import MissingExtraError, NotFoundError
from nomoat.base.settings import Settings

if TYPE_CHECKING:
    from nomoat.share.names import RepoName
    from nomoat.share.registry.accounts import Identity
    from nomoat.share.registry.registry import Registry, RegistryConfig

__all__ = [
    "admin_of",
    "opened_registry",
    "registry_config",
    "repo_named",
    "require_hub",
    "root_option",
]

Function = TypeVar("Function", bound=Callable[..., Any])


def root_option(function: Function) -> Function:
    """The option --root of every part."""
    option = click.option("--root", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                          help="The hub's folder.  [default: $NOMOAT_HOME/hub]")  # fmt: skip
    return option(function)


def registry_config(root: Path | None, database_url: str = "", bucket_url: str = "") -> RegistryConfig:
    """The configuration of the hub in `root`: what it was started with before, unless it is given anew.

    Whether that is of the same hub is seen, and then kept, when the registry is opened.
    """
    from nomoat.share.registry.places import read_places
    from nomoat.share.registry.registry import RegistryConfig

    folder = root or Settings.from_environment().home / "hub"
    kept = read_places(folder)
    return RegistryConfig(folder, database_url or kept.database_url, bucket_url or kept.bucket_url)


@contextlib.contextmanager
def opened_registry(root: Path | None) -> Iterator[Registry]:
    """The hub in `root`, which must be there. Raises `NotFoundError`."""
    require_hub()
    from nomoat.share.registry.registry import Registry

    config = registry_config(root)
    if not config.database_url and not (config.root / "hub.db").exists():
        raise NotFoundError(
            f"{config.root}: there is no hub", "`nomoat hub serve` makes one, or give --root DIR"
        )
    with contextlib.closing(Registry(config)) as registry:
        yield registry


def admin_of(registry: Registry) -> Identity:
    """Whoever runs the hub, for commands on its own machine. Raises `NotFoundError`."""
    for account in registry.accounts.all():
        if account.is_admin and not account.suspended:
            return registry.accounts.identity(account.name)
    raise NotFoundError("nobody runs this hub", "add somebody: nomoat hub user add NAME --admin")


def repo_named(text: str) -> RepoName:
    """`OWNER/NAME`, or `datasets/OWNER/NAME`. Raises `InputError`."""
    from nomoat.share.names import RepoName

    if text.startswith("datasets/"):
        return RepoName.parse("dataset", text.removeprefix("datasets/"))
    return RepoName.parse("model", text)


def require_hub() -> None:
    """Raise `MissingExtraError` where a package that a hub needs is not installed."""
    for package in (
        "sqlalchemy",
        "blake3",
        "starlette",
        "uvicorn",
        "httptools",
        "msgspec",
        "pathspec",
        "yaml",
    ):
        if find_spec(package) is None:
            raise MissingExtraError("hub", package)
