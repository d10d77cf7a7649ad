"""What pages answer: headers, sessions, forms that prove their origin, who sees what, pictures drawn anew."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib

import httpx
import pytest
from drawing import picture
from filled_hub import FilledHub, logged_in
from filling import commit_files
from PIL import Image

from nomoat.server.hub.pages.pictures import picture_url, proof_of
from nomoat.share.names import RepoName

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{40}")


@pytest.fixture(scope="module")
def anonymous(pages_hub: FilledHub) -> httpx.Client:
    """Somebody unknown."""
    return httpx.Client(base_url=pages_hub.url, headers={"Accept": "text/html"})


@pytest.fixture
def ines(pages_hub: FilledHub) -> httpx.Client:
    """Ines, logged in."""
    return logged_in(pages_hub, pages_hub.ines)


@pytest.fixture
def admin(pages_hub: FilledHub) -> httpx.Client:
    """Who runs the hub."""
    return logged_in(pages_hub, pages_hub.admin)


def test_pages_keep_scripts_of_others_out(anonymous: httpx.Client, pages_hub: FilledHub) -> None:
    answer = anonymous.get("/datasets")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'") and "unsafe" not in policy
    assert f"img-src 'self' {pages_hub.files_url} data:" in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", answer.text)


def test_a_session_is_a_cookie_that_no_script_reads(pages_hub: FilledHub) -> None:
    answer = httpx.post(f"{pages_hub.url}/login", data={"token": pages_hub.ines, "next": "/ines"})
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 303 and answer.headers["location"] == "/ines"
    assert "httponly" in cookie and "samesite=strict" in cookie and pages_hub.ines.lower() not in cookie


@pytest.mark.parametrize(
    "where", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1"]
)
def test_a_login_leads_nowhere_else(pages_hub: FilledHub, where: str) -> None:
    answer = httpx.post(f"{pages_hub.url}/login", data={"token": pages_hub.ines, "next": where})
    assert answer.headers["location"] == "/"


def test_a_wrong_token_is_told_and_nothing_begins(anonymous: httpx.Client) -> None:
    answer = anonymous.post("/login", data={"token": "hf_wrong"})
    assert (
        answer.status_code == 401 and "nobody is known" in answer.text and "set-cookie" not in answer.headers
    )


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_other_sites_cannot_log_anybody_in(pages_hub: FilledHub, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{pages_hub.url}/login", data={"token": pages_hub.ines}, headers=headers)
    assert answer.status_code == 403 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/logout", "/tokens", "/tokens/end", "/ines/kitchen-adapter/like", "/ines/kitchen-adapter/settings",
     "/ines/kitchen-adapter/settings/delete", "/ines/kitchen-adapter/report", "/moderation/take-down",
     "/moderation/suspend"],
)  # fmt: skip
def test_forms_prove_that_they_are_of_this_session(
    ines: httpx.Client, pages_hub: FilledHub, path: str
) -> None:
    fields = {"name": "ines/kitchen-adapter", "id": "1"}
    assert ines.post(path, data=fields).status_code == 403
    assert ines.post(path, data=fields | {"csrf": "0" * 64}).status_code == 403
    assert httpx.post(pages_hub.url + path, data=fields).status_code == 401


def test_logging_out_ends_the_session_for_good(ines: httpx.Client, pages_hub: FilledHub) -> None:
    cookie = ines.cookies["nomoat_session"]
    ines.post("/logout", data={"csrf": _csrf(ines)})
    again = httpx.get(f"{pages_hub.url}/tokens", cookies={"nomoat_session": cookie})
    assert again.status_code == 401


def test_a_token_is_shown_once_and_ends(ines: httpx.Client, pages_hub: FilledHub) -> None:
    fields = {"csrf": _csrf(ines), "label": "shown once", "scope": "read", "days": "7"}
    made = ines.post("/tokens", data=fields)
    token = _TOKEN.search(made.text)
    assert token is not None
    assert not _TOKEN.search(ines.get("/tokens").text)
    bearer = {"Authorization": f"Bearer {token[0]}"}
    assert httpx.get(f"{pages_hub.url}/api/whoami-v2", headers=bearer).json()["name"] == "ines"
    number = re.search(r"End shown once, number (\d+)", ines.get("/tokens").text)
    assert number is not None
    ines.post("/tokens/end", data={"csrf": _csrf(ines), "id": number[1]})
    assert httpx.get(f"{pages_hub.url}/api/whoami-v2", headers=bearer).status_code == 401


def test_a_reading_session_makes_no_stronger_token(pages_hub: FilledHub) -> None:
    weak = logged_in(pages_hub, pages_hub.hub.registry.accounts.add_token("ines", "weak", "read"))
    fields = {"csrf": _csrf(weak), "label": "x", "scope": "admin", "days": "7"}
    assert weak.post("/tokens", data=fields).status_code == 403
    narrow = logged_in(pages_hub, pages_hub.hub.registry.accounts.add_token("ines", "narrow", "write"))
    assert narrow.post("/tokens", data=fields | {"csrf": _csrf(narrow)}).status_code == 403


def test_what_is_private_is_not_there_for_others(
    ines: httpx.Client, anonymous: httpx.Client, pages_hub: FilledHub
) -> None:
    name = _repo(pages_hub, "secret", {"README.md": b"# S3cret", "pictures/01.png": picture(1, "x")})
    ines.post(f"/{name}/settings", data={"csrf": _csrf(ines), "private": "yes", "gated": ""})
    for path in (f"/{name}", f"/{name}/tree/main", f"/{name}/commits", f"/compare?a={name}&b={name}"):
        assert anonymous.get(path).status_code == 404
    assert "S3cret" in ines.get(f"/{name}").text
    assert "ines/secret" not in anonymous.get("/models?q=secret").text
    assert ines.get(f"/{name}/resolve/main/README.md").status_code == 200
    assert ines.get(f"/{name}").headers["cache-control"] == "private, no-store"


def test_a_gated_file_is_not_shown_before_one_is_let_in(
    ines: httpx.Client, admin: httpx.Client, anonymous: httpx.Client, pages_hub: FilledHub
) -> None:
    name = _repo(pages_hub, "gated", {"README.md": b"# Open card", "data.json": b'{"inner": 1}'})
    ines.post(f"/{name}/settings", data={"csrf": _csrf(ines), "gated": "manual"})
    assert "Open card" in anonymous.get(f"/{name}").text
    marek = logged_in(pages_hub, pages_hub.hub.registry.accounts.add_token("marek", "t", "read"))
    for path in (f"/{name}/blob/main/data.json", f"/{name}/diff"):
        assert "inner" not in anonymous.get(path).text
        assert marek.get(path).status_code == 403
    assert marek.post(f"/{name}/ask", data={"csrf": _csrf(marek)}).status_code == 303
    assert "marek" in ines.get(f"/{name}/settings").text
    ines.post(f"/{name}/settings/access", data={"csrf": _csrf(ines), "user": "marek", "let_in": "yes"})
    assert "inner" in marek.get(f"/{name}/blob/main/data.json").text


def test_settings_are_for_who_may_write(pages_hub: FilledHub) -> None:
    marek = logged_in(pages_hub, pages_hub.hub.registry.accounts.add_token("marek", "t", "admin"))
    assert marek.get("/ines/kitchen-adapter/settings").status_code == 403
    fields = {"csrf": _csrf(marek), "name": "ines/kitchen-adapter"}
    assert marek.post("/ines/kitchen-adapter/settings/delete", data=fields).status_code == 403
    assert marek.get("/moderation").status_code == 403


def test_a_repository_moves_and_goes_only_with_its_name_typed(
    ines: httpx.Client, pages_hub: FilledHub
) -> None:
    name = _repo(pages_hub, "to-move", {"README.md": b"# Moving"})
    csrf = _csrf(ines)
    ines.post(f"/{name}/settings/move", data={"csrf": csrf, "name": "ines/moved"})
    assert ines.get(f"/{name}").headers["location"] == "/ines/moved"
    assert ines.post("/ines/moved/settings/delete", data={"csrf": csrf, "name": "moved"}).status_code == 400
    assert (
        ines.post("/ines/moved/settings/delete", data={"csrf": csrf, "name": "ines/moved"}).status_code == 303
    )
    assert ines.get("/ines/moved").status_code == 404


def test_releases_go_with_a_repository_only_where_that_is_said(
    ines: httpx.Client, pages_hub: FilledHub
) -> None:
    name, csrf = _repo(pages_hub, "relied-on", {"README.md": b"# First"}), _csrf(ines)
    assert "Its releases go, too" not in ines.get(f"/{name}/settings").text
    registry = pages_hub.hub.registry
    repo = registry.repos.get(registry.accounts.identity("ines"), RepoName.parse("model", name))
    registry.history.create_tag(repo, "v1.0", immutable=True)
    assert "rely on them: v1.0. Their names" in ines.get(f"/{name}/settings").text
    fields = {"csrf": csrf, "name": name}
    assert ines.post(f"/{name}/settings/delete", data=fields).status_code == 403
    assert ines.get(f"/{name}").status_code == 200
    assert ines.post(f"/{name}/settings/delete", data=fields | {"releases": "yes"}).status_code == 303
    assert ines.get(f"/{name}").status_code == 404


def test_a_report_leads_to_a_takedown_with_its_reason_and_back(
    ines: httpx.Client, admin: httpx.Client, anonymous: httpx.Client, pages_hub: FilledHub
) -> None:
    name = _repo(pages_hub, "reported", {"README.md": b"# Bad", "pictures/01.png": picture(99, "only here")})
    seen = re.search(r'src="([^"]*userfiles[^"]*)"', anonymous.get(f"/{name}").text)
    assert seen is not None
    image = _at_home(pages_hub, seen[1].replace("&amp;", "&"))
    assert httpx.get(image).status_code == 200
    sent = ines.post(f"/{name}/report", data={"csrf": _csrf(ines), "reason": "copied from my book"})
    assert "Your report was sent" in ines.get(sent.headers["location"]).text
    listed = admin.get("/moderation").text
    report = re.search(r'name="report" value="(\d+)"', listed)
    assert "copied from my book" in listed and report is not None
    fields = {
        "csrf": _csrf(admin),
        "target": f"model:{name}",
        "reason": "no right to share it",
        "report": report[1],
    }
    admin.post("/moderation/take-down", data=fields)
    gone = anonymous.get(f"/{name}")
    assert gone.status_code == 410 and "no right to share it" in gone.text
    assert httpx.get(image).status_code == 410
    assert "copied from my book" not in admin.get("/moderation").text
    admin.post(
        "/moderation/restore", data={"csrf": fields["csrf"], "target": fields["target"], "reason": "settled"}
    )
    assert anonymous.get(f"/{name}").status_code == 200


def test_who_is_suspended_is_logged_out(admin: httpx.Client, pages_hub: FilledHub) -> None:
    yuki = logged_in(pages_hub, pages_hub.hub.registry.accounts.add_token("yuki", "t", "write"))
    admin.post("/moderation/suspend", data={"csrf": _csrf(admin), "name": "yuki", "suspended": "yes"})
    assert yuki.get("/tokens").status_code == 401
    admin.post("/moderation/suspend", data={"csrf": _csrf(admin), "name": "yuki", "suspended": "no"})


def test_liking_counts_once(ines: httpx.Client) -> None:
    for liked, shown in (("yes", "Liked"), ("yes", "Liked"), ("no", "Like")):
        ines.post("/studio-nord/Linocut-018/like", data={"csrf": _csrf(ines), "liked": liked})
        html = ines.get("/studio-nord/Linocut-018").text
        assert re.search(rf"</svg> {shown} · {1 if liked == 'yes' else 0}</button>", html)


def test_paging_shows_each_once(anonymous: httpx.Client) -> None:
    seen: list[str] = []
    path = "/models?artefact=image-lora&sort=newest"
    while path:
        html = anonymous.get(path).text
        seen += re.findall(r'class="card-link" href="([^"]+)"', html)
        following = re.search(r'rel="next" href="([^"]+)"', html)
        path = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == len(set(seen)) >= 200


def test_a_picture_is_drawn_anew_without_its_metadata(pages_hub: FilledHub) -> None:
    name = _repo(pages_hub, "drawn", {"pictures/01.png": picture(5, "the recipe", large=True)})
    answer = httpx.get(_picture_address(pages_hub, name, 320))
    assert (
        answer.headers["content-type"] == "image/webp"
        and answer.headers["x-content-type-options"] == "nosniff"
    )
    assert "sandbox" in answer.headers["content-security-policy"]
    assert b"the recipe" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.size == (320, 384)


def test_only_who_was_shown_a_picture_can_ask_for_it(pages_hub: FilledHub) -> None:
    name = _repo(pages_hub, "asked", {"pictures/01.png": picture(6, "x")})
    address = _picture_address(pages_hub, name, 320)
    assert httpx.get(address.replace("k=", "k=0")).status_code == 404
    assert httpx.get(address.replace("/320.", "/640.")).status_code == 404
    assert httpx.get(address.partition("?")[0]).status_code == 404


@pytest.mark.parametrize("kind", ["bomb", "cut short", "no picture", "svg", "gif"])
def test_what_is_no_harmless_picture_is_refused(pages_hub: FilledHub, kind: str) -> None:
    gif = io.BytesIO()
    Image.new("P", (8, 8)).save(gif, "GIF")
    content = {
        "bomb": _png_that_says(60_000, 60_000), "cut short": picture(3, "x")[:4000], "no picture": b"MZ" * 100,
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "gif": gif.getvalue(),
    }[kind]  # fmt: skip
    info = pages_hub.hub.registry.blobs.add(content)
    answer = httpx.get(_at_home(pages_hub, picture_url(pages_hub.hub, info.digest, 320)))
    assert answer.status_code == 422 and "image" not in answer.headers["content-type"]


def test_no_other_width_is_drawn(pages_hub: FilledHub) -> None:
    info = pages_hub.hub.registry.blobs.add(picture(8, "x"))
    proof = proof_of(pages_hub.hub, info.digest, 7)
    path = f"/userfiles/picture/{info.digest.removeprefix('sha256:')}/7.webp?k={proof}"
    assert httpx.get(pages_hub.url + path).status_code == 422


def test_the_origin_for_files_has_no_pages(pages_hub: FilledHub) -> None:
    host = pages_hub.files_url.removeprefix("http://")
    for path in ("/", "/login", "/ines/kitchen-adapter", "/static/x/hub.css"):
        assert httpx.get(pages_hub.url + path, headers={"Host": host}).status_code == 404


def test_programs_get_their_own_errors(pages_hub: FilledHub) -> None:
    answer = httpx.get(f"{pages_hub.url}/api/nothing/here")
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/json"
    assert httpx.post(f"{pages_hub.url}/api/nothing/here").status_code == 404


def test_assets_may_be_kept_for_ever_under_their_address(anonymous: httpx.Client) -> None:
    address = re.search(r'href="(/static/[0-9a-f]+/hub.css)"', anonymous.get("/").text)
    assert address is not None
    assert "immutable" in anonymous.get(address[1]).headers["cache-control"]
    assert anonymous.get("/static/0/hub.css").headers["cache-control"] == "no-cache"
    assert anonymous.get("/static/0/..%2fassets.py").status_code == 404


def test_an_upload_needs_the_bytes_that_it_announced(ines: httpx.Client, pages_hub: FilledHub) -> None:
    content = b"announced" * 100
    headers = {"X-CSRF-Token": _csrf(ines)}
    file = {"path": "a.txt", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    where = {"repo": "ines/announced", "kind": "model"}
    begun = ines.post("/upload/begin", json={**where, "file": file}, headers=headers).json()
    part = f"/upload/{begun['ticket']}/1"
    assert ines.put(part, content=content[:-1], headers=headers).status_code == 400
    assert ines.put(part, content=content + b"x", headers=headers).status_code == 413
    assert ines.put(part, content=bytes(len(content)), headers=headers).status_code == 200
    assert ines.post(f"/upload/{begun['ticket']}/finish", headers=headers).status_code == 422
    commit = {**where, "files": [file]}
    assert ines.post("/upload/commit", json=commit, headers=headers).status_code == 422
    assert ines.get("/ines/announced").status_code == 404  # no empty place is left
    marek = logged_in(pages_hub, pages_hub.hub.registry.accounts.add_token("marek", "t", "write"))
    theirs = {"X-CSRF-Token": _csrf(marek)}
    assert marek.put(part, content=content, headers=theirs).status_code == 403
    assert marek.post("/upload/begin", json={**where, "file": file}, headers=theirs).status_code == 403


def test_an_empty_file_can_be_sent(ines: httpx.Client) -> None:
    headers = {"X-CSRF-Token": _csrf(ines)}
    file = {"path": "empty.txt", "sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    where = {"repo": "ines/empty-file", "kind": "model"}
    begun = ines.post("/upload/begin", json={**where, "file": file}, headers=headers).json()
    if not begun["done"]:
        assert ines.put(f"/upload/{begun['ticket']}/1", content=b"", headers=headers).status_code == 200
        assert ines.post(f"/upload/{begun['ticket']}/finish", headers=headers).json() == {"done": True}
    answer = ines.post("/upload/commit", json={**where, "files": [file]}, headers=headers)
    assert answer.json() == {"url": "/ines/empty-file"}
    assert ines.get("/ines/empty-file/resolve/main/empty.txt").content == b""


def test_a_path_that_leads_out_is_refused(ines: httpx.Client) -> None:
    headers = {"X-CSRF-Token": _csrf(ines)}
    for path in ("../x", "/etc/passwd", "a//b", "con", "a\\b", ".git/config"):
        file = {"path": path, "sha256": "0" * 64, "size": 1}
        asked = {"repo": "ines/paths", "kind": "model", "file": file}
        assert ines.post("/upload/begin", json=asked, headers=headers).status_code == 400


def _repo(hub: FilledHub, name: str, files: dict[str, bytes]) -> str:
    who = hub.hub.registry.accounts.identity("ines", "write")
    return str(commit_files(hub.hub, who, RepoName.parse("model", f"ines/{name}"), files).name)


def _csrf(client: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/tokens").text)
    assert found is not None
    return found[1]


def _picture_address(hub: FilledHub, name: str, width: int) -> str:
    registry = hub.hub.registry
    repo = registry.repos.get(registry.accounts.identity("ines"), RepoName.parse("model", name))
    entry = registry.history.entry(registry.history.resolve(repo), "pictures/01.png")
    return _at_home(hub, picture_url(hub.hub, entry.digest or "", width))


def _at_home(hub: FilledHub, address: str) -> str:
    """The same on the first origin: not every resolver knows names below localhost."""
    return address.replace(hub.files_url, hub.url)


def _png_that_says(width: int, height: int) -> bytes:
    """A small PNG whose header announces far too many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 16))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_open_files_come_from_the_second_origin_and_private_ones_with_the_session(
    ines: httpx.Client, pages_hub: FilledHub
) -> None:
    name = _repo(pages_hub, "two-origins", {"notes.txt": b"hello"})
    address = re.search(
        r'href="([^"]+/resolve/main/notes.txt)" download', ines.get(f"/{name}/tree/main").text
    )
    assert address is not None and address[1].startswith(f"{pages_hub.files_url}/{name}/")
    host = {"Host": pages_hub.files_url.removeprefix("http://")}
    answer = httpx.get(_at_home(pages_hub, address[1]), headers=host)
    assert answer.text == "hello" and answer.headers["content-disposition"].startswith("attachment")
    ines.post(f"/{name}/settings", data={"csrf": _csrf(ines), "private": "yes"})
    address = re.search(
        r'href="([^"]+/resolve/main/notes.txt)" download', ines.get(f"/{name}/tree/main").text
    )
    assert address is not None and address[1].startswith(f"/{name}/")
    assert ines.get(address[1]).text == "hello"
    assert ines.get(address[1], headers=host).status_code == 401  # cookies do not tell ports apart
