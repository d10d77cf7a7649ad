"""`.gitattributes` of a new repository, and what such rules say about a file: sent apart, or in the commit."""

from __future__ import annotations

from pathlib import PurePosixPath

from pathspec import GitIgnoreSpec

__all__ = ["DEFAULT_ATTRIBUTES", "ignored_by", "is_binary_name", "is_large"]

_BINARY = (
    "7z", "arrow", "avif", "bin", "bz2", "ckpt", "flac", "ftz", "gguf", "ggml", "gif", "gz", "h5", "jpeg", "jpg",
    "joblib", "lz4", "mlmodel", "model", "mp3", "mp4", "msgpack", "npy", "npz", "ogg", "onnx", "ot", "parquet", "pb",
    "pdf", "pickle", "pkl", "png", "pt", "pth", "rar", "safetensors", "tar", "tflite", "tgz", "wasm", "wav", "webp",
    "xz", "zip", "zst",
)  # fmt: skip
DEFAULT_ATTRIBUTES = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in _BINARY
).encode()
_MOST_LINES = 5000


def is_binary_name(path: str) -> bool:
    """Whether the ending is one of files that are no text."""
    return PurePosixPath(path).suffix[1:].lower() in _BINARY


def is_large(path: str, attributes: str) -> bool | None:
    """What the last matching rule of a `.gitattributes` says; None where none matches."""
    found: bool | None = None
    for line in attributes.splitlines()[:_MOST_LINES]:
        pattern, *values = line.split() or [""]
        rule = _rule(values)
        if not pattern or pattern.startswith("#") or rule is None:
            continue
        if GitIgnoreSpec.from_lines([pattern]).match_file(path):
            found = rule
    return found


def ignored_by(paths: list[str], ignore: str) -> set[str]:
    """Those of `paths` that a `.gitignore` leaves out."""
    return set(GitIgnoreSpec.from_lines(ignore.splitlines()[:_MOST_LINES]).match_files(paths))


def _rule(values: list[str]) -> bool | None:
    for value in values:
        if value.startswith("filter="):
            return value == "filter=lfs"
        if value in {"-filter", "!filter"}:
            return False
    return None
