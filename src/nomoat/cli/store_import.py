"""`nomoat import`: add a GGUF model, or an adapter, to the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nomoat.cli.output import print_json
from nomoat.cli.store_output import model_json, size_words

if TYPE_CHECKING:
    from nomoat.store.store import Store

__all__ = ["command"]


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="The name to use from now on; made from the file's name if left out.")
@click.option("--force", is_flag=True, help="Let NAME stand for this model even if it names another one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(file: Path, name: str | None, force: bool, as_json: bool) -> None:
    """Add FILE, a model in GGUF form, to the store; or an adapter (its folder or .gguf file).

    The file's content is shared with the original where the disk can do that, else copied and compared.
    All of a bundle that `nomoat export --bundle` wrote is added under the names that it has there.
    """
    from nomoat.cli.progress import TerminalProgress
    from nomoat.store.names import name_for_file
    from nomoat.store.store import Store

    store = Store.from_environment()
    if _is_bundle(file):
        if name is not None or force:
            raise click.UsageError(
                "a bundle keeps the names that are in it: --name and --force are for a single file"
            )
        _import_bundle(store, file, as_json)
        return
    name = name or name_for_file(file)
    if _is_adapter(file):
        folder = store.import_adapter(file, name)
        if as_json:
            print_json({"adapter": name, "path": str(folder)})
        else:
            click.echo(f"adapter {name}: try  nomoat run smollm2 --adapter {name}")
        return
    model = store.import_file(file, name, TerminalProgress(), replace_existing=force)
    if as_json:
        print_json(model_json(model))
        return
    facts = f"{model.architecture}, {model.quantisation}, {size_words(model.size_bytes)}"
    click.echo(f"{model.name}: {facts}; try  nomoat run {model.name}")


def _is_bundle(file: Path) -> bool:
    return (file / "oci-layout").is_file()


def _import_bundle(store: Store, folder: Path, as_json: bool) -> None:
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.bundle.take import take_bundle

    taken = take_bundle(folder, store, TerminalProgress())
    if as_json:
        listed = [
            {**one.thing.as_json(), "path": str(one.path), "already_there": one.already_there}
            for one in taken
        ]
        print_json({"things": listed})
        return
    digests = {model.digest: model.name for model in store.list()}
    for one in taken:
        there = ", was there already" if one.already_there else ""
        click.echo(f"{one.thing.name}: {one.thing.kind}, {size_words(one.thing.size_bytes)}{there}")
        base = one.thing.base_digest
        if base and base not in digests:
            click.echo(f"{one.thing.name} needs its base {base}, which is not here yet", err=True)


def _is_adapter(file: Path) -> bool:
    if file.is_dir():
        return True
    from nomoat.formats.gguf_file import read_gguf

    return read_gguf(file).metadata.get("general.type") == "adapter"
