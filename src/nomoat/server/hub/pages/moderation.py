"""For whoever runs the hub: reports, takedowns with their reason, accounts that may not act."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nomoat.base.errors import InputError
from nomoat.server.hub.pages.opened import open_repo, repo_routes
from nomoat.server.hub.pages.render import Form, Visit, form, page, redirect, render, repo_url
from nomoat.share.errors import UnauthorizedError
from nomoat.share.registry.moderation.tombstones import parse_target
from nomoat.share.registry.schema import tombstones

__all__ = ["ROUTES"]

_MOST = 500


@page
async def _moderation(request: Request, visit: Visit) -> Response:
    visit.who.require_admin()
    registry = visit.hub.registry
    reports = await visit.hub.call(registry.reports.all, visit.who)
    gone = await visit.hub.call(_taken_down, visit)
    accounts = await visit.hub.call(registry.accounts.all)
    return render(request, visit, "moderation.html", reports=reports, gone=gone, accounts=accounts[:_MOST])


@form
async def _take_down(request: Request, visit: Visit, fields: Form) -> Response:
    target = parse_target(fields.get("target", "").strip())
    takedowns = visit.hub.registry.takedowns
    also_blobs = fields.get("blobs") == "yes"
    await visit.hub.call(
        takedowns.take_down, visit.who, target, fields.get("reason", ""), also_blobs=also_blobs
    )
    if fields.get("report"):
        await visit.hub.call(visit.hub.registry.reports.close, visit.who, _number(fields["report"]))
    return redirect("/moderation")


@form
async def _restore(request: Request, visit: Visit, fields: Form) -> Response:
    target = parse_target(fields.get("target", ""))
    await visit.hub.call(visit.hub.registry.takedowns.restore, visit.who, target, fields.get("reason", ""))
    return redirect("/moderation")


@form
async def _close(request: Request, visit: Visit, fields: Form) -> Response:
    await visit.hub.call(visit.hub.registry.reports.close, visit.who, _number(fields.get("report", "")))
    return redirect("/moderation")


@form
async def _suspend(request: Request, visit: Visit, fields: Form) -> Response:
    visit.who.require_admin()
    name, suspended = fields.get("name", ""), fields.get("suspended") == "yes"
    if name.lower() == visit.who.name.lower():
        raise InputError("you cannot suspend yourself", "another admin can")
    await visit.hub.call(visit.hub.registry.accounts.change, name, suspended=suspended)
    return redirect("/moderation")


@page
async def _report_form(request: Request, visit: Visit) -> Response:
    opened = await open_repo(request, visit)
    if not visit.who.known:
        raise UnauthorizedError("only who is logged in can report", "log in, then come back")
    return render(request, visit, "report.html", opened=opened, repo=opened.repo, tab="report")


@form
async def _report(request: Request, visit: Visit, fields: Form) -> Response:
    opened = await open_repo(request, visit)
    await visit.hub.call(visit.hub.registry.reports.add, visit.who, opened.repo, fields.get("reason", ""))
    return redirect(f"{repo_url(opened.repo)}?reported=yes")


def _taken_down(visit: Visit) -> list[Any]:
    """Signed takedowns, newest first; those of blobs that went along with a repository are not listed."""
    columns = (tombstones.c.target, tombstones.c.reason, tombstones.c.created_ms)
    query = select(*columns).where(tombstones.c.signature != "").order_by(tombstones.c.id.desc()).limit(_MOST)
    with visit.hub.registry.database.read() as connection:
        return list(connection.execute(query))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise InputError("which report?", "go back and choose one")
    return int(text)


ROUTES = (
    Route("/moderation", _moderation, methods=["GET"]),
    Route("/moderation/take-down", _take_down, methods=["POST"]),
    Route("/moderation/restore", _restore, methods=["POST"]),
    Route("/moderation/close", _close, methods=["POST"]),
    Route("/moderation/suspend", _suspend, methods=["POST"]),
    *repo_routes("/report", _report_form),
    *repo_routes("/report", _report, "POST"),
)
