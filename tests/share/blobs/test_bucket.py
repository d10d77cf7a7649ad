"""Blobs in a real S3 server."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx
import obstore
import pytest

from nomoat.base.errors import NomoatError, NotFoundError
from nomoat.base.settings import BucketSettings
from nomoat.cli.hub_root import registry_config
from nomoat.share.blobs.bucket import BucketBlobs
from nomoat.share.blobs.signed_url import signed_get
from nomoat.share.errors import DamagedBlobError, RefusedError
from nomoat.share.names import RepoName
from nomoat.share.registry.git_objects import blob_oid
from nomoat.share.registry.history import AddFile
from nomoat.share.registry.registry import Registry
from nomoat.share.registry.upkeep.check import check
from nomoat.share.registry.upkeep.garbage import collect
from own_servers import ObjectServer


@pytest.fixture
def blobs(s3: ObjectServer, tmp_path: Path) -> BucketBlobs:
    return BucketBlobs(f"s3://hub/{tmp_path.name}", tmp_path / "incoming", s3.settings)


def _add(blobs: BucketBlobs, content: bytes) -> str:
    with blobs.incoming() as incoming:
        incoming.write(content)
        return incoming.finish().digest


def test_comes_back_as_it_went(blobs: BucketBlobs, tmp_path: Path) -> None:
    content = os.urandom((20 << 20) + 17)  # more than one part of an upload
    digest = _add(blobs, content)
    assert digest == f"sha256:{sha256(content).hexdigest()}"
    info = blobs.info(digest)
    assert info is not None and info.size_bytes == len(content)
    with blobs.open(digest) as reader:
        assert reader.read() == content
        reader.seek(-100, os.SEEK_END)
        assert reader.read(50) == content[-100:-50]
    blobs.check(digest)
    assert [each.digest for each in blobs.all()] == [digest]
    assert len(blobs.sums(digest)) == 21 * 32
    assert not list((tmp_path / "incoming").iterdir())
    blobs.delete(digest)
    assert blobs.info(digest) is None and list(blobs.all()) == []
    with pytest.raises(NotFoundError):
        blobs.open(digest)


def test_a_signed_address_needs_no_key(blobs: BucketBlobs) -> None:
    content = os.urandom(5000)
    url = blobs.url(_add(blobs, content), 'größe "1".bin', 60)
    assert url is not None
    answer = httpx.get(url)
    assert answer.content == content and answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%221%22.bin; filename=\"gr__e _1_.bin\""
    )
    assert httpx.get(url, headers={"Range": "bytes=10-19"}).content == content[10:20]
    assert httpx.get(url.split("?")[0]).status_code == 403
    assert httpx.get(url.replace("octet-stream", "html")).status_code == 403, "nothing in it can be changed"


def test_a_signed_address_is_as_amazon_says() -> None:
    """The example of "Authenticating Requests: Using Query Parameters"."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    settings = BucketSettings(None, "us-east-1", "AKIAIOSFODNN7EXAMPLE", secret, None)
    address = "https://examplebucket.s3.amazonaws.com/test.txt"
    url = signed_get(address, settings, datetime(2013, 5, 24, tzinfo=UTC), 86400, {})
    assert url.endswith("Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_what_is_not_as_announced_never_arrives(blobs: BucketBlobs) -> None:
    with blobs.incoming() as incoming, pytest.raises(RefusedError):
        incoming.write(b"something")
        incoming.finish(f"sha256:{'0' * 64}")
    assert list(blobs.all()) == []


def test_damage_is_seen(blobs: BucketBlobs, s3: ObjectServer, tmp_path: Path) -> None:
    content = bytearray(os.urandom(3 << 20))
    digest = _add(blobs, bytes(content))
    content[2 << 20] ^= 1
    name = digest.removeprefix("sha256:")
    obstore.put(s3.store(), f"{tmp_path.name}/sha256/{name[:2]}/{name[2:4]}/{name}", bytes(content))
    with blobs.open(digest) as reader:
        assert reader.read(1 << 20) == content[: 1 << 20]
        with pytest.raises(DamagedBlobError, match="2,097,152"):
            reader.read()
    with pytest.raises(DamagedBlobError):
        blobs.check(digest)


def test_a_file_of_this_machine_is_whole_and_goes(
    blobs: BucketBlobs, s3: ObjectServer, tmp_path: Path
) -> None:
    content = bytearray(os.urandom(9 << 20))
    digest = _add(blobs, bytes(content))
    with blobs.local(digest) as path:
        assert path.read_bytes() == content
    content[5 << 20] ^= 1
    name = digest.removeprefix("sha256:")
    obstore.put(s3.store(), f"{tmp_path.name}/sha256/{name[:2]}/{name[2:4]}/{name}", bytes(content))
    with pytest.raises(DamagedBlobError), blobs.local(digest):
        pass
    with pytest.raises(NotFoundError), blobs.local("sha256:" + "0" * 64):
        pass
    assert not list((tmp_path / "incoming").iterdir())


def test_a_bucket_that_is_not_there(s3: ObjectServer, tmp_path: Path) -> None:
    with pytest.raises(NomoatError, match="bucket"):
        BucketBlobs("s3://no-such-bucket/x", tmp_path, s3.settings).check("sha256:" + "0" * 64)


def test_a_registry_in_a_bucket(s3: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    config = registry_config(tmp_path / "hub", "", f"s3://hub/{tmp_path.name}-registry")
    with contextlib.closing(Registry(config)) as registry:
        assert registry_config(tmp_path / "hub") == config, "later verbs find the same places"
        registry.accounts.add("ines")
        who, content = registry.accounts.identity("ines", "write"), os.urandom(3 << 20)
        repo = registry.repos.create(who, RepoName.parse("model", "ines/model"))
        kept, lost = registry.blobs.add(content), registry.blobs.add(b"in no commit")
        file = AddFile("w.bin", kept.digest, kept.size_bytes, blob_oid(content))
        registry.history.commit(repo, [file], who, "first")
        collect(registry, grace_seconds=0)
        assert registry.store.info(lost.digest) is None
        assert check(registry).problems == ()
        registry.store.delete(kept.digest)
        assert [problem.kind for problem in check(registry).problems] == ["blob"]
    assert not (tmp_path / "hub" / "blobs").exists()
