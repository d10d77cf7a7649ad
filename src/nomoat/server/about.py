"""What the server says of itself: health, figures, and a small page for a browser."""

from __future__ import annotations

import html

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from nomoat import __version__
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response

__all__ = ["OPERATIONS", "front_page", "health", "metrics"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>nomoat</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{{font:1.05rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#222}}
code{{background:#f2f2f0;padding:.1em .3em;border-radius:.2em}}li{{margin:.3em 0}}
@media(prefers-color-scheme:dark){{body{{background:#191919;color:#ddd}}code{{background:#2a2a2a}}a{{color:#8ab4f8}}}}
</style></head><body>
<h1>nomoat is running</h1>
<p>Version {version}. It sends nothing to other machines.</p>
<h2>Models</h2><ul>{models}</ul>
<h2>Adapters</h2><ul>{adapters}</ul>
<h2>Addresses</h2><ul>
<li>OpenAI clients: <code>base_url = {url}v1</code></li>
<li>Anthropic clients: <code>base_url = {url}</code></li>
<li>Ollama clients: <code>OLLAMA_HOST={url}</code></li>
<li>llama-server clients: <code>{url}</code></li>
<li><a href="openapi.json">openapi.json</a>, <a href="health">health</a>, <a href="metrics">metrics</a></li>
</ul></body></html>
"""


async def front_page(request: Request) -> Response:
    """What is served here, for a person."""
    models = service_of(request).models
    names = [entry.name for entry in await to_thread.run_sync(models.entries)]
    adapters = [entry.name for entry in await to_thread.run_sync(models.adapters)]
    page = _PAGE.format(version=__version__, models=_list(names), adapters=_list(adapters),
                        url=html.escape(str(request.base_url)))  # fmt: skip
    return HTMLResponse(
        page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    )


async def health(request: Request) -> Response:
    """200 while requests are taken, 503 once the server is about to end. Needs no key and tells no names."""
    closing = service_of(request).closing
    return json_response({"status": "closing" if closing else "ok"}, 503 if closing else 200)


async def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format."""
    content = await to_thread.run_sync(service_of(request).metrics.render)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


def _list(names: list[str]) -> str:
    return "".join(f"<li><code>{html.escape(name)}</code></li>" for name in names) or "<li>none</li>"


OPERATIONS = (
    Operation(
        "GET", "/", front_page, "A page that says what is served.", media_type="text/html", tag="nomoat"
    ),
    Operation("GET", "/health", health, "Whether requests are taken.", tag="nomoat"),
    Operation("GET", "/metrics", metrics, "Figures for Prometheus.", media_type="text/plain", tag="nomoat"),
)
