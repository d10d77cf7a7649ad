"""A conversation: its messages, system prompt and adapters, and its form in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomoat.base.errors import BadFileError, NotFoundError
from nomoat.base.files import atomic_write_json
from nomoat.run.adapters import AdapterRef

__all__ = ["Conversation"]

_ROLES = ("user", "assistant")


@dataclass
class Conversation:
    """What was said so far; `system` None leaves the system prompt to the model's template."""

    system: str | None = None
    adapters: list[AdapterRef] = field(default_factory=list)
    messages: list[dict[str, str]] = field(default_factory=list)

    def prompt(self) -> list[dict[str, str]]:
        """All messages as the template takes them."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*system, *self.messages]

    def add(self, role: str, content: str) -> None:
        """Append a message."""
        self.messages.append({"role": role, "content": content})

    def take_back(self) -> str | None:
        """Remove the last question and what was answered to it; returns the question."""
        while self.messages:
            message = self.messages.pop()
            if message["role"] == "user":
                return message["content"]
        return None

    def save(self, path: Path, model: str) -> None:
        """Write the conversation as JSON."""
        adapters = [{"path": str(ref.path), "scale": ref.scale} for ref in self.adapters]
        atomic_write_json(
            path, {"model": model, "system": self.system, "adapters": adapters, "messages": self.messages}
        )

    def load(self, path: Path) -> None:
        """Replace messages and system prompt by those of a file; the adapters stay as they are.

        Raises `NotFoundError` or `BadFileError`, and changes nothing then.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise NotFoundError(f"{path}: {error.strerror}", "check the path") from error
        except ValueError as error:
            raise BadFileError(path, "", f"is no JSON ({error})", "name a file that /save wrote") from error
        self.system, self.messages = _checked(path, content)


def _checked(path: Path, content: Any) -> tuple[str | None, list[dict[str, str]]]:
    messages = content.get("messages") if isinstance(content, dict) else None
    if not isinstance(messages, list):
        raise BadFileError(path, "", "holds no messages", "name a file that /save wrote")
    for index, message in enumerate(messages):
        sound = isinstance(message, dict) and message.get("role") in _ROLES
        if not sound or not isinstance(message.get("content"), str):
            raise BadFileError(path, f"message {index}", "is no question or answer", "correct it by hand")
    system = content.get("system")
    if system is not None and not isinstance(system, str):
        raise BadFileError(path, "system", "is no text", "correct it by hand")
    return system, [{"role": m["role"], "content": m["content"]} for m in messages]
