"""A chat template tried out in a process of its own: it is foreign code, and some never end.

`python -m nomoat.share.checks.template_trial` reads a template and a conversation from standard input and renders it.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from nomoat.base.errors import NomoatError
from nomoat.formats.chat_template import ChatTemplate, Message

__all__ = ["main", "trial", "try_template"]

_SECONDS, _MEMORY_BYTES = 5, 1 << 30
_MOST_CHARACTERS = 1 << 20


def try_template(source: str, messages: Sequence[Message] = ()) -> dict[str, Any]:
    """`sha256`, `renders`, and `problem` where it does not: it is shown, not refused.

    `messages` are what it writes up to where an answer begins; a short conversation unless given.
    """
    content = source.encode("utf-8", "surrogatepass")
    found: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "renders": False}
    if any("\ud800" <= letter <= "\udfff" for letter in source):
        return found | {"problem": "it holds half a character"}
    if len(source) > _MOST_CHARACTERS:
        return found | {"problem": "it is too long"}
    try:
        answer = subprocess.run([sys.executable, "-P", "-m", "nomoat.share.checks.template_trial"],
                                input=json.dumps([source, [*messages]]).encode(), capture_output=True,
                                timeout=_SECONDS, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return found | {"problem": f"it does not end within {_SECONDS} seconds"}
    if answer.returncode == 0:
        return found | {"renders": True}
    words = answer.stdout.decode("utf-8", "replace")[-300:] or "it needs too much memory or time"
    return found | {"problem": words}


def trial(source: str, messages: Sequence[Message] = ()) -> str:
    """Render a conversation; what is wrong with the template, empty where nothing is."""
    messages = messages or [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "Bye"}]  # fmt: skip
    try:
        ChatTemplate(source, "<s>", "</s>", "the template").render(messages, True)
    except NomoatError as error:
        return error.message
    return ""


def main() -> int:
    """Try the template of standard input, within limits; prints what is wrong with it."""
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    problem = trial(*json.load(sys.stdin))
    sys.stdout.write(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
