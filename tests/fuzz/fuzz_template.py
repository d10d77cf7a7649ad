"""Chat templates: what runs in the process of its own that tries them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import atheris

with atheris.instrument_imports(include=["nomoat", "jinja2"]):
    from nomoat.share.checks.template_trial import trial

from harness import fuzz

from nomoat.base.settings import Settings
from nomoat.formats.gguf_file import read_gguf
from nomoat.store.embedded import find_embedded

_SECONDS = 1.0
_WORDS = (
    b"{% for ", b" in ", b" %}", b"{% endfor %}", b"{% if ", b"{% endif %}", b"{{ ", b" }}", b"{% set ",
    b"{% macro x() %}", b"{% endmacro %}", b"{% call ", b"{% include ", b"{% import ", b"{% extends ",
    b"{% block x %}", b"{% filter ", b"|tojson", b"|map(attribute=", b"|format(", b"|join", b".__class__",
    b"|attr(", b"namespace(", b"range(", b"cycler(", b"messages", b"loop", b"{% break %}",
    b"{% generation %}", b"{% endgeneration %}", b"raise_exception(", b"**", b"'%9s' %", b"lipsum(",
    b"strftime_now(", b"{% raw %}", b"{#",
)  # fmt: skip


class _Endless(Exception):
    """Some templates never end. Their process is killed; here a clock stops them."""


def read(data: bytes) -> None:
    """A text says what is wrong with it, empty for nothing."""
    signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    try:
        assert isinstance(trial(data.decode("utf-8", "replace")), str)
    except _Endless:
        return
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Endless


def seeds() -> Iterator[bytes]:
    """The embedded model's template, and what others use."""
    embedded = find_embedded(Settings.from_environment())
    if embedded is not None:
        yield str(read_gguf(embedded).metadata["tokenizer.chat_template"]).encode()
    yield b"{% for m in messages %}{{ m.role + ': ' + m['content'] | trim }}\n{% endfor %}"
    yield (b"{%- if tools %}{{ raise_exception('no tools') }}{% endif %}{% set ns = namespace(n=0) %}"
           b"{% generation %}{{ messages | tojson(indent=2) }}{% endgeneration %}"
           b"{{ strftime_now('%Y') * 3 }}")  # fmt: skip


if __name__ == "__main__":
    fuzz(read, seeds(), _WORDS)
