"""Markdown, also Obsidian's: the note as a reader sees it, without front matter and comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nomoat.tune.importers.document import Document, ImportTally
from nomoat.tune.importers.reading import decode, read_bytes

__all__ = ["SUFFIXES", "documents", "reader_text"]

SUFFIXES = (".md", ".markdown", ".mdown", ".mkd")

# Only lines that look like YAML: a note may as well begin with a horizontal rule.
_YAML_LINE = r"(?:[ \t]*|[ \t]+\S.*|-(?:[ \t].*)?|#.*|[\w\"'][^:\n]*:(?:[ \t].*)?)\n"
_FRONT_MATTER = re.compile(rf"\A---[ \t]*\n((?:{_YAML_LINE})*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)
# Fenced blocks and code spans stay as they are: brackets and percent signs mean something else in there.
_FENCED = r"^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^(?P=fence)[`~]*[ \t]*$|\Z)"
_CODE = re.compile(rf"({_FENCED}|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->|^%%[ \t]*\n.*?^%%[ \t]*$|%%[^\n]+?%%", re.DOTALL | re.MULTILINE)
_EMBED = re.compile(r"!\[\[[^\]\n]*\]\]")
_WIKI_LINK = re.compile(r"\[\[([^\[\]\n|]+)(?:\|([^\[\]\n]+))?\]\]")


def documents(path: Path, source: str, tally: ImportTally) -> Iterator[Document]:
    """The note as one document. Raises BadFileError where the file is not UTF-8 or UTF-16 text."""
    text = reader_text(decode(path, read_bytes(path))[0])
    if text:
        tally.documents["markdown"] += 1
        yield Document(source, "text", text)


def reader_text(text: str) -> str:
    """The text that a reader of the rendered note sees; a title of the front matter becomes a heading."""
    front = _FRONT_MATTER.match(text)
    title = _TITLE.search(front[1] or "") if front else None
    body = text[front.end() :] if front else text
    parts = _CODE.split(body)
    # re.split with two groups: plain, code, fence, plain, code, fence, ..., plain
    plain, code = parts[0::3], [*parts[1::3], ""]
    shown = "".join(_without_markup(text) + kept for text, kept in zip(plain, code, strict=True))
    body = re.sub(r"\n[ \t]*\n(?:[ \t]*\n)+", "\n\n", shown).strip()
    if title and body and not re.match(r"#[ \t]", body):
        return f"# {title[2]}\n\n{body}"
    return body


def _without_markup(text: str) -> str:
    text = _EMBED.sub("", _COMMENT.sub("", text))
    return _WIKI_LINK.sub(lambda link: link[2] or link[1], text)
