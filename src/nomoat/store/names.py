"""Names of models and adapters: what they may look like, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from nomoat.base.errors import InputError, NotFoundError

__all__ = ["adapter_names", "check_name", "is_name", "name_for_file", "propose_name", "unknown_name"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(:[a-z0-9][a-z0-9._-]*)?")
_LONGEST = 100


def is_name(text: str) -> bool:
    """Whether `text` can name something in the store: `qwen2.5-0.5b` or, with a tag, `qwen2.5:0.5b`."""
    return len(text) <= _LONGEST and _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Return `text`, or raise `InputError` with a name that would do."""
    if is_name(text):
        return text
    proposal = propose_name(text)
    hint = "use small letters, digits, '.', '_', '-' and one ':' before a tag"
    raise InputError(
        f"{text[:_LONGEST]!r} cannot be a name", f"{hint}; {proposal!r} would do" if proposal else hint
    )


def name_for_file(path: Path) -> str:
    """A valid name made from a file's: `Qwen2.5 0.5B.Q8_0.gguf` -> `qwen2.5-0.5b.q8_0`."""
    return propose_name(path.stem) or "model"


def adapter_names(home: Path) -> list[str]:
    """Names of the adapters in the store at `home`, sorted. Only looks at the folder."""
    folder = home / "adapters"
    if not folder.is_dir():
        return []
    names = (path.name.replace("@", ":") for path in folder.iterdir() if path.is_dir())
    return sorted(name for name in names if is_name(name))


def unknown_name(kind: str, text: str, known: Iterable[str], remedy: str) -> NotFoundError:
    """The error for a name that nobody has given yet, with the nearest one that exists."""
    near = difflib.get_close_matches(text.lower(), sorted(known), n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return NotFoundError(f"no {kind} is named {text!r}", meant + remedy)


def propose_name(text: str) -> str:
    """A valid name that resembles `text`; empty where none does."""
    plain = re.sub(r"[^a-z0-9._:-]+", "-", text.lower())
    head, _, tag = (part.strip("._:-") for part in plain.partition(":"))
    proposal = (f"{head}:{tag.replace(':', '-')}" if head and tag else head or tag)[:_LONGEST].rstrip("._:-")
    return proposal if is_name(proposal) else ""
