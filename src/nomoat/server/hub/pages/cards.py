"""A README as HTML that cannot do harm: Markdown parsed, then reduced to an allow-list; pictures only from the hub."""

from __future__ import annotations

import functools
import itertools
import posixpath
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from nomoat.share.errors import RefusedError
from nomoat.share.registry.card import read_card

__all__ = ["MOST_CARD_BYTES", "card_html"]

MOST_CARD_BYTES = 256 << 10  # what was written to be slow takes three seconds at this size
_TAGS = {"a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt", "em",
         "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "ol", "p", "pre", "q", "s", "samp",
         "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "u",
         "ul"}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title", "width", "height"}, "ol": {"start"},
               "td": {"align", "colspan", "rowspan"}, "th": {"align", "colspan", "rowspan", "scope"},
               "details": {"open"}}  # fmt: skip
_DROPPED_WITH_CONTENT = {"script", "style", "template", "noscript", "iframe", "object", "embed", "svg", "math",
                         "textarea", "select", "title"}  # fmt: skip
_EMPTY_CELL = re.compile(r"<th(?: [^<>]*)?>\s*</th>")
_EMPTY_HEAD = re.compile(rf"<thead>\s*<tr>(?:\s*{_EMPTY_CELL.pattern})+\s*</tr>\s*</thead>")


def _prose(text: str) -> str:
    """A README without its front matter; one that cannot be read is shown as it is."""
    try:
        return read_card(text).prose
    except RefusedError:
        return text


def card_html(text: str, pictures: Mapping[str, str], file_url: Callable[[str], str]) -> Markup:
    """`text` as HTML. `pictures` maps paths of the repository to addresses; every other picture is dropped.

    `file_url` gives the page of a file, for relative links.
    """

    def attribute(tag: str, name: str, value: str) -> str | None:
        if tag == "img" and name == "src":
            return pictures.get(_path_in_repo(value) or "")
        if tag == "a" and name == "href":
            return _link(value, file_url)
        if name in {"width", "height"} and not value.isdigit():
            return None
        return value

    html = _markdown().render(_prose(text))
    clean = nh3.clean(
        _lower_headings(html), tags=_TAGS, attributes=_ATTRIBUTES, clean_content_tags=_DROPPED_WITH_CONTENT,
        attribute_filter=attribute, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow ugc",
        set_tag_attribute_values={"img": {"loading": "lazy", "decoding": "async"}},
        allowed_classes={},
    )  # fmt: skip
    return Markup(_scrollable(_without_empty_heads(_without_lost_pictures(clean))))


@functools.cache
def _markdown() -> MarkdownIt:

    return MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])


def _lower_headings(html: str) -> str:
    """The page has the one first heading: what a card calls h1 begins at h2."""
    for level in range(5, 0, -1):
        html = html.replace(f"<h{level}>", f"<h{level + 1}>").replace(f"</h{level}>", f"</h{level + 1}>")
    return html


def _without_lost_pictures(html: str) -> str:
    """Pictures that lost their address would be broken boxes: their descriptions stay as text."""

    def kept(match: re.Match[str]) -> str:
        tag = match.group()
        if " src=" in tag:
            return tag
        described = re.search(r' alt="([^"]*)"', tag)
        return f"<em>[picture: {described.group(1)}]</em>" if described and described.group(1) else ""

    return re.sub(r"<img\b[^>]*>", kept, html)


def _scrollable(html: str) -> str:
    """Wide tables and code scroll by themselves, with the keyboard too."""
    numbers = itertools.count(1)

    def begun(match: re.Match[str]) -> str:
        return f'<div class="scroll" tabindex="0" role="region" aria-label="Table {next(numbers)}"><table>'

    html = re.sub("<table>", begun, html).replace("</table>", "</table></div>")
    return html.replace("<pre>", '<pre tabindex="0">')


def _without_empty_heads(html: str) -> str:
    """Markdown has no table without a head: a head of which nothing is said goes, and its empty corner is no head."""
    html = _EMPTY_HEAD.sub("", html)
    return _EMPTY_CELL.sub("<td></td>", html)


def _path_in_repo(address: str) -> str | None:
    """The path that a relative address means; None for any other."""
    try:
        parts = urlsplit(address.strip())
    except ValueError:  # brackets without an address of IPv6 in them
        return None
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return None
    path = posixpath.normpath(unquote(parts.path))
    return None if path.startswith("..") else path


def _link(address: str, file_url: Callable[[str], str]) -> str:
    if address.startswith("#"):
        return address
    path = _path_in_repo(address)
    return file_url(path) if path else address
