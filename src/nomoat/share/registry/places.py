"""The places of a hub: its folder, its database, where its blobs are. Each bears the hub's mark.

So a hub that is started with somebody else's database, an empty one or another bucket says so instead of serving a
half. What it was given is kept in the folder (`places.json`) once everything belongs together.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select

from nomoat.base.errors import InputError
from nomoat.base.files import atomic_path
from nomoat.share.blobs.store import BlobStore
from nomoat.share.registry.database import Database
from nomoat.share.registry.schema import blobs, properties

__all__ = ["MARK", "Places", "read_places", "settle"]

MARK = "hub_id"
"""The database's property that names the hub."""
_FILE = "places.json"


@dataclass(frozen=True)
class Places:
    """What a hub's folder knows of the other places; `hub` is its mark, empty before the first start."""

    hub: str = ""
    database_url: str = ""
    bucket_url: str = ""


def read_places(root: Path) -> Places:
    """What the folder knows; nothing where it is new. Raises `InputError` where its file is damaged."""
    try:
        content = json.loads((root / _FILE).read_bytes())
        return Places(str(content.get("hub", "")), str(content["database_url"]), str(content["bucket_url"]))
    except FileNotFoundError:
        return Places()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{root / _FILE}: cannot be read", "remove it and give --database and --bucket anew"
        ) from error


def settle(root: Path, urls: tuple[str, str], database: Database, store: BlobStore) -> str:
    """See that all places are of one hub, mark those of a new one; returns its mark.

    `urls` are those of the database and of the bucket. Raises `InputError` where they do not belong together.
    """
    kept = read_places(root)
    known = database.property(MARK) or _founded(kept, database, store)
    if kept.hub and kept.hub != known:
        raise _foreign(_name(database), f"{root} belongs to another hub")
    if store.mark() != known:
        raise _foreign(
            store.place,
            "it does not have the mark of this hub, so its files are elsewhere or its disk is missing",
        )
    wanted = Places(known, *urls)
    if wanted != kept:
        _write(root, wanted)
    return known


def _founded(kept: Places, database: Database, store: BlobStore) -> str:
    """The mark of a hub that had none: it is new, or older than marks. Several processes may start it at once."""
    with database.exclusive() as connection:
        known = connection.scalar(select(properties.c.value).where(properties.c.name == MARK))
        if known is not None:
            return str(known)
        if kept.hub:
            raise _foreign(_name(database), "it has nothing of the hub whose folder this is")
        mark = _free_mark(connection, store) or secrets.token_hex(16)
        store.set_mark(mark)
        connection.execute(insert(properties).values(name=MARK, value=mark))
        return mark


def _free_mark(connection: Connection, store: BlobStore) -> str:
    """The mark that a start which broke off has left; empty for none."""
    mark = store.mark()
    if mark and next(store.all(), None) is not None:
        raise _foreign(store.place, "it belongs to another hub")
    first = connection.scalar(select(blobs.c.digest).limit(1))
    if first is not None and store.info(first) is None:
        raise _foreign(store.place, "the files that the database knows are not there")
    return mark


def _foreign(place: str, problem: str) -> InputError:
    return InputError(
        f"{place}: {problem}",
        "start the hub with the --root, --database and --bucket that it was made with; a new hub needs new ones",
    )


def _name(database: Database) -> str:
    return database.engine.url.render_as_string()  # without the password


def _write(root: Path, places: Places) -> None:
    with atomic_path(root / _FILE) as temporary:
        temporary.touch(mode=0o600)  # a database's URL may hold its password
        temporary.write_text(json.dumps(asdict(places)), encoding="utf-8")
