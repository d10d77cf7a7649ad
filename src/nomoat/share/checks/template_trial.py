"""A chat template tried out in a process of its own: it is foreign code, and some never end.

`python -m nomoat.share.checks.template_trial` reads a template from standard input and renders it.
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from typing import Any

from nomoat.base.errors import NomoatError
from nomoat.formats.chat_template import ChatTemplate

__all__ = ["main", "try_template"]

_SECONDS, _MEMORY_BYTES = 5, 1 << 30
_MOST_CHARACTERS = 1 << 20


def try_template(source: str) -> dict[str, Any]:
    """`sha256`, `renders`, and `problem` where it does not: it is shown, not refused."""
    found: dict[str, Any] = {"sha256": hashlib.sha256(source.encode()).hexdigest(), "renders": False}
    if len(source) > _MOST_CHARACTERS:
        return found | {"problem": "it is too long"}
    try:
        answer = subprocess.run([sys.executable, "-P", "-m", "nomoat.share.checks.template_trial"],
                                input=source.encode(), capture_output=True, timeout=_SECONDS, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return found | {"problem": f"it does not end within {_SECONDS} seconds"}
    if answer.returncode == 0:
        return found | {"renders": True}
    words = answer.stdout.decode("utf-8", "replace")[-300:] or "it needs too much memory or time"
    return found | {"problem": words}


def main() -> int:
    """Render a short conversation with the template of standard input; prints what is wrong with it."""
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": "Bye"}]  # fmt: skip
    try:
        ChatTemplate(sys.stdin.read(), "<s>", "</s>", "the template").render(messages, True)
    except NomoatError as error:
        sys.stdout.write(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
