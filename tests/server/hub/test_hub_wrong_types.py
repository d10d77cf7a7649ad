"""Bodies and queries of the wrong shape: an answer that says so, and never a fault."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pushing import make_repo
from running_hub import RunningHub

_REPO = "alice/shapes"
_ROUTES = {
    ("POST", "/api/repos/create"): ["name", "organization", "type", "visibility", "private"],
    ("DELETE", "/api/repos/delete"): ["name", "organization", "type"],
    ("POST", "/api/repos/move"): ["fromRepo", "toRepo", "type"],
    ("POST", "/api/validate-yaml"): ["content", "repoType"],
    ("PUT", f"/api/models/{_REPO}/settings"): ["gated", "private", "visibility"],
    ("POST", f"/api/models/{_REPO}/branch/b"): ["startingPoint"],
    ("POST", f"/api/models/{_REPO}/tag/main"): ["tag", "message", "immutable"],
    ("POST", f"/api/models/{_REPO}/preupload/main"): ["files", "gitIgnore", "gitAttributes"],
    ("POST", f"/api/models/{_REPO}/paths-info/main"): ["paths", "expand"],
    ("POST", f"/api/models/{_REPO}/user-access-request/handle"): ["user", "requestId", "status"],
    ("POST", f"/api/models/{_REPO}/user-access-request/grant"): ["user"],
    ("POST", f"/{_REPO}.git/info/lfs/objects/batch"): ["operation", "objects", "transfers"],
}
# fmt: off
_VALUES: list[Any] = [
    None, True, -1, 1e400, 10**30, "", "\u0000", "../..", "a" * 5000, [], [1], [[]], [{}], {}, {"a": [{}]},
    [{"path": 1, "sample": 2, "size": "x"}], [{"path": "a", "sample": "%", "size": 1}],
    [{"oid": "0" * 64, "size": -1}], [{"oid": 5}],
]
_PATHS = [
    "/api/models?limit=-1", "/api/models?limit=99999999999999", "/api/models?cursor=zzz", "/api/models?sort=x",
    "/api/models?search=%00%27%22*(", "/api/models?filter=%F0%9F%98%80,license:",
    "/api/models?search=" + "a" * 3000, f"/api/models/{_REPO}/tree/main?cursor=-5&limit=0",
    f"/api/models/{_REPO}/commits/main?p=99999999999", f"/api/models/{_REPO}/commits/main?p=x&limit=x",
    f"/api/models/{_REPO}/discussions?p=-1", f"/api/models/{_REPO}/discussions/99999999999999999999999",
    "/api/nomoat/blobs/sha256:zz", "/api/nomoat/recalls?since=x", f"/api/models/{_REPO}/trust?revision=%00",
    "/api/users/%00/overview", f"/api/models/{_REPO}/revision/", f"/api/models/{_REPO}/tree/",
    f"/{_REPO}/resolve/", f"/{_REPO}/resolve/main/", "/a/b/c/d", "/api", "/api/models/", "//",
    "/api/datasets/x", "/api/uploads/x",
]
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def repo(running_hub: RunningHub, alice: str) -> str:
    return make_repo(running_hub, alice, _REPO)


@pytest.mark.parametrize(("route", "fields"), _ROUTES.items(), ids=lambda value: str(value)[-40:])
def test_a_body_of_the_wrong_shape_is_no_fault(
    running_hub: RunningHub, alice: str, route: tuple[str, str], fields: list[str]
) -> None:
    with httpx.Client(
        headers={"Authorization": f"Bearer {alice}", "Content-Type": "application/json"}
    ) as client:
        bodies: list[Any] = [{field: value} for field in fields for value in _VALUES]
        bodies += [dict.fromkeys(fields, value) for value in _VALUES] + [[], 5, "x", None]
        for body in bodies:
            answer = client.request(route[0], running_hub.url + route[1], content=json.dumps(body))
            assert answer.status_code < 500 or answer.status_code == 501, (body, answer.text)


@pytest.mark.parametrize("path", _PATHS)
def test_an_address_of_the_wrong_shape_is_no_fault(running_hub: RunningHub, alice: str, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        answer = httpx.request(method, httpx.URL(running_hub.url, raw_path=path.encode()),
                               headers={"Authorization": f"Bearer {alice}"})  # fmt: skip
        assert answer.status_code < 500, (method, answer.text)
