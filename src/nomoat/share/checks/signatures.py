"""What a file is by its first bytes, and which kinds are turned away: those that can run when they are opened."""

from __future__ import annotations

import itertools
import pickletools
import re

from nomoat.share.errors import RefusedError

__all__ = ["kind_of", "refuse_harmful"]

HEAD_BYTES = 1 << 20  # a call can stand behind a long text
_AS_SAFETENSORS = "save the weights as safetensors: `safetensors.torch.save_file`"
_UNPACKED = "send the files themselves: the hub needs no archive"
_NEVER = "a hub of models takes no programs"
# First bytes -> what they are, and what to do instead.
_HARMFUL = (
    (b"PK\x03\x04", "a zip archive, which PyTorch fills with pickles", _AS_SAFETENSORS),
    (b"PK\x05\x06", "a zip archive", _UNPACKED), (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACKED),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACKED), (b"\x1f\x8b", "packed by gzip", _UNPACKED),
    (b"BZh", "packed by bzip2", _UNPACKED), (b"\xfd7zXZ\x00", "packed by xz", _UNPACKED),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", _UNPACKED),
    (b"\x89HDF", "an HDF5 file, which can hold code", _AS_SAFETENSORS),
    (b"\x7fELF", "a program", _NEVER), (b"MZ", "a program", _NEVER), (b"#!", "a script", _NEVER),
    (b"\xfe\xed\xfa", "a program", _NEVER), (b"\xcf\xfa\xed\xfe", "a program", _NEVER),
    (b"\xce\xfa\xed\xfe", "a program", _NEVER),
    (b"\xca\xfe\xba\xbe", "a program", _NEVER), (b"\x00asm", "a program", _NEVER),
)  # fmt: skip
_KINDS = (
    (b"GGUF", "gguf"), (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"), (b"\x93NUMPY", "npy"),
)  # fmt: skip
_PAGE = re.compile(
    rb"\s*(<!doctype html|<html|<svg|<script|<\?xml[^>]*>\s*(<!--.*?-->\s*)?<svg)", re.IGNORECASE | re.DOTALL
)
_PAGE_ENDINGS = (".html", ".htm", ".svg", ".xml")
_NAMING, _NAMED = {"GLOBAL", "INST"}, re.compile(r"[\w.]+ [\w.]+")
_TEXTS = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_CALLING = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_MOST_OPCODES = 100_000


def kind_of(head: bytes) -> str:
    """gguf, png, jpeg, webp, parquet, arrow, npy, or "" for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _KINDS if head.startswith(start)), "")


def refuse_harmful(path: str, head: bytes) -> None:
    """Raise `RefusedError` where the file begins (`head`, some KiB) like one that can run when it is opened."""
    found = next(((what, remedy) for start, what, remedy in _HARMFUL if head.startswith(start)), None)
    if found is None and head[257:262] == b"ustar":
        found = ("a tar archive", _UNPACKED)
    # A page that says so is handed out as a download, and never opened here.
    if found is None and _PAGE.match(head[:4096]) and not path.lower().endswith(_PAGE_ENDINGS):
        found = ("a web page or SVG, which can run scripts", "send text, or a picture as PNG, JPEG or WebP")
    if found is None and head.startswith(b"\x93NUMPY") and b"'|O'" in head[:256]:
        found = ("an array of Python objects, which are pickled", _AS_SAFETENSORS)
    if found is None and _is_pickle(head):
        found = ("a pickle, which can run any program when it is loaded", _AS_SAFETENSORS)
    if found is not None:
        raise RefusedError(f"{path}: byte 0: it is {found[0]}", found[1])


def _is_pickle(head: bytes) -> bool:
    """Protocols 2 to 5 say so; 0 and 1 begin like many texts, so they must name something and call it."""
    if len(head) > 1 and head[0] == 0x80 and head[1] in range(2, 6):
        return True
    opcodes = _opcodes(head)
    return _names_something(opcodes) and any(name in _CALLING for name, _ in opcodes)


def _names_something(opcodes: list[tuple[str, str]]) -> bool:
    """STACK_GLOBAL takes its names from texts that stand before it: without any, random bytes look like one."""
    texts = False
    for name, argument in opcodes:
        if name in _NAMING and _NAMED.fullmatch(argument):
            return True
        texts |= name in _TEXTS and bool(argument.strip())
        if name == "STACK_GLOBAL" and texts:
            return True
    return False


def _opcodes(head: bytes) -> list[tuple[str, str]]:
    """Opcodes and their arguments, up to the first that is none."""
    found: list[tuple[str, str]] = []
    try:
        for opcode, argument, _ in itertools.islice(pickletools.genops(head), _MOST_OPCODES):
            found.append((opcode.name, str(argument)))
    except Exception:  # whatever it is, from here on it is no pickle
        return found
    return found
