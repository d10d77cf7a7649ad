"""What of a registry can be mended from what is there: derived data is made anew, half records are dropped.

Nothing is dropped that is the only copy of anything: a file that is damaged stays where it is, and so do versions and
names whose other half is gone; `check` goes on telling of them, and a backup or a mirror may have them whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from nomoat.base.errors import NomoatError
from nomoat.base.progress import Progress, Silent
from nomoat.share.registry.database import now_ms
from nomoat.share.registry.holders import digests_of
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.schema import blobs, refs, repo_blobs, repos, sent_blobs
from nomoat.share.registry.search.index import out_of_step, rebuild

__all__ = ["Repaired", "repair"]


@dataclass(frozen=True)
class Repaired:
    """Something that was mended: its kind, what it is about, and what was done."""

    kind: str
    what: str
    done: str


def repair(
    registry: Registry, *, quick: bool = False, progress: Progress | None = None
) -> tuple[Repaired, ...]:
    """Mend what can be mended. `quick` reads no content but that of files whose checksums do not fit."""
    done = list(_mend_blobs(registry, quick, progress or Silent()))
    with registry.database.exclusive() as connection:
        done += _mend_repos(connection, registry)
        if count := out_of_step(connection):
            rebuild(connection)
            done.append(Repaired("search", "index", f"made anew: {count} repositories were not in step"))
    return tuple(done)


def _mend_blobs(registry: Registry, quick: bool, progress: Progress) -> Iterator[Repaired]:
    with registry.database.read() as connection:
        known = connection.execute(select(blobs.c.digest, blobs.c.size_bytes, blobs.c.damaged)).all()
    progress.start("Mending", len(known), "files")
    for row in known:
        yield from _mend_blob(registry, row.digest, row.damaged, quick)
        progress.advance()
    progress.finish()


def _mend_blob(registry: Registry, digest: str, damaged: bool, quick: bool) -> Iterator[Repaired]:
    if registry.store.info(digest) is None:
        if _drop_record(registry, digest):
            yield Repaired("blob", digest, "its record is dropped: there is no file, and nothing holds it")
        return
    if not _has_sound_sums(registry, digest, quick):
        try:
            registry.store.renew_sums(digest)
        except NomoatError:
            return  # the file itself is not what it was
        yield Repaired("blob", digest, "its checksums are made anew")
        damaged = _is_marked(registry, digest)
    if damaged and _is_sound(registry, digest):
        with registry.database.write() as connection:
            connection.execute(update(blobs).where(blobs.c.digest == digest).values(damaged=False))
        yield Repaired("blob", digest, "it was marked as damaged, and is whole")


def _has_sound_sums(registry: Registry, digest: str, quick: bool) -> bool:
    """Whether it can be read as it is served."""
    try:
        with registry.store.open(digest) as reader:
            while not quick and reader.read(4 << 20):
                pass
    except NomoatError:
        return False
    return True


def _is_sound(registry: Registry, digest: str) -> bool:
    try:
        registry.store.check(digest)
    except NomoatError:
        return False
    return True


def _is_marked(registry: Registry, digest: str) -> bool:
    with registry.database.read() as connection:
        return bool(connection.scalar(select(blobs.c.damaged).where(blobs.c.digest == digest)))


def _drop_record(registry: Registry, digest: str) -> bool:
    """Unless a repository holds it: then the record is the last that tells of it. Or unless it has just come."""
    held = select(repo_blobs.c.digest).where(repo_blobs.c.digest == digest).exists()
    with registry.database.exclusive() as connection:
        if registry.store.info(digest) is not None:
            return False
        dropped = connection.execute(delete(blobs).where(blobs.c.digest == digest, ~held)).rowcount
        if dropped:
            connection.execute(delete(sent_blobs).where(sent_blobs.c.digest == digest))
    return bool(dropped)


def _mend_repos(connection: Connection, registry: Registry) -> Iterator[Repaired]:
    main = select(refs.c.repo_id, refs.c.commit).where(refs.c.name == "refs/heads/main")
    heads = {row.repo_id: row.commit for row in connection.execute(main)}
    recorded = set(connection.scalars(select(blobs.c.digest)))
    for row in connection.execute(select(repos.c.id, repos.c.full_name, repos.c.head)).all():
        if row.head != heads.get(row.id):
            connection.execute(update(repos).where(repos.c.id == row.id).values(head=heads.get(row.id)))
            yield Repaired("repo", row.full_name, f"shows {heads.get(row.id)}, where its branch main is")
        own = set(connection.scalars(select(repo_blobs.c.digest).where(repo_blobs.c.repo_id == row.id)))
        for digest in sorted({blob.digest for blob in digests_of(connection, row.id)}):
            if digest not in recorded and not _record_again(connection, registry, digest):
                continue
            recorded.add(digest)
            if digest not in own:
                connection.execute(insert(repo_blobs).values(repo_id=row.id, digest=digest))
                yield Repaired("repo", row.full_name, f"has {digest}, which is noted as its own again")


def _record_again(connection: Connection, registry: Registry, digest: str) -> bool:
    """A file that a version has and that is there, but of which the database knew nothing."""
    info = registry.store.info(digest)
    if info is None or not _is_sound(registry, digest):
        return False
    row = {"digest": digest, "size_bytes": info.size_bytes, "created_ms": now_ms()}
    connection.execute(insert(blobs).values(row))
    return True
