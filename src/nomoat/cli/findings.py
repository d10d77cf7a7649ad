"""What `nomoat doctor` finds: one line of text, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["OK", "PROBLEM", "WARNING", "Finding"]

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """`topic` groups findings; `facts` are the same for programs. Only what is not ok has a `remedy`."""

    topic: str
    text: str
    state: str = OK
    remedy: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
