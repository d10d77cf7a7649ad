"""`nomoat export`: write a stored model to a file of one's own, or models and adapters to a bundle for a USB stick."""

from __future__ import annotations

from pathlib import Path

import click

from nomoat.base.errors import InputError
from nomoat.cli.complete import complete_names
from nomoat.cli.output import print_json
from nomoat.cli.store_output import size_words

__all__ = ["command"]


@click.command("export")
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME... [DESTINATION]", shell_complete=complete_names
)
@click.option("--bundle", type=click.Path(path_type=Path), metavar="DIR",
              help="Write all NAMEs, adapters too, into the folder DIR, for a USB stick.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace DESTINATION if it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(names: tuple[str, ...], bundle: Path | None, force: bool, as_json: bool) -> None:
    """Write the model NAME to DESTINATION, a file or an existing folder, and compare its digest.

    With --bundle, DIR becomes an OCI image layout that `nomoat import DIR` takes in on another machine. What is in it
    already stays. After an interruption the same command goes on.
    """
    if bundle is not None:
        _write_bundle(names, bundle, as_json)
    elif len(names) == 2:
        _write_file(names[0], Path(names[1]), force, as_json)
    else:
        raise click.UsageError("give one NAME and a DESTINATION, or --bundle DIR and any number of NAMEs")


def _write_file(name: str, destination: Path, force: bool, as_json: bool) -> None:
    from nomoat.cli.progress import TerminalProgress
    from nomoat.store.store import Store

    store = Store.from_environment()
    if name in store.adapters() and not store.has_model(name):
        raise InputError(
            f"{name!r} is an adapter: a folder of several files",
            f"nomoat export {name} --bundle DIR writes them all, for `nomoat import DIR` elsewhere; its own folder is"
            f" {store.resolve_adapter(name)}",
        )
    written = store.export(name, destination, TerminalProgress(), overwrite=force)
    if as_json:
        model = store.resolve(name)
        print_json({"path": str(written), "digest": model.digest, "bytes": model.size_bytes})
    else:
        click.echo(f"wrote {written}")


def _write_bundle(names: tuple[str, ...], target: Path, as_json: bool) -> None:
    from nomoat.cli.progress import TerminalProgress
    from nomoat.share.bundle.write import write_bundle
    from nomoat.share.things import find_thing
    from nomoat.store.store import Store

    store, progress = Store.from_environment(), TerminalProgress()
    things = [find_thing(store, name, progress) for name in dict.fromkeys(names)]
    entries = write_bundle(things, target, progress)
    if as_json:
        listed = [
            {**local.thing.as_json(), "manifest_digest": entry["digest"]}
            for local, entry in zip(things, entries, strict=True)
        ]
        print_json({"path": str(target), "things": listed})
        return
    for local in things:
        click.echo(f"{local.thing.name}: {local.thing.kind}, {size_words(local.thing.size_bytes)}")
    click.echo(f"wrote {target}; on the other machine:  nomoat import {target.name}")
    digests = {local.thing.digest for local in things}
    for thing in (local.thing for local in things):
        if thing.base_digest and thing.base_digest not in digests:
            click.echo(
                f"{thing.name} needs its base {thing.base_digest[:19]}..., which is not named here", err=True
            )
