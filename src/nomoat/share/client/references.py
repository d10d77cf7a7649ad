"""Names of things on hubs: `hf.co/owner/name:Q4_K_M@main`, `hub.local/me/notes-adapter`, a page's address."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from nomoat.base.errors import InputError
from nomoat.base.settings import HuggingFaceSettings
from nomoat.share.names import MAIN, RepoKind, RepoName, check_path, check_ref_name, is_commit

__all__ = [
    "HUGGING_FACE",
    "HubAddress",
    "Reference",
    "is_local_host",
    "is_reference",
    "parse_hub",
    "parse_reference",
]

HUGGING_FACE = "hf.co"
_ALIASES = {"hf.co", "www.hf.co", "huggingface.co", "www.huggingface.co"}
_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(
    rf"(?P<name>\[[0-9a-f:.]+\]|{_LABEL}(\.{_LABEL})*\.?)(:(?P<port>[0-9]{{1,5}}))?", re.IGNORECASE
)
_REPO = re.compile(r"((?P<kind>models|datasets)/)?(?P<owner>[^/:@]+)/(?P<name>[^/:@]+)"
                   r"(:(?P<selector>[^@]+))?(@(?P<revision>.+))?")  # fmt: skip
_PAGE = re.compile(r"(?P<repo>(datasets/)?[^/]+/[^/]+)(/(tree|blob|resolve|raw)/(?P<rest>.+))?/?")
_FORM = "write it HOST/OWNER/NAME, such as hf.co/owner/name:Q4_K_M or hub.local/me/notes"
_LOCAL_ENDINGS = (".local", ".localhost", ".lan", ".home.arpa")


@dataclass(frozen=True)
class HubAddress:
    """A hub: how people name it, and where it answers."""

    host: str
    endpoint: str

    @property
    def is_hugging_face(self) -> bool:
        """Whether the user wrote `hf.co`."""
        return self.host == HUGGING_FACE

    @property
    def may_carry_secrets(self) -> bool:
        """A token travels encrypted, or not further than the local network."""
        parts = urlsplit(self.endpoint)
        return parts.scheme == "https" or is_local_host(parts.hostname or "")


@dataclass(frozen=True)
class Reference:
    """Something on a hub. `selector` is a quantisation, a file or a tag; empty parts mean the hub's choice."""

    hub: HubAddress
    repo: RepoName
    selector: str = ""
    revision: str = ""

    @property
    def repo_text(self) -> str:
        """`hf.co/owner/name`, with `datasets/` before the owner of a dataset."""
        prefix = "datasets/" if self.repo.kind == "dataset" else ""
        return f"{self.hub.host}/{prefix}{self.repo}"

    def __str__(self) -> str:
        selector = f":{self.selector}" if self.selector else ""
        return self.repo_text + selector + (f"@{self.revision}" if self.revision else "")

    @property
    def key(self) -> str:
        """What makes it the same name, however its letters are written."""
        return str(replace(self, revision="")).lower() + (f"@{self.revision}" if self.revision else "")


def is_reference(text: str) -> bool:
    """Whether `text` names something on a hub rather than in the store or on the disk. Looks at nothing but it."""
    if re.match(r"https?://", text, re.IGNORECASE):
        return True
    host, slash, rest = text.partition("/")
    return bool(slash) and _looks_like_host(host) and "/" in rest.strip("/")


def parse_reference(text: str, revision: str = "") -> Reference:
    """Read a name as a user types it; `revision` overrides the one in it. Raises `InputError`."""
    parts = _from_address(text) if re.match(r"https?://", text, re.IGNORECASE) else _from_name(text)
    given = revision or parts.revision
    if given and not is_commit(given):
        check_ref_name(given)
    if "/" in parts.selector or parts.selector.endswith(".gguf"):
        check_path(parts.selector)
    return replace(parts, revision="" if given == MAIN else given)


def parse_hub(text: str) -> HubAddress:
    """A hub by its host, with or without a scheme. Raises `InputError`."""
    split = urlsplit(text if "://" in text else f"//{text}")
    host = split.netloc.lower()
    if split.username is not None or split.scheme not in {"", "http", "https"} or not _HOST.fullmatch(host):
        raise InputError(f"{text[:120]!r} names no hub", "write its host, such as hf.co or 127.0.0.1:8080")
    if host in _ALIASES:
        return HubAddress(HUGGING_FACE, HuggingFaceSettings.from_environment().endpoint)
    scheme = split.scheme or ("http" if is_local_host(split.hostname or "") else "https")
    return HubAddress(host, f"{scheme}://{host}")


def is_local_host(name: str) -> bool:
    """Whether a host is this machine or on the private network, where nobody has certificates."""
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        name = name.lower().rstrip(".")
        return "." not in name or name.endswith(_LOCAL_ENDINGS)
    return address.is_loopback or address.is_private or address.is_link_local


def _looks_like_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    if match is None:
        return False
    return (
        match["port"] is not None
        or "." in match["name"]
        or match["name"].lower() == "localhost"
        or "[" in text
    )


def _from_name(text: str) -> Reference:
    host, _, rest = text.partition("/")
    match = _REPO.fullmatch(rest)
    if match is None:
        raise InputError(f"{text[:200]!r} names nothing on a hub", _FORM)
    kind: RepoKind = "dataset" if match["kind"] == "datasets" else "model"
    repo = RepoName.parse(kind, f"{match['owner']}/{match['name']}")
    return Reference(parse_hub(host), repo, match["selector"] or "", match["revision"] or "")


def _from_address(text: str) -> Reference:
    """The address of a repository's page, of its tree or of one file in it."""
    split = urlsplit(text)
    hub = parse_hub(f"{split.scheme}://{split.netloc}")
    match = _PAGE.fullmatch(unquote(split.path).strip("/"))
    if match is None or match["rest"] is None:
        named = _from_name(f"{hub.host}/{unquote(split.path).strip('/')}")
        return replace(named, hub=hub)
    named = _from_name(f"{hub.host}/{match['repo']}")
    # A branch may have slashes of its own; pages show those encoded, so the first part is all of it.
    revision, _, path = match["rest"].partition("/")
    return replace(named, hub=hub, revision=revision, selector=path)
