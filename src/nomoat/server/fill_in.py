"""Fill in the middle: what stands before and after a gap, as the prompt that models for code were trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from nomoat.run.engine import Engine
from nomoat.run.protocol import FillInTokens
from nomoat.server.errors import BadRequest

__all__ = ["ExtraText", "fill_in_tokens"]

_Encode = Callable[[str], list[int]]
# llama-server's words where the model has no token for a file's beginning, or for a repository's name.
_SNIPPET, _REPOSITORY, _THIS_FILE = "\n\n--- snippet ---\n\n", "myproject\n", "filename\n"


class ExtraText(Struct):
    """Another file of the same work, or a part of one."""

    text: str
    filename: str = "tmp"


def fill_in_tokens(
    engine: Engine, prefix: str, suffix: str, extra: Sequence[ExtraText] | None = None, field: str = "suffix"
) -> list[int]:
    """Token ids of a prompt after which the model writes what belongs between `prefix` and `suffix`.

    `extra`, even an empty one, makes it a file of a repository of which others are read first. Marks in texts are
    text. Raises `BadRequest` that blames `field` where the model was not trained for it.
    """
    marks = engine.model.fill_in
    if marks is None:
        raise BadRequest("this model was not trained to fill in the middle", field,
                         "use one that was, such as Qwen2.5-Coder")  # fmt: skip

    def plain(text: str) -> list[int]:
        return engine.encode(text, parse_special=False) if text else []

    start = [engine.model.bos_token_id] if engine.model.adds_bos else []
    return [
        *([] if extra is None else _others(extra, marks, plain)), *(token for token in start if token is not None),
        marks.prefix, *plain(prefix), marks.suffix, *plain(suffix), marks.middle,
    ]  # fmt: skip


def _others(extra: Sequence[ExtraText], marks: FillInTokens, plain: _Encode) -> list[int]:
    """Other texts in the order in which they were given, then the name of this one."""
    tokens = [] if marks.repository is None else [marks.repository, *plain(_REPOSITORY)]
    for each in extra:
        tokens += [marks.file, *plain(f"{each.filename}\n")] if marks.file is not None else plain(_SNIPPET)
        tokens += plain(each.text)
    return tokens if marks.file is None else [*tokens, marks.file, *plain(_THIS_FILE)]
