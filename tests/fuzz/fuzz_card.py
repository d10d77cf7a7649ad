"""Cards: the front matter of a README.md, and what a page shows of the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html.parser import HTMLParser

import atheris

with atheris.instrument_imports(include=["nomoat", "markdown_it"]):
    from nomoat.server.hub.pages.cards import card_html
    from nomoat.share.cards.front_matter import split_front_matter

from harness import fuzz

_WORDS = (
    b"---\n", b"<img src=", b"<a href=", b"javascript:", b"data:text/html,", b"<script>", b"</title>",
    b"<svg>", b"<style>", b"<math>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b" onerror=", b"&lt;",
    b"&#x6a;", b"](", b"![", b"```\n", b"<table>", b"<pre>", b"//[", b"http://", b"!!", b"&a ", b"*a",
    b"? ", b": ", b"- ", b"<<: ", b"0x", b"1:2", b".inf", b"2001-01-01",
)  # fmt: skip


class _Page(HTMLParser):
    """What a browser would find: elements and attributes."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {
            "script",
            "style",
            "iframe",
            "object",
            "embed",
            "svg",
            "math",
            "form",
            "base",
            "meta",
        }, tag
        for name, value in attrs:
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in {"href", "src"}:
                scheme = (value or "").strip().lower().partition(":")[0]
                assert scheme not in {"javascript", "data", "vbscript", "file"}, value
            assert tag != "img" or name != "src" or value == "/a.png", value


def read(data: bytes) -> None:
    """Nothing of the prose runs or leads to another host by itself; fields are plain JSON."""
    text, lost = data.decode("utf-8", "replace"), []
    sys.unraisablehook = lost.append  # what goes wrong inside a filter of the HTML reaches nobody else
    page = _Page()
    page.feed(card_html(text, {"a.png": "/a.png"}, lambda path: f"/blob/{path}"))
    page.close()
    assert not lost, lost[0]
    fields, _ = split_front_matter(text)
    json.dumps(fields, allow_nan=False)


def seeds() -> Iterator[bytes]:
    """Cards with what cards have, and with what attackers write."""
    yield (b"---\nlicense: mit\ntags: [a, b]\nbase_model: owner/name\nmodel-index:\n- name: x\n  results: []\n"
           b"date: 2024-01-02\nscore: 1e3\n---\n\n# Title\n\nText with `code`, [a link](https://example.org), "
           b"<b>html</b>, ![picture](a.png)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")  # fmt: skip
    yield b"[x](http://[) <img src='//[' alt='y'> <a href='http://[::'>z</a>"
    yield b"---\na: !!int '1'\nb: &x [1]\nc: *x\nd: 0x1F\ne: 1:20\n---\n<img src=x onerror=alert(1)>"
    yield (b"<img alt='>&lt;script&gt;'>\n\n<a title='<table> x=1' href='javascript:x'>y</a>\n\n"
           b"<svg><style><a id='</style>'>")  # fmt: skip


if __name__ == "__main__":
    fuzz(read, seeds(), _WORDS)
