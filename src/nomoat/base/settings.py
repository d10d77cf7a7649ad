"""Settings from the environment. The only file of nomoat that reads environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nomoat.base.errors import InputError
from nomoat.base.sizes import parse_bytes

__all__ = [
    "OPENMP",
    "SETTINGS_VARIABLES",
    "BucketSettings",
    "HuggingFaceSettings",
    "Settings",
    "calm_openmp",
    "child_environment",
    "silence_xet",
    "telling_variables",
]


# libgomp's threads spin this often at a barrier before they sleep; its own choice is 300,000. With 1,000 training loses
# nothing on an idle machine, and beside another program on one core it is two to five times faster than with the
# default (see benchmarks/decode_busy.py). libgomp reads it once, when it is loaded. The process that answers has
# barriers every few microseconds, and adapts while it runs: see run/barriers.py.
OPENMP = {"GOMP_SPINCOUNT": "1000"}

SETTINGS_VARIABLES = (
    "NOMOAT_HOME",
    "NOMOAT_THREADS",
    "NOMOAT_EMBEDDED_MODEL",
    "NOMOAT_EMBEDDED",
    "NOMOAT_KV_CACHE",
    "NOMOAT_HISTORY",
)
_TELLING = ("NOMOAT_", "OMP_", "GOMP_", "KMP_", "GGML_", "LLAMA_", "MKL_", "XDG_DATA_HOME")


@dataclass(frozen=True)
class Settings:
    """What the environment says. Every field has a default that suits one person's machine."""

    home: Path
    """Where the store lives: NOMOAT_HOME, else $XDG_DATA_HOME/nomoat, else ~/.local/share/nomoat."""
    threads: int | None
    """NOMOAT_THREADS: a fixed number of threads instead of the measured one."""
    embedded_model: Path | None
    """NOMOAT_EMBEDDED_MODEL: the embedded default's file, where its package is not installed."""
    embedded_as_shipped: bool = False
    """NOMOAT_EMBEDDED=as-shipped: keep the embedded default as it is, even where its Q8_0 is faster."""
    kv_cache_bytes: int | None = None
    """NOMOAT_KV_CACHE=off or a size such as 2GB: what the KV cache on disk may take; None: as the disk allows."""
    history: bool = True
    """NOMOAT_HISTORY=off: keep no tokens of conversations on disk as a source of drafts, and read none."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the settings afresh; nothing is kept between calls."""
        data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
        home = os.environ.get("NOMOAT_HOME") or str(Path(data_home) / "nomoat")
        threads = os.environ.get("NOMOAT_THREADS", "")
        embedded = os.environ.get("NOMOAT_EMBEDDED_MODEL")
        return cls(
            Path(home).expanduser(),
            int(threads) if threads.isdigit() and int(threads) else None,
            Path(embedded).expanduser() if embedded else None,
            os.environ.get("NOMOAT_EMBEDDED", "auto") == "as-shipped",
            _kv_cache_bytes(os.environ.get("NOMOAT_KV_CACHE", "")),
            os.environ.get("NOMOAT_HISTORY", "on").lower() not in {"off", "0", "no"},
        )


@dataclass(frozen=True)
class HuggingFaceSettings:
    """What the environment says to every client of Hugging Face; asked only when a user names `hf.co`."""

    endpoint: str
    """HF_ENDPOINT, else the public hub."""
    token: str | None = field(default=None, repr=False)
    """HF_TOKEN, else what `hf auth login` kept (HF_TOKEN_PATH, $HF_HOME/token); None without either."""

    @classmethod
    def from_environment(cls) -> HuggingFaceSettings:
        """Read the settings afresh."""
        endpoint = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
        path = Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser()
        token = os.environ.get("HF_TOKEN", "").strip()
        if not token and path.is_file():
            token = path.read_text(encoding="utf-8").strip()
        return cls(endpoint or "https://huggingface.co", token or None)


@dataclass(frozen=True)
class BucketSettings:
    """What the environment says of an S3 bucket, as S3's tools name it; asked only where a hub has one."""

    endpoint: str | None
    """AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; None: Amazon's own."""
    region: str
    """AWS_REGION or AWS_DEFAULT_REGION, else us-east-1, which servers of one's own expect."""
    access_key_id: str | None = field(repr=False)
    """AWS_ACCESS_KEY_ID."""
    secret_access_key: str | None = field(repr=False)
    """AWS_SECRET_ACCESS_KEY."""
    session_token: str | None = field(repr=False)
    """AWS_SESSION_TOKEN."""

    @classmethod
    def from_environment(cls) -> BucketSettings:
        """Read the settings afresh."""
        get = os.environ.get
        return cls(
            get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL"),
            get("AWS_REGION") or get("AWS_DEFAULT_REGION") or "us-east-1",
            get("AWS_ACCESS_KEY_ID"),
            get("AWS_SECRET_ACCESS_KEY"),
            get("AWS_SESSION_TOKEN"),
        )


def child_environment(unless_set: Mapping[str, str] | None = None, **changes: str) -> dict[str, str]:
    """The environment for a child process: this one's, with `changes` laid over it.

    `unless_set` gives values for variables that the user has not set.
    """
    return {**(unless_set or {}), **os.environ, **changes}


def _kv_cache_bytes(text: str) -> int | None:
    """Bytes, 0 for "off", None for nothing. A setting that protects what was typed is never guessed."""
    if not text.strip() or text.strip().lower() == "auto":
        return None
    if text.strip().lower() == "off":
        return 0
    try:
        return parse_bytes(text)
    except InputError as error:
        raise InputError(f"NOMOAT_KV_CACHE={text}: {error.message}",
                         f"use 'off', or: {error.hint}") from error  # fmt: skip


def calm_openmp() -> None:
    """Set `OPENMP` for this very process, unless the user has; to be called before torch is imported."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)


def silence_xet() -> None:
    """Let the library `hf-xet` report nothing of its transfers; to be called before it is imported."""
    os.environ["HF_XET_TELEMETRY_ENABLED"] = "0"


def telling_variables() -> dict[str, str]:
    """Variables of the environment that change how nomoat and its libraries work, as the user set them.

    What `calm_openmp` set for this process itself is left out.
    """
    own = set(OPENMP.items())
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_TELLING) and (name, value) not in own
    }
